"""Counting votes: each voter once, nobody from outside, exactly q in a proof (protocol §4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import key
from timeproto.consensus.retained import Kept
from timeproto.consensus.vote_set import OwnBatch, VoteSet
from timeproto.errors import Refusal
from timeproto.model.certificate import check_proof, vote_is_valid
from timeproto.model.keys import SigningKey
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.vote import VoteKind, sign_batch

GENESIS_HASH = "0e" * 32
TXID, BESIDE = "ab" * 32, ["01" * 32, "fe" * 32]
KEYS = [key(number + 1) for number in range(7)]
SET = MasternodeSet(voter.public_hex for voter in KEYS)


def batch(voter: SigningKey, kind: VoteKind = VoteKind.COMMIT, *, height: int = 0) -> Kept:
    votes = {kind.name.lower(): [TXID, *BESIDE]}
    return Kept(sign_batch(voter, GENESIS_HASH, SET.hash, height, **votes))


class Counting(SynchronousTestCase):
    def test_each_voter_counts_once_however_often_he_speaks(self) -> None:
        """The same batch, another batch, another height: one vote, and the first copy stays (B-09)."""
        votes = VoteSet(TXID, SET)
        first = batch(KEYS[0])
        self.assertTrue(votes.add(VoteKind.COMMIT, KEYS[0].public_hex, first))
        for again in (first, batch(KEYS[0], height=5), batch(KEYS[0])):
            self.assertFalse(votes.add(VoteKind.COMMIT, KEYS[0].public_hex, again))
        self.assertEqual(votes.count(VoteKind.COMMIT), 1)
        self.assertEqual(list(votes.batches()), [first.signed])

    def test_strangers_do_not_exist(self) -> None:
        """A key outside the set adds nothing, is never listed, and has no vote to show (B-07)."""
        votes, stranger = VoteSet(TXID, SET), key(99)
        self.assertFalse(votes.add(VoteKind.LOCK, stranger.public_hex, batch(stranger, VoteKind.LOCK)))
        self.assertFalse(votes.add(VoteKind.LOCK, KEYS[0].public_hex.upper(), batch(KEYS[0], VoteKind.LOCK)))
        self.assertEqual(votes.voters(VoteKind.LOCK), [])
        self.assertFalse(votes.has(VoteKind.LOCK, stranger.public_hex))
        self.assertIsNone(votes.signed(VoteKind.LOCK, stranger.public_hex))

    def test_kinds_are_counted_apart(self) -> None:
        """Five lock votes are no commit vote."""
        votes = VoteSet(TXID, SET)
        for voter in KEYS[:5]:
            votes.add(VoteKind.LOCK, voter.public_hex, batch(voter, VoteKind.LOCK))
        self.assertTrue(votes.has_quorum(VoteKind.LOCK))
        self.assertFalse(votes.has_quorum(VoteKind.COMMIT))
        self.assertRaises(ValueError, votes.proof)

    @given(st.permutations(range(7)), st.integers(1, 7))
    def test_quorum_is_a_level_and_a_proof_has_exactly_q(self, order: list[int], n: int) -> None:
        """In any order of arrival and for any set: q votes make a proof of q that verifies, q - 1 none."""
        members = MasternodeSet(voter.public_hex for voter in KEYS[:n])
        votes = VoteSet(TXID, members)
        for number in order:
            if number >= n:
                continue
            voter = KEYS[number]
            self.assertEqual(votes.has_quorum(VoteKind.COMMIT), votes.count(VoteKind.COMMIT) >= members.quorum)
            signed = sign_batch(voter, GENESIS_HASH, members.hash, number, commit=[TXID, *BESIDE])
            votes.add(VoteKind.COMMIT, voter.public_hex, Kept(signed))
            if votes.count(VoteKind.COMMIT) < members.quorum:
                self.assertRaises(ValueError, votes.proof)
                continue
            proof = votes.proof().spelled(TXID)
            self.assertEqual(len(proof.votes), members.quorum)
            check_proof(proof, members, GENESIS_HASH)
            self.assertRaises(Refusal, check_proof, proof, members, "0f" * 32)

    def test_the_votes_of_all_make_one_proof_everywhere(self) -> None:
        """Who has heard everybody picks the same q, whatever came first: proofs compare equal."""
        forward, backward = VoteSet(TXID, SET), VoteSet(TXID, SET)
        for voter in KEYS:
            forward.add(VoteKind.COMMIT, voter.public_hex, batch(voter))
        for voter in reversed(KEYS):
            backward.add(VoteKind.COMMIT, voter.public_hex, batch(voter))
        self.assertEqual(forward.proof(), backward.proof())
        self.assertEqual([vote.voter.hex() for vote in forward.proof().votes], list(SET.keys[:5]))

    def test_what_is_not_signed_yet_counts_but_proves_nothing(self) -> None:
        """This replica's vote counts in its turn; no certificate is built before its signature."""
        votes, own = VoteSet(TXID, SET), OwnBatch()
        votes.add(VoteKind.COMMIT, KEYS[0].public_hex, own)
        for voter in KEYS[1:5]:
            votes.add(VoteKind.COMMIT, voter.public_hex, batch(voter))
        self.assertTrue(votes.has_quorum(VoteKind.COMMIT))
        self.assertRaises(ValueError, votes.proof)
        self.assertEqual(len(list(votes.batches())), 4)
        own.signed = batch(KEYS[0]).signed
        check_proof(votes.proof().spelled(TXID), SET, GENESIS_HASH)

    def test_one_vote_is_proved_alone(self) -> None:
        """A vote out of a batch of many carries its own proof, for its kind and txid only."""
        votes = VoteSet(TXID, SET)
        votes.add(VoteKind.LOCK, KEYS[2].public_hex, batch(KEYS[2], VoteKind.LOCK))
        signed = votes.signed(VoteKind.LOCK, KEYS[2].public_hex)
        assert signed is not None
        self.assertTrue(vote_is_valid(signed, VoteKind.LOCK, TXID, SET.hash, GENESIS_HASH))
        self.assertFalse(vote_is_valid(signed, VoteKind.COMMIT, TXID, SET.hash, GENESIS_HASH))
        self.assertFalse(vote_is_valid(signed, VoteKind.LOCK, BESIDE[0], SET.hash, GENESIS_HASH))
