"""Coins: their states by outpoint, and all those of an address."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from timeproto import limits
from timeproto.model.canonical import U64, Hex32, Noun, require_u64
from timeproto.model.transaction import AddressText, Outpoint, TxOutput
from timeproto.model.utxo_state import WireState
from timeproto.wire.messages.base import Reply, Request

#: Items that are answered one by one, so that a malformed one spoils nothing but itself.
Items = Annotated[tuple[Any, ...], Meta(max_length=limits.QUERY)]


class UTXOStateQuery(Request, frozen=True, kw_only=True):
    """``{"type": "UTXOStateQuery", "outpoints": [{"txid": hex32, "vout": 0}, "txid:vout"]}``
    → ``UTXOStateResponse``"""

    outpoints: Items


class ItemState(Noun, frozen=True, omit_defaults=True):
    """The answer to one item: ``known`` with state and output, ``unknown``, or ``malformed``."""

    status: Literal["known", "unknown", "malformed"]
    outpoint: Outpoint | None = None
    state: WireState | None = None
    output: TxOutput | None = None


class UTXOStateResponse(Reply, frozen=True, kw_only=True):
    """One entry per item asked, in order.

    ``{"type": "UTXOStateResponse", "states": [{"status": "known", "outpoint": {…}, "state": "Unspent",
    "output": {"amount": 1, "address": "TIME0…"}}, {"status": "unknown", "outpoint": {…}}, {"status": "malformed"}]}``
    """

    states: tuple[ItemState, ...]


class Cursor(Noun, frozen=True):
    """A position in the transition log of one node."""

    node: Hex32
    position: U64

    def __post_init__(self) -> None:
        require_u64("position", self.position)


class CoinState(Noun, frozen=True):
    """A coin as one node holds it."""

    outpoint: Outpoint
    state: WireState
    output: TxOutput


class GetAddressUTXOs(Request, frozen=True, kw_only=True):
    """The coins of an address, a page at a time, in order of outpoint; ``after`` is the last one received.

    With ``spent`` also those that are spent for ever (after all the others).

    ``{"type": "GetAddressUTXOs", "address": "TIME0…", "after": null, "spent": false}`` → ``AddressUTXOs``
    """

    address: AddressText
    after: Outpoint | None = None
    spent: bool = False
    limit: Annotated[int, Meta(ge=1, le=limits.QUERY)] = limits.QUERY


class AddressUTXOs(Reply, frozen=True, kw_only=True):
    """``{"type": "AddressUTXOs", "address": "TIME0…", "cursor": {…}, "coins": [{…}], "more": false}``"""

    address: AddressText
    cursor: Cursor
    coins: tuple[CoinState, ...]
    more: bool
