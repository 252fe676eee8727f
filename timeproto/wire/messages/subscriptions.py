"""Subscriptions: what a wallet watches, under whose lease, and what it is told of it unasked."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from timeproto import limits
from timeproto.model.block import InclusionProof
from timeproto.model.canonical import I64, U32, Hex32, Hex64, Noun, domain, sized, u64
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import AddressText, Outpoint, TxOutput
from timeproto.model.utxo_state import WireState
from timeproto.wire.messages.base import ANSWERERS, NODE, Count, Message, Name, Reply, Request, Role
from timeproto.wire.messages.coins import CoinState, Cursor


class Owner(Noun, frozen=True, kw_only=True, omit_defaults=True):
    """A wallet's key, shown on one connection to one node: to nobody else, and at no other time, is it worth anything.

    ``signature`` is by ``key``: see :meth:`message`. ``filter`` is the digest (network.owners) of the filter that is to
    be taken up; without it the subscription begins with the items of the request. ``time`` grows from each one that the
    owner signs to the next: Unix ms, as a rule.
    """

    key: Hex32
    time: Count
    signature: Hex64
    filter: Hex32 | None = None

    def message(self, genesis_hash: str, node: str, nonce: str, subscriber_id: str) -> bytes:
        """What is signed, for the node of the key ``node``, which gave ``nonce`` in this connection's handshake."""
        parts = (node, nonce, self.filter or "00" * 32)
        named = sized(subscriber_id.encode("ascii"))
        return domain("lease", genesis_hash) + bytes.fromhex("".join(parts)) + u64(self.time) + named


class UTXOSubscribe(Request, frozen=True, kw_only=True):
    """Watch coins by outpoint, and all coins of addresses. The same ``subscriber_id`` again extends the filter.

    A ``subscriber_id`` belongs to the connection that made it; nobody else can see, replace or remove it.

    ``statuses`` asks for :class:`TransactionStatus` too, for the whole subscription, as long as this connection has it.
    It only goes to a node whose handshake names the capability ``statuses``.

    ``since`` asks for everything after that cursor, for the whole subscription, instead of a snapshot. ``ttl_ms`` asks
    for a lease, or renews it; ``token`` takes a leased subscription up on this connection. ``hold``: more of the filter
    follows in further requests, and it begins with the first that holds nothing back. These four only go to a node
    whose handshake names the capability ``cursors``. ``owner`` makes it a lease of that key, or takes the key's lease
    up; it only goes to a node that names the capability ``owners``.

    ``{"type": "UTXOSubscribe", "subscriber_id": "w1", "outpoints": ["txid:vout"], "addresses": ["TIME0…"],
    "since": {"node": hex32, "position": 12}, "ttl_ms": 600000, "token": hex32, "hold": false, "statuses": false,
    "owner": {"key": hex32, "time": 1700000000000, "signature": hex64, "filter": hex32}}`` → ``UTXOSubscribed``
    """

    subscriber_id: Name
    outpoints: Annotated[tuple[Any, ...], Meta(max_length=limits.FILTER)] = ()
    addresses: Annotated[tuple[AddressText, ...], Meta(max_length=limits.FILTER)] = ()
    since: Cursor | None = None
    ttl_ms: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    token: Hex32 | None = None
    hold: bool = False
    statuses: bool = False
    owner: Owner | None = None

    @property
    def knows_cursors(self) -> bool:
        """True if whoever asks this understands what nodes say unasked about subscriptions."""
        told = (self.since, self.ttl_ms, self.token, self.owner)
        return self.hold or any(each is not None for each in told)


class UTXOSubscribed(Reply, frozen=True, kw_only=True):
    """The states, as of ``cursor``, of every coin watched that is not spent for ever, and of every outpoint
    asked for by name. The next notification has a later cursor: none is lost and none doubled in between.

    To a request with ``since`` the ``cursor`` is that one and there are no states; what comes then is everything after
    it. Unless ``reset`` is true: then ``reason`` says why not, and it is a snapshot of the whole subscription.

    ``more`` is true when an address owns more coins than one reply holds: page with ``GetAddressUTXOs``. ``ttl_ms`` is
    what is left of a lease, and ``token`` brings it back, unless it is a key's.

    ``{"type": "UTXOSubscribed", "subscriber_id": "w1", "cursor": {"node": hex32, "position": 12},
    "states": [{"outpoint": {…}, "state": "Unspent", "output": {…}}], "more": false, "reset": true,
    "reason": "too_long", "token": hex32, "ttl_ms": 600000}``
    """

    subscriber_id: Name
    cursor: Cursor
    states: tuple[CoinState, ...]
    more: bool
    reset: bool = False
    reason: Literal["another_node", "ahead", "too_old", "too_long"] | None = None
    token: Hex32 | None = None
    ttl_ms: Count | None = None


class UTXOWatermark(Message, frozen=True, kw_only=True):
    """Everything this connection watches has been told up to ``cursor`` and block ``height``: when a replay is at its
    end, and from time to time when there is nothing to tell. Only to who asked with ``since``, ``ttl_ms``, …

    ``{"type": "UTXOWatermark", "cursor": {"node": hex32, "position": 12}, "height": 4}``
    """

    senders: ClassVar[frozenset[Role]] = NODE
    cursor: Cursor
    height: Count


class UTXOSubscriptionNotice(Message, frozen=True, kw_only=True):
    """``expiring``: the lease ends in ``in_ms`` if it is not renewed. ``expired``: it has ended, and nothing comes
    after ``cursor``. ``moved``: the subscription was taken up by another connection, here or at another node.

    ``{"type": "UTXOSubscriptionNotice", "subscriber_id": "w1", "event": "expiring",
    "cursor": {"node": hex32, "position": 12}, "in_ms": 150000}``
    """

    senders: ClassVar[frozenset[Role]] = NODE
    subscriber_id: Name
    event: Literal["expiring", "expired", "moved"]
    cursor: Cursor
    in_ms: Count | None = None


class UTXOUnsubscribe(Request, frozen=True, kw_only=True):
    """``{"type": "UTXOUnsubscribe", "subscriber_id": "w1"}`` → ``UTXOUnsubscribed``, and nothing after it."""

    subscriber_id: Name


class UTXOUnsubscribed(Reply, frozen=True, kw_only=True):
    """``{"type": "UTXOUnsubscribed", "subscriber_id": "w1"}``"""

    subscriber_id: Name


class StateChange(Noun, frozen=True):
    """One transition of one coin. ``old_state`` is null for a coin just created; ``timestamp`` in Unix ms."""

    outpoint: Outpoint
    old_state: WireState | None
    new_state: WireState
    timestamp: I64
    originator: Hex32


class UTXOStateNotification(Message, frozen=True, kw_only=True):
    """A transition that is durable at the telling node. The ``proof`` comes with SpentFinalized, and with the
    coins that a final transaction created; ``inclusion``, the entry in a decided block, with Confirmed, and in place of
    the proof where a block made the transaction final or minted the coin.

    Between masternodes it is a hint, and no more: the attached proof is verified, or the transaction fetched.

    ``{"type": "UTXOStateNotification", "notification": {"outpoint": {…}, "old_state": {"SpentPending": {…}},
    "new_state": {"SpentFinalized": {…}}, "timestamp": 1700000000000, "originator": hex32},
    "cursor": {"node": hex32, "position": 13}, "output": {"amount": 1, "address": "TIME0…"}, "proof": {…}}``
    """

    senders: ClassVar[frozenset[Role]] = ANSWERERS
    notification: StateChange
    cursor: Cursor
    output: TxOutput
    proof: FinalityProof | None = None
    inclusion: InclusionProof | None = None


class PaidOutput(Noun, frozen=True):
    """An output of a transaction, with its place."""

    vout: U32
    output: TxOutput


class TransactionStatus(Message, frozen=True, kw_only=True):
    """How far the telling node is with a transaction; ``outputs`` are those that pay what a subscription with
    ``statuses`` watches. A hint and never money: a coin exists when ``UTXOStateNotification`` brings it with its proof.

    ``seen``: known and valid here, not locked (yet). ``locked``, ``pending``: its coins are Locked, SpentPending.
    ``final``: they are spent by it. ``confirmed``: the block at ``height`` contains it. ``refused``: a rival is final,
    so this one cannot be. ``aborted``: the block at ``height`` ended it. ``code`` says why; ``conflicting_txid`` is who
    wants one of its coins too, or has it. ``timestamp`` is of that step at this node, in Unix ms, if it was noted.

    ``{"type": "TransactionStatus", "txid": hex32, "status": "refused", "outputs": [{"vout": 0, "output": {…}}],
    "timestamp": 1700000000000, "code": "double_spend", "conflicting_txid": hex32, "height": 4}``
    """

    senders: ClassVar[frozenset[Role]] = NODE
    txid: Hex32
    status: Literal["seen", "locked", "pending", "final", "confirmed", "refused", "aborted"]
    outputs: Annotated[tuple[PaidOutput, ...], Meta(min_length=1, max_length=limits.OUTPUTS)]
    timestamp: I64 | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None
    conflicting_txid: Hex32 | None = None
    height: Count | None = None
