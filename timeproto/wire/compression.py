"""Frames squeezed with zstd (RFC 8878), for a peer that offered it (protocol §7).

Each frame by itself: what one frame holds tells nothing about another, and what is fanned out to many is squeezed once.
Nothing is inflated before its size is known to be within bounds.
"""

from __future__ import annotations

from functools import lru_cache

import zstandard

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal

MAGIC = b"\x28\xb5\x2f\xfd"
"""How every zstd frame begins, and no JSON text."""

_compressor = zstandard.ZstdCompressor(level=1, write_content_size=True, write_checksum=False, write_dict_id=False)
_decompressor = zstandard.ZstdDecompressor()


@lru_cache(maxsize=4)  # one message goes to many, one after the other
def squeeze(payload: bytes) -> bytes:
    """The payload squeezed; as it is where that is no shorter, or where it fits one segment of TCP anyway."""
    if len(payload) < limits.SQUEEZE:
        return payload
    squeezed = _compressor.compress(payload)
    return squeezed if len(squeezed) < len(payload) else payload


def is_squeezed(payload: bytes) -> bool:
    return payload.startswith(MAGIC)


def expand(payload: bytes, limit: int) -> bytes:
    """What was squeezed. Raises :class:`Refusal`: ``frame_too_large`` if it says that it has more than ``limit`` bytes,
    ``bad_frame`` if it does not say, is damaged, or goes on behind its end."""
    try:
        size = zstandard.get_frame_parameters(payload).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN:
            raise Refusal(ErrorCode.BAD_FRAME, "a compressed frame must say how long it is")
        if size > limit:
            raise Refusal(
                ErrorCode.FRAME_TOO_LARGE, f"a frame of {size} bytes, compressed, is too long",
                limit="frame_peer" if limit == limits.FRAME_PEER else "frame_wallet", value=limit,
            )
        expanded: bytes = _decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refusal(ErrorCode.BAD_FRAME, f"a compressed frame is damaged: {error}") from None
    return expanded
