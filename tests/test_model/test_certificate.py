"""Finality proofs: q different masternodes of this set, each with a valid commit vote for this transaction."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, MASTERNODES, STRANGER, VOTERS, proof_of, replace
from timeproto.errors import ErrorCode, Refusal
from timeproto.model import certificate, keys
from timeproto.model.certificate import FinalityProof, check_proof, keep
from timeproto.model.keys import Remembered
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.vote import VoteKind
from timeproto.wire import codec
from timeproto.wire.messages import FinalityProofs

A, B, C = ("aa" * 32, "bb" * 32, "cc" * 32)
OTHER = "11" * 32
ORDER = 2**252 + 27742317777372353535851937790883648493


class Proofs(SynchronousTestCase):
    def setUp(self) -> None:
        self.verified = 0

        def counting(*arguments: Any) -> bool:
            self.verified += 1
            return real(*arguments)

        real = certificate.verify
        self.patch(certificate, "verify", counting)
        self.known = Remembered(100)
        for seen in (proof_of(A, VOTERS), proof_of(A, VOTERS, beside=[B, C]), proof_of(B, VOTERS)):
            check_proof(seen, MASTERNODES, GENESIS.hash, self.known)

    def holds(self, proof: FinalityProof) -> None:
        self.assertIsNone(check_proof(proof, MASTERNODES, GENESIS.hash))
        self.assertIsNone(check_proof(proof, MASTERNODES, GENESIS.hash, self.known))

    def refused(self, proof: FinalityProof, masternodes: MasternodeSet = MASTERNODES) -> str:
        error = self.assertRaises(Refusal, check_proof, proof, masternodes, GENESIS.hash)
        self.assertEqual(error.code, ErrorCode.BAD_PROOF)
        self.assertEqual(error.details, {"txid": proof.txid})
        again = self.assertRaises(Refusal, check_proof, proof, masternodes, GENESIS.hash, self.known)
        self.assertEqual(again.message, error.message)  # whoever saw good proofs with the same signatures says the same
        return error.message

    def test_any_quorum_proves(self) -> None:
        """Five, six or seven of seven, whoever they are and whatever else they voted on in that turn."""
        for voters in (VOTERS[:5], VOTERS[2:], VOTERS[:6], VOTERS):
            self.holds(proof_of(A, voters))
            self.holds(proof_of(A, voters, beside=[B, C]))

    def test_one_short_of_a_quorum(self) -> None:
        """q - 1 valid votes prove nothing, and not one of them is verified to say so."""
        self.assertIn("4 votes of the 5 needed", self.refused(proof_of(A, VOTERS[:4])))
        self.assertEqual(self.verified, 0)

    def test_a_masternode_counts_once(self) -> None:
        """The same vote twice, or another valid vote of the same masternode: refused."""
        votes = proof_of(A, VOTERS[:4]).votes
        again = proof_of(A, VOTERS[:1], beside=[B]).votes
        for extra in (votes[0], again[0]):
            self.assertIn("counted twice", self.refused(FinalityProof(A, MASTERNODES.hash, (*votes, extra))))
        self.assertEqual(self.verified, 0)

    def test_another_spelling_of_a_key_is_no_member(self) -> None:
        """Upper-case hex can neither come nor be made, so that no masternode counts twice by it."""
        vote = proof_of(A, VOTERS[:1]).votes[0]
        self.assertRaises(ValueError, replace, vote, voter=vote.voter.upper())

    def test_a_malleated_signature_is_invalid(self) -> None:
        """S + L is the same number to a careless verifier; it makes no vote here."""
        proof = proof_of(A)
        raw = bytes.fromhex(proof.votes[0].signature)
        high = (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
        malleated = replace(proof.votes[0], signature=(raw[:32] + high).hex())
        self.refused(replace(proof, votes=(malleated, *proof.votes[1:])))

    def test_a_stranger_does_not_count(self) -> None:
        """A perfectly signed vote of somebody outside the set spoils the proof before any verification."""
        self.assertIn("not a masternode", self.refused(proof_of(A, [*VOTERS[:5], STRANGER])))
        self.assertEqual(self.verified, 0)

    def test_a_member_of_another_set_does_not_count(self) -> None:
        """Votes counted in another set, or a proof checked against another set, prove nothing."""
        smaller = MasternodeSet(voter.public_hex for voter in VOTERS[:6])
        self.assertIn("another masternode set", self.refused(proof_of(A), smaller))
        self.assertIn("another masternode set", self.refused(proof_of(A, set_hash=smaller.hash)))
        relabelled = replace(proof_of(A, set_hash=smaller.hash), set=MASTERNODES.hash)
        self.refused(relabelled)

    def test_one_vote_for_another_transaction(self) -> None:
        """Four votes for A and a valid one for B do not make five, nor does a proof of A prove B."""
        votes = (*proof_of(A, VOTERS[:4]).votes, *proof_of(B, VOTERS[4:5]).votes)
        self.refused(FinalityProof(A, MASTERNODES.hash, votes))
        self.refused(replace(proof_of(A), txid=B))

    def test_other_kinds_of_vote(self) -> None:
        """Lock votes are a lock certificate, and abort votes the opposite: neither is finality."""
        for kind in (VoteKind.LOCK, VoteKind.ABORT):
            self.refused(proof_of(A, kind=kind))

    def test_another_network(self) -> None:
        """The same masternodes on another network prove nothing here."""
        self.refused(proof_of(A, genesis_hash=OTHER))

    def test_every_field_of_a_vote_counts(self) -> None:
        """Change height, index, size, path, signature or voter of one vote, and the proof fails."""
        proof = proof_of(A, beside=[B, C])
        vote = proof.votes[0]
        for changed in (
            replace(vote, height=1),
            replace(vote, index=vote.index + 1),
            replace(vote, size=0),
            replace(vote, size=vote.index),
            replace(vote, size=1000),
            replace(vote, path=vote.path[::-1]),
            replace(vote, path=vote.path[:-1]),
            replace(vote, path=(*vote.path, A)),
            replace(vote, path=()),
            replace(vote, signature="00" * 64),
            replace(vote, signature=proof.votes[1].signature),
        ):
            self.refused(replace(proof, votes=(changed, *proof.votes[1:])))

    def test_an_endless_proof_costs_nothing(self) -> None:
        """A million votes are refused by their number, without one verification; the wire refuses them earlier."""
        vote = proof_of(A, VOTERS[:1]).votes[0]
        self.assertIn("counted twice", self.refused(FinalityProof(A, MASTERNODES.hash, (vote,) * 10**6)))
        self.assertEqual(self.verified, 0)
        too_many = FinalityProof(A, MASTERNODES.hash, (vote,) * 257)
        self.assertRaises(Refusal, codec.decode, codec.encode(FinalityProofs(proofs=(too_many,))))

    def test_a_signature_is_checked_once(self) -> None:
        """Of two payments in the same batches, the second costs no signature check where those are remembered."""
        checked: list[bytes] = []
        self.patch(keys, "verify", lambda key, message, signature: checked.append(signature) or True)
        known = Remembered(10)
        for txid in (A, B):
            proof = proof_of(txid, beside={A, B} - {txid})
            check_proof(proof, MASTERNODES, GENESIS.hash, known)
            self.assertEqual(checked, [bytes.fromhex(vote.signature) for vote in proof.votes])

    def test_every_text_of_a_vote_is_lower_case_hex(self) -> None:
        """A voter, a node of a path or a signature in other letters, or of another length, never decodes."""
        proof = proof_of(A, beside=[B, C])
        vote = proof.votes[0]
        for name, texts in (("voter", (vote.voter,)), ("path", vote.path), ("signature", (vote.signature,))):
            good = f'"{texts[-1]}"'.encode()
            payload = codec.encode(FinalityProofs(proofs=(proof,)))
            self.assertEqual(codec.decode(payload), FinalityProofs(proofs=(proof,)))
            for bad in ("F" + texts[-1][1:], "\u0660" + texts[-1][1:], texts[-1][1:], texts[-1] + "0"):
                error = self.assertRaises(Refusal, codec.decode, payload.replace(good, f'"{bad}"'.encode(), 1))
                self.assertIn(name, error.message)

    def test_no_votes(self) -> None:
        """An empty proof proves nothing."""
        self.refused(FinalityProof(A, MASTERNODES.hash, ()))

    def test_the_first_bad_vote_ends_it(self) -> None:
        """A proof costs at most one verification for each masternode and, one by one, no more after a bad one."""
        proof = proof_of(A, VOTERS)
        self.refused(replace(proof, votes=(replace(proof.votes[0], height=9), *proof.votes[1:])))
        self.assertEqual(self.verified, 1)

    def test_one_masternode_alone(self) -> None:
        """A set of one is its own quorum."""
        alone = MasternodeSet([VOTERS[0].public_hex])
        check_proof(proof_of(A, VOTERS[:1], set_hash=alone.hash), alone, GENESIS.hash)

    def test_a_kept_proof_is_the_same_proof(self) -> None:
        """Whatever it looks like, it is sent as it was made or came, field for field."""
        for beside in ((), (B,), (B, C), tuple(f"{number:064x}" for number in range(70))):
            proof = proof_of(A, beside=beside)
            self.assertEqual(keep(proof).spelled(A), proof)
            self.holds(keep(proof).spelled(A))
            self.refused(keep(proof).spelled(B))
