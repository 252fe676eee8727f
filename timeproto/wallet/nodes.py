"""Which nodes a wallet talks to, and how it reaches them: one at a time, the next one when that fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.network.discovery import parse_address
from timeproto.network.tls import KeyedConnectionCreator, named_connection_creator


@attrs.frozen
class Node:
    """``address`` is ``HOST:PORT``. With TLS the node is known by its key if ``key`` or a genesis is given (the signed
    handshake is bound to the channel), and by its host name if ``by_name`` is set (``ca`` or the system's).

    ``access_key``: a secret from the node's operator, by whose quota requests are paid."""

    address: str
    key: str | None = None
    tls: bool = False
    by_name: bool = False
    ca: Path | None = None
    access_key: str | None = attrs.field(default=None, repr=False)

    def endpoint(self, reactor: Any) -> Any:
        """A client endpoint; :class:`ConfigurationError` if the address makes no sense."""
        try:
            host, port = parse_address(self.address)
        except ValueError as error:
            raise ConfigurationError(f"the node {error}") from None
        endpoint = HostnameEndpoint(reactor, host, port, timeout=limits.HANDSHAKE)
        if not self.tls:
            return endpoint
        by_name = self.by_name or self.ca is not None
        try:
            creator = named_connection_creator(host, self.ca) if by_name else KeyedConnectionCreator()
        except ValueError as error:
            raise ConfigurationError(f"the node {self.address!r} has no name that a host can have: {error}") from None
        return wrapClientTLS(creator, endpoint)


@implementer(IStreamClientEndpoint)
class Rotation:
    """An endpoint that tries the nodes in turn: each connect goes to the one after the last."""

    def __init__(self, reactor: Any, nodes: Sequence[Node]) -> None:
        if not nodes:
            raise ConfigurationError("a wallet needs at least one node")
        self._nodes = [(node, node.endpoint(reactor)) for node in nodes]
        self._next = self._other = 0
        self.current = nodes[0]
        self.unreached: dict[str, str] = {}
        """By address, why it could not be connected to when it was tried last."""

    def __len__(self) -> int:
        """How many there are: one that is named twice is one."""
        return len({node.address for node, _ in self._nodes})

    def others(self) -> list[Node]:
        """Those that are not the one connected to last, each once."""
        return list({node.address: node for node, _ in self._nodes if node.address != self.current.address}.values())

    def another(self) -> Node:
        """A node that is not the one connected to last, another one each time."""
        others = self.others()
        self._other = (self._other + 1) % len(others)
        return others[self._other]

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.current, endpoint = self._nodes[self._next]
        self._next = (self._next + 1) % len(self._nodes)
        connecting: Deferred[Any] = endpoint.connect(protocolFactory)
        address = self.current.address

        def connected(protocol: Any) -> Any:
            self.unreached.pop(address, None)
            return protocol

        def failed(failure: Failure) -> Failure:
            self.unreached[address] = failure.getErrorMessage()
            return failure

        return connecting.addCallbacks(connected, failed)
