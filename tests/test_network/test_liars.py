"""Masternodes, bootstrap servers and strangers that lie to the peer manager: what they can cost, and what not."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import VOTERS
from tests.test_network.harness import Network, _Address, address
from tests.test_network.test_protocol import Transport, framed
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.node_protocol import NodeFactory, NodeProtocol
from timeproto.network.peer_manager import PeerManager
from timeproto.wire import codec, messages
from timeproto.wire.messages import PeerAddress

FAULT = Refusal(ErrorCode.BAD_VOTE, "a false vote")
KEYS = [voter.public_hex for voter in VOTERS]


class Raw:
    """One connection of a manager, whose other end the test speaks for."""

    def __init__(self, clock: Clock, manager: PeerManager, *, dialled: str | None = None) -> None:
        protocol: Any = NodeFactory(clock, manager, dialled=dialled).buildProtocol(_Address("192.0.2.9:1"))
        self.protocol: NodeProtocol = protocol
        self.transport = Transport()
        self.protocol.makeConnection(self.transport)

    def say(self, message: Any) -> None:
        self.protocol.dataReceived(framed(message))

    def heard(self) -> list[Any]:
        data, found = self.transport.value(), []
        while data:
            (size,) = struct.unpack("!I", data[:4])
            found.append(codec.decode(data[4 : 4 + size]))
            data = data[4 + size :]
        return found

    def leave(self) -> None:
        self.protocol.connectionLost(None)


class Bans(SynchronousTestCase):
    """Shutting out costs few dials, on either side."""

    def network_of_two(self) -> Network:
        network = Network()
        network.add(0, [1])
        network.add(1, [])
        network.start()
        network.run(1)
        return network

    def ban(self, network: Network, judge: int, culprit: int) -> None:
        for _ in range(limits.MISBEHAVIOUR // FAULT.policy.penalty):
            network.managers[address(judge)].penalize(KEYS[culprit], FAULT)

    def test_who_is_shut_out_dials_ever_more_rarely(self) -> None:
        """A dial that is greeted and then refused is a failed one: no storm for ten minutes (N-08, failure 40)."""
        for judge, culprit in ((1, 0), (0, 1)):
            network = self.network_of_two()
            ups = len(network.recorders[address(0)].up)
            self.ban(network, judge, culprit)
            before = len(network.dials)
            network.run(limits.BAN - 20, 0.5)
            # two diallers with pauses that grow, each of which wakes the other: about one dial in eight seconds
            self.assertLess(len(network.dials) - before, 120, f"{judge} shut out {culprit}")
            self.assertLess(len(network.recorders[address(0)].up) - ups, 120)
            network.run(200, 0.5)
            self.assertEqual(len(network.links()), 2, "after the ban they are linked again")

    def test_only_members_have_a_record(self) -> None:
        """Faults of anybody else would be a table that grows."""
        manager = Network().add(0, [])
        for number in range(1_000):
            manager.penalize(f"{number:064x}", FAULT)
        self.assertEqual(manager.record.entries(), [])


class Rumours(SynchronousTestCase):
    """What one masternode says of the addresses of others."""

    def setUp(self) -> None:
        self.network = Network()
        self.honest = self.network.add(0, [1])
        self.liar = self.network.add(1, [])
        self.network.add(2, [0])
        self.network.start()
        self.network.run(5)

    def lie(self, *peers: tuple[str, str]) -> None:
        """The liar answers a question for peers, asked or not."""
        told = tuple(PeerAddress(key, where) for key, where in peers)
        self.liar.links[KEYS[0]].send(messages.Peers(peers=told))
        (link,) = [link for key, link in self.honest.links.items() if key == KEYS[1]]
        link.request(messages.GetPeers()).addCallbacks(self.honest._hear_peers, lambda _: None)
        question = list(link._requests._waiting)[-1]
        self.liar.links[KEYS[0]].send(messages.Peers(id=question, peers=told))
        self.network.run()

    def test_a_proven_address_is_not_talked_away(self) -> None:
        """What a masternode proved, or says of itself, is worth more than what others say of it."""
        self.lie((KEYS[2], "203.0.113.1:1"))
        self.assertEqual(self.honest._book.address_of(KEYS[2]), address(2))
        self.assertNotIn("203.0.113.1:1", self.network.dials)

    def test_a_thousand_false_addresses_are_one_dialler(self) -> None:
        """One rumour for each masternode, the newest: the table of diallers cannot be filled by words."""
        for number in range(1_000):
            self.lie((KEYS[3], f"203.0.113.{number % 250}:{number + 1}"))
        self.assertLess(len(self.honest._diallers), 10)
        before = len(self.network.dials)
        self.network.run(60, 0.5)
        self.assertLess(len(self.network.dials) - before, 40, "given up, they are not dialled")

    def test_the_truth_after_a_lie_is_dialled(self) -> None:
        """A false address does not keep the true one out."""
        self.network.add(3, []).startService()
        for number in range(300):
            self.lie((KEYS[3], f"203.0.113.9:{number + 1}"))
        self.lie((KEYS[3], address(3)))
        self.network.run(5)
        self.assertIn(KEYS[3], self.honest.links)

    def test_a_reply_of_another_kind(self) -> None:
        """A pong with the id of our question is no list of peers, nor an error of ours: who says it is hung up on."""
        link = self.honest.links[KEYS[1]]
        link.request(messages.GetPeers()).addCallbacks(self.honest._hear_peers, lambda _: None)
        question = list(link._requests._waiting)[-1]
        self.liar.links[KEYS[0]].send(messages.Pong(id=question))
        self.network.run()
        self.assertFalse(link.is_open)
        self.assertEqual(self.flushLoggedErrors(), [])


class Mirrors(SynchronousTestCase):
    """Others that show us ourselves."""

    def setUp(self) -> None:
        self.network = Network()
        self.manager = self.network.add(0, ["192.0.2.9:1"])
        self.manager.startService()

    def test_an_echo_is_not_ourselves(self) -> None:
        """Who only repeats our nonces has proven nothing: his address is dialled on (O-08)."""
        inbound = Raw(self.network.clock, self.manager)
        outbound = Raw(self.network.clock, self.manager, dialled="192.0.2.9:1")
        (ours,) = outbound.heard()
        inbound.say(ours)
        theirs, _ = inbound.heard()
        outbound.say(theirs)
        self.assertFalse(self.manager._diallers._by_address["192.0.2.9:1"].is_self)
        self.assertEqual(self.network.conflicts, [])

    def test_a_mirror_is_no_other_process(self) -> None:
        """Our own proof, carried back to us after any number of other handshakes, does not stop the node (O-05)."""
        self.patch(limits, "CONNECTIONS", 8)
        outbound = Raw(self.network.clock, self.manager, dialled="192.0.2.9:1")
        (ours,) = outbound.heard()
        inbound = Raw(self.network.clock, self.manager)
        inbound.say(ours)
        theirs, proof = inbound.heard()
        for _ in range(100):
            visitor = Raw(self.network.clock, self.manager)
            visitor.say(ours)
            visitor.leave()
        outbound.say(theirs)
        outbound.say(proof)
        self.assertEqual(self.network.conflicts, [])
        self.assertEqual(self.manager.links, {})

    def test_a_nonce_of_another_process_is_not_ours(self) -> None:
        """Two processes with one key do not take each other for themselves."""
        other = Network(seed=7).add(0, [])
        self.assertFalse(self.manager.is_own_nonce(other.machine(dialled=True, binding=b"").ours.nonce))
        self.assertTrue(self.manager.is_own_nonce(self.manager.machine(dialled=True, binding=b"").ours.nonce))


class Leaving(SynchronousTestCase):
    """Stopping, seen from the other ends."""

    def test_everybody_hears_it_whoever_dialled(self) -> None:
        """``going_away`` on accepted and on dialled links (P-08)."""
        heard: list[tuple[str, str]] = []
        self.patch(NodeProtocol, "complained", lambda self, refusal: heard.append((self.direction, str(refusal.code))))
        network = Network()
        for number, peers in ((0, [1]), (1, [2]), (2, [])):
            network.add(number, peers)
        network.managers[address(1)].startService()
        network.managers[address(2)].startService()
        network.managers[address(0)].startService()
        network.run(0.3)
        middle = network.managers[address(1)]
        self.assertEqual({link.direction for link in middle.links.values()}, {"inbound", "outbound"})
        stopped = middle.stopService()
        network.run(1)
        self.successResultOf(stopped)
        self.assertEqual(sorted(heard), [("inbound", "going_away"), ("outbound", "going_away")])

    def test_a_bootstrap_server_that_hangs_is_left_behind(self) -> None:
        """What is being fetched is cancelled: nothing happens after the stop."""
        cancelled: list[Any] = []

        class Hanging:
            def get(self, *_: Any, **__: Any) -> Deferred[Any]:
                return Deferred(cancelled.append)

        network = Network()
        manager = network.add(0, [], bootstrap="https://seeds.example/", treq=Hanging())
        manager.startService()
        self.successResultOf(manager.stopService())
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(network.clock.getDelayedCalls(), [])


class Drips(SynchronousTestCase):
    """A bootstrap server that answers for ever."""

    def test_a_body_that_never_ends(self) -> None:
        """After its time the list is given up, and asked for again later."""

        class Dripping:
            asked = 0

            def get(self, *_: Any, **__: Any) -> Deferred[Any]:
                self.asked += 1
                return succeed(type("Response", (), {"code": 200}))

            def collect(self, *_: Any) -> Deferred[Any]:
                return Deferred()

        network, treq = Network(), Dripping()
        manager = network.add(0, [], bootstrap="https://seeds.example/", treq=treq)
        manager.startService()
        network.run(200, 1.0)
        self.assertGreater(treq.asked, 1)
        network.stop()
        self.assertEqual([call for call in network.clock.getDelayedCalls() if call.active()], [])
