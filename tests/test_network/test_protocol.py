"""Frames and messages on one connection: every bound, every deadline, and nothing left behind."""

from __future__ import annotations

import json
import random
import re
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.examples import fill
from tests.test_wire.test_messages import EXAMPLE
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.budget import Account, Budgets
from timeproto.network.fanout import Shared
from timeproto.network.protocol import MessageProtocol
from timeproto.network.purse import Purse
from timeproto.network.requests import ConnectionGone
from timeproto.wire import codec, messages
from timeproto.wire.messages import CATALOGUE, Role, senders_of


class Transport(StringTransport):
    """Remembers how it was ended."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Listening(MessageProtocol):
    """Keeps what it hears; a message called for may explode."""

    remote_role = Role.MASTERNODE

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.heard: list[Any] = []
        self.explode = False
        self.is_ready = False
        self.is_gone = 0

    def ready(self) -> None:
        self.is_ready = True

    def message_received(self, message: Any) -> None:
        if self.explode:
            raise ZeroDivisionError("a bug of ours")
        self.heard.append(message)

    def gone(self, reason: Any) -> None:
        self.is_gone += 1


def paying(clock: Clock, rate: float, burst: float) -> Account:
    """An account of its own, in which a plain message costs 1."""
    budgets = Budgets(clock)
    return Account(budgets, Purse(rate, burst, budgets.pace), None)


def frame(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def framed(message: Any) -> bytes:
    return frame(codec.encode(message))


QUESTION = messages.GetFinalized(since=7)


class ProtocolCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.protocol, self.transport = self.connect()

    def connect(self, **attributes: Any) -> tuple[Listening, Transport]:
        protocol, transport = Listening(self.clock), Transport()
        for name, value in attributes.items():
            setattr(protocol, name, value)
        protocol.makeConnection(transport)
        return protocol, transport

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def said(self) -> list[dict[str, Any]]:
        """What went out, as JSON."""
        data, found = self.transport.value(), []
        while data:
            (size,) = struct.unpack("!I", data[:4])
            found.append(json.loads(data[4 : 4 + size]))
            data = data[4 + size :]
        return found

    def codes(self) -> list[str]:
        return [each["code"] for each in self.said() if each["type"] == "Error"]


class Frames(ProtocolCase):
    """Bytes to messages."""

    def test_it_is_what_twisted_expects(self) -> None:
        """A push producer and a listener for TLS handshakes."""
        verifyObject(IPushProducer, self.protocol)
        verifyObject(IHandshakeListener, self.protocol)

    def test_every_cut_of_a_stream_gives_the_same_messages(self) -> None:
        """Segments may end anywhere (N-14)."""
        stream = framed(QUESTION) + framed(messages.GetPeers()) + framed(QUESTION)
        for at in range(len(stream) + 1):
            protocol, _ = self.connect()
            protocol.dataReceived(stream[:at])
            protocol.dataReceived(stream[at:])
            self.assertEqual(protocol.heard, [QUESTION, messages.GetPeers(), QUESTION])

    @given(st.integers(0, 2**32))
    def test_random_segments(self, seed: int) -> None:
        """Any number of frames in any pieces."""
        chance = random.Random(seed)
        stream = framed(QUESTION) * chance.randint(1, 20)
        protocol, _ = self.connect()
        while stream:
            size = chance.randint(1, 40)
            protocol.dataReceived(stream[:size])
            stream = stream[size:]
        self.assertEqual(set(protocol.heard), {QUESTION})

    def test_one_byte_at_a_time_copies_no_more_than_it_brings(self) -> None:
        """The buffer is never copied for a segment: it is the very same object, cut once a frame (N-18)."""
        buffer = self.protocol._buffer
        for byte in framed(QUESTION) * 50:
            self.protocol.dataReceived(bytes([byte]))
            self.assertIs(self.protocol._buffer, buffer)
        self.assertEqual(len(self.protocol.heard), 50)
        self.assertEqual(len(buffer), 0)

    def test_a_length_over_the_limit_ends_it_on_the_four_bytes(self) -> None:
        """2^32 - 1, 2 GiB, one too many: one error that names the limit, nothing kept (H-01)."""
        for length in (2**32 - 1, 2**31, limits.FRAME_WALLET + 1):
            self.protocol, self.transport = self.connect()
            self.protocol.dataReceived(struct.pack("!I", length) + b"x" * 100)
            (error,) = self.said()
            self.assertEqual(error["code"], "frame_too_large")
            self.assertEqual(error["details"], {"limit": "frame_wallet", "value": limits.FRAME_WALLET})
            self.assertTrue(self.transport.disconnecting)
            self.assertEqual(len(self.protocol._buffer), 0)

    def test_a_proven_peer_may_send_more(self) -> None:
        """The larger limit, and no more than it."""
        self.protocol.raise_frame_limit()
        self.protocol.dataReceived(struct.pack("!I", limits.FRAME_PEER))
        self.assertEqual(self.codes(), [])
        self.protocol, self.transport = self.connect()
        self.protocol.raise_frame_limit()
        self.protocol.dataReceived(struct.pack("!I", limits.FRAME_PEER + 1))
        self.assertEqual(self.codes(), ["frame_too_large"])

    def test_empty_frames_end_at_the_first(self) -> None:
        """Sixteen thousand empty frames in one segment cost one error (H-03)."""
        self.protocol.dataReceived(bytes(4 * 16_384))
        self.assertEqual(self.codes(), ["bad_frame"])

    def test_nothing_after_a_bad_frame_is_acted_on(self) -> None:
        """Frames that were buffered behind it stay unread; one error, however much follows."""
        self.protocol.dataReceived(frame(b"{") + framed(QUESTION) + frame(b"["))
        self.protocol.dataReceived(framed(QUESTION))
        self.assertEqual((self.codes(), self.protocol.heard), (["bad_json"], []))
        self.assertTrue(self.transport.disconnecting)

    def test_an_unknown_type_is_an_error_and_no_end(self) -> None:
        """``unsupported`` with the request's id, and the talk goes on."""
        self.protocol.dataReceived(frame(b'{"type":"Zed","id":3}') + framed(QUESTION))
        (error,) = self.said()
        self.assertEqual((error["code"], error["id"]), ("unsupported", 3))
        self.assertEqual(self.protocol.heard, [QUESTION])

    def test_every_message_from_every_role(self) -> None:
        """What a role may not send ends the connection; what it may send does not (H-30)."""
        for name, cls in CATALOGUE.items():
            example = _example(cls)
            for role in Role:
                self.protocol, self.transport = self.connect(remote_role=role)
                self.protocol.dataReceived(frame(example))
                allowed = role in senders_of(cls)
                self.assertEqual("not_authorised" in self.codes(), not allowed, f"{name} from {role}")
                self.assertEqual(self.transport.disconnecting, not allowed, f"{name} from {role}")

    def test_a_bug_of_ours_costs_one_connection(self) -> None:
        """``internal``, the connection closes, the log has the traceback once (P-22)."""
        self.protocol.explode = True
        self.protocol.dataReceived(framed(QUESTION) * 2)
        self.assertEqual(self.codes(), ["internal"])
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_pings_are_answered(self) -> None:
        """With their id."""
        self.protocol.dataReceived(framed(messages.Ping(id=8)))
        self.assertEqual(self.said(), [{"type": "Pong", "id": 8}])

    def test_the_sender_keeps_the_limit_too(self) -> None:
        """A frame too long to be read is not written."""
        with self.assertRaises(Refusal) as caught:
            self.protocol.send_payload(b"x" * (limits.FRAME_PEER + 1))
        self.assertIs(caught.exception.code, ErrorCode.FRAME_TOO_LARGE)

    def test_hostile_text_is_one_short_line(self) -> None:
        """Control characters and escapes reach neither the log nor the other end (H-15)."""
        self.protocol.dataReceived(frame(json.dumps({"type": "A\x1b[2J\n" + "z" * 5_000}).encode()))
        (error,) = self.said()
        self.assertLess(len(error["message"]), 513)
        self.assertTrue(error["message"].isprintable())


class Requests(ProtocolCase):
    """Replies find their requests."""

    def test_replies_in_any_order(self) -> None:
        """By id, not by turn (failure 34)."""
        one, two = self.protocol.request(messages.GetPeers()), self.protocol.request(QUESTION)
        ids = [each["id"] for each in self.said()]
        answer = messages.Finalized(id=ids[1], txids=(), next=0, head=0)
        self.protocol.dataReceived(framed(answer) + framed(messages.Peers(id=ids[0], peers=())))
        self.assertEqual(self.successResultOf(two), answer)
        self.assertEqual(self.successResultOf(one), messages.Peers(id=ids[0], peers=()))

    def test_a_reply_to_another_question(self) -> None:
        """What is no answer to the request is no fault of who asked: the connection is closed, and says why."""
        asked = self.protocol.request(QUESTION)
        self.protocol.dataReceived(framed(messages.Pong(id=1)))
        self.assertEqual(self.said()[-1]["code"], "bad_field")
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.failureResultOf(asked, ConnectionGone)

    def test_an_error_is_a_refusal(self) -> None:
        """They said no: the code and the details arrive."""
        asked = self.protocol.request(QUESTION)
        error = messages.Error(id=1, code="double_spend", message="no", details={"conflicting_txid": "x"})
        self.protocol.dataReceived(framed(error))
        refusal = self.failureResultOf(asked, Refusal).value
        self.assertEqual((refusal.code, refusal.details), (ErrorCode.DOUBLE_SPEND, {"conflicting_txid": "x"}))

    def test_they_went_away(self) -> None:
        """All that wait fail together, once, and differently from a refusal; later ones fail at once."""
        waiting: list[Deferred[Any]] = [self.protocol.request(QUESTION) for _ in range(3)]
        self.lose()
        for each in waiting:
            self.failureResultOf(each, ConnectionGone)
        self.failureResultOf(self.protocol.request(QUESTION), ConnectionGone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_answer_is_a_timeout_and_a_late_one_is_ignored(self) -> None:
        """After ``limits.REQUEST_TIME``; the connection lives on."""
        asked = self.protocol.request(QUESTION)
        self.clock.advance(limits.REQUEST_TIME)
        self.assertIs(self.failureResultOf(asked, Refusal).value.code, ErrorCode.TIMEOUT)
        self.protocol.dataReceived(framed(messages.Finalized(id=1, txids=(), next=0, head=0)))
        self.assertFalse(self.transport.disconnecting)

    def test_requests_are_bounded(self) -> None:
        """One more than the limit fails at once."""
        self.patch(limits, "REQUESTS", 2)
        waiting = [self.protocol.request(QUESTION) for _ in range(3)]
        self.assertIs(self.failureResultOf(waiting[2], Refusal).value.code, ErrorCode.BUSY)
        self.lose()
        for each in waiting[:2]:
            self.failureResultOf(each, ConnectionGone)


class Deadlines(ProtocolCase):
    """Nobody is waited for for ever."""

    def assert_cut_off_after(self, seconds: float) -> None:
        self.clock.advance(seconds - 0.01)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(0.02)
        self.assertTrue(self.transport.aborted)

    def test_the_first_frame(self) -> None:
        """Who must speak first has ``limits.HANDSHAKE`` seconds, drips or not (H-02, H-29)."""
        self.protocol, self.transport = self.connect(must_speak_first=True)
        self.protocol.dataReceived(b"\x00\x00")
        self.assert_cut_off_after(limits.HANDSHAKE)

    def test_a_frame_that_drips(self) -> None:
        """From its first byte to its last, ``limits.FRAME_TIME``, however steadily it comes (N-18)."""
        self.protocol.dataReceived(framed(QUESTION))
        for _ in range(int(limits.FRAME_TIME)):
            self.protocol.dataReceived(b"\x00")
            self.clock.advance(1)
            if self.transport.aborted:
                break
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_silence_is_asked_and_then_ended(self) -> None:
        """A ping after ``IDLE``, the end after ``PONG`` more (N-15)."""
        self.clock.advance(limits.IDLE)
        self.assertEqual(self.said(), [{"type": "Ping"}])
        self.assert_cut_off_after(limits.PONG)

    def test_an_answer_to_the_ping_is_a_new_start(self) -> None:
        """Any bytes will do."""
        self.clock.advance(limits.IDLE)
        self.protocol.dataReceived(framed(messages.Pong()))
        self.clock.advance(limits.PONG + 1)
        self.assertFalse(self.transport.aborted)

    def test_a_close_that_is_not_answered(self) -> None:
        """Aborted after ``limits.CLOSE``: a reader that never reads cannot hold us."""
        self.protocol.close(Refusal(ErrorCode.GOING_AWAY, "bye"))
        self.assertEqual(self.codes(), ["going_away"])
        self.assertTrue(self.transport.disconnecting)
        self.assert_cut_off_after(limits.CLOSE)

    def test_nothing_is_left_when_it_is_gone(self) -> None:
        """No timer, no buffer, no queue; ``gone`` is called once."""
        self.protocol.dataReceived(b"\x00\x00")
        self.protocol.pauseProducing()
        self.protocol.send(QUESTION)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((len(self.protocol._buffer), self.protocol.backlog, self.protocol.is_gone), (0, 0, 1))

    def test_an_old_deadline_does_not_bite(self) -> None:
        """An honest connection that speaks now and then lives on."""
        for _ in range(20):
            self.clock.advance(limits.IDLE - 1)
            self.protocol.dataReceived(framed(QUESTION))
        self.assertFalse(self.transport.aborted)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class Pressure(ProtocolCase):
    """Writers faster than readers, and the other way round."""

    def test_what_cannot_be_written_waits_in_order(self) -> None:
        """Paused, it queues; resumed, it sends in the same order."""
        self.protocol.pauseProducing()
        for number in range(5):
            self.protocol.send(messages.Pong(id=number))
        self.assertEqual(self.said(), [])
        self.protocol.resumeProducing()
        self.assertEqual([each["id"] for each in self.said()], list(range(5)))

    def test_a_reader_that_never_reads_is_cut_off(self) -> None:
        """At ``out_queue`` bytes, not later; and nothing of them is kept (N-16)."""
        self.protocol.pauseProducing()
        payload = b"x" * 100_000
        for _ in range(self.protocol.out_queue // 100_000):
            self.protocol.send_payload(payload)
        self.assertFalse(self.transport.aborted)
        self.protocol.send_payload(payload)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.protocol.backlog, 0)

    def test_who_does_not_read_its_answers_is_not_read(self) -> None:
        """It has a few answers waiting, not as many as it asked for; when it reads, all are given, in order (H-27)."""
        self.protocol.account = paying(self.clock, 10**6, 10**6)
        self.patch(self.protocol, "message_received", lambda message: self.answer(message))
        self.protocol.pauseProducing()
        self.protocol.dataReceived(b"".join(framed(messages.GetFinalized(since=number)) for number in range(20)))
        self.assertLess(len(self.protocol.heard), 4)
        self.assertLess(self.protocol.backlog, limits.ANSWERS_QUEUE + 40_000)
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.dataReceived(framed(messages.GetFinalized(since=20)))
        self.clock.advance(1)
        self.assertLess(len(self.protocol.heard), 4)
        self.protocol.resumeProducing()
        self.assertEqual([message.since for message in self.protocol.heard], list(range(21)))
        self.assertEqual(self.transport.producerState, "producing")

    def test_what_is_not_read_has_no_deadline(self) -> None:
        """Frames wait for as long as their sender reads slowly; a part of one has its time from then on (N-23)."""
        self.protocol.account = paying(self.clock, 10**6, 10**6)
        self.patch(self.protocol, "message_received", lambda message: self.answer(message))
        self.protocol.pauseProducing()
        self.protocol.dataReceived(framed(QUESTION) * 5 + b"\x00")
        self.clock.advance(limits.FRAME_TIME + 1)
        self.assertFalse(self.transport.aborted)
        self.protocol.resumeProducing()
        self.assertEqual(len(self.protocol.heard), 5)
        self.clock.advance(limits.FRAME_TIME + 1)
        self.assertTrue(self.transport.aborted)

    def test_who_reads_slowly_is_there(self) -> None:
        """Our ping stands behind what waits, or its answer is not read: while it goes on reading it is there (N-23)."""
        for _ in range(10):
            self.protocol.pauseProducing()
            self.clock.advance(limits.IDLE + limits.PONG - 1)
            self.protocol.resumeProducing()
        self.assertFalse(self.transport.aborted)
        self.protocol.pauseProducing()
        self.clock.advance(limits.IDLE)
        self.clock.advance(limits.PONG)
        self.assertTrue(self.transport.aborted)

    def answer(self, message: Any) -> None:
        self.protocol.heard.append(message)
        self.protocol.send_payload(b'"' + b"x" * 30_000 + b'"')

    def test_a_turn_ends(self) -> None:
        """However much one wallet may say, after some frames in a row all others have their turn; a peer says all."""
        self.protocol.account = paying(self.clock, 10**6, 10**6)
        self.protocol.dataReceived(framed(QUESTION) * (2 * limits.FRAMES_IN_A_ROW + 1))
        self.assertEqual(len(self.protocol.heard), limits.FRAMES_IN_A_ROW)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(0)
        self.assertEqual(len(self.protocol.heard), 2 * limits.FRAMES_IN_A_ROW + 1)
        self.assertEqual(self.transport.producerState, "producing")
        peer, _ = self.connect()
        peer.dataReceived(framed(QUESTION) * 500)
        self.assertEqual(len(peer.heard), 500)

    def test_what_waits_for_its_turn_is_not_what_is_not_read(self) -> None:
        """Much is told to many, a slice at a time: whoever has not had his turn yet is read all the same."""
        self.protocol.account = paying(self.clock, 10**6, 10**6)
        self.protocol.outbox.hold(Shared(b'"' + b"x" * 2 * limits.ANSWERS_QUEUE + b'"'))
        self.protocol.dataReceived(framed(QUESTION) * 3)
        self.assertEqual(len(self.protocol.heard), 3)
        self.assertEqual(self.transport.producerState, "producing")

    def test_a_fast_sender_is_read_more_slowly(self) -> None:
        """Over the rate the transport is paused; nothing is lost and nothing refused."""
        self.protocol.account = paying(self.clock, 10, 20)
        self.protocol.dataReceived(framed(QUESTION) * 30)
        self.assertEqual(len(self.protocol.heard), 21)
        self.assertEqual(self.transport.producerState, "paused")
        for _ in range(100):
            self.clock.advance(0.05)
        self.assertEqual(len(self.protocol.heard), 30)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.codes(), [])

    def test_asking_without_an_end_has_one(self) -> None:
        """Held back for long with ever more to read: it waits for no answers, or has hung up; told so, and closed."""
        self.protocol.account = paying(self.clock, 10, 1)
        self.protocol.dataReceived(framed(QUESTION) * 10_000)
        self.clock.pump([0.1] * round(10 * (limits.HELD_ON_END + 1)))
        self.assertEqual(self.codes(), ["over_limit"])
        self.assertTrue(self.transport.disconnecting)
        self.assertLess(len(self.protocol.heard), 10 * limits.HELD_ON_END + 10)

    def test_who_waits_for_each_answer_may_ask_for_ever(self) -> None:
        """However long it is held back, if nothing more waits when it is read again."""
        self.protocol.account = paying(self.clock, 10, 1)
        for _ in range(600):
            if self.transport.producerState == "producing":
                self.protocol.dataReceived(framed(QUESTION))
            self.clock.advance(0.1)
        self.assertEqual(self.codes(), [])
        self.assertGreater(len(self.protocol.heard), 250)

    def test_the_average_keeps_to_the_rate(self) -> None:
        """However the frames come, no more than burst + rate x time are read."""
        self.protocol.account = paying(self.clock, 10, 5)
        for _ in range(100):
            if self.transport.producerState == "producing":
                self.protocol.dataReceived(framed(QUESTION) * 3)
            self.clock.advance(0.1)
        self.assertLessEqual(len(self.protocol.heard), 5 + 10 * 10 + 1)
        self.assertGreater(len(self.protocol.heard), 80)


def _example(cls: type) -> bytes:
    """The JSON example in a message's docstring, written out."""
    return fill(re.sub(r"\s*\n\s*", " ", EXAMPLE.findall(cls.__doc__ or "")[0]))
