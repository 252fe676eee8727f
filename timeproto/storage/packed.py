"""What every payment writes several of, in half of the bytes: arrays, with digests, keys and signatures as bytes.

A field may be added at the end of one. Transitions and txids that follow one another share a row, so that it is large
enough to lie where no merge moves it (storage.rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from msgspec.structs import fields

from timeproto.model.canonical import Noun, texts
from timeproto.model.certificate import KeptProof
from timeproto.model.ledger import Coin, TransactionRecord, Transition
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import (
    STATES,
    UNSPENT,
    Confirmed,
    Locked,
    SpentFinalized,
    SpentPending,
    Unspent,
    UTXOState,
)
from timeproto.storage.schema import read, unreadable
from timeproto.wire.codec import pack, unpacker

T = TypeVar("T")

ROW = 64
"""Transitions or txids that one row holds at most: to read one reads them all."""

_NUMBERS = [len(fields(state)) - 1 for state in STATES]
"""How many numbers a state has, beside its txid."""


class StateRecord(Noun, frozen=True, array_like=True):
    """A state: its place in ``STATES``, its txid, and its numbers in their order, with zeroes after them."""

    kind: int
    txid: bytes
    first: int
    second: int
    third: int


_UNSPENT = StateRecord(0, b"", 0, 0, 0)


class CoinRecord(Noun, frozen=True, array_like=True):
    amount: int
    address: str
    state: StateRecord


class TransitionRecord(Noun, frozen=True, array_like=True):
    """A transition without its position: the last one's is the key's, and there are no gaps."""

    made_by: bytes
    vout: int
    amount: int
    address: str
    old_state: StateRecord | None
    new_state: StateRecord
    txid: bytes
    timestamp: int


_coin = unpacker(CoinRecord)
_transaction = unpacker(TransactionRecord)
_transitions: Any = unpacker(list[TransitionRecord])


_Fields = tuple[int, bytes, int, int, int]
"""A :class:`StateRecord` on its way to the disk: a payment needs sixteen, and a tuple is made in half of the time."""

_FIELDS: dict[type[UTXOState], Callable[[Any], _Fields]] = {
    Unspent: lambda _: (0, b"", 0, 0, 0),
    Locked: lambda state: (1, bytes.fromhex(state.txid), state.locked_at, 0, 0),
    SpentPending: lambda state: (2, bytes.fromhex(state.txid), state.votes, state.total_nodes, state.spent_at),
    SpentFinalized: lambda state: (3, bytes.fromhex(state.txid), state.finalized_at, state.votes, 0),
    Confirmed: lambda state: (4, bytes.fromhex(state.txid), state.block_height, state.confirmed_at, 0),
}


def _packed(state: UTXOState) -> _Fields:
    return _FIELDS[type(state)](state)


def _state(record: StateRecord) -> UTXOState:
    if record == _UNSPENT:
        return UNSPENT
    if not 0 < record.kind < len(STATES):
        raise ValueError(f"there is no state {record.kind}")
    numbers, count = (record.first, record.second, record.third), _NUMBERS[record.kind]
    if any(numbers[count:]):
        raise ValueError(f"a state {record.kind} has {count} numbers")
    return STATES[record.kind](_hex(record.txid), *numbers[:count])


def _hex(value: bytes) -> str:
    if len(value) != 32:
        raise ValueError(f"{len(value)} bytes are not 32")
    return value.hex()


def rows_of(entries: list[T]) -> Iterator[list[T]]:
    """What a change set says of one table, cut into its rows."""
    return (entries[at : at + ROW] for at in range(0, len(entries), ROW))


def pack_coin(coin: Coin) -> bytes:
    return pack((coin.output.amount, coin.output.address, _packed(coin.state)))


def pack_transitions(transitions: Iterable[Transition]) -> bytes:
    return pack(
        [
            (
                bytes.fromhex(each.outpoint.txid),
                each.outpoint.vout,
                each.output.amount,
                each.output.address,
                None if each.old_state is None else _packed(each.old_state),
                _packed(each.new_state),
                bytes.fromhex(each.txid),
                each.timestamp,
            )
            for each in transitions
        ]
    )


def pack_transaction(record: TransactionRecord) -> bytes:
    return pack(record)


def pack_finals(txids: Iterable[str]) -> bytes:
    return bytes.fromhex("".join(txids))


def read_coin(value: bytes) -> Coin:
    record: CoinRecord = read(_coin, value, "coin")  # type: ignore[assignment]
    try:
        return Coin(TxOutput(record.amount, record.address), _state(record.state))
    except ValueError as error:
        raise unreadable("coin", error) from error


def read_transaction(value: bytes) -> TransactionRecord:
    record: TransactionRecord = read(_transaction, value, "transaction")  # type: ignore[assignment]
    if record.kept is not None:
        _require_whole(record.kept)
    return record


def _require_whole(proof: KeptProof) -> None:
    digests = [proof.set, *(vote.voter for vote in proof.votes)]
    are_whole = all(len(vote.signature) == 64 and len(vote.path) % 32 == 0 for vote in proof.votes)
    if not are_whole or any(len(digest) != 32 for digest in digests):
        raise unreadable("transaction", ValueError("its proof has not the length of one"))


def read_transitions(last: int, value: bytes) -> list[Transition]:
    """What the row with the key of position ``last`` holds, in order."""
    records: list[TransitionRecord] = read(_transitions, value, "transition")  # type: ignore[assignment]
    try:
        return [_transition(position, record) for position, record in enumerate(records, last + 1 - len(records))]
    except ValueError as error:
        raise unreadable("transition", error) from error


def _transition(position: int, record: TransitionRecord) -> Transition:
    return Transition(
        position,
        Outpoint(_hex(record.made_by), record.vout),
        TxOutput(record.amount, record.address),
        None if record.old_state is None else _state(record.old_state),
        _state(record.new_state),
        _hex(record.txid),
        record.timestamp,
    )


def read_finals(value: bytes) -> list[str]:
    try:
        return texts(value)
    except ValueError as error:
        raise unreadable("list of what is final", error) from error
