"""Raw sockets against a real masternode: each gets the documented error or a close, and an honest payment beside it
is unharmed."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from typing import Any

import msgspec
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.test_processes.harness import DevnetCase
from timeproto import limits
from timeproto.model.canonical import sha256d
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction, TxOutput
from timeproto.model.vote import sign_batch
from timeproto.wallet.ask import ask
from timeproto.wire import codec, messages


class Raw:
    """A blocking socket that speaks frames, or whatever it likes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)

    def send(self, payload: bytes) -> Raw:
        self.socket.sendall(struct.pack("!I", len(payload)) + payload)
        return self

    def say(self, message: Any) -> Raw:
        return self.send(codec.encode(message))

    def read(self) -> dict[str, Any] | None:
        """The next frame, None at the end of the stream."""
        head = self._exactly(4)
        if head is None:
            return None
        body = self._exactly(struct.unpack("!I", head)[0])
        return None if body is None else json.loads(body)

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionError:
                return None
            if not more:
                return None
            data += more
        return data

    def codes(self) -> list[str]:
        """The codes of all errors until the other end closes."""
        found = []
        while (frame := self.read()) is not None:
            found.append(frame.get("code", frame["type"]))
        return found


def in_thread(function: Any, *arguments: Any) -> Any:
    return deferToThread(function, *arguments)


class Hostile(DevnetCase):
    """Four masternodes; the first is attacked."""

    coins = 40

    async def honest_payment(self) -> None:
        """A payment through the attacked node, start to verified proof."""
        client = await self.client(1)
        await client.submit(self.transactions.pop()).when_final()

    async def attacked(self) -> str:
        await self.start(4)
        return self.devnet.addresses[0]

    async def test_broken_frames_are_answered_once_and_closed(self) -> None:
        """Garbage, absurd lengths, not quite JSON: one error, then the end, and nothing after it is acted on."""
        address = await self.attacked()
        ping = codec.encode(messages.Ping())
        frame = struct.pack("!I", len(ping)) + ping
        cases = {
            "an HTTP request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "frame_too_large"),
            "two gibibytes": (struct.pack("!I", 2**31) + b"x", "frame_too_large"),
            "one byte too long": (struct.pack("!I", limits.FRAME_WALLET + 1), "frame_too_large"),
            "an empty frame": (struct.pack("!I", 0) + frame, "bad_frame"),
            "not UTF-8": (_framed(b'{"type":"Ping\xff"}') + frame, "bad_encoding"),
            "UTF-16": (_framed('{"type":"Ping"}'.encode("utf-16")) + frame, "bad_encoding"),
            "a byte order mark": (_framed(b'\xef\xbb\xbf{"type":"Ping"}') + frame, "bad_encoding"),
            "an array": (_framed(b"[1,2]") + frame, "bad_json"),
            "two values": (_framed(b"{}{}") + frame, "bad_json"),
            "NaN": (_framed(b'{"type":"Ping","id":NaN}') + frame, "bad_json"),
            "a float": (_framed(b'{"type":"Ping","id":1.0}') + frame, "bad_number"),
            "2^64": (_framed(b'{"type":"Ping","id":18446744073709551616}') + frame, "bad_number"),
            "true for a number": (_framed(b'{"type":"Ping","id":true}') + frame, "bad_field"),
            "an unknown field": (_framed(b'{"type":"Ping","x":1}') + frame, "bad_field"),
            "too deep": (_framed(b"[" * 60_000) + frame, "too_deep"),
        }
        for name, (sent, code) in cases.items():
            raw = await in_thread(Raw, address)
            await in_thread(raw.socket.sendall, sent)
            self.assertEqual(await in_thread(raw.codes), [code], name)
        await self.honest_payment()

    async def test_an_unknown_type_is_told_and_the_talk_goes_on(self) -> None:
        """``unsupported`` and nothing else, so that versions can mix."""
        raw = await in_thread(Raw, await self.attacked())
        raw.send(b'{"type":"Teleport","id":4}').say(messages.Ping(id=5))
        first, second = await in_thread(raw.read), await in_thread(raw.read)
        self.assertEqual((first["code"], first["id"]), ("unsupported", 4))
        self.assertEqual(second, {"type": "Pong", "id": 5})
        raw.socket.close()

    async def test_a_wallet_may_not_speak_as_a_masternode(self) -> None:
        """Votes, transactions and proofs from somebody who proved nothing end the connection (H-30)."""
        address = await self.attacked()
        genesis = self.devnet.layout.genesis
        stranger = SigningKey.generate()
        vote = sign_batch(stranger, genesis.hash, genesis.masternode_set.hash, 0, lock=[self.transactions[0].txid])
        for message in (
            vote,
            messages.Transactions(transactions=(self.transactions[0],)),
            messages.GetFinalized(since=0),
            messages.GetPeers(),
            messages.Votes(batches=(vote,)),
        ):
            raw = await in_thread(Raw, address)
            raw.say(message)
            self.assertEqual(await in_thread(raw.codes), ["not_authorised"], type(message).__name__)
        await self.honest_payment()

    async def test_who_calls_himself_a_masternode_must_be_one(self) -> None:
        """A stranger's key, a member's key without its signature, another network, another genesis (B-07, O-02)."""
        address = await self.attacked()
        genesis = self.devnet.layout.genesis
        good = messages.Handshake(
            version=1,
            network="devnet",
            genesis=genesis.hash,
            role="masternode",
            node_key=genesis.masternodes[1],
            listen=None,
            capabilities=(),
            nonce="ab" * 32,
        )
        change = msgspec.structs.replace
        cases = {
            "not_a_masternode": change(good, node_key=SigningKey.generate().public_hex),
            "wrong_network": change(good, network="mainnet"),
            "wrong_genesis": change(good, genesis="00" * 32),
            "wrong_version": change(good, version=2),
        }
        for code, handshake in cases.items():
            raw = await in_thread(Raw, address)
            raw.say(handshake)
            self.assertEqual(await in_thread(raw.codes), [code])
        raw = await in_thread(Raw, address)
        raw.say(good).say(messages.HandshakeAck(signature="00" * 64))
        self.assertEqual((await in_thread(raw.codes))[-1], "bad_handshake")
        await self.honest_payment()

    async def test_bad_transactions_are_refused_by_name_and_lock_nothing(self) -> None:
        """Forged txid, someone else's coin, overflow, replay, double spend: each has its code; no coin is touched."""
        address = await self.attacked()
        layout = self.devnet.layout
        genesis = layout.genesis
        tx = self.transactions[0]
        change = msgspec.structs.replace
        elsewhere = change(genesis, timestamp=1)
        cases = {
            "txid_mismatch": change(tx, txid="00" * 32),
            "bad_signature": change(tx, signature=(*tx.signature[:-1], tx.signature[-1] ^ 1)),
            "dust": _resigned(tx, outputs=(TxOutput(1, tx.outputs[0].address),)),
            "invalid_transaction": _resigned(tx, outputs=(TxOutput(2**64 - 1, tx.outputs[0].address),) * 2),
            "fee_too_low": _resigned(tx, fee=0),
            "bad_address": _resigned(tx, outputs=(TxOutput(5_000, "TIME1" + tx.outputs[0].address[5:]),)),
        }
        raw = await in_thread(Raw, address)
        for number, (code, bad) in enumerate(cases.items()):
            raw.say(messages.TransactionBroadcast(id=number, tx=bad))
            reply = await in_thread(raw.read)
            self.assertEqual((reply["code"], reply["id"]), (code, number))
        stolen = _signed_by_a_thief(tx, genesis.hash)
        replayed = _resigned_for(tx, elsewhere.hash, layout)
        unknown = _spending_nothing(tx, genesis.hash, layout)
        for code, bad in {"not_owner": stolen, "bad_signature": replayed, "unknown_input": unknown}.items():
            raw.say(messages.TransactionBroadcast(id=99, tx=bad))
            reply = await in_thread(raw.read)
            self.assertEqual(reply["code"], code)
        raw.say(messages.UTXOStateQuery(id=100, outpoints=tx.outpoints))
        reply = await in_thread(raw.read)
        self.assertEqual([item["state"] for item in reply["states"]], ["Unspent"] * len(tx.outpoints))
        await self.honest_payment()

    async def test_another_s_subscription_cannot_be_touched(self) -> None:
        """Names of subscriptions belong to their connection; a stranger's unsubscribe finds nothing (W-01, W-02)."""
        address = await self.attacked()
        tx = self.transactions.pop()
        subscribe = messages.UTXOSubscribe(id=1, subscriber_id="mine", outpoints=(str(tx.outpoints[0]),))
        owner, thief = await in_thread(Raw, address), await in_thread(Raw, address)
        owner.say(subscribe)
        self.assertEqual((await in_thread(owner.read))["type"], "UTXOSubscribed")
        thief.say(messages.UTXOUnsubscribe(id=2, subscriber_id="mine"))
        self.assertEqual((await in_thread(thief.read))["code"], "not_found")
        thief.say(messages.UTXOUnsubscribe(id=3, subscriber_id="never-was"))
        self.assertEqual((await in_thread(thief.read))["code"], "not_found")
        client = await self.client(1)
        await client.submit(tx).when_final()
        states = []
        while not states or "SpentFinalized" not in states[-1]:
            states.append((await in_thread(owner.read))["notification"]["new_state"])
        self.assertEqual([next(iter(state)) for state in states], ["Locked", "SpentPending", "SpentFinalized"])
        thief.say(messages.Ping(id=9))
        self.assertEqual((await in_thread(thief.read))["type"], "Pong")  # and nothing of the owner's before it

    async def test_slow_silent_and_deaf_connections_cost_the_others_nothing(self) -> None:
        """Byte by byte, a reader that never reads, silence: an honest payment beside them is final all the same."""
        address = await self.attacked()
        stop = threading.Event()
        threads = [
            threading.Thread(target=attack, args=(address, stop))
            for attack in (_drip, _deaf, _silent, _flood)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                await self.honest_payment()
            info = await ask(reactor, self.devnet.addresses[0], messages.GetInfo())
            self.assertTrue(info.voting)
        finally:
            stop.set()
            for thread in threads:
                await in_thread(thread.join)
        await self.honest_payment()


class OverTLS(DevnetCase):
    """The same node behind TLS."""

    coins = 4

    async def test_tls_links_wallets_and_refuses_the_rest(self) -> None:
        """Masternodes mesh over TLS, a payment is final; plain text and TLS 1.2 get nothing (T-01, T-02)."""
        devnet = await self.start(4, tls=True)
        client = await self.client(1)
        await client.submit(self.transactions[0]).when_final()
        address = devnet.addresses[0]
        raw = await in_thread(Raw, address)
        raw.say(messages.Ping(id=1))
        self.assertIsNone(await in_thread(_end_of, raw.socket))
        host, _, port = address.partition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def old_tls() -> None:
            with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain):
                pass

        await self.assertFailure(in_thread(old_tls), ssl.SSLError)


def _framed(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def _end_of(stream: socket.socket) -> str | None:
    """None if the other end sends no message before it closes (an alert is no message)."""
    try:
        while data := stream.recv(4096):
            if b'"type"' in data:
                return data.decode("utf-8", "replace")
    except OSError:
        pass
    return None


def _resigned(tx: Transaction, **changes: Any) -> Transaction:
    """With other contents and the right txid, under the old signature: refused before any signature is looked at."""
    changed = msgspec.structs.replace(tx, **changes)
    return msgspec.structs.replace(changed, txid=sha256d(changed.canonical).hex())


def _signed_by_a_thief(tx: Transaction, genesis_hash: str) -> Transaction:
    from tests.cluster import sign
    from timeproto.model.transaction import TxInput

    thief = SigningKey.generate()
    inputs = tuple(TxInput(each, tuple(thief.public_bytes), 2**32 - 1) for each in tx.outpoints)
    return sign(_Genesis(genesis_hash), inputs, tx.outputs, [thief], fee=tx.fee)  # type: ignore[arg-type]


def _resigned_for(tx: Transaction, genesis_hash: str, layout: Any) -> Transaction:
    from tests.cluster import sign
    from timeproto.wallet import hd

    owner = hd.derive(layout.phrase("alice"))
    return sign(_Genesis(genesis_hash), tx.inputs, tx.outputs, [owner], fee=tx.fee)  # type: ignore[arg-type]


def _spending_nothing(tx: Transaction, genesis_hash: str, layout: Any) -> Transaction:
    from tests.cluster import sign
    from timeproto.model.transaction import Outpoint, TxInput
    from timeproto.wallet import hd

    owner = hd.derive(layout.phrase("alice"))
    inputs = (TxInput(Outpoint(genesis_hash, 99_999), tuple(owner.public_bytes), 2**32 - 1),)
    return sign(_Genesis(genesis_hash), inputs, tx.outputs, [owner], fee=tx.fee)  # type: ignore[arg-type]


class _Genesis:
    """All that signing needs of a genesis."""

    def __init__(self, genesis_hash: str) -> None:
        self.hash = genesis_hash


def _drip(address: str, stop: threading.Event) -> None:
    """One byte at a time."""
    raw = Raw(address)
    payload = _framed(codec.encode(messages.UTXOStateQuery(outpoints=("x",) * 500)))
    try:
        while not stop.is_set():
            for at in range(len(payload)):
                raw.socket.sendall(payload[at : at + 1])
                if stop.is_set():
                    break
            raw.read()
    except OSError:
        pass


def _deaf(address: str, stop: threading.Event) -> None:
    """Asks for ever and never reads."""
    raw = Raw(address)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    question = _framed(codec.encode(messages.GetInfo()))
    raw.socket.settimeout(0.2)
    while not stop.is_set():
        try:
            raw.socket.sendall(question * 20)
        except TimeoutError:
            continue
        except OSError:
            return
    raw.socket.close()


def _silent(address: str, stop: threading.Event) -> None:
    """Connects and says nothing."""
    raw = Raw(address)
    stop.wait(60)
    raw.socket.close()


def _flood(address: str, stop: threading.Event) -> None:
    """Garbage, again and again."""
    while not stop.is_set():
        try:
            raw = Raw(address)
            raw.socket.sendall(b"\x00\x00\x10\x00" + b"{" * 4096)
            raw.codes()
            raw.socket.close()
        except OSError:
            pass
        time.sleep(0.01)
