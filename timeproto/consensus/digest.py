"""A digest over coins that does not depend on their order and can be kept up to date one coin at a time.

Each coin contributes SHA-256(outpoint ‖ amount ‖ owner ‖ state kind ‖ txids); the digest is the sum modulo 2^256.
Two honest nodes compare theirs to see whether they agree; it is no commitment against an adversary who
chooses coins (that is MuHash3072's work, in blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from hashlib import sha256

from timeproto.model.block import coin_member
from timeproto.model.transaction import Outpoint, TxOutput

_MODULUS = 2**256
_LENGTH = struct.Struct("<I").pack


def entry(outpoint: Outpoint, output: TxOutput, kind: str, txids: Iterable[str]) -> int:
    """The contribution of one coin; ``txids`` holds or has spent it, in ascending order."""
    return entry_of(coin_member(outpoint, output), kind, txids)


def entry_of(coin: bytes, kind: str, txids: Iterable[str]) -> int:
    """The contribution of the coin with these bytes, which stay the same all its life: those of ``coin_member``."""
    return int.from_bytes(sha256(coin + _name(kind) + bytes.fromhex("".join(txids))).digest(), "big")


@cache
def _name(kind: str) -> bytes:
    name = kind.encode("ascii")
    return _LENGTH(len(name)) + name


def add(digest: int, contribution: int) -> int:
    return (digest + contribution) % _MODULUS


def remove(digest: int, contribution: int) -> int:
    return (digest - contribution) % _MODULUS


def to_hex(digest: int) -> str:
    return f"{digest:064x}"
