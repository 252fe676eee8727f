"""Vote batches: every byte of them is signed, for one network, one set, one height and one kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, MASTERNODES, STRANGER, VOTERS, batch, replace
from timeproto.model.canonical import domain
from timeproto.model.certificate import signed_vote, vote_is_valid
from timeproto.model.merkle import leaf_hash, root_from_path
from timeproto.model.transaction import sighash
from timeproto.model.vote import VoteBatch, VoteKind, sign_batch, vote_leaf, vote_message

A, B, C, D = ("aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32)
OTHER = "11" * 32
TXIDS = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=6, unique=True)


class Batches(SynchronousTestCase):
    def test_a_signed_batch_verifies(self) -> None:
        """On its own network, and only there."""
        signed = batch(lock=[A], commit=[B])
        self.assertTrue(signed.verify(GENESIS.hash))
        self.assertFalse(signed.verify(OTHER))

    def test_every_field_is_signed(self) -> None:
        """Exchange any field and the signature fails."""
        signed = batch(lock=[A, B], commit=[B, C], abort=[C])
        changed = [
            replace(signed, voter=VOTERS[1].public_hex),
            replace(signed, set=OTHER),
            replace(signed, height=1),
            replace(signed, lock=(A,)),
            replace(signed, lock=(A, C)),
            replace(signed, lock=(A, B, C)),
            replace(signed, commit=(B,)),
            replace(signed, commit=(B, D)),
            replace(signed, abort=()),
            replace(signed, abort=(D,)),
            replace(signed, lock=signed.commit, commit=signed.lock),
            replace(signed, lock=(), commit=signed.commit, abort=signed.abort),
            replace(signed, signature="00" * 64),
            replace(signed, signature=signed.signature[:-2] + ("00" if signed.signature[-2:] != "00" else "01")),
        ]
        self.assertEqual([each for each in changed if each.verify(GENESIS.hash)], [])

    def test_moving_a_vote_to_another_kind_fails(self) -> None:
        """The same txids under another kind are other leaves."""
        signed = batch(lock=[A])
        for moved in (replace(signed, lock=(), commit=(A,)), replace(signed, lock=(), abort=(A,))):
            self.assertFalse(moved.verify(GENESIS.hash))

    def test_votes_are_strictly_ascending(self) -> None:
        """There is one order of votes, and no vote twice."""
        for lists in ({"lock": (B, A)}, {"commit": (A, A)}, {"abort": (A, C, B)}):
            fields: dict[str, tuple[str, ...]] = {"lock": (), "commit": (), "abort": ()} | lists
            self.assertRaises(ValueError, VoteBatch, VOTERS[0].public_hex, MASTERNODES.hash, 0,
                              signature="0" * 128, **fields)

    def test_an_empty_batch_is_refused(self) -> None:
        """Nothing is signed without saying something."""
        self.assertRaises(ValueError, batch)

    def test_height_is_bounded(self) -> None:
        """2^64 is no height."""
        self.assertRaises(ValueError, sign_batch, VOTERS[0], GENESIS.hash, MASTERNODES.hash, 2**64, lock=[A])

    def test_signing_is_deterministic_and_orders(self) -> None:
        """The same votes in any order give the same bytes: served again, the vote is the vote."""
        self.assertEqual(batch(lock=[B, A], commit=[C]), batch(lock=[A, B], commit=[C]))

    @given(TXIDS, TXIDS, TXIDS)
    def test_each_vote_is_proved_alone(self, lock: list[str], commit: list[str], abort: list[str]) -> None:
        """Leaf, path and signature prove each vote of a batch, as its own kind and no other."""
        if not (lock or commit or abort):
            return
        signed = batch(lock=lock, commit=commit, abort=abort)
        leaves = list(signed.votes())
        self.assertEqual(len(leaves), signed.tree.size)
        for index, (kind, txid) in enumerate(leaves):
            self.assertEqual(signed.index(kind, txid), index)
            vote = signed_vote(signed, index)
            path = [bytes.fromhex(node) for node in vote.path]
            self.assertEqual(root_from_path(leaf_hash(vote_leaf(kind, txid)), index, vote.size, path), signed.tree.root)
            for other in VoteKind:
                valid = vote_is_valid(vote, other, txid, MASTERNODES.hash, GENESIS.hash)
                self.assertEqual(valid, other is kind)

    def test_a_vote_that_is_not_there(self) -> None:
        """Asking a batch for a vote it does not hold is an error."""
        signed = batch(lock=[A, C], commit=[B])
        for kind, txid in ((VoteKind.LOCK, B), (VoteKind.COMMIT, A), (VoteKind.ABORT, A), (VoteKind.LOCK, D)):
            self.assertRaises(ValueError, signed.index, kind, txid)


class Domains(SynchronousTestCase):
    def test_a_vote_counts_for_one_network_set_height_and_kind(self) -> None:
        """Of all combinations of network, set, height and kind, a vote is valid in the one it was signed for."""
        networks, sets, heights = (GENESIS.hash, OTHER), (MASTERNODES.hash, OTHER), (0, 1)
        valid = []
        vote = signed_vote(batch(commit=[A]), 0)
        for network in networks:
            for set_hash in sets:
                for height in heights:
                    for kind in VoteKind:
                        if vote_is_valid(replace(vote, height=height), kind, A, set_hash, network):
                            valid.append((network, set_hash, height, kind))
        self.assertEqual(valid, [(GENESIS.hash, MASTERNODES.hash, 0, VoteKind.COMMIT)])

    def test_a_voter_is_the_one_who_signed(self) -> None:
        """A vote under somebody else's name is no vote."""
        vote = signed_vote(batch(commit=[A]), 0)
        for other in (VOTERS[1], STRANGER):
            renamed = replace(vote, voter=other.public_hex)
            self.assertFalse(vote_is_valid(renamed, VoteKind.COMMIT, A, MASTERNODES.hash, GENESIS.hash))

    def test_votes_are_not_payments(self) -> None:
        """What a vote signs begins differently from what a payment or a handshake signs."""
        message = vote_message(GENESIS.hash, MASTERNODES.hash, 0, bytes(32))
        self.assertTrue(message.startswith(domain("vote", GENESIS.hash)))
        self.assertFalse(message.startswith(domain("tx", GENESIS.hash)))
        self.assertEqual(len(sighash(b"", GENESIS.hash)), 32)
        self.assertNotEqual(len(message), 32)
