"""Votes and vote batches (protocol §4).

A masternode signs one *batch* per turn, not one vote at a time: the signature covers the Merkle root over
all its votes, so any one vote can still be proved alone by (leaf, path, signature).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from enum import IntEnum
from functools import lru_cache
from hashlib import sha256 as _sha256
from operator import ge
from typing import Annotated

import msgspec
from msgspec import Meta

from timeproto import limits
from timeproto.model.canonical import U64, HalfHex32, HalfHex64, Noun, are_hex, domain, lazy, require_u64, u64
from timeproto.model.keys import SigningKey, verify
from timeproto.model.lanes import Signed
from timeproto.model.merkle import MerkleTree


class VoteKind(IntEnum):
    """The three votes, by the byte that opens their leaf."""

    LOCK = 1
    COMMIT = 2
    ABORT = 3


LOCK, COMMIT, ABORT = VoteKind
"""The same by names of their own: an enumeration looks up its members ten times as slowly (Python 3.11)."""

_PREFIX = {kind: bytes([kind]) for kind in VoteKind}
_LEAF = {kind: b"\x00" + prefix for kind, prefix in _PREFIX.items()}

Votes = Annotated[tuple[HalfHex32, ...], Meta(max_length=limits.BATCH_VOTES)]


def vote_leaf(kind: VoteKind, txid: str) -> bytes:
    """kind (one byte) ‖ txid (32 bytes)."""
    return _PREFIX[kind] + bytes.fromhex(txid)


@lru_cache(maxsize=limits.VOTE_LEAVES)
def leaf_hash_of(kind: VoteKind, txid: str) -> bytes:
    """The hash of a :func:`vote_leaf`: of n masternodes that vote alike all but the first find it here."""
    return _sha256(_LEAF[kind] + bytes.fromhex(txid)).digest()


def vote_message(genesis_hash: str, set_hash: str, height: int, root: bytes) -> bytes:
    """What the signature of a batch covers: domain "vote" ‖ set ‖ height u64 ‖ root."""
    return _of_set(genesis_hash, set_hash) + u64(height) + root


@lru_cache(maxsize=64)
def _of_set(genesis_hash: str, set_hash: str) -> bytes:
    return domain("vote", genesis_hash) + bytes.fromhex(set_hash)


class VoteBatch(Noun, frozen=True, dict=True, gc=True, tag="VoteBatch", tag_field="type"):
    """All votes of one masternode in one turn.

    ``set`` is the hash of the masternode set the votes count in, ``height`` the last decided block at the
    voter. The leaves are ``lock``, then ``commit``, then ``abort``, each list strictly ascending.

    ``{"type": "VoteBatch", "voter": hex32, "set": hex32, "height": 0, "lock": [hex32], "commit": [], "abort": [],
    "signature": hex64}``
    """

    voter: HalfHex32
    set: HalfHex32
    height: U64
    lock: Votes
    commit: Votes
    abort: Votes
    signature: HalfHex64

    def __post_init__(self) -> None:
        require_u64("height", self.height)
        if not are_hex((self.voter, self.set, self.signature, *self.lock, *self.commit, *self.abort)):
            raise ValueError(f"`{self._not_hex()}` is not lower-case hex")
        if not (self.lock or self.commit or self.abort):
            raise ValueError("a vote batch holds at least one vote")
        for votes in (self.lock, self.commit, self.abort):
            if len(votes) > 1 and any(map(ge, votes, votes[1:])):
                raise ValueError("the votes of a batch are strictly ascending")

    def _not_hex(self) -> str:
        """The first field that is not what all of them have to be."""
        texts = {"voter": (self.voter,), "set": (self.set,), "lock": self.lock, "commit": self.commit}
        texts |= {"abort": self.abort, "signature": (self.signature,)}
        return next(name for name, each in texts.items() if not are_hex(each))

    def votes(self) -> Iterator[tuple[VoteKind, str]]:
        """Every vote as (kind, txid), in the order of the leaves."""
        for kind, txids in self.lists():
            for txid in txids:
                yield kind, txid

    def index(self, kind: VoteKind, txid: str) -> int:
        """The place of a vote among the leaves; :class:`ValueError` if it is not in this batch."""
        if kind is COMMIT:
            start, txids = len(self.lock), self.commit
        elif kind is LOCK:
            start, txids = 0, self.lock
        else:
            start, txids = len(self.lock) + len(self.commit), self.abort
        at = bisect_left(txids, txid)
        if at == len(txids) or txids[at] != txid:
            raise ValueError(f"no {kind.name} vote for {txid} in this batch")
        return start + at

    def lists(self) -> tuple[tuple[VoteKind, tuple[str, ...]], ...]:
        """The votes by kind, in the order of the leaves."""
        return (LOCK, self.lock), (COMMIT, self.commit), (ABORT, self.abort)

    @lazy
    def raw_voter(self) -> bytes:
        """The voter as proofs keep it: made for the first of them, like the signature, and shared by all."""
        return bytes.fromhex(self.voter)

    @lazy
    def raw_signature(self) -> bytes:
        return bytes.fromhex(self.signature)

    @lazy
    def tree(self) -> MerkleTree:
        hashes = [leaf_hash_of(kind, txid) for kind, txids in self.lists() for txid in txids]
        return MerkleTree(hashes, hashed=True)

    def message(self, genesis_hash: str) -> bytes:
        return vote_message(genesis_hash, self.set, self.height, self.tree.root)

    def signed(self, genesis_hash: str) -> Signed:
        """What :meth:`verify` checks."""
        return bytes.fromhex(self.voter), self.message(genesis_hash), bytes.fromhex(self.signature)

    def verify(self, genesis_hash: str) -> bool:
        """One signature check for the whole batch. Membership of the voter is the caller's question."""
        return verify(*self.signed(genesis_hash))


def sign_batch(
    key: SigningKey,
    genesis_hash: str,
    set_hash: str,
    height: int,
    *,
    lock: Iterable[str] = (),
    commit: Iterable[str] = (),
    abort: Iterable[str] = (),
) -> VoteBatch:
    """A signed batch of the given txids. Deterministic: the same votes give the same bytes."""
    unsigned = VoteBatch(
        voter=key.public_hex,
        set=set_hash,
        height=height,
        lock=tuple(sorted(lock)),
        commit=tuple(sorted(commit)),
        abort=tuple(sorted(abort)),
        signature="0" * 128,
    )
    signature = key.sign(unsigned.message(genesis_hash)).hex()
    signed = msgspec.structs.replace(unsigned, signature=signature)
    signed.__dict__["tree"] = unsigned.tree  # the leaves are the same: hash them once
    return signed
