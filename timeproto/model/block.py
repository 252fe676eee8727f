"""Blocks: what they hold, what is hashed and signed, and how one of their entries is proved alone (protocol §5, §6).

A block lists transactions by txid: a signature is its owner's to vary, so two masternodes can hold one transaction
under two valid signatures, and a root over signatures would let any wallet keep them from agreeing. For the same
reason a verdict's certificate, which may name any quorum, stands beside the block and not under its hash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import address_of
from timeproto.model.canonical import (
    I64,
    U32,
    U64,
    Hex32,
    Hex64,
    Noun,
    domain,
    i64,
    require_u64,
    sha256d,
    u32,
    u64,
)
from timeproto.model.certificate import SignedVote, check_votes
from timeproto.model.keys import Remembered, SigningKey, checked_together, verify
from timeproto.model.lanes import Signed
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.merkle import MerkleTree, leaf_hash, root_from_path
from timeproto.model.transaction import (
    FINAL_SEQUENCE,
    NULL_OUTPOINT,
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    canonical_bytes,
    txid_of,
)
from timeproto.model.vote import VoteKind
from timeproto.params import NetworkParams

_MEMBER = struct.Struct("<IQI").pack

NO_BLOCK = "0" * 64

# -- what a block holds ------------------------------------------------------------------------------


class Verdict(Noun, frozen=True):
    """What becomes of a contested transaction, for ever: ``commit`` with a lock certificate, ``abort`` with an abort
    certificate.

    ``votes`` are q signed votes of that kind for ``txid``, of members of the block's masternode set.
    """

    kind: Literal["commit", "abort"]
    txid: Hex32
    votes: Annotated[tuple[SignedVote, ...], Meta(min_length=1, max_length=limits.MASTERNODES)]

    def check(self, masternodes: MasternodeSet, genesis_hash: str) -> None:
        """Returns if the certificate holds; raises :class:`Refusal` ``bad_proof`` saying why not."""
        if len(self.votes) > masternodes.quorum:
            raise Refusal(ErrorCode.BAD_PROOF, f"the verdict on {self.txid} has more votes than it needs")
        kind = VoteKind.LOCK if self.kind == "commit" else VoteKind.ABORT
        check_votes(self.votes, kind, self.txid, masternodes, genesis_hash)


class BlockHeader(Noun, frozen=True, dict=True, gc=True):
    """``timestamp`` in Unix milliseconds, ``root`` over :func:`leaves`, ``set`` the hash of the masternode set,
    ``commitment`` the MuHash3072 of the chain's unspent coins after this block."""

    height: U64
    parent: Hex32
    timestamp: I64
    proposer: Hex32
    round: U32
    root: Hex32
    set: Hex32
    commitment: Hex32

    def __post_init__(self) -> None:
        require_u64("height", self.height)

    @cached_property
    def canonical(self) -> bytes:
        """height u64 ‖ parent ‖ timestamp i64 ‖ proposer ‖ round u32 ‖ root ‖ set ‖ commitment."""
        parts = [u64(self.height), bytes.fromhex(self.parent), i64(self.timestamp), bytes.fromhex(self.proposer)]
        parts += (u32(self.round), bytes.fromhex(self.root), bytes.fromhex(self.set), bytes.fromhex(self.commitment))
        return b"".join(parts)

    def hash(self, genesis_hash: str) -> str:
        return sha256d(domain("block", genesis_hash) + self.canonical).hex()


class Block(Noun, frozen=True, dict=True, gc=True):
    """``transactions`` are txids, parents before children; ``verdicts`` in ascending order of txid.

    A transaction that a verdict commits is among ``transactions`` too.
    """

    header: BlockHeader
    coinbase: Transaction
    transactions: Annotated[tuple[Hex32, ...], Meta(max_length=limits.BLOCK_TRANSACTIONS)]
    verdicts: Annotated[tuple[Verdict, ...], Meta(max_length=limits.BLOCK_VERDICTS)]

    @cached_property
    def tree(self) -> MerkleTree:
        return MerkleTree(leaves(self.coinbase, self.transactions, self.verdicts))

    @property
    def is_whole(self) -> bool:
        """True if the body is the one that the header names: every entry, and the whole of the coinbase. What may
        differ under one hash are the certificates beside the verdicts alone."""
        coinbase = self.coinbase
        own = coinbase.txid == coinbase.computed_txid and not coinbase.signature
        return own and self.tree.root.hex() == self.header.root

    @property
    def aborted(self) -> Iterator[str]:
        return (verdict.txid for verdict in self.verdicts if verdict.kind == "abort")

    @property
    def committed(self) -> Iterator[str]:
        return (verdict.txid for verdict in self.verdicts if verdict.kind == "commit")

    def index(self, txid: str) -> int:
        """The leaf of a transaction in this block; :class:`ValueError` if it is in another."""
        if txid == self.coinbase.txid:
            return 0
        return 1 + self.transactions.index(txid)

    def verdict_index(self, txid: str) -> int:
        """The leaf of the verdict on a transaction; :class:`ValueError` if there is none."""
        at = next((at for at, verdict in enumerate(self.verdicts) if verdict.txid == txid), None)
        if at is None:
            raise ValueError(f"block {self.header.height} has no verdict on {txid}")
        return 1 + len(self.transactions) + at


def transaction_leaf(txid: str) -> bytes:
    return b"\x01" + bytes.fromhex(txid)


def verdict_leaf(kind: str, txid: str) -> bytes:
    return (b"\x02" if kind == "commit" else b"\x03") + bytes.fromhex(txid)


def leaves(coinbase: Transaction, transactions: Iterable[str], verdicts: Iterable[Verdict]) -> list[bytes]:
    """The coinbase, the transactions, the verdicts: a kind byte (1 transaction, 2 commit, 3 abort) ‖ txid."""
    found = [transaction_leaf(coinbase.txid), *map(transaction_leaf, transactions)]
    return found + [verdict_leaf(verdict.kind, verdict.txid) for verdict in verdicts]


def make_coinbase(height: int, amount: int, proposer: str, params: NetworkParams) -> Transaction:
    """The one transaction that mints: ``amount``, fees and subsidy, to the address of the proposer's key; one null
    input whose ``script_sig`` is the height (u64, filled up with zeroes), no signature."""
    outputs = (TxOutput(amount, address_of(bytes.fromhex(proposer), params)),) if amount else ()
    inputs = (TxInput(NULL_OUTPOINT, tuple(u64(height) + bytes(24)), FINAL_SEQUENCE),)
    return Transaction(txid_of(canonical_bytes(inputs, outputs, 0, 0)), inputs, outputs, 0, (), 0)


def coin_member(outpoint: Outpoint, output: TxOutput) -> bytes:
    """A coin as a member of the UTXO commitment: txid ‖ vout u32 ‖ amount u64 ‖ sized(address)."""
    address = output.address.encode("utf-8")
    return bytes.fromhex(outpoint.txid) + _MEMBER(outpoint.vout, output.amount, len(address)) + address


# -- what is signed about a block --------------------------------------------------------------------


class BlockVoteKind(StrEnum):
    PROPOSAL = "proposal"
    PREVOTE = "prevote"
    PRECOMMIT = "precommit"


class BlockVote(Noun, frozen=True, tag="BlockVote", tag_field="type"):
    """One signed word in the agreement on a block: ``block`` is its hash, null for "none in this round".

    ``valid_round`` is a proposal's: the round in which a quorum prevoted the block before, null if it is new.

    ``{"type": "BlockVote", "kind": "prevote", "voter": hex32, "set": hex32, "height": 1, "round": 0, "block": hex32,
    "valid_round": null, "signature": hex64}``
    """

    kind: BlockVoteKind
    voter: Hex32
    set: Hex32
    height: U64
    round: U32
    block: Hex32 | None
    valid_round: U32 | None
    signature: Hex64

    def __post_init__(self) -> None:
        require_u64("height", self.height)
        if self.valid_round is not None and (self.kind != "proposal" or self.valid_round >= self.round):
            raise ValueError("a valid round is a proposal's, and before its round")
        if self.kind == "proposal" and self.block is None:
            raise ValueError("a proposal names a block")

    def message(self, genesis_hash: str) -> bytes:
        """domain (the kind) ‖ set ‖ height u64 ‖ round u32 ‖ valid round + 1 (0 for none) u32 ‖ block or 32 zeroes."""
        numbers = u64(self.height) + u32(self.round)
        numbers += u32(0 if self.valid_round is None else self.valid_round + 1)
        block = bytes.fromhex(self.block or NO_BLOCK)
        return domain(self.kind, genesis_hash) + bytes.fromhex(self.set) + numbers + block

    def signed(self, genesis_hash: str) -> Signed:
        """What :meth:`verify` checks."""
        return bytes.fromhex(self.voter), self.message(genesis_hash), bytes.fromhex(self.signature)

    def verify(self, genesis_hash: str) -> bool:
        """One signature check. Membership of the voter is the caller's question."""
        return verify(*self.signed(genesis_hash))

    @property
    def place(self) -> tuple[int, int, str]:
        """(height, round, kind): nobody honest signs twice for one place."""
        return self.height, self.round, self.kind


def sign_block_vote(key: SigningKey, genesis_hash: str, unsigned: BlockVote) -> BlockVote:
    """``unsigned``, whatever its signature says, signed."""
    return msgspec.structs.replace(unsigned, signature=key.sign(unsigned.message(genesis_hash)).hex())


# -- what proves a block decided ---------------------------------------------------------------------


class Precommit(Noun, frozen=True):
    """One voter's signature under a commit; what it covers stands in the commit."""

    voter: Hex32
    signature: Hex64


class Commit(Noun, frozen=True):
    """q precommits of one round for one block: decided, for ever."""

    height: U64
    round: U32
    block: Hex32
    set: Hex32
    signatures: Annotated[tuple[Precommit, ...], Meta(min_length=1, max_length=limits.MASTERNODES)]

    def __post_init__(self) -> None:
        require_u64("height", self.height)

    def votes(self) -> Iterator[BlockVote]:
        for signed in self.signatures:
            place = self.set, self.height, self.round, self.block
            yield BlockVote(BlockVoteKind.PRECOMMIT, signed.voter, *place, None, signed.signature)


class DecidedBlock(Noun, frozen=True):
    block: Block
    commit: Commit


def check_commit(
    header: BlockHeader,
    commit: Commit,
    masternodes: MasternodeSet,
    genesis_hash: str,
    known: Remembered | None = None,
) -> None:
    """Returns if ``commit`` decides the block of ``header``; raises :class:`Refusal` ``bad_proof`` saying why not.

    ``known``: what was checked before, for those who are shown many entries of a block.
    """

    def bad(why: str) -> Refusal:
        return Refusal(ErrorCode.BAD_PROOF, f"block {header.height} is not shown to be decided: {why}")

    if commit.set != masternodes.hash or header.set != masternodes.hash:
        raise bad("it names another masternode set")
    if (commit.height, commit.block) != (header.height, header.hash(genesis_hash)):
        raise bad("its commit is for another block")
    voters = {signed.voter for signed in commit.signatures}
    if len(voters) != len(commit.signatures) or not all(voter in masternodes for voter in voters):
        raise bad("a voter is counted twice, or is not a masternode")
    if len(voters) < masternodes.quorum:
        raise bad(f"{len(voters)} votes of the {masternodes.quorum} needed")
    votes = list(commit.votes())
    every = [vote.signed(genesis_hash) for vote in votes]
    with checked_together(every if known is None else known.new(every)):
        is_valid = verify if known is None else known.verify
        for vote, signed in zip(votes, every, strict=True):
            if not is_valid(*signed):
                raise bad(f"the vote of {vote.voter} is not signed by it")


class InclusionProof(Noun, frozen=True):
    """One entry of a decided block, proved alone: leaf ``index`` of ``size`` under the header's root."""

    header: BlockHeader
    commit: Commit
    index: U32
    size: U32
    path: Annotated[tuple[Hex32, ...], Meta(max_length=limits.BLOCK_PATH)]


def inclusion_proof(decided: DecidedBlock, index: int) -> InclusionProof:
    tree = decided.block.tree
    path = tuple(node.hex() for node in tree.path(index))
    return InclusionProof(decided.block.header, decided.commit, index, tree.size, path)


def check_inclusion(
    proof: InclusionProof, leaf: bytes, masternodes: MasternodeSet, genesis_hash: str, known: Remembered | None = None
) -> None:
    """Returns if ``leaf`` (see :func:`leaves`) stands in a decided block; raises :class:`Refusal` ``bad_proof``.
    ``known``: as for :func:`check_commit`."""
    path = [bytes.fromhex(node) for node in proof.path]
    root = root_from_path(leaf_hash(leaf), proof.index, proof.size, path)
    if root is None or root.hex() != proof.header.root:
        raise Refusal(ErrorCode.BAD_PROOF, f"the entry does not stand in block {proof.header.height}")
    check_commit(proof.header, proof.commit, masternodes, genesis_hash, known)
