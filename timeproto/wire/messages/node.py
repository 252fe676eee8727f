"""What a node tells of itself and its network: evidence, genesis, how it is, and what a connection may spend."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from timeproto import limits
from timeproto.model.canonical import I64, U32, Hex32, Noun
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, Evidence
from timeproto.params import NetworkName
from timeproto.wire.messages.base import Count, HostPort, Name, Reply, Request
from timeproto.wire.messages.coins import Cursor


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
