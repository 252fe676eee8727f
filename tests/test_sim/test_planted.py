"""The checkers can fail: each planted bug is found within a stated number of seeds, and gone when it is pulled out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from timeproto.errors import ConfigurationError
from timeproto.sim.planted import CATALOGUE, planted
from timeproto.sim.run import Plan, simulate


class Planted(SynchronousTestCase):
    def look_for(self, name: str) -> None:
        """Some seed within the bound breaks one of the promises that the bug is about; none ends a node with an error,
        or it would be that which is found."""
        bug = CATALOGUE[name]
        others = []
        for seed in range(bug.seeds):
            with planted(name):
                broken = simulate(Plan(seed, bug.masternodes, bug.faults, seconds=bug.seconds)).broken
            if broken is not None and broken.promise in bug.promises:
                return
            if broken is not None:
                self.assertNotEqual(broken.promise, 0, f"{name} ends the node instead: {broken}")
                others.append(str(broken))
        self.fail(f"{name} was not found in {bug.seeds} seeds; found instead: {others}")

    def test_each_has_its_test(self) -> None:
        """No bug is planted that nobody looks for."""
        tests = {name.removeprefix("test_") for name in vars(type(self)) if name.startswith("test_")}
        self.assertEqual(set(CATALOGUE) - tests, set())

    def test_nothing_is_left_of_them(self) -> None:
        """After a bug was planted and pulled out the same seed runs as it did before."""
        before = simulate(Plan(0, 4))
        for name in CATALOGUE:
            with planted(name):
                pass
        self.assertEqual(simulate(Plan(0, 4)), before)

    def test_a_bug_that_does_not_exist(self) -> None:
        """A name that is none is refused, with those that there are."""
        refusal = self.assertRaises(ConfigurationError, planted, "no_such_bug")
        self.assertIn("quorum_off_by_one", str(refusal))

    def test_vote_before_durable(self) -> None:
        """A step's words leave before its commit."""
        self.look_for("vote_before_durable")

    def test_announce_before_durable(self) -> None:
        """Wallets are told before the commit."""
        self.look_for("announce_before_durable")

    def test_forget_votes(self) -> None:
        """A restart does not read the votes cast before."""
        self.look_for("forget_votes")

    def test_forget_words(self) -> None:
        """A restart does not read the words about blocks."""
        self.look_for("forget_words")

    def test_votes_not_kept(self) -> None:
        """The batch leaves, its record stays out of the change set."""
        self.look_for("votes_not_kept")

    def test_locks_in_memory(self) -> None:
        """A locked coin is written as Unspent."""
        self.look_for("locks_in_memory")

    def test_timers_on_wall_clock(self) -> None:
        """Timers run by a clock that somebody sets."""
        self.look_for("timers_on_wall_clock")

    def test_quorum_off_by_one(self) -> None:
        """Q - 1 votes make a certificate."""
        self.look_for("quorum_off_by_one")

    def test_simple_majority(self) -> None:
        """N/2 + 1 votes make a certificate."""
        self.look_for("simple_majority")

    def test_edge_triggered_quorum(self) -> None:
        """A quorum is acted on at the very vote that completes it."""
        self.look_for("edge_triggered_quorum")

    def test_count_signer_twice(self) -> None:
        """Each copy of a vote counts."""
        self.look_for("count_signer_twice")

    def test_one_round(self) -> None:
        """A lock certificate makes final."""
        self.look_for("one_round")

    def test_proof_unchecked(self) -> None:
        """A proof is believed by its size."""
        self.look_for("proof_unchecked")

    def test_batches_unverified(self) -> None:
        """Votes are believed unsigned."""
        self.look_for("batches_unverified")

    def test_trust_notifications(self) -> None:
        """A peer's word about a coin is taken."""
        self.look_for("trust_notifications")

    def test_partial_lock(self) -> None:
        """The first of several inputs is locked."""
        self.look_for("partial_lock")

    def test_release_on_timeout(self) -> None:
        """A lock ends after three seconds."""
        self.look_for("release_on_timeout")

    def test_act_on_abort_certificate(self) -> None:
        """An abort certificate frees coins without a block."""
        self.look_for("act_on_abort_certificate")

    def test_commit_after_abort(self) -> None:
        """Who aborted still commits."""
        self.look_for("commit_after_abort")

    def test_abort_after_commit(self) -> None:
        """Who committed still aborts."""
        self.look_for("abort_after_commit")

    def test_abort_unasked(self) -> None:
        """What nobody contests is aborted too."""
        self.look_for("abort_unasked")

    def test_fee_from_the_senders_field(self) -> None:
        """Inputs and outputs are not summed."""
        self.look_for("fee_from_the_senders_field")

    def test_value_disappears(self) -> None:
        """A payment's second output is not made."""
        self.look_for("value_disappears")

    def test_evidence_against_resender(self) -> None:
        """A lock vote and a commit vote pass for a double vote."""
        self.look_for("evidence_against_resender")

    def test_evidence_across_a_release(self) -> None:
        """Who locks a freed coin again is accused."""
        self.look_for("evidence_across_a_release")

    def test_unbounded_orphans(self) -> None:
        """No transaction that waits is ever pushed out."""
        self.look_for("unbounded_orphans")

    def test_sign_after_block(self) -> None:
        """Votes cast before a block are signed at its height."""
        self.look_for("sign_after_block")

    def test_skip_tendermint_lock(self) -> None:
        """A lock on a block binds nobody."""
        self.look_for("skip_tendermint_lock")

    def test_block_quorum_off_by_one(self) -> None:
        """Q - 1 prevotes make a polka."""
        self.look_for("block_quorum_off_by_one")

    def test_unordered_iteration(self) -> None:
        """A block's transactions come in a set's order."""
        self.look_for("unordered_iteration")

    def test_unfinal_in_block(self) -> None:
        """A block may hold what is not final."""
        self.look_for("unfinal_in_block")

    def test_commitment_unchecked(self) -> None:
        """A block's figures are not made again."""
        self.look_for("commitment_unchecked")

    def test_any_subsidy(self) -> None:
        """Nobody asks whether a subsidy is due."""
        self.look_for("any_subsidy")

    def test_far_future_block(self) -> None:
        """A block's time is not compared with the clock."""
        self.look_for("far_future_block")

    def test_commit_unchecked(self) -> None:
        """A decided block is believed without its votes."""
        self.look_for("commit_unchecked")

    def test_words_dropped_while_not_voting(self) -> None:
        """A round goes on though its words cannot be signed."""
        self.look_for("words_dropped_while_not_voting")

    def test_second_verdict(self) -> None:
        """A block may give a verdict on what is decided."""
        self.look_for("second_verdict")

    def test_rivals_outlive_a_block(self) -> None:
        """A block leaves rivals of its transactions as they are."""
        self.look_for("rivals_outlive_a_block")

    def test_rest_of_a_block_forgotten(self) -> None:
        """A restart leaves what the last block did not mark Confirmed as it is."""
        self.look_for("rest_of_a_block_forgotten")
