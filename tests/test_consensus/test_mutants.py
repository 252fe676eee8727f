"""The checks can fail: each planted fault is caught by the random runs within a stated number of seeds."""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Node
from tests.cut_store import PowerCut
from tests.test_consensus.ordeal import Broken
from tests.test_consensus.test_ordeals import run
from timeproto.consensus import evidence, own_votes, verifier
from timeproto.consensus.ballot import Ballot
from timeproto.consensus.gossip import Gossip
from timeproto.consensus.payments import Standing
from timeproto.consensus.utxo_state_manager import UTXOStateManager
from timeproto.consensus.verifier import Verifier
from timeproto.consensus.vote_set import VoteSet
from timeproto.model.ledger import Changes
from timeproto.model.utxo_state import Locked
from timeproto.model.vote import VoteKind

SEEDS = 12
"""Runs that each mutant has until it must be caught; most need one."""


class Mutants(SynchronousTestCase):
    def caught(self, *invariants: str, liars: int | None = 0) -> None:
        """Some run breaks one of ``invariants``."""
        others = []
        for seed in range(2_000, 2_000 + SEEDS):
            try:
                run(seed, liars=liars, steps=40)
            except Broken as broken:
                if any(each in str(broken) for each in invariants):
                    return
                others.append(str(broken))
        self.fail(f"not caught in {SEEDS} runs: {others}")

    def test_a_quorum_too_small_by_one(self) -> None:
        """Commit votes on q - 1 lock votes (mutant 4)."""
        self.patch(VoteSet, "has_quorum", lambda self, kind: self.count(kind) >= self._masternodes.quorum - (kind == 1))
        self.caught("I-5")

    def test_finality_on_too_few_commits(self) -> None:
        """A proof of q - 1 votes (mutant 4)."""
        self.patch(VoteSet, "has_quorum", lambda self, kind: self.count(kind) >= self._masternodes.quorum - (kind == 2))
        proof = VoteSet.proof

        def short(votes: Any) -> Any:
            few = VoteSet(votes.txid, _Smaller(votes._masternodes))  # type: ignore[arg-type]
            few._votes = votes._votes
            return proof(few)

        self.patch(VoteSet, "proof", short)
        self.caught("I-5")

    def test_one_voter_counted_twice(self) -> None:
        """Every copy of a vote counts (mutant 5)."""
        copies: Counter[Any] = Counter()
        add, count = VoteSet.add, VoteSet.count

        def greedy(votes: Any, kind: Any, voter: str, batch: Any) -> bool:
            news = add(votes, kind, voter, batch)
            copies[id(votes), kind] += not news
            return True

        self.patch(VoteSet, "add", greedy)
        self.patch(VoteSet, "count", lambda self, kind: count(self, kind) + copies[id(self), kind])
        self.patch(VoteSet, "proof", lambda self: (_ for _ in ()).throw(Broken("I-5: no proof of so few")))
        self.caught("I-5")

    def test_a_commit_vote_without_a_lock_certificate(self) -> None:
        """Commits on the first lock vote it sees."""
        has = VoteSet.has_quorum
        self.patch(VoteSet, "has_quorum", lambda self, kind: self.count(kind) >= 1 if kind == 1 else has(self, kind))
        self.caught("I-5")

    def test_a_part_of_the_inputs_locked(self) -> None:
        """Locks the first coin of two (mutant 8)."""

        def partly(manager: Any, tx: Any, now: int) -> Any:
            return [manager.lock_utxo(tx.outpoints[0], tx.txid, now)]

        self.patch(UTXOStateManager, "process_transaction", partly)
        self.caught("I-8")

    def test_a_lock_released_by_a_timer(self) -> None:
        """What is locked for three ticks is let go (mutant 2)."""
        tick = Gossip.tick

        def impatient(gossip: Any) -> None:
            finality = gossip._finality
            for payment in finality.payments:
                if payment.standing is Standing.LOCKED and payment.born + 2 < finality.tick and not payment.cast_commit:
                    for outpoint in payment.tx.outpoints:
                        finality.manager.unlock_utxo(outpoint, payment.txid, finality.turn.now)
                    finality.payments.drop(payment)
            tick(gossip)

        self.patch(Gossip, "tick", impatient)
        self.caught("I-9")

    def test_a_vote_sent_before_its_commit(self) -> None:
        """What a step decided is on the wire when the power fails in its commit (mutant 1)."""
        step = Node.step

        def hasty(node: Any, inputs: Any, now: int) -> Any:
            replica = node.replica
            decide, decided = replica.step, []

            def remember(*given: Any) -> Any:
                decided.append(decide(*given))
                return decided[-1]

            replica.step = remember
            try:
                return step(node, inputs, now)
            except PowerCut as cut:
                cut.leaked = decided[-1]  # type: ignore[attr-defined]
                raise
            finally:
                del replica.step

        self.patch(Node, "step", hasty)
        self.caught("I-3")

    def test_votes_forgotten_at_the_restart(self) -> None:
        """The next life does not read what the last one signed, and signs again (mutant 3)."""
        self.patch(own_votes, "recall", lambda finality, record: None)
        self.caught("I-2")

    def test_votes_sent_but_not_kept(self) -> None:
        """The batch leaves, its record does not become part of the change set (mutant 1)."""
        sign = Ballot.sign

        def careless(ballot: Any, height: int, turn: Any) -> None:
            sign(ballot, height, turn)
            turn.own_votes.clear()

        self.patch(Ballot, "sign", careless)
        self.caught("I-3")

    def test_locks_kept_in_memory_only(self) -> None:
        """A Locked coin is Unspent again after a restart (A-6 of the original)."""
        take = UTXOStateManager.take_changes

        def volatile(manager: Any, **counts: int) -> Changes:
            changes = take(manager, **counts)
            for outpoint, coin in list(changes.coins.items()):
                if isinstance(coin.state, Locked):
                    del changes.coins[outpoint]
            return changes

        self.patch(UTXOStateManager, "take_changes", volatile)
        self.caught("I-2", "I-8", "I-10", "I-16", "does not vote")

    def test_value_that_disappears(self) -> None:
        """The last output of a payment is not made (mutant 9)."""
        create = UTXOStateManager._create

        def forgetful(manager: Any, outpoint: Any, output: Any, txid: str, now: int) -> Any:
            return None if outpoint.vout == 1 else create(manager, outpoint, output, txid, now)

        self.patch(UTXOStateManager, "_create", forgetful)
        self.caught("I-7")

    def test_batches_believed_unverified(self) -> None:
        """Forged votes are counted: liars make certificates of honest names (mutant 7)."""
        self.patch(Verifier, "_good_batch", lambda self, batch, faults: batch)
        self.caught("I-5", "I-14", "does not vote", liars=None)

    def test_proofs_believed_unchecked(self) -> None:
        """A liar's proof of too few votes is taken for finality (mutant 7)."""
        self.patch(verifier, "check_proof", lambda proof, masternodes, genesis_hash: None)
        self.caught("I-5", liars=None)

    def test_the_honest_accused(self) -> None:
        """A lock vote for the loser and a commit vote for the winner taken for a double vote (mutant 24)."""
        signed = VoteSet.signed

        def any_vote(votes: Any, kind: Any, voter: str) -> Any:
            return signed(votes, kind, voter) or signed(votes, VoteKind.COMMIT, voter)

        find = evidence.find_evidence

        def careless(*given: Any) -> Any:
            self.patch(VoteSet, "signed", any_vote)
            try:
                return find(*given)
            finally:
                self.patch(VoteSet, "signed", signed)

        self.patch(evidence, "find_evidence", careless)
        self.caught("I-13", liars=None)


class _Smaller:
    """A masternode set whose quorum is one too small."""

    def __init__(self, masternodes: Any) -> None:
        self._masternodes = masternodes
        self.quorum = masternodes.quorum - 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._masternodes, name)
