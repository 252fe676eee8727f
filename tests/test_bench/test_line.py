"""The generator's connection: frames however they are cut, and answers for those who asked."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench.frames import frame
from timeproto.bench.line import Line
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wire import codec, messages


class Transport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


def make_line() -> tuple[Line, list[bytes], Transport]:
    heard: list[bytes] = []
    line, transport = Line(heard.append), Transport()
    line.makeConnection(transport)
    return line, heard, transport


class Frames(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.lists(st.integers(0, 300)))
    def test_however_they_are_cut(self, payloads: list[bytes], cuts: list[int]) -> None:
        """Every payload comes whole, once, in order."""
        line, heard, _ = make_line()
        payloads = [b"." + payload for payload in payloads]  # no ping
        stream = b"".join(map(frame, payloads))
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        for start, end in itertools.pairwise(places):
            line.dataReceived(stream[start:end])
        self.assertEqual(heard, payloads)

    def test_a_ping_is_answered(self) -> None:
        """A node that hears nothing for a minute is not to hang up in the middle of a measurement."""
        line, heard, transport = make_line()
        line.dataReceived(frame(codec.encode(messages.Ping(id=4))))
        self.assertEqual(transport.value(), frame(codec.encode(messages.Pong(id=4))))
        self.assertEqual(heard, [])

    def test_replies_go_to_who_asked(self) -> None:
        """By their id, in any order; what nobody asked for is heard."""
        line, heard, transport = make_line()
        first, second = line.ask(messages.GetEvidence()), line.ask(messages.GetTransaction(txid="0" * 64))
        sent: Any = transport.value()
        asked = []
        while sent:
            length = int.from_bytes(sent[:4], "big")
            asked.append(codec.decode(sent[4 : 4 + length]))
            sent = sent[4 + length :]
        refusal = messages.Error(id=asked[1].id, code="not_found", message="there is none")
        stranger = codec.encode(messages.TransactionAccepted(id=1, txid="1" * 64))
        found = messages.EvidenceFound(id=asked[0].id, evidence=(), next=0, more=False)
        line.dataReceived(frame(codec.encode(refusal)) + frame(stranger) + frame(codec.encode(found)))
        self.assertEqual(self.successResultOf(first), found)
        self.assertIs(self.failureResultOf(second, Refusal).value.code, ErrorCode.NOT_FOUND)
        self.assertEqual(heard, [stranger])

    def test_a_connection_that_goes(self) -> None:
        """Who waits is told, and so is whoever asks afterwards."""
        line, _, _ = make_line()
        waiting = line.ask(messages.GetInfo())
        line.connectionLost()
        self.failureResultOf(waiting, ConnectionGone)
        self.failureResultOf(line.ask(messages.GetInfo()), ConnectionGone)
        self.assertTrue(line.gone)
