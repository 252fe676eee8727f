"""The rules by which links are kept and addresses dialled, one at a time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, VOTERS
from tests.test_network.harness import Network, address
from tests.test_network.test_liars import Raw
from tests.test_network.test_protocol import QUESTION, ProtocolCase, framed
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network import dialler as dialler_module
from timeproto.network.dialler import MISSES, REASONS, Diallers
from timeproto.network.greeting import GreetedEndpoint, HandleFactory
from timeproto.network.handshake import HandshakeMachine
from timeproto.network.peer_manager import PeerManager
from timeproto.network.requests import ConnectionGone, NotProven
from timeproto.wire import messages

KEYS = [voter.public_hex for voter in VOTERS]
FAULT = Refusal(ErrorCode.BAD_VOTE, "a false vote")


class Dialling(SynchronousTestCase):
    """The table of addresses."""

    def setUp(self) -> None:
        self.dials: list[str] = []
        self.attempts: dict[str, Deferred[Any]] = {}
        self.clock = Clock()
        self.events: list[dict[str, Any]] = []
        self.patch(Diallers, "log", Logger(observer=self.events.append))
        self.diallers = Diallers(self.clock, self._endpoint, lambda: 0.5)

    def written(self) -> list[str]:
        """The lines since the last look, without Twisted's "by other side"."""
        lines = [str(formatEvent(event)).removesuffix(" by other side.") for event in self.events]
        self.events.clear()
        return lines

    def _endpoint(self, address: str) -> Any:
        class Endpoint:
            def connect(_, factory: Any) -> Deferred[Any]:  # noqa: N805
                self.dials.append(address)
                self.attempts[address] = Deferred()
                return self.attempts[address]

        return Endpoint()

    def test_what_is_configured_is_bounded(self) -> None:
        """A bootstrap list may be wrong, not endless; and each address counts once."""
        self.patch(limits, "PEERS_PAGE", 3)
        for number in range(10):
            self.diallers.keep(f"x:{number % 5 + 1}")
        self.assertEqual(self.dials, ["x:1", "x:2", "x:3"])

    def test_the_newest_rumour_takes_the_place_of_the_last(self) -> None:
        """One for each masternode, and the attempt at the old one ends."""
        for number in range(1, 10):
            self.diallers.try_rumour("k", f"x:{number}")
        self.assertEqual(len(self.diallers), 1)
        self.assertTrue(self.attempts["x:8"].called, "cancelled")
        self.assertFalse(self.attempts["x:9"].called)

    def test_who_was_found_is_not_looked_for_elsewhere(self) -> None:
        """A proven address is dialled again; rumours of another are not."""
        self.diallers.keep("x:1")
        self.diallers.proven("x:1", "k")
        self.diallers.try_rumour("k", "x:2")
        self.assertEqual(self.dials, ["x:1"])

    def test_linked_by_another_way_it_rests_and_wakes(self) -> None:
        """No attempt while the link stands, one as soon as it is gone."""
        self.diallers.keep("x:1")
        self.diallers.proven("x:1", "k")
        self.diallers.linked("k", None)
        self.assertTrue(self.attempts["x:1"].called, "cancelled")
        self.diallers.unlinked("k")
        self.assertEqual(self.dials, ["x:1", "x:1"])

    def test_many_addresses_of_one_masternode(self) -> None:
        """Found at ever more places by rumours about others, it fills no table."""
        for number in range(1, 50):
            self.diallers.try_rumour("other", f"x:{number}")
            self.diallers.proven(f"x:{number}", "k")
            self.diallers.linked("k", f"x:{number}")
        self.assertLess(len(self.diallers), 4)

    def miss(self, address: str, *reasons: Exception) -> None:
        """Attempts that fail, one after another."""
        for reason in reasons:
            self.attempts[address].errback(Failure(reason))
            self.clock.advance(limits.RECONNECT_MAX)

    def test_why_nobody_is_found(self) -> None:
        """Written down once for each reason, after some attempts in a row, with the address; and that somebody is."""
        self.patch(dialler_module, "WHILE", 10_000.0)
        self.diallers.keep("x:1")
        refused = "no masternode is found at x:1: Connection was refused"
        for count, lines in ((MISSES - 1, []), (1, [refused]), (9, [])):
            self.miss("x:1", *[Refused()] * count)
            self.assertEqual(self.written(), lines)
        for _ in range(2):  # whoever stands there may say ever new things
            self.miss("x:1", *(NotProven(f"it says {number}") for number in range(9)), Refused())
        self.assertEqual(self.written(), [f"no masternode is found at x:1: it says {number}" for number in (0, 1)])
        for find in (
            lambda: self.diallers.proven("x:1", "k"),
            lambda: self.diallers.linked("k", None),  # by a connection that it dialled
        ):
            self.clock.advance(10_000)
            find()
            self.assertEqual(self.written(), ["the masternode of x:1 is found"])
            self.diallers.unlinked("k")
            self.miss("x:1", *[Refused()] * (MISSES - 1))
            self.assertEqual(self.written(), [])  # it counts from the start
            self.miss("x:1", Refused())
            self.assertEqual(self.written(), [refused])

    def test_one_reason_after_another(self) -> None:
        """The fourth is not hidden by those before, only put off; and whoever says ever new ones has few lines."""
        self.diallers.keep("x:1")
        self.miss("x:1", *(NotProven(f"it says {number}") for number in range(MISSES + 2)), *[Refused()] * 9)
        last = self.written()
        self.assertEqual((len(last), last[-1]), (REASONS + 1, "no masternode is found at x:1: Connection was refused"))
        self.clock.advance(dialler_module.WHILE)
        first = last[0].rpartition(": ")[2]
        self.miss("x:1", NotProven(first))  # that is long ago
        self.assertEqual(self.written(), last[:1])
        began = self.clock.seconds()
        while self.clock.seconds() - began < 10 * dialler_module.WHILE:
            self.miss("x:1", NotProven(f"it says {self.clock.seconds()}"))
        self.assertLessEqual(len(self.written()), 11 * REASONS)

    def test_who_is_found_and_lost_again_and_again(self) -> None:
        """It cannot fill the log of the others either."""
        self.patch(dialler_module, "WHILE", 10_000.0)
        self.diallers.keep("x:1")
        for _ in range(20):
            self.miss("x:1", *[Refused()] * MISSES)
            self.diallers.proven("x:1", "k")
        self.assertEqual(len(self.written()), 2 * REASONS)

    def test_what_is_no_news_of_an_address(self) -> None:
        """A rumour, ourselves, a masternode that was proven and left, and an attempt that was given up."""
        self.diallers.keep("x:1")
        self.diallers.try_rumour("k", "x:2")
        self.miss("x:2", *[Refused()] * 2 * MISSES)
        self.diallers.proven("x:1", "k")
        self.miss("x:1", *[ConnectionGone("lost")] * 2 * MISSES)
        self.miss("x:1", *[Refused()] * (MISSES - 1))
        self.miss("x:1", CancelledError(), ConnectingCancelledError(None))
        self.diallers._by_address["x:1"].is_self = True
        self.miss("x:1", Refused())
        self.assertEqual(self.written(), [])

    def test_attempts_given_up_are_no_misses(self) -> None:
        """By a real endpoint's word for it, as its masternode links in another way."""
        reactor = MemoryReactorClock()
        self.diallers._endpoint = lambda address: HostnameEndpoint(reactor, "127.0.0.1", 1)
        self.diallers.keep("x:1")
        dialler = self.diallers._by_address["x:1"]
        dialler.key, dialler.misses = "k", MISSES
        self.diallers._rest(dialler)
        self.assertEqual((self.written(), dialler.misses), ([], MISSES))

    def test_ourselves_is_for_good(self) -> None:
        """Nothing wakes an address that is our own."""
        self.diallers.keep("x:1")
        self.diallers.proven("x:1", "k")
        self.diallers.found_self("x:1")
        self.diallers.unlinked("k")
        self.diallers.keep("x:1")
        self.assertEqual(self.dials, ["x:1"])


class Pairs(SynchronousTestCase):
    """Of two links with one peer, which is kept."""

    def prove(self, manager: PeerManager, clock: Clock, peer: int, *, dialled: bool) -> Raw:
        """A connection of ``manager`` at whose other end voter ``peer`` proves itself."""
        raw = Raw(clock, manager, dialled="192.0.2.9:1" if dialled else None)
        machine = HandshakeMachine(
            genesis=GENESIS, key=VOTERS[peer], dialled=not dialled, nonce=manager._random(32), binding=b""
        )
        if dialled:
            for answer in machine.hear_handshake(raw.heard()[0]):
                raw.say(answer)
        else:
            raw.say(machine.ours)
            theirs, proof = raw.heard()
            machine.hear_handshake(theirs)
            for answer in machine.hear_ack(proof):
                raw.say(answer)
        self.assertEqual(raw.protocol.node_key, KEYS[peer])
        return raw

    def test_the_table(self) -> None:
        """Young: what the lower key dialled, else the newer; ten seconds old: always the newer (N-21, N-22)."""
        low, high = (0, 1) if KEYS[0] < KEYS[1] else (1, 0)
        for us, them in ((low, high), (high, low)):
            for first, second in ((False, False), (False, True), (True, False), (True, True)):
                for age in (1.0, limits.HANDSHAKE + 0.1):
                    network = Network()
                    manager = network.add(us, [])
                    manager.startService()
                    old = self.prove(manager, network.clock, them, dialled=first)
                    network.clock.advance(age)
                    new = self.prove(manager, network.clock, them, dialled=second)
                    by_low = [dialled == (us == low) for dialled in (first, second)]
                    keeps_old = age < limits.HANDSHAKE and by_low == [True, False]
                    kept, other = (old, new) if keeps_old else (new, old)
                    row = f"we are {'lower' if us == low else 'higher'}, {first} then {second}, after {age} s"
                    self.assertIs(manager.links[KEYS[them]], kept.protocol, row)
                    self.assertTrue(kept.protocol.is_open, row)
                    self.assertFalse(other.protocol.is_open, row)
                    told = [each.code for each in new.heard() if isinstance(each, messages.Error)]
                    self.assertEqual(told, ["duplicate_link"] if keeps_old else [], row)

    def test_a_link_that_is_closing_gives_way(self) -> None:
        """However young, and whoever dialled it."""
        low, high = (0, 1) if KEYS[0] < KEYS[1] else (1, 0)
        network = Network()
        manager = network.add(low, [])
        manager.startService()
        self.prove(manager, network.clock, high, dialled=True).protocol.close()
        new = self.prove(manager, network.clock, high, dialled=False)
        self.assertIs(manager.links[KEYS[high]], new.protocol)

    def test_who_was_only_ever_accepted_is_dialled_when_it_is_lost(self) -> None:
        """At the address it announced: the other end may have no way to us any more."""
        network = Network()
        manager = network.add(0, [])
        network.add(1, [0])
        network.start()
        network.run(2)
        self.assertEqual(manager.links[KEYS[1]].direction, "inbound")
        network.dials.clear()
        manager.links[KEYS[1]].abort()
        network.run(5)
        self.assertIn(address(1), network.dials)
        self.assertEqual(len(network.links()), 2)

    def test_a_resting_dialler_wakes_when_the_accepted_link_is_lost(self) -> None:
        """The other end, which dialled it, may have no way to us any more."""
        network = Network()
        network.add(0, [1])
        network.add(1, [0])
        network.start()
        network.run(5)
        here = next(
            each for each in network.managers.values() if next(iter(each.links.values())).direction == "inbound"
        )
        (there,) = [each for each in network.managers.values() if each is not here]
        for helpless in (there._diallers, "unlinked"), (there, "_find"):
            self.patch(*helpless, lambda _: None)
        there._diallers.stop()
        network.run(5)
        self.assertEqual(len(network.links()), 2)

    def test_faults_are_forgotten(self) -> None:
        """Few and far between they never add up."""
        network = Network()
        manager = network.add(0, [])
        for _ in range(50):
            manager.penalize(KEYS[1], FAULT)
            network.clock.advance(limits.BAN)
        self.assertEqual(manager.record.entries(), [])

    def test_beyond_the_reserve_somebody_goes(self) -> None:
        """The house has walls: in the places kept for masternodes nobody stays who proves nothing but talks (H-28)."""
        self.patch(limits, "CONNECTIONS", 2)
        network = Network()
        manager = network.add(0, [])
        manager.startService()
        places = 2 + 2 * len(VOTERS)
        for _ in range(places):
            Raw(network.clock, manager).say(messages.Ping())
        self.assertIs(manager.house.door("192.0.2.1"), False)
        self.assertEqual((len(manager.house._guests), manager.wallet_count), (places - 1, 2))

    def test_a_proven_masternode_is_neither_slowed_nor_cut_short(self) -> None:
        """The wallets' rate and queue are for wallets."""
        network = Network()
        manager = network.add(0, [])
        manager.startService()
        raw = self.prove(manager, network.clock, 1, dialled=False)
        raw.protocol.dataReceived(framed(QUESTION) * (limits.COST_BURST + 10))
        self.assertEqual(len(network.recorders[address(0)].messages), limits.COST_BURST + 10)
        raw.protocol.pauseProducing()
        for _ in range(5):
            raw.protocol.send_payload(b"x" * limits.OUT_QUEUE_WALLET)
        self.assertTrue(raw.protocol.is_open)

    def test_a_wallet_that_was_dialled(self) -> None:
        """Who answers as a wallet has no key to prove: it is no masternode, and no link."""
        dialler = HandshakeMachine(genesis=GENESIS, key=VOTERS[0], dialled=True, nonce=b"1" * 32, binding=b"")
        wallet = HandshakeMachine(genesis=GENESIS, key=None, dialled=True, nonce=b"2" * 32, binding=b"")
        with self.assertRaises(Refusal) as caught:
            dialler.hear_handshake(wallet.ours)
        self.assertIs(caught.exception.code, ErrorCode.BAD_HANDSHAKE)


class Greeting(ProtocolCase):
    """Connections that count only once they are greeted."""

    def attempt(self, greeted: Deferred[Any]) -> Deferred[Any]:
        class Endpoint:
            def connect(_, factory: Any) -> Any:  # noqa: N805
                return succeed(self.protocol)

        return GreetedEndpoint(Endpoint(), None, lambda _: greeted).connect(HandleFactory())

    def test_a_greeting_that_fails_ends_the_connection(self) -> None:
        """At once, and the attempt has failed."""
        greeted: Deferred[Any] = Deferred()
        attempt = self.attempt(greeted)
        greeted.errback(Refused())
        self.failureResultOf(attempt, Refused)
        self.assertTrue(self.transport.aborted)

    def test_a_greeting_that_comes_to_an_end_too_late(self) -> None:
        """The attempt was given up, and has failed by then: the connection is hung up."""
        met: Deferred[Any] = Deferred()

        async def greet() -> None:
            try:
                await met
            except CancelledError:
                attempt.cancel()

        attempt = self.attempt(Deferred.fromCoroutine(greet()))
        attempt.cancel()
        self.failureResultOf(attempt, CancelledError)
        self.assertFalse(self.protocol.is_open)

    def test_a_goodbye_that_is_under_way_is_not_cut_short(self) -> None:
        """An attempt given up while its connection closes with a word leaves it the time to say it."""
        attempt = self.attempt(Deferred())
        self.protocol.close(Refusal(ErrorCode.GOING_AWAY, "bye"))
        attempt.addErrback(lambda _: None)
        attempt.cancel()
        self.assertFalse(self.transport.aborted)
        self.assertTrue(self.transport.disconnecting)

    def test_greeted_and_gone_is_a_failure(self) -> None:
        """A connection that closes with its greeting was none."""
        greeted: Deferred[Any] = Deferred()
        attempt = self.attempt(greeted)
        self.protocol.close()
        greeted.callback(None)
        self.assertIsNotNone(self.failureResultOf(attempt))


class Flow(ProtocolCase):
    """What moves deadlines and queues."""

    def test_each_frame_has_its_own_time(self) -> None:
        """Frames that each come in two pieces, for minutes, are no drip."""
        half = len(framed(QUESTION)) // 2
        for _ in range(int(limits.FRAME_TIME) * 3):
            self.protocol.dataReceived(framed(QUESTION)[:half])
            self.clock.advance(1)
            self.protocol.dataReceived(framed(QUESTION)[half:] + framed(QUESTION)[:half])
            self.clock.advance(1)
            self.protocol.dataReceived(framed(QUESTION)[half:])
        self.assertFalse(self.transport.aborted)

    def test_paused_again_in_the_middle(self) -> None:
        """The transport takes two and says stop: the rest waits on, in order."""
        self.protocol.pauseProducing()
        for number in range(6):
            self.protocol.send(messages.Pong(id=number))
        write = self.transport.write
        written: list[bytes] = []

        def write_two(data: bytes) -> None:
            write(data)
            written.append(data)
            if len(written) % 2 == 0:
                self.protocol.pauseProducing()

        self.patch(self.transport, "write", write_two)
        for sent in (2, 4, 6):
            self.protocol.resumeProducing()
            self.assertEqual([each["id"] for each in self.said()], list(range(sent)))

    def test_a_slow_reader_that_reads_is_kept(self) -> None:
        """Much more than ``out_queue`` in all, never more than it at once."""
        payload = b"x" * (self.protocol.out_queue // 2)
        for _ in range(10):
            self.protocol.pauseProducing()
            self.protocol.send_payload(payload)
            self.protocol.resumeProducing()
            self.transport.clear()
        self.assertFalse(self.transport.aborted)
        self.assertEqual(self.protocol.backlog, 0)
