"""Transactions: a wallet sends or cancels one, asks what became of it, and where it is on its way."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from timeproto import limits
from timeproto.model.block import InclusionProof
from timeproto.model.canonical import I64, U32, Hex32, Hex64, Noun, domain
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.wire.messages.base import Count, Reply, Request
from timeproto.wire.messages.coins import Cursor
from timeproto.wire.messages.conversation import Reason


class TransactionBroadcast(Request, frozen=True, kw_only=True):
    """A signed transaction. To a node: lock it, vote for it, tell the others.

    ``{"type": "TransactionBroadcast", "id": 1, "tx": {…}}`` → ``TransactionAccepted``
    """

    tx: Transaction


class TransactionAccepted(Reply, frozen=True, kw_only=True):
    """The transaction's coins are locked for it, durably, at this node.

    ``{"type": "TransactionAccepted", "id": 1, "txid": hex32}``
    """

    txid: Hex32


class TransactionCancel(Request, frozen=True, kw_only=True):
    """An owner of one of its coins asks that a transaction which is not final end. It is a wish: the transaction
    becomes final, or a block aborts it.

    ``signature`` is by ``key`` over domain "cancel" ‖ txid; ``key`` is the ``script_sig`` of one of the inputs.

    ``{"type": "TransactionCancel", "id": 1, "txid": hex32, "key": hex32, "signature": hex64}`` → ``CancelAccepted``
    """

    txid: Hex32
    key: Hex32
    signature: Hex64

    def message(self, genesis_hash: str) -> bytes:
        return domain("cancel", genesis_hash) + bytes.fromhex(self.txid)


class CancelAccepted(Reply, frozen=True, kw_only=True):
    """The transaction is contested at this node, and the other masternodes are told.

    ``{"type": "CancelAccepted", "id": 1, "txid": hex32}``
    """

    txid: Hex32


class GetTransaction(Request, frozen=True, kw_only=True):
    """``{"type": "GetTransaction", "txid": hex32}`` → ``TransactionInfo`` or ``Error`` ``not_found``"""

    txid: Hex32


class TransactionInfo(Reply, frozen=True, kw_only=True):
    """A transaction and what became of it. ``pending`` has no proof; ``final`` has ``proof``, ``inclusion`` or both,
    the latter with ``height`` as soon as a block contains it; ``aborted`` has the ``height`` of the block that ended
    it, and ``inclusion`` of the verdict there, or of the rival ``conflicting_txid``.

    ``{"type": "TransactionInfo", "tx": {…}, "status": "final", "proof": {…}, "height": 4, "inclusion": {…}}``
    """

    tx: Transaction
    status: Literal["pending", "final", "aborted"]
    proof: FinalityProof | None = None
    height: Count | None = None
    inclusion: InclusionProof | None = None
    conflicting_txid: Hex32 | None = None


TraceStatus = Literal["announced", "seen", "locked", "pending", "final", "confirmed", "refused", "aborted"]
WaitsFor = Literal["transaction", "parents", "lock", "commit", "verdict", "block"]


class TraceStage(Noun, frozen=True):
    """A transaction came so far ``at`` that moment (Unix ms) by the telling node's clock, or by the block's for
    ``confirmed``; null if it is not known any more. ``pending`` is when its lock certificate was here."""

    name: Literal["seen", "locked", "pending", "final", "confirmed", "aborted"]
    at: I64 | None


class MissingVoter(Noun, frozen=True):
    """A masternode whose vote is waited for, and whether it is connected to the telling node (itself: always)."""

    node_key: Hex32
    connected: bool


class TraceRival(Noun, frozen=True, omit_defaults=True):
    """Another transaction that spends ``outpoint`` too, as far as the telling node knows of it. ``seen`` is when it
    came (Unix ms), ``height`` the block's that contains or ended it; ``proven``: the node holds what proves its status.
    """

    txid: Hex32
    outpoint: Outpoint
    status: TraceStatus
    seen: I64 | None = None
    height: Count | None = None
    proven: bool = False


class GetTrace(Request, frozen=True, kw_only=True):
    """Where is this payment? ``{"type": "GetTrace", "txid": hex32}`` → ``Trace`` or ``Error`` ``not_found``"""

    txid: Hex32


class Trace(Reply, frozen=True, kw_only=True):
    """Everything one node knows of a transaction as of ``cursor``.

    ``status``: ``announced`` if there are votes for it and not the transaction itself; ``seen`` if it is here and not
    locked; ``locked``, ``pending``, ``final``, ``confirmed`` as its coins are; ``refused`` if it can never be final,
    for ``refusal``; ``aborted`` as in ``TransactionInfo``. ``stages`` are in the order of the way; not ``complete`` if
    there may have been others that are not known any more.

    ``waits_for`` says what it stands still for: the ``transaction``, its ``parents`` (their txids), ``lock`` or
    ``commit`` votes (``missing``: who has not cast it, nor one to abort), the ``verdict`` of a block since it is
    ``contested`` (``missing``: who neither locked nor aborts), a ``block``; null if for nothing. ``cancelled``: an
    owner asked to end it. ``not_voting`` is why the telling node itself does not vote.

    ``lock``, ``commit``, ``abort`` are who cast that vote, as far as known: while it is undecided those heard of, later
    those in its proof or in the block's verdict. ``more``: there are more ``rivals``. The rest is as in
    ``TransactionInfo``.

    ``{"type": "Trace", "txid": hex32, "cursor": {…}, "status": "locked", "stages": [{"name": "seen", "at":
    1700000000000}, {"name": "locked", "at": 1700000000004}], "complete": true, "waits_for": "lock", "quorum": 5,
    "lock": [hex32], "commit": [], "abort": [], "missing": [{"node_key": hex32, "connected": false}],
    "contested": true, "cancelled": false, "parents": [], "rivals": [{"txid": hex32, "outpoint": {…}, "status":
    "seen", "seen": 1700000000002}], "more": false, "tx": {…}}``
    """

    txid: Hex32
    cursor: Cursor
    status: TraceStatus
    stages: tuple[TraceStage, ...]
    complete: bool
    waits_for: WaitsFor | None = None
    quorum: U32
    lock: tuple[Hex32, ...] = ()
    commit: tuple[Hex32, ...] = ()
    abort: tuple[Hex32, ...] = ()
    missing: tuple[MissingVoter, ...] = ()
    contested: bool = False
    cancelled: bool = False
    parents: tuple[Hex32, ...] = ()
    rivals: tuple[TraceRival, ...] = ()
    more: bool = False
    refusal: Reason | None = None
    not_voting: str | None = None
    tx: Transaction | None = None
    proof: FinalityProof | None = None
    height: Count | None = None
    inclusion: InclusionProof | None = None
    conflicting_txid: Hex32 | None = None


class GetFinalityProof(Request, frozen=True, kw_only=True):
    """``{"type": "GetFinalityProof", "txid": hex32}`` → ``FinalityProofs`` or ``Error`` ``not_found``"""

    txid: Hex32


class FinalityProofs(Reply, frozen=True, kw_only=True):
    """``{"type": "FinalityProofs", "proofs": [{…}]}``"""

    proofs: Annotated[tuple[FinalityProof, ...], Meta(max_length=limits.FETCH)]
