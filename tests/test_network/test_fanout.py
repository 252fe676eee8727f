"""One message for many: framed once, written in slices, and never out of order with what one of them is sent alone."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.test_network.test_protocol import QUESTION, ProtocolCase, framed
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network import outbox
from timeproto.network.fanout import FanOut, Shared, frame_of
from timeproto.network.protocol import MessageProtocol
from timeproto.wire import codec, compression, messages


def shared(number: int) -> Shared:
    return Shared(codec.encode(messages.Pong(id=number)))


class Turns(SynchronousTestCase):
    """Who is written to when."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.fan_out = FanOut(self.clock)
        self.written: list[Any] = []
        self.patch(limits, "FAN_OUT", 3)

    def member(self, name: Any) -> Any:
        case = self

        class Member:
            is_due = False
            size = 10

            def hold(self, *shared: Shared) -> bool:
                was_due, self.is_due = self.is_due, True
                return not was_due

            def flush(self) -> None:
                self.is_due = False
                case.written.append(name)

        return Member()

    def test_the_reactor_has_its_turn_in_between(self) -> None:
        """After ``limits.FAN_OUT`` connections whatever else is due is done before the next."""
        for number in range(8):
            self.fan_out.send(self.member(number), shared(1))
        for name in "abc":
            self.clock.callLater(0, self.written.append, name)
            self.clock.getDelayedCalls()
        self.assertEqual(self.written, [])
        self.clock.advance(0)
        self.assertEqual(self.written, [0, 1, 2, "a", "b", "c", 3, 4, 5, 6, 7])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_lot_for_each_is_a_turn_for_few(self) -> None:
        """What is written at once is bounded in bytes too; what is too much for one turn alone has one to itself."""
        self.patch(limits, "FAN_OUT_BYTES", 15)
        for number, size in enumerate((10, 10, 10, 100, 1, 1, 1)):
            member = self.member(number)
            member.size = size
            self.fan_out.send(member, shared(1))
        for name in "abcd":
            self.clock.callLater(0, self.written.append, name)
        self.clock.advance(0)
        self.assertEqual(self.written, [0, 1, "a", "b", "c", "d", 2, 3, 4, 5, 6])

    def test_two_messages_are_one_turn(self) -> None:
        """Who waits for its turn is not put in line again."""
        members = [self.member(number) for number in range(4)]
        for number in range(3):
            for member in members:
                self.fan_out.send(member, shared(number))
        self.clock.advance(0)
        self.assertEqual(self.written, [0, 1, 2, 3])

    def test_one_that_fails(self) -> None:
        """The others are written to all the same."""
        members = [self.member(number) for number in range(5)]
        members[1].flush = lambda: 1 / 0
        for member in members:
            self.fan_out.send(member, shared(1))
        self.assertRaises(ZeroDivisionError, self.clock.advance, 0)
        self.clock.advance(0)
        self.assertEqual(self.written, [0, 2, 3, 4])

    def test_without_a_clock(self) -> None:
        """Nobody waits for a turn that never comes."""
        FanOut(None).send(self.member("now"), shared(1))
        self.assertEqual(self.written, ["now"])


class Frames(SynchronousTestCase):
    def test_each_form_is_made_once(self) -> None:
        """Of ten thousand subscribers none has a copy of its own."""
        long = Shared(b'{"x":"' + b"y" * 5_000 + b'"}')
        self.assertIs(long.frame, long.frame)
        self.assertIs(long.squeezed, long.squeezed)
        self.assertEqual(int.from_bytes(long.squeezed[:4], "big"), len(long.squeezed) - 4)
        self.assertEqual(compression.expand(long.squeezed[4:], 10_000), long.payload)

    def test_too_long(self) -> None:
        """What no frame may hold is refused before anybody is sent it."""
        with self.assertRaises(Refusal) as caught:
            frame_of(b"x" * (limits.FRAME_PEER + 1), squeezed=False)
        self.assertEqual(caught.exception.code, ErrorCode.FRAME_TOO_LARGE)


class Order(ProtocolCase):
    """One connection that is sent things by both ways."""

    def ids(self) -> list[Any]:
        return [each.get("id", each.get("code")) for each in self.said()]

    def hold(self, number: int) -> bool:
        return self.protocol.outbox.hold(shared(number))

    def test_what_is_held_goes_before_what_is_sent(self) -> None:
        """An answer does not wait for the turn: it takes along what it must not overtake."""
        self.assertTrue(self.hold(1))
        self.assertFalse(self.hold(2))
        self.assertEqual(self.ids(), [])
        self.protocol.send(messages.Pong(id=3))
        self.assertFalse(self.hold(4))  # the turn that was due is still to come
        self.protocol.outbox.flush()
        self.assertEqual(self.ids(), [1, 2, 3, 4])
        self.assertTrue(self.hold(5))

    def test_a_transport_that_has_enough(self) -> None:
        """What is held waits with the rest for it to ask for more, in order."""
        self.protocol.send(messages.Pong(id=1))
        self.hold(2)
        self.protocol.pauseProducing()
        self.protocol.send(messages.Pong(id=3))
        self.hold(4)
        self.protocol.outbox.flush()
        self.assertEqual(self.ids(), [1])
        self.protocol.resumeProducing()
        self.protocol.send(messages.Pong(id=5))
        self.assertEqual(self.ids(), [1, 2, 3, 4, 5])
        self.assertEqual(self.protocol.backlog, 0)

    def test_at_once(self) -> None:
        """Votes for all: in one piece, behind what was held before, whether or not its turn has come."""
        self.hold(1)
        self.protocol.send_at_once([shared(2), shared(3)])
        self.assertEqual(self.ids(), [1, 2, 3])
        self.protocol.outbox.flush()
        self.assertEqual(self.ids(), [1, 2, 3])

    def test_closing(self) -> None:
        """What was told before the last word is written before it, and nothing afterwards."""
        self.hold(1)
        self.protocol.close(Refusal(ErrorCode.GOING_AWAY, "bye"))
        self.assertFalse(self.hold(2))
        self.protocol.outbox.flush()
        self.assertEqual(self.ids(), [1, "going_away"])

    def test_one_that_has_gone(self) -> None:
        """Its turn comes and nothing happens."""
        self.hold(1)
        self.lose()
        self.protocol.outbox.flush()
        self.assertFalse(self.hold(2))
        self.assertEqual((self.ids(), self.protocol.backlog), ([], 0))

    def test_one_that_never_reads(self) -> None:
        """What is held counts as what waits: it is cut off at the same bound."""
        large = [Shared(b"x" * 1_000_000)] * (limits.OUT_QUEUE_WALLET // 1_000_000)
        self.protocol.pauseProducing()
        self.protocol.send_at_once(large)
        self.assertFalse(self.transport.aborted)
        self.assertEqual(self.protocol.backlog, len(large) * 1_000_004)
        self.protocol.send_at_once(large[:1])
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.protocol.backlog, 0)


class Gathered(ProtocolCase):
    """Answers to what came in one piece."""

    def setUp(self) -> None:
        super().setUp()
        self.pieces: list[bytes] = []
        write = self.transport.write

        def writes(data: bytes) -> None:
            self.pieces.append(data)
            write(data)

        self.patch(self.transport, "write", writes)

    def ask(self, *numbers: int, then: bytes = b"") -> None:
        self.protocol.dataReceived(b"".join(framed(messages.Ping(id=number)) for number in numbers) + then)

    def ids(self) -> list[Any]:
        return [each.get("id", each.get("code")) for each in self.said()]

    def test_they_go_in_one_piece(self) -> None:
        """A system call for each would cost more than the answer."""
        self.ask(*range(1, 41))
        self.assertEqual(self.ids(), list(range(1, 41)))
        self.assertEqual(len(self.pieces), 1)
        self.protocol.send(messages.Pong(id=41))  # what comes later is not waited for
        self.protocol.send(messages.Pong(id=42))
        self.assertEqual(len(self.pieces), 3)

    def test_large_ones_go_as_they_come(self) -> None:
        """No more is gathered than is little: who asks for much at once is not taken for one who never reads."""
        size = outbox.GATHERED // 2
        most = 0

        def answer(message: Any) -> None:
            nonlocal most
            self.protocol.send_payload(b"x" * size)
            most = max(most, self.protocol.backlog)

        self.patch(self.protocol, "message_received", answer)
        self.patch(self.protocol, "out_queue", 2 * outbox.GATHERED)
        self.protocol.dataReceived(framed(QUESTION) * 20)
        self.assertFalse(self.transport.aborted)
        self.assertEqual(sum(map(len, self.pieces)), 20 * (4 + size))
        self.assertEqual((len(self.pieces), self.protocol.backlog), (10, 0))
        self.assertLessEqual(most, outbox.GATHERED)

    def test_the_last_word(self) -> None:
        """It comes behind them: whoever is sent away in the middle has the answers that it was given before."""
        self.ask(1, 2, then=bytes(4) + framed(messages.Ping(id=3)))
        self.assertEqual(self.ids(), [1, 2, "bad_frame"])
        self.assertTrue(self.transport.disconnecting)

    def test_a_fault_of_ours(self) -> None:
        """What was answered before it is sent all the same."""
        self.protocol.explode = True
        self.ask(1, 2, then=framed(QUESTION))
        self.assertEqual(self.ids(), [1, 2, "internal"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_behind_what_is_held(self) -> None:
        """What was told before they were made is not overtaken, nor does it wait for its turn any longer."""
        self.protocol.outbox.hold(shared(7))
        self.ask(1, 2)
        self.assertEqual(self.ids(), [7, 1, 2])
        self.assertEqual(len(self.pieces), 1)

    def test_while_the_transport_has_enough(self) -> None:
        """They wait for it to ask for more, each a piece of its own."""
        self.protocol.pauseProducing()
        self.ask(1, 2)
        self.assertEqual(self.pieces, [])
        self.protocol.resumeProducing()
        self.assertEqual(self.ids(), [1, 2])
        self.assertEqual(len(self.pieces), 2)


@implementer(IReactorFDSet)
class _Waiting(Clock):
    """Remembers who waits to write. Nobody reads and writes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None: ...

    def removeReader(self, reader: Any) -> None: ...

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[Any]:
        return []

    def getReaders(self) -> list[Any]:
        return []

    def getWriters(self) -> list[Any]:
        return list(self.writers)


class Sockets(SynchronousTestCase):
    """A socket of the kernel's on each end."""

    def setUp(self) -> None:
        self.reactor = _Waiting()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.far = socket.create_connection(listener.getsockname(), 10)
            near, _ = listener.accept()
        self.addCleanup(self.far.close)
        self.addCleanup(near.close)
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        self.protocol = MessageProtocol(self.reactor)
        self.transport = Server(near, self.protocol, ("127.0.0.1", 1), None, 0, self.reactor)
        self.protocol.makeConnection(self.transport)

    def heard(self, size: int) -> bytes:
        """Reads so much, letting the other end write as it can."""
        data = b""
        while len(data) < size:
            readable, writable, _ = select.select([self.far], list(self.reactor.writers), [], 10)
            for each in writable:
                self.assertIsNone(each.doWrite())
            if readable:
                data += self.far.recv(1 << 16)
            self.assertTrue(readable or writable, "the rest does not come")
        return data

    def test_at_once(self) -> None:
        """The kernel has it before the reactor has turned; nobody waits to write."""
        one, two = shared(1), shared(2)
        self.protocol.send_at_once([one, two])
        self.assertEqual(self.reactor.writers, set())
        self.assertEqual(self.far.recv(1_000), one.frame + two.frame)

    def test_an_answer(self) -> None:
        """It does not wait for the reactor either: before that turns, a node may have a step to do."""
        self.protocol.send(QUESTION)
        self.assertEqual(self.reactor.writers, set())
        self.assertEqual(self.far.recv(1_000), frame_of(codec.encode(QUESTION), squeezed=False))

    def test_more_than_the_kernel_takes(self) -> None:
        """The rest, and all that comes after it, waits in the transport; nothing is lost, doubled or overtaken."""
        self.protocol.out_queue = limits.OUT_QUEUE_PEER
        large = [Shared(bytes([65 + number]) * 300_000) for number in range(4)]
        expected = b"".join(each.frame for each in large) + frame_of(codec.encode(QUESTION), squeezed=False)
        for each in large:
            self.protocol.send_at_once([each])
        self.protocol.send(QUESTION)
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertEqual(self.heard(len(expected)), expected)
        self.assertEqual((self.reactor.writers, self.protocol.backlog), (set(), 0))

    def test_behind_what_the_transport_has(self) -> None:
        """What waits for the reactor is overtaken by nothing."""
        self.transport.write(shared(1).frame)
        self.protocol.send(QUESTION)
        self.protocol.send_at_once([shared(2)])
        expected = shared(1).frame + frame_of(codec.encode(QUESTION), squeezed=False) + shared(2).frame
        self.assertEqual(self.heard(len(expected)), expected)

    def test_closing_behind_much(self) -> None:
        """Whoever reads slowly is told everything that it was to be told, and at last why it is sent away."""
        self.protocol.out_queue = limits.OUT_QUEUE_PEER
        large = [bytes([65 + number]) * 300_000 for number in range(4)]
        refusal = Refusal(ErrorCode.BAD_FRAME, "no")
        for each in large:
            self.protocol.send_payload(each)
        self.assertGreater(self.protocol.backlog, 0)  # more than the transport takes
        self.protocol.close(refusal)
        said = [*large, codec.encode(messages.error_of(refusal))]
        expected = b"".join(frame_of(each, squeezed=False) for each in said)
        data = b""
        while len(data) < len(expected):
            readable, writable, _ = select.select([self.far], list(self.reactor.writers), [], 10)
            for each in writable:
                if each.doWrite() is not None:
                    self.reactor.writers.discard(each)  # all is written: the connection is done
            self.assertTrue(readable or writable, "the rest does not come")
            data += self.far.recv(1 << 16) if readable else b""
        self.assertEqual(data, expected)

    def test_the_other_end_has_gone(self) -> None:
        """The loss is the transport's to find, in its own time: telling raises nothing."""
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.far.close()
        self.protocol.send_at_once([shared(1)])
        self.assertEqual(self.reactor.writers, {self.transport})
        self.assertIsNotNone(self.transport.doWrite())
