"""The frame layer under streams that are nearly right: any cut is the same stream, and what is kept is bounded."""

from __future__ import annotations

import random
import struct
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests import FUZZ
from tests.mutations import chances, mutate
from tests.test_fuzz.world import FrameTalk, World
from timeproto import limits
from timeproto.wire import codec, compression, messages

WORDS = World().words()
PING = codec.encode(messages.Ping(id=9))


def _frame(payload: bytes) -> bytes:
    return struct.pack("!I", len(payload)) + payload


def stream(chance: random.Random) -> bytes:
    """Frames: good, mutated, squeezed, squeezed and damaged, with lengths that are wrong, and noise between them."""
    parts = []
    for _ in range(chance.randint(1, 6)):
        payload = mutate(chance, chance.choice(WORDS[chance.choice(sorted(WORDS))]))
        match chance.randrange(9):
            case 0 | 1 | 2:
                parts.append(_frame(PING))
            case 3:
                parts.append(_frame(compression.squeeze(payload + b" " * limits.SQUEEZE)))
            case 4:
                squeezed = bytearray(compression.squeeze(payload + b" " * limits.SQUEEZE))
                squeezed[chance.randrange(len(squeezed))] ^= 1 << chance.randrange(8)
                parts.append(_frame(bytes(squeezed)))
            case 5:
                wrong = chance.choice((0, 1, len(payload) + 1, 2**16, 2**16 + 1, 2**22, 2**22 + 1, 2**31, 2**32 - 1))
                parts.append(struct.pack("!I", wrong) + payload)
            case 6:
                parts.append(chance.randbytes(chance.randint(1, 40)))
            case _:
                parts.append(_frame(payload))
    return b"".join(parts)


class Streams(SynchronousTestCase):
    @settings(max_examples=100 * FUZZ)
    @given(chances(), st.sampled_from(("stranger", "wallet", "masternode", "dialled")))
    def test_any_cut_of_any_stream(self, chance: random.Random, role: str) -> None:
        """Whole, or in any pieces: the same answers, the same end, nothing kept beyond a frame, and no failure."""
        data = stream(chance)
        (one, first), (two, second) = self.told(data, len(data), role), self.told(data, chance.randint(1, 99), role)
        self.assertEqual(first, second)
        if first:  # of what takes a while, a stream that is its own end hears less if it comes at once
            rest = iter(two)
            self.assertTrue(all(each in rest for each in one), (one, two))
        else:
            self.assertEqual(one, two)

    def told(self, data: bytes, piece: int, role: str) -> tuple[list[tuple[str, Any, Any]], bool]:
        """Every answer by type, id and code, and whether that was the end."""
        world = World()
        talk = world.connect(role)
        assert isinstance(talk, FrameTalk)
        most = limits.FRAME_PEER if role == "masternode" else limits.FRAME_WALLET
        for at in range(0, len(data), piece):
            talk.raw(data[at : at + piece])
            self.assertLessEqual(talk.kept, most + 4 + piece)
        world.node.clock.advance(1)
        said = talk.heard()
        if talk.is_closed:
            talk.raw(_frame(PING))
            self.assertEqual(talk.heard(), [])
        self.assertEqual((world.node.fatal, self.flushLoggedErrors()), ([], []))
        answers = [each for each in said if isinstance(each, messages.Reply)]
        return [(type(each).__name__, each.id, getattr(each, "code", None)) for each in answers], talk.is_closed
