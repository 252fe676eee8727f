"""A digest over coins that does not depend on their order and can be kept up to date one coin at a time.

Each coin contributes SHA-256(outpoint ‖ amount ‖ owner ‖ state kind ‖ txids); the digest is the sum modulo 2^256.
Two honest nodes compare theirs to see whether they agree; it is no commitment against an adversary who
chooses coins (that is MuHash3072's work, in blocks).
"""

from __future__ import annotations

from collections.abc import Iterable

from timeproto.model.canonical import sha256, sized, u32, u64
from timeproto.model.transaction import Outpoint, TxOutput

_MODULUS = 2**256


def entry(outpoint: Outpoint, output: TxOutput, kind: str, txids: Iterable[str]) -> int:
    """The contribution of one coin; ``txids`` holds or has spent it, in ascending order."""
    parts = [bytes.fromhex(outpoint.txid), u32(outpoint.vout), u64(output.amount)]
    parts += (sized(output.address.encode("utf-8")), sized(kind.encode("ascii")))
    parts += (bytes.fromhex(txid) for txid in txids)
    return int.from_bytes(sha256(b"".join(parts)), "big")


def add(digest: int, contribution: int) -> int:
    return (digest + contribution) % _MODULUS


def remove(digest: int, contribution: int) -> int:
    return (digest - contribution) % _MODULUS


def to_hex(digest: int) -> str:
    return f"{digest:064x}"
