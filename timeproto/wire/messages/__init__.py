"""The message catalogue (protocol §7): one class per message, who may send it, and its JSON as an example.

A class's fields are its strict schema: unknown fields, wrong types and out-of-range numbers are refused by
the codec. ``senders`` says which roles may send it; the dispatcher refuses every other direction. Every
request may carry an ``id``, which its reply repeats.

In the examples ``hex32`` and ``hex64`` stand for that many bytes in hex, ``{…}`` for the object its key names; a
test writes them out and decodes every one.

Transactions keep the original's spelling of byte strings (arrays of 0 to 255); everything else is lower-case hex.
"""

from __future__ import annotations

from typing import get_args

from timeproto.model.block import BlockVote
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages.base import (
    MASTERNODES,
    Charge,
    Count,
    HostPort,
    Message,
    Name,
    Reply,
    Request,
    RequestId,
    Role,
)
from timeproto.wire.messages.coins import (
    AddressUTXOs,
    CoinState,
    Cursor,
    GetAddressUTXOs,
    Items,
    ItemState,
    UTXOStateQuery,
    UTXOStateResponse,
)
from timeproto.wire.messages.conversation import (
    Error,
    Handshake,
    HandshakeAck,
    Ping,
    Pong,
    Reason,
    error_of,
    reason_of,
)
from timeproto.wire.messages.masternodes import (
    BlockProposal,
    Blocks,
    Finalized,
    GetBlocks,
    GetFinalized,
    GetLease,
    GetPeers,
    GetTransactions,
    GetVotes,
    LeaseFilter,
    PeerAddress,
    Peers,
    Transactions,
    Txids,
    Votes,
)
from timeproto.wire.messages.node import (
    Budget,
    EvidenceFound,
    GenesisDocument,
    GetBudget,
    GetEvidence,
    GetGenesis,
    GetInfo,
    Info,
    PeerInfo,
    StateCount,
    Trouble,
)
from timeproto.wire.messages.subscriptions import (
    Owner,
    PaidOutput,
    StateChange,
    TransactionStatus,
    UTXOStateNotification,
    UTXOSubscribe,
    UTXOSubscribed,
    UTXOSubscriptionNotice,
    UTXOUnsubscribe,
    UTXOUnsubscribed,
    UTXOWatermark,
)
from timeproto.wire.messages.transactions import (
    CancelAccepted,
    FinalityProofs,
    GetFinalityProof,
    GetTrace,
    GetTransaction,
    MissingVoter,
    Trace,
    TraceRival,
    TraceStage,
    TraceStatus,
    TransactionAccepted,
    TransactionBroadcast,
    TransactionCancel,
    TransactionInfo,
    WaitsFor,
)

__all__ = [
    "ANSWERS",
    "CATALOGUE",
    "AddressUTXOs",
    "AnyMessage",
    "BlockProposal",
    "Blocks",
    "Budget",
    "CancelAccepted",
    "Charge",
    "CoinState",
    "Count",
    "Cursor",
    "Error",
    "EvidenceFound",
    "FinalityProofs",
    "Finalized",
    "GenesisDocument",
    "GetAddressUTXOs",
    "GetBlocks",
    "GetBudget",
    "GetEvidence",
    "GetFinalityProof",
    "GetFinalized",
    "GetGenesis",
    "GetInfo",
    "GetLease",
    "GetPeers",
    "GetTrace",
    "GetTransaction",
    "GetTransactions",
    "GetVotes",
    "Handshake",
    "HandshakeAck",
    "HostPort",
    "Info",
    "ItemState",
    "Items",
    "LeaseFilter",
    "Message",
    "MissingVoter",
    "Name",
    "Owner",
    "PaidOutput",
    "PeerAddress",
    "PeerInfo",
    "Peers",
    "Ping",
    "Pong",
    "Reason",
    "Reply",
    "Request",
    "RequestId",
    "Role",
    "StateChange",
    "StateCount",
    "Trace",
    "TraceRival",
    "TraceStage",
    "TraceStatus",
    "TransactionAccepted",
    "TransactionBroadcast",
    "TransactionCancel",
    "TransactionInfo",
    "TransactionStatus",
    "Transactions",
    "Trouble",
    "Txids",
    "UTXOStateNotification",
    "UTXOStateQuery",
    "UTXOStateResponse",
    "UTXOSubscribe",
    "UTXOSubscribed",
    "UTXOSubscriptionNotice",
    "UTXOUnsubscribe",
    "UTXOUnsubscribed",
    "UTXOWatermark",
    "Votes",
    "WaitsFor",
    "error_of",
    "reason_of",
    "senders_of",
]

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

ANSWERS: dict[type[Request], type[Reply]] = {
    Ping: Pong,
    TransactionBroadcast: TransactionAccepted,
    TransactionCancel: CancelAccepted,
    UTXOStateQuery: UTXOStateResponse,
    UTXOSubscribe: UTXOSubscribed,
    UTXOUnsubscribe: UTXOUnsubscribed,
    GetAddressUTXOs: AddressUTXOs,
    GetTransaction: TransactionInfo,
    GetTrace: Trace,
    GetFinalityProof: FinalityProofs,
    GetEvidence: EvidenceFound,
    GetGenesis: GenesisDocument,
    GetInfo: Info,
    GetBudget: Budget,
    GetTransactions: Transactions,
    GetVotes: Votes,
    GetFinalized: Finalized,
    GetBlocks: Blocks,
    GetPeers: Peers,
    GetLease: LeaseFilter,
}
"""What answers each request, if no :class:`Error` does."""

CATALOGUE: dict[str, type] = {cls.__name__: cls for cls in get_args(AnyMessage)}


_SENDERS = {cls: cls.senders if issubclass(cls, Message) else MASTERNODES for cls in CATALOGUE.values()}


def senders_of(message_type: type) -> frozenset[Role]:
    """The roles that may send this type. Votes are nouns that travel bare: only masternodes send them."""
    return _SENDERS[message_type]
