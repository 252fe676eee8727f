"""What masternodes say among themselves: transactions, votes, blocks, peers, and leases handed over."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from timeproto import limits
from timeproto.model.block import Block, BlockVote, DecidedBlock
from timeproto.model.canonical import U64, HalfHex32, Hex32, Noun, are_hex, require_u64
from timeproto.model.certificate import FinalityProof
from timeproto.model.transaction import AddressText, Outpoint, Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages.base import MASTERNODES, HostPort, Message, Name, Reply, Request, Role
from timeproto.wire.messages.subscriptions import Owner
from timeproto.wire.messages.transactions import TransactionCancel

Txids = Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=limits.FETCH)]


class GetTransactions(Request, frozen=True, kw_only=True):
    """``{"type": "GetTransactions", "txids": [hex32]}`` → ``Transactions`` with those the peer holds."""

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    txids: Txids


class Transactions(Reply, frozen=True, kw_only=True):
    """Transactions, asked for or relayed; for those that are final, their proofs.

    ``{"type": "Transactions", "transactions": [{…}], "proofs": [{…}]}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    transactions: Annotated[tuple[Transaction, ...], Meta(max_length=limits.FETCH)] = ()
    proofs: Annotated[tuple[FinalityProof, ...], Meta(max_length=limits.FETCH)] = ()


class GetVotes(Request, frozen=True, kw_only=True):
    """What the peer knows of these undecided transactions: → ``Votes``.

    With ``voter`` instead: all batches of that voter that concern transactions the peer holds undecided. A node
    asks this about itself before its first vote, and so learns of a vote it has forgotten (protocol §4).

    ``{"type": "GetVotes", "txids": [hex32], "voter": null}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
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

    senders: ClassVar[frozenset[Role]] = MASTERNODES
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

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    since: U64

    def __post_init__(self) -> None:
        require_u64("since", self.since)


class Finalized(Reply, frozen=True, kw_only=True):
    """Txids that became final at the sender, parents before children; ``next`` is where to go on, ``head``
    the sender's newest position.

    ``{"type": "Finalized", "txids": [hex32], "next": 1, "head": 1}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    txids: Annotated[tuple[HalfHex32, ...], Meta(max_length=limits.CATCH_UP_PAGE)]
    next: U64
    head: U64

    def __post_init__(self) -> None:
        require_u64("next", self.next)
        require_u64("head", self.head)
        if not are_hex(self.txids):
            raise ValueError("`txids` is not lower-case hex")


class BlockProposal(Message, frozen=True, kw_only=True):
    """A block proposed for its height, with the proposer's signed word; whoever holds it may hand it on.

    ``polka`` are the q prevotes of the vote's ``valid_round`` for it, none if it is new. They come along since those
    counted at the receiver may differ: a liar can prevote one thing here and another there.

    ``{"type": "BlockProposal", "vote": {…}, "block": {…}, "polka": []}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    vote: BlockVote
    block: Block
    polka: Annotated[tuple[BlockVote, ...], Meta(max_length=limits.MASTERNODES)] = ()


class GetBlocks(Request, frozen=True, kw_only=True):
    """The decided blocks after height ``since``: → ``Blocks``.

    ``{"type": "GetBlocks", "since": 0}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    since: U64

    def __post_init__(self) -> None:
        require_u64("since", self.since)


class Blocks(Reply, frozen=True, kw_only=True):
    """Decided blocks with their commits, in order of height, as many as fit; ``head`` is the sender's last height.

    ``{"type": "Blocks", "blocks": [{…}], "head": 1}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
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

    senders: ClassVar[frozenset[Role]] = MASTERNODES


class Peers(Reply, frozen=True, kw_only=True):
    """``{"type": "Peers", "peers": [{"node_key": hex32, "address": "127.0.0.1:24100"}]}``"""

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    peers: Annotated[tuple[PeerAddress, ...], Meta(max_length=limits.PEERS_PAGE)]


class GetLease(Request, frozen=True, kw_only=True):
    """A wallet that was the receiver's has come to the sender with its key: hand its lease over. ``owner`` is what the
    wallet signed for the sender, ``nonce`` what the sender had given it.

    ``{"type": "GetLease", "subscriber_id": "w1", "nonce": hex32,
    "owner": {"key": hex32, "time": 1700000000000, "signature": hex64, "filter": hex32}}`` → ``LeaseFilter``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    subscriber_id: Name
    nonce: Hex32
    owner: Owner


class LeaseFilter(Reply, frozen=True, kw_only=True):
    """What the lease watches; it is the sender's no more.

    ``{"type": "LeaseFilter", "outpoints": [{"txid": hex32, "vout": 0}], "addresses": ["TIME0…"]}``
    """

    senders: ClassVar[frozenset[Role]] = MASTERNODES
    outpoints: Annotated[tuple[Outpoint, ...], Meta(max_length=limits.FILTERS_CONNECTION)] = ()
    addresses: Annotated[tuple[AddressText, ...], Meta(max_length=limits.FILTERS_CONNECTION)] = ()
