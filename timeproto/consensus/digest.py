"""A digest over coins that does not depend on their order and can be kept up to date one coin at a time.

Each coin contributes SHA-256(outpoint ‖ amount ‖ owner ‖ state kind ‖ txids); the digest is the sum modulo 2^256.
Two honest nodes compare theirs to see whether they agree; it is no commitment against an adversary who
chooses coins (that is MuHash3072's work, in blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from timeproto.model.canonical import sha256
from timeproto.model.transaction import Outpoint, TxOutput

_MODULUS = 2**256
_NUMBERS = struct.Struct("<IQI").pack
_LENGTH = struct.Struct("<I").pack


def entry(outpoint: Outpoint, output: TxOutput, kind: str, txids: Iterable[str]) -> int:
    """The contribution of one coin; ``txids`` holds or has spent it, in ascending order."""
    address, name = output.address.encode("utf-8"), kind.encode("ascii")
    place = bytes.fromhex(outpoint.txid) + _NUMBERS(outpoint.vout, output.amount, len(address))
    holders = bytes.fromhex("".join(txids))
    return int.from_bytes(sha256(place + address + _LENGTH(len(name)) + name + holders), "big")


def add(digest: int, contribution: int) -> int:
    return (digest + contribution) % _MODULUS


def remove(digest: int, contribution: int) -> int:
    return (digest - contribution) % _MODULUS


def to_hex(digest: int) -> str:
    return f"{digest:064x}"
