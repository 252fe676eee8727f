"""Compressed frames on a connection: only between two that both offered it, and within the limits of all frames."""

from __future__ import annotations

import struct
from typing import Any

import zstandard

from tests.examples import GENESIS
from tests.test_network.harness import Network
from tests.test_network.test_liars import Raw
from tests.test_network.test_protocol import ProtocolCase
from timeproto import limits
from timeproto.network.handshake import CAPABILITIES, CURSORS, ZSTD, HandshakeMachine
from timeproto.wire import codec, messages
from timeproto.wire.compression import MAGIC, expand

LONG = messages.Error(code="internal", message="x" * 500, details={"limit": "y" * 400, "key": "z" * 600})


def frame(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def squeezed(message: Any) -> bytes:
    return zstandard.ZstdCompressor().compress(codec.encode(message))


class Connection(ProtocolCase):
    def test_nobody_is_sent_what_it_did_not_offer(self) -> None:
        """Without a word of zstd, frames go out as they are."""
        for capabilities in ((), (CURSORS,)):
            self.protocol.hear_capabilities(capabilities)
            self.protocol.send(LONG)
        self.assertNotIn(MAGIC, self.transport.value())

    def test_what_was_offered_is_used(self) -> None:
        """A long message is shorter on the wire, and the same when it is inflated; a short one is left alone."""
        self.protocol.hear_capabilities((ZSTD,))
        self.protocol.send(LONG)
        data = self.transport.value()
        self.assertLess(len(data), len(codec.encode(LONG)) // 2)
        self.assertEqual(codec.decode(expand(data[4:], limits.FRAME_PEER)), LONG)
        self.transport.clear()
        self.protocol.send(messages.Pong())
        self.assertEqual(self.said()[0]["type"], "Pong")

    def test_compressed_requests_are_answered(self) -> None:
        """Mixed with others, in their order."""
        self.protocol.hear_capabilities((ZSTD,))
        for number in range(4):
            ping = messages.Ping(id=number)
            self.protocol.dataReceived(frame(squeezed(ping) if number % 2 else codec.encode(ping)))
        self.assertEqual([each["id"] for each in self.said()], [0, 1, 2, 3])

    def test_compressed_before_it_was_offered(self) -> None:
        """No JSON, and nothing more is heard from there."""
        self.protocol.dataReceived(frame(squeezed(messages.Ping())) + frame(codec.encode(messages.Ping())))
        self.assertEqual([each["type"] for each in self.said()], ["Error"])
        self.assertTrue(self.transport.disconnecting)

    def test_a_frame_that_would_be_too_long(self) -> None:
        """A wallet may inflate to as much as it may send, and no more."""
        self.protocol.hear_capabilities((ZSTD,))
        self.protocol.dataReceived(frame(zstandard.ZstdCompressor().compress(b" " * (limits.FRAME_WALLET + 1))))
        self.assertEqual(self.codes(), ["frame_too_large"])
        self.assertTrue(self.transport.disconnecting)

    def test_a_damaged_frame(self) -> None:
        """Is told, and ends the connection as a bad frame does."""
        self.protocol.hear_capabilities((ZSTD,))
        self.protocol.dataReceived(frame(squeezed(LONG)[:-1]))
        self.assertEqual(self.codes(), ["bad_frame"])
        self.assertTrue(self.transport.disconnecting)


class Agreed(ProtocolCase):
    def greet(self, capabilities: tuple[str, ...]) -> Raw:
        """A wallet that offers this shakes hands with a node."""
        network = Network()
        manager = network.add(0, [])
        manager.startService()
        raw = Raw(network.clock, manager)
        machine = HandshakeMachine(
            genesis=GENESIS, key=None, dialled=True, nonce=bytes(32), binding=b"", capabilities=capabilities
        )
        raw.say(machine.ours)
        self.assertIn(ZSTD, raw.heard()[0].capabilities)
        raw.transport.clear()
        return raw

    def test_the_handshake_decides(self) -> None:
        """A node compresses for the wallet that offers it, and for no other."""
        for capabilities, uses in ((CAPABILITIES, True), ((CURSORS,), False), ((), False)):
            raw = self.greet(capabilities)
            raw.protocol.send(LONG)
            self.assertEqual(raw.transport.value()[4:8] == MAGIC, uses)
