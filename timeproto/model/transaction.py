"""Transactions, their canonical bytes, txid and signature hash (protocol §2)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import Meta

from timeproto import limits
from timeproto.model.canonical import (
    I64,
    U8,
    U32,
    U64,
    Hex32,
    Noun,
    domain,
    i64,
    is_hex,
    lazy,
    require_u64,
    sha256,
    sha256d,
    sized,
    u32,
    u64,
)
from timeproto.model.keys import KEY_SIZE, SIGNATURE_SIZE

FINAL_SEQUENCE = 2**32 - 1

KeyArray = Annotated[tuple[U8, ...], Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
SignatureArray = Annotated[tuple[U8, ...], Meta(max_length=SIGNATURE_SIZE * limits.INPUTS)]
"""Empty in a coinbase alone, which nobody signs."""
AddressText = Annotated[str, Meta(min_length=6, max_length=48)]


class Outpoint(Noun, frozen=True, order=True):
    """One output of one transaction. Its text form, ``txid:vout``, is what people and logs use."""

    txid: Hex32
    vout: U32

    def __str__(self) -> str:
        return f"{self.txid}:{self.vout}"


NULL_OUTPOINT = Outpoint("0" * 64, 2**32 - 1)
"""What a coinbase spends: nothing."""


_SPELLED = re.compile("([0-9a-f]{64}):(0|[1-9][0-9]{0,9})")


class TxInput(Noun, frozen=True):
    """A coin to spend. ``script_sig`` is the spender's 32-byte public key."""

    previous_output: Outpoint
    script_sig: KeyArray
    sequence: U32


class TxOutput(Noun, frozen=True):
    """A coin to create: ``amount`` in smallest units, owned by ``address``."""

    amount: U64
    address: AddressText

    def __post_init__(self) -> None:
        require_u64("amount", self.amount)


class Transaction(Noun, frozen=True, dict=True, gc=True):
    """A signed payment, in the shape it has on the wire (protocol §2).

    ``signature`` is one 64-byte signature for each *distinct* key, in order of first appearance in
    ``inputs``. The ``txid`` field is what the sender claims; :attr:`computed_txid` is the truth, and
    validation compares them before anything else.
    """

    txid: Hex32
    inputs: Annotated[tuple[TxInput, ...], Meta(min_length=1, max_length=limits.INPUTS)]
    outputs: Annotated[tuple[TxOutput, ...], Meta(max_length=limits.OUTPUTS)]
    timestamp: I64
    signature: SignatureArray
    fee: U64

    def __post_init__(self) -> None:
        require_u64("fee", self.fee)

    @lazy
    def canonical(self) -> bytes:
        """Everything except ``signature`` and the claimed ``txid``."""
        return canonical_bytes(self.inputs, self.outputs, self.timestamp, self.fee)

    @lazy
    def computed_txid(self) -> str:
        return txid_of(self.canonical)

    @lazy
    def outpoints(self) -> tuple[Outpoint, ...]:
        """The coins this transaction spends, in order."""
        return tuple([entry.previous_output for entry in self.inputs])

    @lazy
    def keys(self) -> tuple[bytes, ...]:
        """The distinct public keys, in order of first appearance."""
        return tuple(dict.fromkeys([bytes(entry.script_sig) for entry in self.inputs]))

    @lazy
    def signatures(self) -> tuple[bytes, ...]:
        """``signature`` cut into its 64-byte parts (a last part may be short: validation refuses it)."""
        raw = bytes(self.signature)
        return tuple([raw[at : at + SIGNATURE_SIZE] for at in range(0, len(raw), SIGNATURE_SIZE)])

    def output_outpoint(self, vout: int) -> Outpoint:
        return Outpoint(self.txid, vout)


def canonical_bytes(
    inputs: tuple[TxInput, ...], outputs: tuple[TxOutput, ...], timestamp: int, fee: int
) -> bytes:
    """The canonical encoding: u32 count and inputs, u32 count and outputs, i64 timestamp, u64 fee.

    An input is txid (32 bytes) ‖ vout u32 ‖ sized(script_sig) ‖ sequence u32; an output is
    amount u64 ‖ sized(address in ASCII).
    """
    parts = [u32(len(inputs))]
    for entry in inputs:
        outpoint = entry.previous_output
        parts += (
            bytes.fromhex(outpoint.txid),
            u32(outpoint.vout),
            sized(bytes(entry.script_sig)),
            u32(entry.sequence),
        )
    parts.append(u32(len(outputs)))
    for output in outputs:
        parts += (u64(output.amount), sized(output.address.encode("utf-8")))
    parts += (i64(timestamp), u64(fee))
    return b"".join(parts)


def txid_of(canonical: bytes) -> str:
    """SHA-256d of the canonical bytes, as lower-case hex in byte order (not reversed)."""
    return sha256d(canonical).hex()


def sighash(canonical: bytes, genesis_hash: str) -> bytes:
    """The 32 bytes each owner signs: SHA-256(domain "tx" ‖ canonical bytes)."""
    return sha256(domain("tx", genesis_hash) + canonical)


def parse_outpoint(item: Any) -> Outpoint | None:
    """An outpoint from either of its two request forms, ``{"txid", "vout"}`` or ``"txid:vout"``.

    None for anything else: exactly one spelling of each number is accepted.
    """
    if isinstance(item, Outpoint):
        return item
    if isinstance(item, str):
        spelled = _SPELLED.fullmatch(item)
        if spelled is None:
            return None
        txid: Any = spelled[1]
        vout: Any = int(spelled[2])
    elif isinstance(item, dict) and item.keys() == {"txid", "vout"} and is_hex(item["txid"], 32):
        txid, vout = item["txid"], item["vout"]
    else:
        return None
    return Outpoint(txid, vout) if type(vout) is int and 0 <= vout <= 2**32 - 1 else None
