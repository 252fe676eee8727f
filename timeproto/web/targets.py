"""Where a webhook may lead: an HTTPS URL in one spelling, and no address that is only reachable from inside.

What a name stands for is judged at every connection and by its numbers alone, after it was looked up: a name can mean
one thing when it is registered and another when it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated

import attrs
from msgspec import Meta

URL_LENGTH = 512
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_URL = (
    rf"\Ahttps://({_HOST})(:[1-9][0-9]{{0,4}})?"
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?)?\Z"
)
Url = Annotated[str, Meta(pattern=_URL, max_length=URL_LENGTH, description="https://, no user, no fragment, ASCII")]
"""A place of IPv6 needs a name: the HTTP client reads no brackets."""
_SPELLING = re.compile(_URL)

_INSIDE_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    )
)  # fmt: skip
"""This machine, this link, this house, documentation, benchmarks, multicast, reserved: all that is no place on the
Internet (RFC 6890 and its registry)."""
_WORLD_V6 = IPv6Network("2000::/3")
_INSIDE_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48",
                                                  "3fff::/20"))
"""Exceptions in the one part of IPv6 that is the Internet: tunnels that carry an IPv4 address inside, documentation."""


class TargetRefused(Exception):
    """The target is not on the Internet, and the operator has not allowed it."""


@attrs.frozen
class Place:
    """The host and the port of a URL."""

    host: str
    port: int


def place_of(url: str) -> Place:
    """Where ``url`` leads; :class:`ValueError` if it is not one of ours."""
    match = _SPELLING.match(url)
    port = 443 if match is None or match[2] is None else int(match[2][1:])
    if match is None or len(url) > URL_LENGTH or port > 65_535:
        raise ValueError(f"{url[:80]!r} is not an https:// URL with a host, an optional port and a path")
    return Place(match[1], port)


class Targets:
    """Decides which numeric addresses may be dialled."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """``allowed``: networks like ``10.1.2.0/24`` that the operator opens; :class:`ValueError` for what is none."""
        self._allowed = tuple(ip_network(text) for text in allowed)

    def may_dial(self, address: str) -> bool:
        """True for a place on the Internet, or one in a network the operator opened. What is not an address is none."""
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if any(found.version == network.version and found in network for network in self._allowed):
            return True
        if found.version == 4:
            return not any(found in network for network in _INSIDE_V4)
        return found in _WORLD_V6 and not any(found in network for network in _INSIDE_V6)

    def require_host(self, host: str) -> None:
        """Raises :class:`TargetRefused` for a host that names an inside place by itself; a name that must be looked up
        passes, and is judged when it is dialled."""
        try:
            ip_address(host)
        except ValueError:
            return
        if not self.may_dial(host):
            raise TargetRefused(f"{host} is not on the Internet")
