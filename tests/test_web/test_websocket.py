"""The WebSocket bridge: its opening, its frames and its bounds (fault T-09)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tests.examples import GENESIS, PAYMENT, VOTERS, batch
from tests.test_web.harness import Web, encode
from tests.test_web.sockets import OPENING, Wallet, header
from timeproto import limits
from timeproto.network.handshake import HandshakeMachine
from timeproto.web import bounds
from timeproto.web.websocket import text_frame
from timeproto.wire import messages


class Opening(SynchronousTestCase):
    def test_opened(self) -> None:
        """101 with the token of RFC 6455, and no extension whatever was offered (so no compression)."""
        wallet = Wallet(Web(), Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        self.assertTrue(wallet.head.startswith("HTTP/1.1 101 "))
        self.assertIn("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", wallet.head)
        self.assertNotIn("Extensions", wallet.head)

    def test_no_opening(self) -> None:
        """What is no WebSocket's opening is told what to say."""
        web = Web()
        for change, status in (
            ({"Upgrade": "h2c"}, 426), ({"Connection": "close"}, 426), ({"Sec_WebSocket_Version": "8"}, 426),
            ({"Sec_WebSocket_Key": "short"}, 400), ({"Sec_WebSocket_Key": "é" * 24}, 400),
        ):  # fmt: skip
            answer = web.get("/v1/socket", **(OPENING | change))
            self.assertEqual(answer.status, status, change)
        answer = web.get("/v1/socket")
        self.assertEqual((answer.status, answer.headers["upgrade"]), (426, "websocket"))
        self.assertEqual(answer.headers["sec-websocket-version"], "13")

    def test_pages_of_others(self) -> None:
        """A foreign Origin or Host opens no socket; a program without Origin does (T-08)."""
        web = Web(origins=("https://shop.example",))
        self.assertEqual(web.get("/v1/socket", **OPENING, Origin="https://evil.example").status, 403)
        self.assertEqual(web.get("/v1/socket", **OPENING, Origin="null").status, 403)
        self.assertEqual(web.get("/v1/socket", **OPENING, Host="evil.example").status, 421)
        for origin in ("http://localhost", "https://shop.example"):
            self.assertIn(" 101 ", Wallet(web, Origin=origin).head)

    def test_as_many_as_are_served(self) -> None:
        """One more is told to come later; one that leaves makes room, and the sink hears of it."""
        web = Web()
        wallets = [Wallet(web) for _ in range(bounds.SOCKETS)]
        self.assertEqual(web.get("/v1/socket", **OPENING).code, "busy")
        wallets[0].connection.lose()
        self.assertEqual(len(web.sink.lost), 1)
        self.assertIn(" 101 ", Wallet(web).head)

    def test_frames_in_the_opening_segment(self) -> None:
        """What a hasty client sends with its opening is not lost."""
        web = Web()
        client = Frames(ConnectionType.CLIENT)
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in OPENING.items())
        opening = f"GET /v1/socket HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("ascii")
        frame = client.send(TextMessage('{"type":"GetInfo","id":1}'))
        web.connect().send(opening + frame)
        self.assertEqual(web.sink.heard, [messages.GetInfo(id=1)])


class Messages(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.wallet = Wallet(self.web)

    def test_requests_reach_the_sink(self) -> None:
        """Each with its connection, whose answers go back to it and to nobody else."""
        other = Wallet(self.web)
        self.wallet.send(messages.GetInfo(id=5))
        self.assertEqual(self.wallet.take(), [{"type": "Pong", "id": 5}])
        other.send(messages.GetInfo(id=6))
        self.assertEqual((self.wallet.take(), other.take()), ([], [{"type": "Pong", "id": 6}]))
        self.assertEqual(self.web.sink.heard, [messages.GetInfo(id=5), messages.GetInfo(id=6)])
        self.assertIsNot(*self.web.sink.clients)

    def test_ping_is_answered_here(self) -> None:
        """The message and the frame, each by its own kind."""
        self.wallet.send(messages.Ping(id=9)).raw(self.wallet.frames.send(Ping(b"x")))
        self.assertEqual(self.wallet.take(), [{"type": "Pong", "id": 9}, "pong"])

    def test_in_pieces(self) -> None:
        """A message in many fragments, of which each comes byte by byte, is one message."""
        text = encode(messages.GetInfo(id=1))
        data = b""
        for at in range(len(text)):
            piece = TextMessage(text[at : at + 1].decode(), message_finished=at + 1 == len(text))
            data += self.wallet.frames.send(piece)
        for at in range(len(data)):
            self.wallet.raw(data[at : at + 1])
        self.assertEqual(self.web.sink.heard, [messages.GetInfo(id=1)])

    def test_a_node_proves_its_key(self) -> None:
        """A wallet's handshake is answered as over TCP; a masternode's is not for here."""
        hello = messages.Handshake(
            version=1, network="devnet", genesis=GENESIS.hash, role="wallet", node_key=None, listen=None,
            capabilities=(), nonce="11" * 32,
        )  # fmt: skip
        self.wallet.send(hello)
        ours, proof = self.wallet.take()
        self.assertEqual((ours["type"], ours["node_key"]), ("Handshake", VOTERS[0].public_hex))
        dialler = HandshakeMachine(genesis=GENESIS, key=None, dialled=True, nonce=b"\x11" * 32, binding=b"")
        dialler.begin()
        dialler.hear_handshake(messages.Handshake(**{key: value for key, value in ours.items() if key != "type"} | {
            "capabilities": tuple(ours["capabilities"])}))
        dialler.hear_ack(messages.HandshakeAck(signature=proof["signature"]))
        self.assertTrue(dialler.done)
        other = Wallet(self.web).send(
            messages.Handshake(version=1, network="devnet", genesis=GENESIS.hash, role="masternode",
                               node_key=VOTERS[1].public_hex, listen=None, capabilities=(), nonce="12" * 32))
        self.assertEqual((other.take()[0]["code"], other.closed), ("bad_handshake", 1008))

    def test_notifications_are_encoded_by_whoever_sends_them(self) -> None:
        """An encoded payload goes out as it is, in one frame, whatever its length."""
        self.wallet.send(messages.GetInfo(id=1)).take()
        (client,) = self.web.sink.clients
        for size in (10, 125, 126, 65_535, 65_536, 200_000):
            client.send_payload(json.dumps("x" * (size - 2)).encode("ascii"))
            self.assertEqual(self.wallet.hear().take(), ["x" * (size - 2)])
        self.assertEqual(text_frame(b"x")[:1], b"\x81")


class Hostile(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.wallet = Wallet(self.web)

    def closes(self, data: bytes, code: int, error: str | None = None) -> None:
        wallet = Wallet(self.web)
        wallet.raw(data)
        self.web.clock.pump([0] * 20)  # it is read some frames in a turn
        self.assertEqual(wallet.hear().closed, code, data[:40])
        self.assertEqual([each["code"] for each in wallet.take()], [] if error is None else [error])
        self.assertTrue(wallet.connection.wire.is_ended)
        wallet.raw(header(1, 2) + b"{}")
        self.assertEqual((wallet.take(), self.web.sink.heard), ([], []))

    def test_frames_that_are_none(self) -> None:
        """A bad opcode, reserved bits, no mask, a fragmented ping, a stray continuation: 1002, and nothing after it."""
        self.closes(header(3, 0), 1002)
        self.closes(header(0x0B, 0), 1002)
        self.closes(header(0x41, 0), 1002)
        self.closes(header(1, 2, masked=False) + b"{}", 1002)
        self.closes(header(9, 0, final=False), 1002)
        self.closes(header(9, 126) + b"x" * 126, 1002)
        self.closes(header(0, 1) + b"x", 1002)
        self.closes(header(1, 1, final=False) + b"x" + header(1, 1) + b"x", 1002)
        self.closes(b"\x81\xff" + b"\x80" + b"\x00" * 7 + b"\x00" * 4, 1002)

    def test_text_that_is_none(self) -> None:
        """Invalid UTF-8 is 1007, also when a fragment cuts a character; bytes are 1003."""
        self.closes(header(1, 2) + b"\xc3\x28", 1007)
        self.closes(header(1, 1, final=False) + b"\xc3" + header(0, 1) + b"\x28", 1007)
        self.closes(header(2, 2) + b"{}", 1003)

    def test_too_long(self) -> None:
        """In one frame, announced or sent, or over many: 1009 as soon as it is over, with the limit's name."""
        size = bounds.SOCKET_MESSAGE + 1
        self.closes(header(1, size) + b"x" * size, 1009, "frame_too_large")
        self.closes(header(1, 2**40) + b"x" * size, 1009, "frame_too_large")
        half = header(1, 40_000, final=False) + b"x" * 40_000
        self.closes(half + header(0, 40_000, final=False) + b"x" * 40_000, 1009, "frame_too_large")

    def test_a_million_fragments(self) -> None:
        """Empty pieces cost nothing but are not without number."""
        data = header(1, 0, final=False) + header(0, 0, final=False) * bounds.SOCKET_FRAGMENTS
        self.closes(data, 1009, "frame_too_large")

    def test_as_long_as_allowed(self) -> None:
        """A message of just the bound is read (and is no JSON)."""
        self.wallet.raw(header(1, bounds.SOCKET_MESSAGE) + b"x" * bounds.SOCKET_MESSAGE)
        self.assertEqual(self.wallet.take()[0]["code"], "bad_json")

    def test_messages_that_are_none(self) -> None:
        """One ``Error``, and the connection closes where a frame's would over TCP."""
        self.closes(header(1, 0), 1008, "bad_frame")
        self.closes(header(1, 1) + b"{", 1008, "bad_json")
        self.closes(header(1, 20) + b'{"type":"Ping","x":1', 1008, "bad_json")
        vote = encode(batch(lock=[PAYMENT.txid]))
        self.closes(header(1, len(vote)) + vote, 1008, "not_authorised")
        unknown = b'{"type":"Nothing"}'
        self.wallet.raw(header(1, len(unknown)) + unknown)
        self.assertEqual((self.wallet.take()[0]["code"], self.wallet.closed), ("unsupported", None))

    def test_a_flood_of_frames(self) -> None:
        """Frames past a wallet's rate are read later, not refused, and wait in the socket."""
        self.wallet.raw(header(9, 0) * (limits.COST_BURST + 500))
        answered = len(self.wallet.take())
        self.assertLess(answered, limits.COST_BURST + 2)
        self.assertTrue(self.wallet.connection.wire.is_paused)
        self.web.clock.pump([0.01] * 100)
        self.assertEqual(answered + len(self.wallet.hear().take()), limits.COST_BURST + 500)
        self.assertFalse(self.wallet.connection.wire.is_paused)

    def test_frames_without_an_end(self) -> None:
        """Who is held back for long with ever more waiting is told so, and closed."""
        self.wallet.raw(header(9, 0) * (limits.COST_BURST + 200_000))
        self.wallet.take()
        self.web.clock.pump([0.1] * round(10 * (limits.HELD_ON_END + 1)))
        self.wallet.hear()
        self.assertEqual(self.wallet.take()[-1]["code"], "over_limit")
        self.assertEqual(self.wallet.closed, 1008)

    def test_who_does_not_read(self) -> None:
        """What waits for it is bounded; past that it is cut off, and its subscriptions with it."""
        self.wallet.send(messages.GetInfo(id=1)).take()
        (client,) = self.web.sink.clients
        self.wallet.connection.channel.pauseProducing()
        for _ in range(limits.OUT_QUEUE_WALLET // 100_000):
            client.send_payload(b'"' + b"x" * 100_000 + b'"')
        self.assertFalse(self.wallet.connection.wire.aborted)
        client.send_payload(b'"' + b"x" * 100_000 + b'"')
        self.assertTrue(self.wallet.connection.wire.aborted)
        self.wallet.connection.lose()
        self.assertEqual(self.web.sink.lost, [client])

    def test_who_does_not_read_its_answers_is_not_read(self) -> None:
        """It has a few answers waiting, not as many as it asked for; when it reads, all are given, in order (H-27)."""
        asked: list[int | None] = []

        def handle(client: Any, message: Any) -> None:
            asked.append(message.id)
            client.send_payload(b'"' + b"x" * 30_000 + b'"')

        self.patch(self.web.sink, "handle_message", handle)
        self.wallet.connection.channel.pauseProducing()
        for number in range(20):
            self.wallet.send(messages.GetInfo(id=number))
        self.assertLess(len(asked), 4)
        self.assertTrue(self.wallet.connection.wire.is_paused)
        self.wallet.connection.channel.resumeProducing()
        self.wallet.hear()
        self.assertEqual((asked, len(self.wallet.take())), (list(range(20)), 20))
        self.assertFalse(self.wallet.connection.wire.is_paused)

    def test_who_reads_again(self) -> None:
        """What waited goes out in order."""
        self.wallet.send(messages.GetInfo(id=1)).take()
        (client,) = self.web.sink.clients
        self.wallet.connection.channel.pauseProducing()
        for number in range(5):
            client.send_payload(b"%d" % number)
        self.assertEqual(self.wallet.hear().take(), [])
        self.wallet.connection.channel.resumeProducing()
        self.assertEqual(self.wallet.hear().take(), [0, 1, 2, 3, 4])

    def test_who_is_behind_hears_the_end(self) -> None:
        """A goodbye of either side and a refusal come after all answers that wait, none of which is lost."""
        for ends, told, code in (
            (lambda wallet: wallet.raw(wallet.frames.send(CloseConnection(1000))), [], 1000),
            (lambda wallet: wallet.raw(header(2, 2) + b"{}"), [], 1003),
            (lambda wallet: wallet.raw(header(1, 1) + b"{"), ["bad_json"], 1008),
            (lambda wallet: wallet.web.service.stopService(), ["going_away"], 1001),
        ):
            wallet = Wallet(Web())
            wallet.connection.channel.pauseProducing()
            for number in range(5):
                wallet.send(messages.GetInfo(id=number))
            self.assertEqual(wallet.take(), [])
            ends(wallet)
            answers, last = wallet.hear().told[:5], wallet.told[5:]
            self.assertEqual([each["id"] for each in answers], list(range(5)))
            self.assertEqual(([each["code"] for each in last], wallet.closed), (told, code))
            self.assertTrue(wallet.connection.wire.is_ended)

    def test_our_own_fault(self) -> None:
        """A handler that fails is logged; the client is told ``internal`` and closed with 1011."""
        self.web.sink.handle_message = None  # type: ignore[assignment]
        self.wallet.send(messages.GetInfo(id=1))
        self.assertEqual((self.wallet.take()[0]["code"], self.wallet.closed), ("internal", 1011))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class Deadlines(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.wallet = Wallet(self.web)

    def pass_time(self, seconds: float) -> None:
        self.web.clock.pump([1] * int(seconds))

    def test_silence_is_asked(self) -> None:
        """After a while of it a ping goes out; a pong is a sign of life."""
        for _ in range(3):
            self.pass_time(limits.IDLE + 1)
            self.assertEqual(self.wallet.hear().take(), ["ping"])
            self.wallet.raw(self.wallet.frames.send(Pong()))
        self.assertFalse(self.wallet.connection.wire.is_ended)

    def test_no_pong(self) -> None:
        """Who does not answer is cut off."""
        self.pass_time(limits.IDLE + limits.PONG + 2)
        self.assertTrue(self.wallet.connection.wire.aborted)

    def test_a_message_that_trickles(self) -> None:
        """From its first to its last byte a message has a frame's time."""
        self.wallet.say(b'{"type":', whole=False)
        for _ in range(int(limits.FRAME_TIME) + 1):
            self.pass_time(1)
            self.wallet.say(b" ", whole=False)
        self.assertTrue(self.wallet.connection.wire.aborted)

    def test_goodbyes(self) -> None:
        """A client's close is answered; a node that stops says why, with 1001."""
        self.wallet.raw(self.wallet.frames.send(CloseConnection(1000)))
        self.assertEqual(self.wallet.closed, 1000)
        self.assertTrue(self.wallet.connection.wire.disconnecting)
        other = Wallet(self.web)
        stopped = self.web.service.stopService()
        other.hear()
        self.assertEqual((other.take()[0]["code"], other.closed), ("going_away", 1001))
        self.wallet.connection.lose(), other.connection.lose()
        self.successResultOf(stopped)
        self.assertEqual(self.web.clock.getDelayedCalls(), [])
