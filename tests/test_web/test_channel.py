"""One HTTP connection and those who would misuse it (faults T-05 to T-07)."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests import FUZZ
from tests.test_web.harness import Connection, Web
from timeproto import limits
from timeproto.network.certificates import make_certificate
from timeproto.network.tls import ServerContextFactory, secured
from timeproto.web import bounds
from timeproto.web.channel import Stage

WORDS = (
    b"GET / HTTP/1.1\r\n", b"POST /v1/transactions HTTP/1.1\r\n", b"HEAD /live HTTP/1.0\r\n", b"Host: localhost\r\n",
    b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n",
    b"Content-Type: application/json\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"3\r\n{} \r\n0\r\n\r\n", b"{}\n",
)  # fmt: skip
LIVE = b"GET /live HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/transactions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


class Malformed(SynchronousTestCase):
    def refused(self, data: bytes, status: int, code: str) -> Connection:
        connection = Web().connect().send(data)
        (answer,) = connection.answers()
        self.assertEqual((answer.status, answer.code), (status, code), answer)
        self.assertEqual(answer.headers["connection"], "close")
        self.assertTrue(connection.wire.is_ended)
        self.assertNotIn("server", answer.headers)
        return connection

    def test_unclear_lengths(self) -> None:
        """Two lengths, a length and an encoding, and every other spelling of a number are refused (T-06)."""
        for lines in (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            b"Content-Length: 5\r\nContent-Length: 5\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n",
            *(b"Content-Length: %s\r\n" % each for each in (b"+5", b"-5", b"0x5", b"5 5", b"5,5", b"", b"9" * 5_000)),
            b"Transfer-Encoding: identity\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ):
            self.refused(POST + lines + b"\r\nhello", 400, "bad_frame")

    def test_lines_that_others_would_read_otherwise(self) -> None:
        """A bare line feed, a bare carriage return, a NUL, a folded header: each is refused (T-06)."""
        self.refused(b"GET /live HTTP/1.1\nHost: localhost\n\n", 400, "bad_frame")
        for line in (b"X: y\nA: b\r\n", b"X: y\rA: b\r\n", b"X: \x00\r\n", b"X: y\r\n z: w\r\n", b"no colon\r\n",
                     b"X y: z\r\n", b": z\r\n"):
            self.refused(LIVE + line + b"\r\n", 400, "bad_frame")

    def test_no_request_at_all(self) -> None:
        """Other protocols and versions are told so at once."""
        for line in (b"GET /", b"GET / HTTP/0.9", b"PRI * HTTP/2.0", b"GET  / HTTP/1.1", b"\x16\x03"):
            self.refused(line + b"\r\n\r\n", 400, "bad_frame")

    def test_too_long_a_target(self) -> None:
        """An 8 kB target is 414, whether its line ends or not (T-07)."""
        self.refused(b"GET /" + b"a" * 8_000 + b" HTTP/1.1\r\n", 414, "over_limit")
        self.refused(b"GET /" + b"a" * 40_000, 414, "over_limit")

    def test_too_many_headers(self) -> None:
        """16 kB of headers, in one or in many, and 500 headers are 431 (T-05)."""
        self.refused(LIVE + b"X: " + b"a" * 16_000, 431, "over_limit")
        many = b"".join(b"X%d: %s\r\n" % (at, b"a" * 500) for at in range(40))
        self.refused(LIVE + many + b"\r\n", 431, "over_limit")
        self.refused(LIVE + b"".join(b"X%d: a\r\n" % at for at in range(500)) + b"\r\n", 431, "over_limit")

    def test_as_many_headers_as_allowed(self) -> None:
        """The bound itself is not over it: Host is one of them."""
        lines = b"".join(b"X%d: a\r\n" % at for at in range(bounds.WEB_HEADERS - 1))
        (answer,) = Web().connect().send(LIVE + lines + b"\r\n").answers()
        self.assertEqual(answer.status, 200)

    def test_too_long_a_body(self) -> None:
        """100 MB are refused before they come, announced or in chunks, and not invited either (T-05)."""
        self.refused(POST + b"Content-Length: 100000000\r\n\r\n", 413, "over_limit")
        self.refused(POST + b"Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n", 413, "over_limit")
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        connection = self.refused(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17, 413, "over_limit")
        connection.send(chunk * 100)
        self.assertEqual(connection.take(), b"")

    def test_malformed_chunks(self) -> None:
        """What is no chunk ends the connection."""
        self.refused(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_frame")

    def test_nothing_is_acted_on_after_a_refusal(self) -> None:
        """A good request behind a bad one is not answered."""
        connection = self.refused(LIVE + b"X: \x00\r\n\r\n" + LIVE + b"\r\n", 400, "bad_frame")
        connection.send(LIVE + b"\r\n")
        self.assertEqual(connection.take(), b"")


class Pieces(SynchronousTestCase):
    def test_any_cut_is_the_same_request(self) -> None:
        """A request that comes byte by byte, or with its body's line feeds at the seam, is the same request."""
        whole = POST + b"Content-Length: 4\r\n\r\n\n{}\n"
        expected = Web().connect().send(whole).answers()
        self.assertEqual(expected[0].code, "bad_field")
        for cut in range(1, len(whole)):
            self.assertEqual(Web().connect().send(whole[:cut]).send(whole[cut:]).answers(), expected, cut)
        connection = Web().connect()
        for at in range(len(whole)):
            connection.send(whole[at : at + 1])
        self.assertEqual(connection.answers(), expected)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """Each gets its answer, and the connection stays."""
        connection = Web().connect().send(LIVE + b"\r\n" + LIVE.replace(b"/live", b"/nope") + b"\r\n" + LIVE + b"\r\n")
        self.assertEqual([answer.status for answer in connection.answers()], [200, 404, 200])
        self.assertFalse(connection.wire.is_ended)

    def test_close_when_asked(self) -> None:
        """``Connection: close`` and HTTP/1.0 end the connection after the answer."""
        for data in (LIVE + b"Connection: close\r\n\r\n", b"GET /live HTTP/1.0\r\n\r\n"):
            connection = Web().connect().send(data)
            self.assertTrue(connection.wire.disconnecting)
            self.assertEqual(connection.answers()[0].status, 200)

    def test_head_has_no_body(self) -> None:
        """HEAD is GET without the body, with its length."""
        connection = Web().connect().request("HEAD", "/live")
        raw = connection.take()
        self.assertIn(b"Content-Length: 13\r\n", raw)
        self.assertTrue(raw.endswith(b"\r\n\r\n"))


class TCPTransport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class Lost(SynchronousTestCase):
    def test_who_ends_abruptly_leaves_nothing_for_the_collector(self) -> None:
        """Over TLS, whether it stood or not, or was none: what is lost is gone at once."""
        folder = Path(self.mktemp())
        folder.mkdir()
        make_certificate(folder / "c.pem", folder / "k.pem", "127.0.0.1")
        web = Web()
        factory = secured(web.service.site, ServerContextFactory(folder / "c.pem", folder / "k.pem"), web.clock)
        self.addCleanup(gc.enable)
        gc.disable()
        for words in (b"", b"\x16\x03\x01", LIVE):
            side: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40_000))
            kept = [weakref.ref(side), weakref.ref(side.wrappedProtocol)]
            side.makeConnection(TCPTransport())
            if words:
                side.dataReceived(words)
            side.connectionLost(Failure(ConnectionDone()))
            del side
            self.assertEqual([each() for each in kept], [None, None], words)


class Fuzz(SynchronousTestCase):
    """Whatever comes, the answer is an answer: no failure of our own, no end without a word."""

    @settings(max_examples=150 * FUZZ, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), max_size=12), st.integers(1, 50))
    def test_any_bytes(self, words: list[bytes], cut: int) -> None:
        """Fragments of requests and noise, in any order and any cut."""
        web = Web()
        connection = web.connect()
        data = b"".join(words)
        for at in range(0, len(data), cut):
            connection.send(data[at : at + cut])
        web.clock.pump([1] * 70)
        for answer in connection.answers():
            self.assertIn(answer.status, {100, 200, 202, 400, 404, 405, 408, 413, 414, 415, 421, 422, 426, 431})
        self.assertTrue(connection.wire.is_ended)
        self.assertEqual(self.flushLoggedErrors(), [])


class Backlog(SynchronousTestCase):
    """What one connection may make the node hold."""

    def test_ten_thousand_pipelined_requests(self) -> None:
        """They are answered at the rate of their cost, and what waits stays in the socket (T-05)."""
        web = Web()
        connection = web.connect()
        burst = (LIVE + b"\r\n") * 1_000
        connection.send(burst)
        first = len(connection.answers())
        self.assertLessEqual(first, limits.COST_BURST // bounds.WEB_COST + 1)
        self.assertTrue(connection.wire.is_paused)
        web.clock.pump([0.005] * 400)
        later = len(connection.answers())
        self.assertGreater(later, 100)
        self.assertLessEqual(later, 2 * limits.COST_PER_SECOND // bounds.WEB_COST + 1)

    def test_no_second_answer_for_a_reader_who_does_not_read(self) -> None:
        """With an answer still to be taken the next request waits: a connection holds one answer, not hundreds."""
        connection = Web().connect()
        connection.channel.pauseProducing()
        connection.send((LIVE + b"\r\n") * 10)
        self.assertEqual(connection.answers(), [])
        connection.channel.resumeProducing()
        self.assertEqual(len(connection.answers()), 10)

    def test_bytes_behind_a_slow_request_wait_in_the_socket(self) -> None:
        """While an answer is made, a little is read ahead, and no more."""
        web = Web()
        web.node.held = []
        connection = web.connect().request("GET", "/v1/node")
        for _ in range(30):
            connection.send(b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000 + b"\r\n\r\n")
        self.assertTrue(connection.wire.is_paused)
        web.node.let_read()
        self.assertEqual(len(connection.answers()), 31)
        self.assertFalse(connection.wire.is_paused)


class Deadlines(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.connection = self.web.connect()

    def pass_time(self, seconds: float) -> None:
        self.web.clock.pump([0.5] * int(2 * seconds))

    def test_a_connection_that_says_nothing(self) -> None:
        """It is closed after the time for a first request; a TLS handshake has no more."""
        self.pass_time(bounds.WEB_HEAD_TIME - 1)
        self.assertFalse(self.connection.wire.is_ended)
        self.pass_time(1.5)
        self.assertTrue(self.connection.wire.is_ended)

    def test_a_header_that_trickles(self) -> None:
        """A byte now and then buys no time: 408 at the deadline."""
        self.connection.send(LIVE)
        for _ in range(int(bounds.WEB_HEAD_TIME) + 1):
            self.pass_time(1)
            self.connection.send(b"X: y\r\n")
        self.assertEqual([answer.status for answer in self.connection.answers()], [408])
        self.assertTrue(self.connection.wire.is_ended)

    def test_a_body_that_trickles(self) -> None:
        """A body has its time too."""
        self.connection.send(POST + b"Content-Length: 1000\r\n\r\n")
        for _ in range(int(bounds.WEB_BODY_TIME) + 1):
            self.pass_time(1)
            self.connection.send(b"x")
        self.assertEqual([answer.status for answer in self.connection.answers()], [408])

    def test_silence_between_requests(self) -> None:
        """A connection is kept a while, and each request after the first has its full time."""
        self.connection.request("GET", "/live")
        self.pass_time(bounds.WEB_IDLE - 1)
        self.connection.request("GET", "/live")
        self.assertEqual(len(self.connection.answers()), 2)
        self.pass_time(bounds.WEB_IDLE + 1)
        self.assertTrue(self.connection.wire.disconnecting)

    def test_a_reader_who_stops_reading(self) -> None:
        """Its connection is aborted, whatever is unwritten."""
        self.connection.request("GET", "/live")
        self.connection.channel.pauseProducing()
        self.pass_time(bounds.WEB_STALL - 1)
        self.assertFalse(self.connection.wire.aborted)
        self.pass_time(1.5)
        self.assertTrue(self.connection.wire.aborted)

    def test_a_slow_node_is_not_the_clients_fault(self) -> None:
        """While the node makes the answer no deadline runs."""
        self.web.node.held = []
        self.connection.request("GET", "/v1/node")
        self.pass_time(200)
        self.assertFalse(self.connection.wire.is_ended)
        self.web.node.let_read()
        self.assertEqual(self.connection.answers()[0].status, 200)

    def test_a_refused_client_that_goes_on_sending(self) -> None:
        """Its bytes are thrown away for a moment, so that it can read why; then it is cut off."""
        self.connection.send(POST + b"Content-Length: 100000000\r\n\r\n")
        self.assertTrue(self.connection.wire.half_closed)
        self.connection.send(b"x" * 100_000)
        self.pass_time(bounds.WEB_LINGER + 0.5)
        self.assertTrue(self.connection.wire.aborted)

    def test_nothing_is_left_behind(self) -> None:
        """A lost connection leaves no timer and no place in the count."""
        self.connection.request("GET", "/live").send(b"GET /li")
        self.connection.lose()
        self.assertIs(self.connection.channel.stage, Stage.LOST)
        self.assertEqual(self.web.service.site.connections, 0)
        self.web.service.stopService()
        self.assertEqual(self.web.clock.getDelayedCalls(), [])
