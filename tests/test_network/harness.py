"""Peer managers on an in-memory network that a seed drives."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, connect
from zope.interface import implementer

from tests.examples import GENESIS, VOTERS
from timeproto.model.keys import SigningKey
from timeproto.network.node_protocol import NodeFactory
from timeproto.network.peer_manager import PeerManager


class Recorder:
    """A dispatcher that keeps what it hears, and answers nothing."""

    def __init__(self) -> None:
        self.messages: list[tuple[Any, Any]] = []
        self.up: list[str] = []
        self.down: list[str] = []
        self.lost = 0

    def message_received(self, connection: Any, message: Any) -> None:
        self.messages.append((connection, message))

    def connection_lost(self, connection: Any) -> None:
        self.lost += 1

    def link_up(self, connection: Any) -> None:
        self.up.append(connection.node_key)

    def link_down(self, connection: Any) -> None:
        self.down.append(connection.node_key)


class Network:
    """Addresses, who listens there, and the pumps of all connections."""

    def __init__(self, seed: int = 0) -> None:
        self.clock = Clock()
        self.random = random.Random(seed)
        self.managers: dict[str, PeerManager] = {}
        self.recorders: dict[str, Recorder] = {}
        self.conflicts: list[str] = []
        self.pumps: list[Any] = []
        self.dials: list[str] = []
        self.silent: set[str] = set()
        self.cut: set[str] = set()

    def add(
        self, number: int, peers: list[int] | list[str], *, key: SigningKey | None = None, **more: Any
    ) -> PeerManager:
        """A manager of voter ``number`` at its address, dialling others by number or address."""
        recorder = Recorder()
        place = more.pop("at", address(number))
        manager = PeerManager(
            reactor=self.clock,
            key=key or VOTERS[number],
            genesis=GENESIS,
            listen=place,
            peers=[address(peer) if isinstance(peer, int) else peer for peer in peers],
            dispatcher=recorder,
            on_identity_conflict=self.conflicts.append,
            connect=lambda host, port: _Endpoint(self, f"{host}:{port}", place),
            random=lambda size: self.random.randbytes(size),
            **more,
        )
        self.managers[place], self.recorders[place] = manager, recorder
        return manager

    def start(self) -> None:
        for manager in self.managers.values():
            manager.startService()

    def run(self, seconds: float = 0.0, step: float = 0.1) -> None:
        """Moves bytes, in random order, and time."""
        while True:
            for _ in range(200):
                self.random.shuffle(self.pumps)
                moved = [pump.pump() for pump in self.pumps]
                if not any(moved):
                    break
            if seconds <= 0:
                return
            self.clock.advance(min(step, seconds))
            seconds -= step

    def stop(self) -> None:
        waiting = [manager.stopService() for manager in self.managers.values()]
        self.run(10, 0.5)
        self.stopped = waiting

    def links(self) -> set[tuple[str, str]]:
        """(from, to) keys of every link, as each side sees it."""
        return {(manager._key.public_hex, key) for manager in self.managers.values() for key in manager.links}


def address(number: int) -> str:
    return f"10.0.0.{number + 1}:24100"


class _Address:
    def __init__(self, text: str) -> None:
        self.host, _, port = text.rpartition(":")
        self.port = int(port)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, target: str, source: str) -> None:
        self._network, self._target, self._source = network, target, source

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        network = self._network
        network.dials.append(self._target)
        if self._target in network.silent:
            return Deferred()
        manager = network.managers.get(self._target)
        if manager is None or not manager.running or {self._target, self._source} & network.cut:
            return fail(Refused())
        server = NodeFactory(network.clock, manager).buildProtocol(_Address(self._source))
        if server is None:
            return fail(Refused())
        client = protocolFactory.buildProtocol(_Address(self._target))
        here, there = _Address(self._source), _Address(self._target)
        server_side = FakeTransport(server, True, hostAddress=there, peerAddress=here)
        client_side = FakeTransport(client, False, hostAddress=here, peerAddress=there)
        network.pumps.append(connect(server, server_side, client, client_side, greet=False))
        return succeed(client)
