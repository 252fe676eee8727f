"""TCP and WebSocket are put to the same words (fault T-10), and to noise."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from wsproto.events import CloseConnection

from tests import FUZZ
from tests.examples import GENESIS, PAYMENT, STRANGER, VOTERS, batch, plain
from tests.test_web.harness import Sink, Web, encode
from tests.test_web.sockets import Wallet, header
from timeproto import limits
from timeproto.model.transaction import Outpoint
from timeproto.network.budget import Budgets
from timeproto.network.handshake import HandshakeMachine
from timeproto.network.house import House
from timeproto.network.node_protocol import NodeProtocol
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Switchboard:
    """What a TCP connection needs of the peer manager: its messages go to the sink the bridge has."""

    def __init__(self, sink: Sink, machine: Callable[..., HandshakeMachine] | None = None) -> None:
        self._sink = sink
        self.house = House(Budgets(Clock()), reserved=0)
        self.machine = machine or self._machine

    def opened(self, connection: Any) -> None: ...

    def lost(self, connection: Any) -> None:
        self._sink.connection_lost(connection)

    def _machine(self, *, dialled: bool, binding: bytes) -> HandshakeMachine:
        return HandshakeMachine(genesis=GENESIS, key=VOTERS[0], dialled=dialled, nonce=b"\x07" * 32, binding=binding)

    def handle_peer_message(self, connection: Any, message: Any) -> None:
        self._sink.handle_message(connection, message)


class SameAnswers(SynchronousTestCase):
    """Every word gets the same answers over TCP and over a WebSocket."""

    def over_tcp(self, payload: bytes) -> tuple[list[Any], bool]:
        transport = StringTransport()
        protocol = NodeProtocol(Clock(), Switchboard(Sink()))  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        protocol.dataReceived(struct.pack("!I", len(payload)) + payload)
        raw, told = transport.value(), []
        while raw:
            (size,) = struct.unpack_from("!I", raw)
            told.append(json.loads(raw[4 : 4 + size]))
            raw = raw[4 + size :]
        return told, transport.disconnecting

    def over_websocket(self, payload: bytes) -> tuple[list[Any], bool]:
        wallet = Wallet(Web())
        wallet.raw(header(1, len(payload)) + payload)
        return wallet.take(), wallet.closed is not None

    def test_every_kind_of_word(self) -> None:
        """Requests, replies nobody asked for, what only masternodes may say, and what is no message at all."""
        hello = messages.Handshake(
            version=1, network="devnet", genesis=GENESIS.hash, role="wallet", node_key=None, listen=None,
            capabilities=(), nonce="11" * 32,
        )  # fmt: skip
        words = [
            messages.GetInfo(id=1), messages.GetGenesis(), messages.Ping(id=2), messages.Ping(), messages.Pong(id=1),
            messages.UTXOStateQuery(id=3, outpoints=({"txid": "x"}, "y", 1)),
            messages.GetTransaction(id=4, txid="ab" * 32), messages.GetTrace(id=4, txid="ab" * 32),
            messages.UTXOSubscribe(id=5, subscriber_id="w", outpoints=(plain(Outpoint(GENESIS.hash, 0)),)),
            messages.TransactionBroadcast(id=6, tx=PAYMENT), messages.GetPeers(id=7), messages.GetVotes(id=8),
            messages.TransactionAccepted(id=9, txid="ab" * 32), messages.Error(id=10, code="busy", message="no"),
            batch(lock=[PAYMENT.txid]), messages.Blocks(blocks=(), head=1), hello,
            messages.HandshakeAck(signature="ab" * 64),
            *(messages.Handshake(**{name: value for name, value in plain(hello).items() if name != "type"} | change | {
                "capabilities": ()}) for change in ({"version": 2}, {"network": "mainnet"}, {"genesis": "ab" * 32},
                {"node_key": STRANGER.public_hex}, {"nonce": "07" * 32})),
        ]  # fmt: skip
        raw = [encode(word) for word in words] + [
            b"{", b"[]", b"1", b"null", b'"x"', b"{}", b'{"type":1}', b'{"type":"Nothing","id":3}', b"\xef\xbb\xbf{}",
            b'{"type":"Ping","id":-0}', b'{"type":"Ping","id":1.0}', b'{"type":"Ping","id":"1"}',
            b'{"type":"Ping","x":1}',
            b'{"type":"Ping","id":9007199254740992}', b'{"type":"GetInfo","id":18446744073709551616}', b"[" * 100,
            b'{"type":"UTXOStateQuery","id":1,"outpoints":' + b"[" * 20 + b"]" * 20 + b"}",
            b'{"type":"UTXOStateQuery","id":1,"outpoints":[1.5]}', b'{"type":"Ping","id":1}' + b" " * 70_000,
        ]  # fmt: skip
        for payload in raw:
            told, closed = self.over_tcp(payload)
            heard, shut = self.over_websocket(payload)
            for each in (*told, *heard):
                each.pop("message", None)
            self.assertEqual((heard, shut), (told, closed), payload[:80])

    def test_a_wallet_here_is_a_wallet_there(self) -> None:
        """The bridge refuses exactly what a TCP connection refuses a wallet."""
        for name, kind in messages.CATALOGUE.items():
            allowed = Role.WALLET in messages.senders_of(kind)
            payload = json.dumps({"type": name}).encode()
            told, closed = self.over_tcp(payload)
            self.assertEqual(self.over_websocket(payload)[1], closed, (name, allowed, told))


PIECES = (
    header(1, 2), header(1, 2, final=False), header(0, 2), header(0, 2, final=False), header(8, 0), header(8, 2),
    header(9, 0), header(10, 1), header(2, 1), header(1, 23), b"{}", b'{"type":"Ping","id":12}', b"\xc3\x28",
    b"\x03\xe8", b"\x00\x00", header(1, 70_000), header(1, 2**62),
)  # fmt: skip


class Fuzz(SynchronousTestCase):
    @settings(max_examples=150 * FUZZ, deadline=None)
    @given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=15), st.integers(1, 30))
    def test_any_frames(self, pieces: list[bytes], cut: int) -> None:
        """Whatever comes after the opening, no failure of our own, no word after the close, and no end without one."""
        web = Web()
        wallet = Wallet(web)
        data = b"".join(pieces)
        for at in range(0, len(data), cut):
            wallet.connection.send(data[at : at + cut])
        raw = wallet.connection.take()
        if wallet.connection.wire.is_ended:
            wallet.frames.receive_data(raw)
            events = list(wallet.frames.events())
            self.assertIsInstance(events[-1], CloseConnection)
        web.clock.pump([1] * int(limits.IDLE + limits.PONG + 3))
        self.assertTrue(wallet.connection.wire.is_ended)
        self.assertEqual(self.flushLoggedErrors(), [])
