"""Transactions, built and signed (protocol §2). Deterministic: the same arguments give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from timeproto.model.genesis import Genesis
from timeproto.model.keys import SIGNATURE_SIZE, SigningKey
from timeproto.model.transaction import (
    FINAL_SEQUENCE,
    Transaction,
    TxInput,
    TxOutput,
    canonical_bytes,
    sighash,
    txid_of,
)
from timeproto.params import NetworkParams
from timeproto.wallet.coins import Selection

_FRAME_SIZE = 4 + 4 + 8 + 8
"""Two counts, the timestamp, the fee."""
_INPUT_SIZE = 32 + 4 + 4 + 32 + 4
_OUTPUT_SIZE = 8 + 4 + 5 + 33
"""With the longest address: five characters and 33 of base58."""


def canonical_size(inputs: int, outputs: int) -> int:
    """At most how many canonical bytes a transaction of that many inputs and outputs has."""
    return _FRAME_SIZE + inputs * _INPUT_SIZE + outputs * _OUTPUT_SIZE


def fee_for(inputs: int, outputs: int, params: NetworkParams) -> int:
    """A fee that is enough for that many inputs and outputs, whatever the addresses."""
    return params.minimum_fee(canonical_size(inputs, outputs))


def transaction_size(inputs: int, outputs: int) -> int:
    """At most how many bytes count against ``limits.TRANSACTION_SIZE``: canonical bytes and a signature an input."""
    return canonical_size(inputs, outputs) + inputs * SIGNATURE_SIZE


def build(
    selection: Selection,
    outputs: Sequence[TxOutput],
    *,
    change_address: str | None,
    keys: Mapping[str, SigningKey],
    genesis: Genesis,
    timestamp: int,
) -> Transaction:
    """The signed transaction that spends ``selection`` for ``outputs``; its change goes to ``change_address``.

    ``keys`` holds the key of every address in the selection; ``timestamp`` is in Unix seconds, information only.
    """
    owners = [keys[coin.address] for coin in selection.coins]
    inputs = tuple(
        TxInput(coin.outpoint, tuple(owner.public_bytes), FINAL_SEQUENCE)
        for coin, owner in zip(selection.coins, owners, strict=True)
    )
    paid = tuple(outputs)
    if selection.change:
        if change_address is None:
            raise ValueError("there is change, and no address for it")
        paid += (TxOutput(selection.change, change_address),)
    canonical = canonical_bytes(inputs, paid, timestamp, selection.fee)
    digest = sighash(canonical, genesis.hash)
    distinct = {owner.public_hex: owner for owner in owners}  # in order of first appearance
    signature = b"".join(owner.sign(digest) for owner in distinct.values())
    return Transaction(txid_of(canonical), inputs, paid, timestamp, tuple(signature), selection.fee)
