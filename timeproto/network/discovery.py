"""Where masternodes can be dialled: configured, told by peers, or listed by a bootstrap server over HTTPS."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from timeproto import limits
from timeproto.wire.messages import HostPort, PeerAddress

BOOTSTRAP_SIZE = 64 * 1024
BOOTSTRAP_TIME = 15.0

_ADDRESS = re.compile(r"\A(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})\Z")


def parse_address(text: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` as (host, port); :class:`ValueError` for anything else."""
    match = _ADDRESS.match(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f"{text[:80]!r} is not HOST:PORT")
    return match["v6"] or match["host"], int(match["port"])


def is_loopback(host: str) -> bool:
    """True for this machine, by any of its usual names."""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_wildcard(address: str) -> bool:
    """True for ``HOST:PORT`` that means every interface: good to listen on, useless to dial."""
    return parse_address(address)[0] in ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)


class AddressBook:
    """Addresses by masternode key, and those whose key is not known yet. Bounded: only members of the set get in."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self._members = frozenset(members)
        self._by_key: dict[str, str] = {}
        self._proven: set[str] = set()

    def learn(self, key: str, address: str, *, proven: bool = False) -> bool:
        """True if ``address`` is news for a member of the set.

        ``proven`` if the member was found there or said so itself: what others say does not change that again.
        """
        try:
            parse_address(address)
        except ValueError:
            return False
        if key not in self._members or (key in self._proven and not proven):
            return False
        if proven:
            self._proven.add(key)
        if self._by_key.get(key) == address:
            return False
        self._by_key[key] = address
        return True

    def address_of(self, key: str) -> str | None:
        return self._by_key.get(key)

    def peers(self) -> tuple[PeerAddress, ...]:
        """What is known from the masternodes themselves, as it is told to a peer that asks: no rumour is passed on."""
        every = [PeerAddress(key, self._by_key[key]) for key in sorted(self._proven)]
        return tuple(every[: limits.PEERS_PAGE])


class Bootstrap:
    """Fetches a JSON list of ``HOST:PORT`` over HTTPS. A server that fails is asked again later; it is never trusted
    with more than where to dial: who answers there must prove a masternode's key."""

    log = Logger()

    def __init__(self, url: str, treq: Any) -> None:
        """``treq``: the module, or a ``treq.testing.StubTreq``."""
        self._url = url
        self._treq = treq
        self._decoder = msgspec.json.Decoder(tuple[HostPort, ...])

    async def fetch(self) -> list[str]:
        """The addresses on the list; empty, and a line in the log, if it cannot be had."""
        try:
            response = await self._treq.get(self._url, timeout=BOOTSTRAP_TIME, allow_redirects=False)
            body = await self._body(response)  # in any case: a connection whose body is not read is never freed
            if response.code != 200:
                raise ValueError(f"status {response.code}")
            addresses = self._decoder.decode(body)
            for address in addresses:
                parse_address(address)
        except Exception as error:
            # Whatever a foreign server does, the node lives without its list.
            self.log.warn("no bootstrap list from {url}: {error}", url=self._url, error=error)
            return []
        return list(addresses[: limits.PEERS_PAGE])

    async def _body(self, response: Any) -> bytes:
        received = bytearray()

        def collect(data: bytes) -> None:
            received.extend(data)
            if len(received) > BOOTSTRAP_SIZE:
                raise ValueError("the list is too long")

        collected: Deferred[None] = self._treq.collect(response, collect)
        await collected
        return bytes(received)
