"""A masternode and wallets in one process: real protocols over memory, and a place to bend a node's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, connect
from zope.interface import implementer

from tests.alone_node import Node
from tests.cluster import key
from timeproto.masternode.service import Dispatcher
from timeproto.network.fanout import Shared
from timeproto.network.node_protocol import NodeFactory
from timeproto.network.outbox import Outbox
from timeproto.network.peer_manager import PeerManager
from timeproto.wallet.client import WalletClient

Bend = Callable[[dict[str, Any]], "dict[str, Any] | None"]


class Place:
    """Where a node of the rotation stands."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.key = None
        self.access_key: str | None = None


@implementer(IStreamClientEndpoint)
class Elsewhere(Place):
    """A second place, where another node stands, or the same one: what is said there has a bend of its own."""

    def __init__(self, world: World, node: Node, number: int = 1) -> None:
        """``number``: as which masternode it proves itself, at the port of that number; the first one's is 2 here."""
        super().__init__(f"127.0.0.1:{max(2, number)}")
        self._world = world
        self.node = node
        handler = node.handler if number == 1 else node.handler_of(number)
        self.manager = world.serve(number, handler, node)
        self.bend: Bend = lambda message: message
        self.refuses = False
        self.connections = 0
        self.servers: list[Any] = []

    def endpoint(self, reactor: Any) -> Any:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.connections += 1
        if self.refuses:
            return fail(Refused())
        server, client = self._world.open(self.manager, protocolFactory, lambda message: self.bend(message))
        self.servers.append(server)
        return succeed(client)


class _Bent(Outbox):
    """What is told to many is bent for each."""

    def __init__(self, bend: Bend) -> None:
        super().__init__()
        self._bend = bend

    def hold(self, *shared: Shared) -> bool:
        bent = [self._bend(json.loads(each.payload)) for each in shared]
        told = [Shared(json.dumps(message).encode()) for message in bent if message is not None]
        return bool(told) and super().hold(*told)


@implementer(IStreamClientEndpoint)
class World:
    """One honest masternode; what its connections say goes through ``bend`` (None: it is swallowed)."""

    def __init__(self, made: Any = None, **node: Any) -> None:
        """``made``: what is there already to be connected to, in place of a new node."""
        self.clock = Clock()
        self.node = made or Node(**node)
        self.bend: Bend = lambda message: message
        self.refuses = False
        self.size = 1
        self.connections = 0
        self.unreached: dict[str, str] = {}
        self.current = Place("127.0.0.1:1")
        self._pumps: list[Any] = []
        self._servers: list[Any] = []
        self.manager = self.serve(1, self.node.handler)
        self.elsewhere: Elsewhere | None = None

    def serve(self, number: int, handler: Any, node: Any = None) -> PeerManager:
        """Masternode ``number``, counted from 1, where nobody but wallets comes."""
        manager = PeerManager(
            reactor=self.clock,
            key=key(number),
            genesis=self.node.genesis,
            listen="127.0.0.1:1",
            dispatcher=Dispatcher((node or self.node).integration, handler),
            on_identity_conflict=lambda reason: None,
            connect=lambda host, port: None,
        )
        manager.startService()
        return manager

    def __len__(self) -> int:
        return self.size

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        if self.refuses:
            return fail(Refused())
        self.connections += 1
        server, client = self.open(self.manager, protocolFactory, lambda message: self.bend(message))
        self._servers.append(server)
        return succeed(client)

    def another(self) -> Elsewhere:
        """Where a client finds a second node: the same one, if no other has been put there."""
        self.elsewhere = self.elsewhere or Elsewhere(self, self.node)
        return self.elsewhere

    def others(self) -> list[Elsewhere]:
        """The other places: one, if there is one."""
        return [self.another()] if self.size > 1 else []

    def open(self, manager: PeerManager, factory: Any, bend: Bend) -> tuple[Any, Any]:
        """A connection to the node of ``manager``: both ends."""
        server: Any = NodeFactory(self.clock, manager).buildProtocol(None)
        said = server.send_payload

        def bent(payload: bytes) -> None:
            message = bend(json.loads(payload))
            if message is not None:
                said(json.dumps(message).encode())

        server.send_payload, server.outbox = bent, _Bent(bend)
        client = factory.buildProtocol(None)
        self._pumps.append(
            connect(server, FakeTransport(server, True), client, FakeTransport(client, False), greet=False)
        )
        return server, client

    def client(self) -> WalletClient:
        client = WalletClient(self.clock, self.node.genesis, [], rotation=self)
        client.startService()
        self.run(2)
        return client

    def run(self, seconds: float = 0.0) -> None:
        """Moves bytes until there are none, and time."""
        nodes = {self.node: None} if self.elsewhere is None else dict.fromkeys((self.node, self.elsewhere.node))
        while True:
            for _ in range(500):
                for node in nodes:
                    node.clock.advance(0)  # a replay goes on from turn to turn
                moved = [pump.pump() for pump in self._pumps]
                if not any(moved):
                    break
            if seconds <= 0:
                return
            self.clock.advance(0.1)
            for node in nodes:
                node.clock.advance(0.1)
            seconds -= 0.1

    def say(self, message: dict[str, Any]) -> None:
        """Has the node's newest connection say this."""
        self._servers[-1].send_payload(json.dumps(message).encode())

    def restart(self) -> None:
        """A power cut of the node: what was on its way to its disk is lost, and so is every connection."""
        for server in self._servers:
            if server.transport is not None and server.is_open:
                server.abort()
        self.node.start()
        self.manager._dispatcher = Dispatcher(self.node.integration, self.node.handler)

    def cut(self) -> None:
        """Every connection is lost."""
        for server in self._servers:
            if server.transport is not None and server.is_open:
                server.abort()
        self.run(0.5)
