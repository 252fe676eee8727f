"""Links through storms: cut wires, restarts and lies in an order that a seed decides, and then fair weather."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import VOTERS
from tests.test_network.harness import Network, address
from tests.test_network.test_peer_manager import _wallet
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.wire import messages
from timeproto.wire.messages import PeerAddress

SEEDS = 25
SIZE = 4
KEYS = [voter.public_hex for voter in VOTERS]


class Storms(SynchronousTestCase):
    def storm(self, seed: int) -> Network:
        """A dozen accidents among four nodes, a few seconds apart."""
        network = Network(seed)
        chance = network.random
        for number in range(SIZE):
            # Each knows one other at least, and together they are connected.
            network.add(number, sorted({(number + 1) % SIZE, chance.randrange(SIZE)} - {number}))
        network.start()
        for _ in range(12):
            number = chance.randrange(SIZE)
            place = address(number)
            manager = network.managers[place]
            match chance.randrange(6):
                case 0 if manager.links:
                    chance.choice(list(manager.links.values())).abort()
                case 1 if manager._connections:
                    chance.choice(list(manager._connections)).connectionLost(None)  # this end only: half-dead
                case 2:
                    network.cut = {place}
                case 3:
                    network.cut = set()
                case 4 if manager.running:
                    manager.stopService()
                    network.run(chance.choice((0, 6)), 0.5)
                    manager.startService()
                case 5 if manager.links:
                    lie = PeerAddress(chance.choice(KEYS), f"203.0.113.1:{chance.randint(1, 9_999)}")
                    chance.choice(list(manager.links.values())).send(messages.Peers(peers=(lie,)))
            network.run(chance.choice((0, 0.1, 3, 15)), 0.5)
        network.cut = set()
        return network

    def test_fair_weather_brings_one_link_a_pair(self) -> None:
        """Whatever happened, all are linked once within two minutes, and then nobody dials any more (N-07, N-21)."""
        for seed in range(SEEDS):
            network = self.storm(seed)
            network.run(120, 1.0)
            expected = {(a, b) for a in KEYS[:SIZE] for b in KEYS[:SIZE] if a != b}
            self.assertEqual(network.links(), expected, f"seed {seed}")
            for manager in network.managers.values():
                self.assertEqual(len([each for each in manager._connections if each.is_open]), SIZE - 1, f"seed {seed}")
                self.assertLess(len(manager._diallers), 3 * SIZE)
            dials = len(network.dials)
            network.run(130, 1.0)
            self.assertEqual(len(network.dials), dials, f"seed {seed}: dialling goes on")
            network.stop()
            for stopped in network.stopped:
                self.successResultOf(stopped)
            self.assertEqual([call for call in network.clock.getDelayedCalls() if call.active()], [], f"seed {seed}")

    def test_one_masternode_under_three_names(self) -> None:
        """Dialled by all of them at once it is linked once, in any order of bytes, and dialled no more (failure 40)."""
        for seed in range(100):
            network = Network(seed)
            names = [[address(here), f"name-{here}.example:1", f"other-{here}.example:1"] for here in (0, 1)]
            network.add(0, names[1] if seed % 2 else [])
            network.add(1, names[0])
            for here, others in enumerate(names):
                for name in others:
                    network.managers[name] = network.managers[address(here)]
            for here in (0, 1):
                network.managers[address(here)].startService()
            network.run(30, 0.5)
            one, two = (network.managers[address(number)] for number in (0, 1))
            (mine,), (theirs,) = one.links.values(), two.links.values()
            self.assertNotEqual(mine.direction, theirs.direction, f"seed {seed}")
            self.assertEqual([len([each for each in node._connections if each.is_open]) for node in (one, two)], [1, 1])
            dials = len(network.dials)
            network.run(200, 1.0)
            self.assertEqual(len(network.dials), dials, f"seed {seed}: dialling goes on")

    def test_ups_and_downs_alternate(self) -> None:
        """The dispatcher never hears of two ups, or two downs, of one masternode in a row: a replica counts on it."""
        for seed in range(SEEDS):
            network = Network(seed)
            told: dict[tuple[int, str], list[str]] = {}
            for number in range(SIZE):
                network.add(number, [other for other in range(SIZE) if other != number])
                recorder: Any = network.recorders[address(number)]
                for name in ("up", "down"):

                    def hear(connection: Any, number: int = number, name: str = name, told: Any = told) -> None:
                        told.setdefault((number, connection.node_key), []).append(name)

                    self.patch(recorder, f"link_{name}", hear)
            network.start()
            for _ in range(20):
                network.run(network.random.choice((0, 0.2, 5)), 0.5)
                manager = network.random.choice(list(network.managers.values()))
                if manager.links:
                    network.random.choice(list(manager.links.values())).abort()
            network.run(60, 1.0)
            for key, heard in told.items():
                self.assertEqual(heard, ["up", "down"] * (len(heard) // 2) + ["up"], f"seed {seed} {key}")


class Hanging(SynchronousTestCase):
    def test_stopping_in_the_middle_of_a_dial(self) -> None:
        """A name that never resolves, a peer that never answers, a wallet that never leaves: gone in time (N-25)."""
        network = Network()
        manager = network.add(0, [1, 2])
        network.silent.add(address(1))
        network.add(2, [])
        network.start()
        wallet = _wallet(network, manager)
        network.pumps.clear()  # nobody at the other ends reads or closes any more
        stopped = manager.stopService()
        self.assertNoResult(stopped)
        network.clock.advance(limits.CLOSE + 0.1)
        network.run(1)
        for connection in list(manager._connections):
            self.assertFalse(connection.is_open)
            connection.connectionLost(None)  # what the real transport does one turn after it was aborted
        self.successResultOf(stopped)
        network.managers[address(2)].stopService()
        wallet._client.connectionLost(None)
        for other in list(network.managers[address(2)]._connections):
            other.connectionLost(None)
        self.assertEqual([call for call in network.clock.getDelayedCalls() if call.active()], [])

    def test_a_ban_survives_a_new_connection(self) -> None:
        """Who is shut out and comes back at once is proven, told how long, and closed; never linked."""
        network = Network()
        judge = network.add(0, [])
        network.add(1, [0])
        network.start()
        network.run(2)
        for _ in range(20):
            judge.penalize(KEYS[1], Refusal(ErrorCode.BAD_PROOF, "false"))
        ups = len(network.recorders[address(0)].up)
        network.run(60, 0.5)
        self.assertEqual(len(network.recorders[address(0)].up), ups)
        self.assertNotIn(KEYS[1], judge.links)
