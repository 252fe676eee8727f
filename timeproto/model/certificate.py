"""Certificates: q signed votes of one kind for one transaction, by one masternode set (protocol §4).

A :class:`FinalityProof` is a certificate of commit votes. It verifies offline, with nothing but the
masternode set and the genesis hash: this module is all a wallet needs to believe nobody. A masternode makes one of
every payment, and shows few of them to anybody: so what it makes and keeps is a :class:`KeptProof`, half as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import U32, U64, HalfHex32, HalfHex64, Hex32, Noun, are_hex, require_u64, texts
from timeproto.model.keys import Remembered, checked_together, verify
from timeproto.model.lanes import Signed
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.merkle import root_from_path
from timeproto.model.vote import VoteBatch, VoteKind, leaf_hash_of, vote_message


class SignedVote(Noun, frozen=True):
    """One vote, proved alone: leaf ``index`` of ``size`` in the batch ``voter`` signed at ``height``."""

    voter: HalfHex32
    height: U64
    index: U32
    size: U32
    path: Annotated[tuple[HalfHex32, ...], Meta(max_length=limits.PROOF_PATH)]
    signature: HalfHex64

    def __post_init__(self) -> None:
        require_u64("height", self.height)
        if not are_hex((self.voter, self.signature, *self.path)):
            raise ValueError(f"`{self._not_hex()}` is not lower-case hex")

    def _not_hex(self) -> str:
        """The first field that is not what all of them have to be."""
        texts = {"voter": (self.voter,), "path": self.path, "signature": (self.signature,)}
        return next(name for name, each in texts.items() if not are_hex(each))


class FinalityProof(Noun, frozen=True):
    """q commit votes for ``txid`` of members of the masternode set whose hash is ``set``."""

    txid: Hex32
    set: Hex32
    votes: Annotated[tuple[SignedVote, ...], Meta(min_length=1, max_length=limits.MASTERNODES)]


class KeptVote(Noun, frozen=True, array_like=True):
    """A :class:`SignedVote` with bytes for its hex, the nodes of its path end to end."""

    voter: bytes
    height: int
    index: int
    size: int
    path: bytes
    signature: bytes

    def spelled(self) -> SignedVote:
        """As it is sent."""
        voter, path, signature = self.voter.hex(), tuple(texts(self.path)), self.signature.hex()
        return SignedVote(voter, self.height, self.index, self.size, path, signature)


class KeptProof(Noun, frozen=True, array_like=True):
    """A :class:`FinalityProof` of the transaction beside it."""

    set: bytes
    votes: tuple[KeptVote, ...]

    def spelled(self, txid: str) -> FinalityProof:
        """As it is sent."""
        return FinalityProof(txid, self.set.hex(), tuple([vote.spelled() for vote in self.votes]))


def keep(proof: FinalityProof) -> KeptProof:
    return KeptProof(bytes.fromhex(proof.set), tuple(map(_kept, proof.votes)))


def _kept(vote: SignedVote) -> KeptVote:
    path, signature = bytes.fromhex("".join(vote.path)), bytes.fromhex(vote.signature)
    return KeptVote(bytes.fromhex(vote.voter), vote.height, vote.index, vote.size, path, signature)


def kept_vote(batch: VoteBatch, index: int) -> KeptVote:
    """Leaf ``index`` of ``batch`` with the path that proves it."""
    tree = batch.tree
    return KeptVote(batch.raw_voter, batch.height, index, tree.size, tree.packed_path(index), batch.raw_signature)


def signed_vote(batch: VoteBatch, index: int) -> SignedVote:
    """The same as it is sent."""
    return kept_vote(batch, index).spelled()


def signed_by(vote: SignedVote, leaf: bytes, set_hash: str, genesis_hash: str) -> Signed | None:
    """What ``vote.voter`` must have signed if its vote has this hash; None if the path leads nowhere."""
    root = root_from_path(leaf, vote.index, vote.size, [bytes.fromhex(node) for node in vote.path])
    if root is None:
        return None
    message = vote_message(genesis_hash, set_hash, vote.height, root)
    return bytes.fromhex(vote.voter), message, bytes.fromhex(vote.signature)


def vote_is_valid(
    vote: SignedVote, kind: VoteKind, txid: str, set_hash: str, genesis_hash: str
) -> bool:
    """True if ``vote.voter`` signed exactly this vote, for this set, on this network."""
    signed = signed_by(vote, leaf_hash_of(kind, txid), set_hash, genesis_hash)
    return signed is not None and verify(*signed)


def check_proof(
    proof: FinalityProof, masternodes: MasternodeSet, genesis_hash: str, known: Remembered | None = None
) -> None:
    """Returns if the proof holds; raises :class:`Refusal` ``bad_proof`` saying why not. ``known``: what was checked
    before, for those who are shown many proofs."""
    if proof.set != masternodes.hash:
        raise _bad(proof.txid, "it names another masternode set")
    check_votes(proof.votes, VoteKind.COMMIT, proof.txid, masternodes, genesis_hash, known=known)


def check_votes(
    votes: Sequence[SignedVote],
    kind: VoteKind,
    txid: str,
    masternodes: MasternodeSet,
    genesis_hash: str,
    *,
    known: Remembered | None = None,
) -> None:
    """Returns if ``votes`` are a certificate of ``kind`` for ``txid``; raises :class:`Refusal` ``bad_proof``.

    Sizes and names are compared before any signature is checked, so a worthless one costs nothing.
    """
    voters = {vote.voter for vote in votes}
    if len(voters) != len(votes):
        raise _bad(txid, "a masternode is counted twice")
    if not all(voter in masternodes for voter in voters):
        raise _bad(txid, "a voter is not a masternode")
    if len(voters) < masternodes.quorum:
        raise _bad(txid, f"{len(voters)} votes of the {masternodes.quorum} needed")
    leaf = leaf_hash_of(kind, txid)
    every = [signed_by(vote, leaf, masternodes.hash, genesis_hash) for vote in votes]
    ahead = [signed for signed in every if signed is not None]
    with checked_together(ahead if known is None else known.new(ahead)):
        is_valid = verify if known is None else known.verify
        for vote, signed in zip(votes, every, strict=True):
            if signed is None or not is_valid(*signed):
                raise _bad(txid, f"the vote of {vote.voter} is not signed by it for this transaction")


def _bad(txid: str, why: str) -> Refusal:
    return Refusal(ErrorCode.BAD_PROOF, f"the proof of {txid} does not hold: {why}", txid=txid)
