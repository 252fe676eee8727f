"""Compressed payloads: what comes out is what went in, and nothing hostile is inflated."""

from __future__ import annotations

import random

import zstandard
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.wire.compression import MAGIC, expand, is_squeezed, squeeze

TEXT = b'{"type":"Ping","id":7}' * 100
LIMIT = limits.FRAME_WALLET


class Squeezing(SynchronousTestCase):
    @given(st.binary(max_size=64), st.integers(1, 3_000))
    def test_what_goes_in_comes_out(self, piece: bytes, times: int) -> None:
        """Squeezed or left alone, no payload grows, and each is itself again."""
        payload = b"{" + piece * times + b"}"
        sent = squeeze(payload)
        self.assertLessEqual(len(sent), len(payload))
        self.assertEqual(expand(sent, len(payload)) if is_squeezed(sent) else sent, payload)

    def test_what_gains_nothing_is_left_alone(self) -> None:
        """What fits one segment, and what is random already."""
        noise = b"{" + random.Random(1).randbytes(4_000)
        for payload in (TEXT[: limits.SQUEEZE - 1], noise):
            self.assertIs(squeeze(payload), payload)
        self.assertTrue(squeeze(TEXT).startswith(MAGIC))

    def test_one_message_to_many_is_squeezed_once(self) -> None:
        """The same payload again gives the same object."""
        self.assertIs(squeeze(TEXT), squeeze(TEXT))


class Hostile(SynchronousTestCase):
    def refused(self, code: ErrorCode, payload: bytes) -> None:
        self.assertEqual(self.assertRaises(Refusal, expand, payload, LIMIT).code, code, payload[:40])

    def test_a_bomb(self) -> None:
        """A gigabyte in some kilobytes is judged by what it says, before any of it is inflated."""
        compressor = zstandard.ZstdCompressor(level=3).compressobj(size=2**30)
        pieces = [compressor.compress(bytes(2**20)) for _ in range(4)]
        self.refused(ErrorCode.FRAME_TOO_LARGE, b"".join(pieces))
        self.refused(ErrorCode.FRAME_TOO_LARGE, zstandard.ZstdCompressor().compress(bytes(LIMIT + 1)))
        self.assertEqual(len(expand(zstandard.ZstdCompressor().compress(bytes(LIMIT)), LIMIT)), LIMIT)

    def test_a_frame_that_does_not_say_how_long_it_is(self) -> None:
        """There would be no telling a bomb."""
        stream = zstandard.ZstdCompressor().compressobj()
        self.refused(ErrorCode.BAD_FRAME, stream.compress(TEXT) + stream.flush())

    def test_a_frame_that_lies_about_its_length(self) -> None:
        """Less than it says, or more: no frame."""
        good = zstandard.ZstdCompressor(write_checksum=False).compress(TEXT)
        self.assertEqual(int.from_bytes(good[5:7], "little"), len(TEXT) - 256)
        for size in (len(TEXT) - 257, len(TEXT) - 255):
            self.refused(ErrorCode.BAD_FRAME, good[:5] + size.to_bytes(2, "little") + good[7:])

    def test_damage(self) -> None:
        """Cut anywhere, with something behind it, twice, or the magic alone."""
        good = squeeze(TEXT)
        for payload in (*(good[:at] for at in range(4, len(good))), good + b"x", good + good, MAGIC + bytes(20)):
            self.refused(ErrorCode.BAD_FRAME, payload)

    @given(st.data())
    def test_any_bytes(self, data: st.DataObject) -> None:
        """A changed frame is refused, or inflates to something within the limit."""
        good = bytearray(squeeze(TEXT))
        for _ in range(data.draw(st.integers(1, 4))):
            good[data.draw(st.integers(4, len(good) - 1))] = data.draw(st.integers(0, 255))
        try:
            self.assertLessEqual(len(expand(bytes(good), LIMIT)), LIMIT)
        except Refusal as refusal:
            self.assertIn(refusal.code, (ErrorCode.BAD_FRAME, ErrorCode.FRAME_TOO_LARGE))
