"""The five states of a coin (protocol §3).

Each state is a class with just the fields it has: a ``Locked`` has a txid and an ``Unspent`` cannot.
In JSON the states are tagged from outside, as the original protocol fixed them: ``"Unspent"`` or
``{"Locked": {…}}``. :func:`to_wire` and :func:`from_wire` go between the two; :class:`TaggedState` is the
declared schema of the tagged form. Times are Unix milliseconds of the telling node, information only.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from timeproto.model.canonical import I64, U32, U64, Hex32, Noun, require_u64


class Unspent(Noun, frozen=True):
    """Final and spendable."""


class Locked(Noun, frozen=True):
    """This replica cast its lock vote for ``txid``, and will cast none for a rival."""

    txid: Hex32
    locked_at: I64


class SpentPending(Noun, frozen=True):
    """A lock certificate for ``txid`` is held: ``votes`` of ``total_nodes`` locked; the commit vote is cast."""

    txid: Hex32
    votes: U32
    total_nodes: U32
    spent_at: I64


class SpentFinalized(Noun, frozen=True):
    """A finality proof for ``txid`` is held: spent for ever."""

    txid: Hex32
    finalized_at: I64
    votes: U32


class Confirmed(Noun, frozen=True):
    """A decided block contains ``txid``."""

    txid: Hex32
    block_height: U64
    confirmed_at: I64

    def __post_init__(self) -> None:
        require_u64("block_height", self.block_height)


UTXOState = Unspent | Locked | SpentPending | SpentFinalized | Confirmed
STATES: tuple[type[UTXOState], ...] = (Unspent, Locked, SpentPending, SpentFinalized, Confirmed)


class TaggedState(Noun, frozen=True, omit_defaults=True):
    """Exactly one of the four states that carry fields, under its name."""

    Locked: Locked | UnsetType = UNSET
    SpentPending: SpentPending | UnsetType = UNSET
    SpentFinalized: SpentFinalized | UnsetType = UNSET
    Confirmed: Confirmed | UnsetType = UNSET

    def __post_init__(self) -> None:
        if len(self._given()) != 1:
            raise ValueError("a state has exactly one name")

    def _given(self) -> list[Any]:
        every = (self.Locked, self.SpentPending, self.SpentFinalized, self.Confirmed)
        return [state for state in every if state is not UNSET]


WireState = Literal["Unspent"] | TaggedState

UNSPENT = Unspent()


def kind(state: UTXOState) -> str:
    """The state's name: ``"Unspent"``, ``"Locked"``, ``"SpentPending"``, ``"SpentFinalized"``, ``"Confirmed"``."""
    return type(state).__name__


def holder(state: UTXOState) -> str | None:
    """The txid that holds or has spent the coin; None for ``Unspent``."""
    return None if isinstance(state, Unspent) else state.txid


def to_wire(state: UTXOState) -> WireState:
    return "Unspent" if isinstance(state, Unspent) else TaggedState(**{kind(state): state})  # type: ignore[arg-type]


def from_wire(wire: WireState) -> UTXOState:
    if isinstance(wire, str):
        return UNSPENT
    state: UTXOState = wire._given()[0]
    return state
