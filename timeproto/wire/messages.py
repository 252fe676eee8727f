"""The message catalogue (protocol §7): one class per message, who may send it, and its JSON as an example.

A class's fields are its strict schema: unknown fields, wrong types and out-of-range numbers are refused by
the codec. ``senders`` says which roles may send it; the dispatcher refuses every other direction. Every
request may carry an ``id``, which its reply repeats.

In the examples ``hex32`` and ``hex64`` stand for that many bytes in hex, ``{…}`` for the object its key names; a
test writes them out and decodes every one.

Transactions keep the original's spelling of byte strings (arrays of 0 to 255); everything else is lower-case hex.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, ClassVar, Literal, get_args

from msgspec import Meta

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import Block, BlockVote, DecidedBlock, InclusionProof
from timeproto.model.canonical import I64, U32, U64, Hex32, Hex64, Noun, domain, require_u64, sized, u64
from timeproto.model.certificate import FinalityProof
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, Evidence
from timeproto.model.transaction import AddressText, Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import WireState
from timeproto.model.vote import VoteBatch
from timeproto.params import NetworkName


class Role(Enum):
    """Who is at the other end of a connection, as far as it is proven."""

    WALLET = "wallet"
    """Anybody: the role of every connection a node accepts, until a handshake proves more."""
    NODE = "node"
    """A node, as its wallet sees it."""
    MASTERNODE = "masternode"
    """A member of the masternode set that signed the handshake."""


_EVERYBODY = frozenset(Role)
_ASKERS = frozenset({Role.WALLET, Role.MASTERNODE})
_ANSWERERS = frozenset({Role.NODE, Role.MASTERNODE})
_NODE = frozenset({Role.NODE})
_MASTERNODES = frozenset({Role.MASTERNODE})

RequestId = Annotated[int, Meta(ge=0, le=2**53 - 1)] | None
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:-]{1,64}\Z")]
HostPort = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.:\[\]-]{3,270}\Z")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Items that are answered one by one, so that a malformed one spoils nothing but itself.
Items = Annotated[tuple[Any, ...], Meta(max_length=limits.QUERY)]
Txids = Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=limits.FETCH)]


class Message(Noun, frozen=True, kw_only=True, omit_defaults=True, tag=True, tag_field="type"):
    """Base of every message. ``type`` on the wire is the class's name."""

    senders: ClassVar[frozenset[Role]] = frozenset()


class Request(Message, frozen=True, kw_only=True):
    """A message that is answered by exactly one reply, or one ``Error``, with the same ``id``."""

    senders: ClassVar[frozenset[Role]] = _ASKERS
    id: RequestId = None


class Charge(Noun, frozen=True):
    """What a request and its answer cost, and what may still be spent at once."""

    cost: Count
    left: Count


class Reply(Message, frozen=True, kw_only=True):
    """The answer to a request; ``id`` is the request's. ``charge`` only comes to who offers ``budgets``, and only
    with what costs more than a little."""

    senders: ClassVar[frozenset[Role]] = _ANSWERERS
    id: RequestId = None
    charge: Charge | None = None


# -- conversation ------------------------------------------------------------------------------------


class Handshake(Message, frozen=True, kw_only=True):
    """Who I am and which network I speak for; both sides send one, the dialling side first.

    ``node_key`` is null from a wallet. ``listen`` is where the sender can be dialled, if it can. ``nonce``
    is fresh for each connection.

    ``{"type": "Handshake", "version": 1, "network": "devnet", "genesis": hex32, "role": "masternode",
    "node_key": hex32, "listen": "127.0.0.1:24100", "capabilities": [], "nonce": hex32}``
    """

    senders: ClassVar[frozenset[Role]] = _EVERYBODY
    version: U32
    network: NetworkName
    genesis: Hex32
    role: Literal["masternode", "wallet"]
    node_key: Hex32 | None
    listen: HostPort | None
    capabilities: Annotated[tuple[Name, ...], Meta(max_length=32)]
    nonce: Hex32


class HandshakeAck(Message, frozen=True, kw_only=True):
    """Proof of ``node_key``: a signature over both nonces, both keys and the channel (see network.handshake).

    ``{"type": "HandshakeAck", "signature": hex64}``
    """

    senders: ClassVar[frozenset[Role]] = _EVERYBODY
    signature: Hex64


class Ping(Request, frozen=True, kw_only=True):
    """``{"type": "Ping", "id": 1}`` → ``Pong``."""

    senders: ClassVar[frozenset[Role]] = _EVERYBODY


class Pong(Reply, frozen=True, kw_only=True):
    """``{"type": "Pong", "id": 1}``"""

    senders: ClassVar[frozenset[Role]] = _EVERYBODY


class Error(Reply, frozen=True, kw_only=True):
    """A refusal: ``code`` for programs (errors.ErrorCode), ``message`` for people, ``details`` to act on.

    ``{"type": "Error", "id": 7, "code": "double_spend", "message": "…", "details": {"conflicting_txid": hex32}}``
    """

    senders: ClassVar[frozenset[Role]] = _EVERYBODY
    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=512)]
    details: Annotated[dict[str, str | I64], Meta(max_length=16)] | None = None

    def refusal(self) -> Refusal:
        """The same as an exception; a code this version does not know becomes ``internal``."""
        known = ErrorCode(self.code) if self.code in ErrorCode.__members__.values() else ErrorCode.INTERNAL
        return Refusal(known, self.message, **(self.details or {}))


def error_of(refusal: Refusal, request_id: int | None = None) -> Error:
    """The ``Error`` message that tells a refusal: one line, at most 512 characters."""
    why = reason_of(refusal)
    return Error(id=request_id, code=why.code, message=why.message, details=why.details)


class Reason(Noun, frozen=True, omit_defaults=True):
    """Why something was refused, as an ``Error`` says it."""

    code: Annotated[str, Meta(max_length=64)]
    message: Annotated[str, Meta(max_length=512)]
    details: Annotated[dict[str, str | I64], Meta(max_length=16)] | None = None


def reason_of(refusal: Refusal) -> Reason:
    text = "".join(c if c.isprintable() else "?" for c in refusal.message)[:512]
    return Reason(str(refusal.code), text, refusal.details or None)


# -- wallet → node, and the node's replies -----------------------------------------------------------


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

    senders: ClassVar[frozenset[Role]] = _NODE
    cursor: Cursor
    height: Count


class UTXOSubscriptionNotice(Message, frozen=True, kw_only=True):
    """``expiring``: the lease ends in ``in_ms`` if it is not renewed. ``expired``: it has ended, and nothing comes
    after ``cursor``. ``moved``: the subscription was taken up by another connection, here or at another node.

    ``{"type": "UTXOSubscriptionNotice", "subscriber_id": "w1", "event": "expiring",
    "cursor": {"node": hex32, "position": 12}, "in_ms": 150000}``
    """

    senders: ClassVar[frozenset[Role]] = _NODE
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

    senders: ClassVar[frozenset[Role]] = _ANSWERERS
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

    senders: ClassVar[frozenset[Role]] = _NODE
    txid: Hex32
    status: Literal["seen", "locked", "pending", "final", "confirmed", "refused", "aborted"]
    outputs: Annotated[tuple[PaidOutput, ...], Meta(min_length=1, max_length=limits.OUTPUTS)]
    timestamp: I64 | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None
    conflicting_txid: Hex32 | None = None
    height: Count | None = None


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


class GetEvidence(Request, frozen=True, kw_only=True):
    """Proofs that masternodes signed two things where one is allowed, from number ``since``.

    ``{"type": "GetEvidence", "since": 0}`` → ``EvidenceFound``
    """

    since: Count = 0


class EvidenceFound(Reply, frozen=True, kw_only=True):
    """A page; ask again from ``next`` while ``more`` is true. Anybody can check a piece (consensus.evidence).

    ``{"type": "EvidenceFound", "evidence": [], "next": 0, "more": false}``
    """

    evidence: Annotated[tuple[Evidence | BlockEvidence, ...], Meta(max_length=limits.EVIDENCE_PAGE)]
    next: Count
    more: bool


class GetGenesis(Request, frozen=True, kw_only=True):
    """``{"type": "GetGenesis"}`` → ``GenesisDocument``. Compare its hash with a source you trust."""


class GenesisDocument(Reply, frozen=True, kw_only=True):
    """``{"type": "GenesisDocument", "genesis": {…}}``"""

    genesis: Genesis


class GetInfo(Request, frozen=True, kw_only=True):
    """``{"type": "GetInfo"}`` → ``Info``"""


class GetBudget(Request, frozen=True, kw_only=True):
    """What this connection may spend. With ``key``, a secret that the node's operator gave out, it pays by that from
    now on.

    ``{"type": "GetBudget", "key": hex32}`` → ``Budget``
    """

    key: Hex32 | None = None


class Budget(Reply, frozen=True, kw_only=True):
    """``cost_per_second`` comes in, at most ``burst`` of it is kept, ``left`` may be spent at once; ``key`` is the name
    of the key that is paid by.

    ``{"type": "Budget", "key": "shop", "cost_per_second": 50000, "burst": 100000, "left": 99999}``
    """

    key: Name | None
    cost_per_second: Count
    burst: Count
    left: Count


class PeerInfo(Noun, frozen=True):
    """A masternode as this node sees it: ``direction`` is who dialled, ``none`` while not connected."""

    node_key: Hex32
    address: HostPort | None
    direction: Literal["outbound", "inbound", "none", "self"]


class StateCount(Noun, frozen=True):
    """How many coins are in a state, and their amounts' sum (decimal string: it may exceed 2^53)."""

    coins: Count
    amount: str


Trouble = Literal["quorum", "voting", "synced", "disk"]


class Info(Reply, frozen=True, kw_only=True):
    """How a node is. ``degraded`` says why it is not as it should be: it reaches no quorum, does not vote, has not all
    that is decided, or its disk is almost full. It is left out while all is well.

    ``height``, ``tip`` and ``commitment`` are of the last decided block; ``synced`` is false until what the others have
    decided is here. ``digest`` is over (outpoint, amount, owner, state kind, txid) of every coin: equal on two nodes
    exactly when they hold the same coins in the same states. ``voting`` is false with the reason in ``not_voting``.

    ``{"type": "Info", "software": "timeproto 0.1.0", "version": 1, "network": "devnet", "genesis": hex32,
    "node_key": hex32, "cursor": {"node": hex32, "position": 12}, "masternodes": 7, "quorum": 5, "connected": 6,
    "voting": true, "not_voting": null, "synced": true, "height": 0, "tip": hex32, "commitment": hex32,
    "block_time": 1700000000000, "unconfirmed": 0, "contested": 0, "digest": hex32,
    "states": {"Unspent": {"coins": 3, "amount": "175000000000"}}, "in_flight": 0, "waiting": 0, "final": 0,
    "evidence": 0, "wallets": 1, "subscriptions": 1, "uptime_ms": 60000,
    "peers": [{"node_key": hex32, "address": "127.0.0.1:24101", "direction": "outbound"}], "limits": {"inputs": 1000}}``
    """

    software: str
    version: U32
    network: NetworkName
    genesis: Hex32
    node_key: Hex32
    cursor: Cursor
    masternodes: U32
    quorum: U32
    connected: U32
    voting: bool
    not_voting: str | None
    synced: bool
    height: Count
    tip: Hex32
    commitment: Hex32
    block_time: I64
    unconfirmed: Count
    contested: Count
    digest: Hex32
    states: dict[str, StateCount]
    in_flight: Count
    waiting: Count
    final: Count
    evidence: Count
    wallets: Count
    subscriptions: Count
    uptime_ms: Count
    peers: tuple[PeerInfo, ...]
    limits: dict[str, Count]
    degraded: tuple[Trouble, ...] = ()


# -- masternode ↔ masternode -------------------------------------------------------------------------


class GetTransactions(Request, frozen=True, kw_only=True):
    """``{"type": "GetTransactions", "txids": [hex32]}`` → ``Transactions`` with those the peer holds."""

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    txids: Txids


class Transactions(Reply, frozen=True, kw_only=True):
    """Transactions, asked for or relayed; for those that are final, their proofs.

    ``{"type": "Transactions", "transactions": [{…}], "proofs": [{…}]}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    transactions: Annotated[tuple[Transaction, ...], Meta(max_length=limits.FETCH)] = ()
    proofs: Annotated[tuple[FinalityProof, ...], Meta(max_length=limits.FETCH)] = ()


class FinalityProofs(Reply, frozen=True, kw_only=True):
    """``{"type": "FinalityProofs", "proofs": [{…}]}``"""

    proofs: Annotated[tuple[FinalityProof, ...], Meta(max_length=limits.FETCH)]


class GetVotes(Request, frozen=True, kw_only=True):
    """What the peer knows of these undecided transactions: → ``Votes``.

    With ``voter`` instead: all batches of that voter that concern transactions the peer holds undecided. A node
    asks this about itself before its first vote, and so learns of a vote it has forgotten (protocol §4).

    ``{"type": "GetVotes", "txids": [hex32], "voter": null}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    txids: Annotated[tuple[Hex32, ...], Meta(max_length=limits.FETCH)] = ()
    voter: Hex32 | None = None


class Votes(Reply, frozen=True, kw_only=True):
    """Signed batches, each by its own voter, and proofs of what is final already.

    ``voter`` repeats the question's: then ``batches``, with those of the next answers while ``more`` is true, is
    all the peer holds of that voter, undecided, and ``block_votes`` what it signed about the next block. ``cancels``
    are owners' wishes for transactions among them.

    ``{"type": "Votes", "voter": null, "more": false, "batches": [{…}], "proofs": [{…}], "cancels": [],
    "block_votes": []}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    voter: Hex32 | None = None
    more: bool = False
    batches: Annotated[tuple[VoteBatch, ...], Meta(max_length=limits.BATCHES_PAGE)] = ()
    proofs: Annotated[tuple[FinalityProof, ...], Meta(max_length=limits.FETCH)] = ()
    cancels: Annotated[tuple[TransactionCancel, ...], Meta(max_length=limits.FETCH)] = ()
    block_votes: Annotated[tuple[BlockVote, ...], Meta(max_length=limits.WORDS_PAGE)] = ()


class GetFinalized(Request, frozen=True, kw_only=True):
    """What became final at the peer, in its own order from position ``since``: → ``Finalized``.

    ``{"type": "GetFinalized", "since": 0}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    since: U64

    def __post_init__(self) -> None:
        require_u64("since", self.since)


class Finalized(Reply, frozen=True, kw_only=True):
    """Txids that became final at the sender, parents before children; ``next`` is where to go on, ``head``
    the sender's newest position.

    ``{"type": "Finalized", "txids": [hex32], "next": 1, "head": 1}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    txids: Annotated[tuple[Hex32, ...], Meta(max_length=limits.CATCH_UP_PAGE)]
    next: U64
    head: U64

    def __post_init__(self) -> None:
        require_u64("next", self.next)
        require_u64("head", self.head)


class BlockProposal(Message, frozen=True, kw_only=True):
    """A block proposed for its height, with the proposer's signed word; whoever holds it may hand it on.

    ``polka`` are the q prevotes of the vote's ``valid_round`` for it, none if it is new. They come along since those
    counted at the receiver may differ: a liar can prevote one thing here and another there.

    ``{"type": "BlockProposal", "vote": {…}, "block": {…}, "polka": []}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    vote: BlockVote
    block: Block
    polka: Annotated[tuple[BlockVote, ...], Meta(max_length=limits.MASTERNODES)] = ()


class GetBlocks(Request, frozen=True, kw_only=True):
    """The decided blocks after height ``since``: → ``Blocks``.

    ``{"type": "GetBlocks", "since": 0}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    since: U64

    def __post_init__(self) -> None:
        require_u64("since", self.since)


class Blocks(Reply, frozen=True, kw_only=True):
    """Decided blocks with their commits, in order of height, as many as fit; ``head`` is the sender's last height.

    ``{"type": "Blocks", "blocks": [{…}], "head": 1}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    blocks: Annotated[tuple[DecidedBlock, ...], Meta(max_length=limits.BLOCKS_PAGE)]
    head: U64

    def __post_init__(self) -> None:
        require_u64("head", self.head)


class PeerAddress(Noun, frozen=True):
    """Where a masternode can be dialled."""

    node_key: Hex32
    address: HostPort


class GetPeers(Request, frozen=True, kw_only=True):
    """``{"type": "GetPeers"}`` → ``Peers``"""

    senders: ClassVar[frozenset[Role]] = _MASTERNODES


class Peers(Reply, frozen=True, kw_only=True):
    """``{"type": "Peers", "peers": [{"node_key": hex32, "address": "127.0.0.1:24100"}]}``"""

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    peers: Annotated[tuple[PeerAddress, ...], Meta(max_length=limits.PEERS_PAGE)]


class GetLease(Request, frozen=True, kw_only=True):
    """A wallet that was the receiver's has come to the sender with its key: hand its lease over. ``owner`` is what the
    wallet signed for the sender, ``nonce`` what the sender had given it.

    ``{"type": "GetLease", "subscriber_id": "w1", "nonce": hex32,
    "owner": {"key": hex32, "time": 1700000000000, "signature": hex64, "filter": hex32}}`` → ``LeaseFilter``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    subscriber_id: Name
    nonce: Hex32
    owner: Owner


class LeaseFilter(Reply, frozen=True, kw_only=True):
    """What the lease watches; it is the sender's no more.

    ``{"type": "LeaseFilter", "outpoints": [{"txid": hex32, "vout": 0}], "addresses": ["TIME0…"]}``
    """

    senders: ClassVar[frozenset[Role]] = _MASTERNODES
    outpoints: Annotated[tuple[Outpoint, ...], Meta(max_length=limits.FILTERS_CONNECTION)] = ()
    addresses: Annotated[tuple[AddressText, ...], Meta(max_length=limits.FILTERS_CONNECTION)] = ()


AnyMessage = (
    Handshake
    | HandshakeAck
    | Ping
    | Pong
    | Error
    | TransactionBroadcast
    | TransactionAccepted
    | TransactionCancel
    | CancelAccepted
    | UTXOStateQuery
    | UTXOStateResponse
    | UTXOSubscribe
    | UTXOSubscribed
    | UTXOWatermark
    | UTXOSubscriptionNotice
    | UTXOUnsubscribe
    | UTXOUnsubscribed
    | UTXOStateNotification
    | TransactionStatus
    | GetAddressUTXOs
    | AddressUTXOs
    | GetTransaction
    | TransactionInfo
    | GetTrace
    | Trace
    | GetFinalityProof
    | GetEvidence
    | EvidenceFound
    | GetGenesis
    | GenesisDocument
    | GetInfo
    | Info
    | GetBudget
    | Budget
    | GetTransactions
    | Transactions
    | FinalityProofs
    | VoteBatch
    | GetVotes
    | Votes
    | GetFinalized
    | Finalized
    | BlockProposal
    | BlockVote
    | GetBlocks
    | Blocks
    | GetPeers
    | Peers
    | GetLease
    | LeaseFilter
)

CATALOGUE: dict[str, type] = {cls.__name__: cls for cls in get_args(AnyMessage)}


def senders_of(message_type: type) -> frozenset[Role]:
    """The roles that may send this type. Votes are nouns that travel bare: only masternodes send them."""
    return message_type.senders if issubclass(message_type, Message) else _MASTERNODES
