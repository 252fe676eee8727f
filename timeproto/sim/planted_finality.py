"""Bugs of payments: votes, certificates, locks, verdicts."""

from __future__ import annotations

from typing import Any

from timeproto.consensus import evidence, finality, own_votes, verifier
from timeproto.consensus.ballot import Ballot
from timeproto.consensus.contest import Contest
from timeproto.consensus.finality import Finality
from timeproto.consensus.gossip import Gossip
from timeproto.consensus.payments import Payments, Standing
from timeproto.consensus.refusals import aborted
from timeproto.consensus.utxo_state_manager import UTXOStateManager
from timeproto.consensus.verifier import Verifier
from timeproto.consensus.vote_set import VoteSet
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import KeptProof, KeptVote, kept_vote
from timeproto.model.ledger import Ending
from timeproto.model.utxo_state import Locked, SpentFinalized, from_wire
from timeproto.model.validation import check_context
from timeproto.model.vote import VoteKind
from timeproto.sim.grafting import Graft

LOCK, COMMIT, ABORT = VoteKind.LOCK, VoteKind.COMMIT, VoteKind.ABORT

# -- what is kept ------------------------------------------------------------------------------------


def forget_votes() -> list[Graft]:
    return [Graft(own_votes, "recall", lambda _: lambda finality: None)]


def votes_not_kept() -> list[Graft]:
    def make(sign: Any) -> Any:
        def careless(ballot: Any, height: int, turn: Any) -> None:
            sign(ballot, height, turn)
            turn.own_votes.clear()

        return careless

    return [Graft(Ballot, "sign", make)]


def locks_in_memory() -> list[Graft]:
    def make(take: Any) -> Any:
        def volatile(manager: Any, **counts: int) -> Any:
            changes = take(manager, **counts)
            changes.coins = {at: coin for at, coin in changes.coins.items() if not isinstance(coin.state, Locked)}
            return changes

        return volatile

    return [Graft(UTXOStateManager, "take_changes", make)]


# -- certificates ------------------------------------------------------------------------------------


def quorum_off_by_one() -> list[Graft]:
    def make(_: Any) -> Any:
        return lambda votes, kind: votes.count(kind) >= votes._masternodes.quorum - (kind is LOCK)

    return [Graft(VoteSet, "has_quorum", make)]


def simple_majority() -> list[Graft]:
    def make(_: Any) -> Any:
        return lambda votes, kind: votes.count(kind) >= len(votes._masternodes) // 2 + 1

    def short(_: Any) -> Any:
        def few(votes: Any, kind: VoteKind) -> tuple[KeptVote, ...]:
            signed = (carrier.signed for _, carrier in sorted(votes._votes[kind].items()))
            return tuple(kept_vote(batch, batch.index(kind, votes.txid)) for batch in signed if batch is not None)

        return few

    return [Graft(VoteSet, "has_quorum", make), Graft(VoteSet, "_certificate", short)]


def edge_triggered_quorum() -> list[Graft]:
    """Only a vote asks for its certificate, and only if it is the one that completes it."""

    def admit(original: Any) -> Any:
        def silent(self: Any, payment: Any) -> None:
            self._admitting = True
            original(self, payment)
            self._admitting = False

        return silent

    def weigh(original: Any) -> Any:
        def edge(self: Any, payment: Any) -> None:
            quorum = self.masternodes.quorum
            exact = any(payment.votes.count(kind) == quorum for kind in (LOCK, COMMIT))
            if not getattr(self, "_admitting", False) and (exact or payment.proof is not None):
                original(self, payment)

        return edge

    def has_quorum(_: Any) -> Any:
        return lambda votes, kind: votes.count(kind) == votes._masternodes.quorum

    return [
        Graft(Finality, "admit", admit), Graft(Finality, "_weigh", weigh), Graft(VoteSet, "has_quorum", has_quorum),
    ]


def count_signer_twice() -> list[Graft]:
    """Every copy counts, from whoever it comes."""
    copies: dict[tuple[int, VoteKind], tuple[Any, int]] = {}

    def add(original: Any) -> Any:
        def greedy(votes: Any, kind: VoteKind, voter: str, batch: Any) -> bool:
            if not original(votes, kind, voter, batch):
                _, count = copies.get((id(votes), kind), (votes, 0))
                copies[id(votes), kind] = votes, count + 1
            return True

        return greedy

    def count(original: Any) -> Any:
        def inflated(votes: Any, kind: VoteKind) -> int:
            extra = copies.get((id(votes), kind), (None, 0))[1] if kind is LOCK else 0
            return int(original(votes, kind)) + extra

        return inflated

    def has_quorum(_: Any) -> Any:
        return lambda votes, kind: votes.count(kind) >= votes._masternodes.quorum

    return [Graft(VoteSet, "add", add), Graft(VoteSet, "count", count), Graft(VoteSet, "has_quorum", has_quorum)]


def one_round() -> list[Graft]:
    def has_quorum(original: Any) -> Any:
        return lambda votes, kind: original(votes, LOCK if kind is COMMIT else kind)

    def proof(_: Any) -> Any:
        return lambda votes: KeptProof(votes._masternodes.raw_hash, votes._certificate(LOCK))

    return [Graft(VoteSet, "has_quorum", has_quorum), Graft(VoteSet, "proof", proof)]


def proof_unchecked() -> list[Graft]:
    def make(_: Any) -> Any:
        def by_its_size(proof: Any, masternodes: Any, genesis_hash: str) -> None:
            if len({vote.voter for vote in proof.votes}) < masternodes.quorum:
                raise Refusal(ErrorCode.BAD_PROOF, "too small")

        return by_its_size

    return [Graft(verifier, "check_proof", make)]


def batches_unverified() -> list[Graft]:
    return [Graft(Verifier, "_good_batch", lambda _: lambda self, batch, faults: batch)]


def trust_notifications() -> list[Graft]:
    def make(original: Any) -> Any:
        def credulous(gossip: Any, message: Any, sender: str) -> None:
            original(gossip, message, sender)
            state = from_wire(message.notification.new_state)
            if isinstance(state, SpentFinalized):
                payment = gossip._finality.payments.get(state.txid)
                if payment is not None and payment.tx is not None:
                    gossip._finality.finish(payment, None, state.votes)

        return credulous

    return [Graft(Gossip, "hear_hint", make)]


# -- locks, releases, verdicts -----------------------------------------------------------------------


def partial_lock() -> list[Graft]:
    def make(_: Any) -> Any:
        return lambda manager, tx, now: [manager.lock_utxo(tx.outpoints[0], tx.txid, now)]

    return [Graft(UTXOStateManager, "process_transaction", make)]


def release_on_timeout() -> list[Graft]:
    def make(tick: Any) -> Any:
        def impatient(gossip: Any) -> None:
            known = gossip._finality
            for payment in known.payments:
                late = payment.born + 2 < known.tick and not payment.cast_commit
                if payment.standing is Standing.LOCKED and late:
                    known.manager.release_transaction(payment.tx, known.turn.now)
                    known.payments.drop(payment)
            tick(gossip)

        return impatient

    return [Graft(Gossip, "tick", make)]


def act_on_abort_certificate() -> list[Graft]:
    def make(tick: Any) -> Any:
        def hasty(contest: Any) -> None:
            tick(contest)
            known = contest._finality
            known.settle()
            for payment in known.payments.contested:
                if payment.votes.has_quorum(ABORT) and payment.tx is not None:
                    known.manager.release_transaction(payment.tx, known.turn.now)
                    known.payments.refuse(payment, aborted(payment.txid, Ending(known.height)))

        return hasty

    return [Graft(Contest, "tick", make)]


def commit_after_abort() -> list[Graft]:
    def make(weigh: Any) -> Any:
        def forgetful(self: Any, payment: Any) -> None:
            aborted, payment.cast_abort = payment.cast_abort, False
            weigh(self, payment)
            payment.cast_abort = aborted

        return forgetful

    return [Graft(Finality, "_weigh", make)]


def abort_after_commit() -> list[Graft]:
    def make(_: Any) -> Any:
        return staticmethod(lambda payment: payment.tx is not None and not payment.cast_abort and payment.proof is None)

    return [Graft(Contest, "_may_abort", make)]


def abort_unasked() -> list[Graft]:
    """Whatever waits for two seconds is contested."""

    def make(tick: Any) -> Any:
        def impatient(contest: Any) -> None:
            known = contest._finality
            for payment in known.payments:
                if payment.standing is Standing.LOCKED:
                    known.payments.contest(payment, payment.born)
            tick(contest)

        return impatient

    return [Graft(Contest, "tick", make)]


def fee_unchecked() -> list[Graft]:
    def make(_: Any) -> Any:
        def owners_only(tx: Any, coins: Any, params: Any) -> None:
            try:
                check_context(tx, coins, params)
            except Refusal as refusal:
                if refusal.code is not ErrorCode.VALUE_MISMATCH:
                    raise

        return owners_only

    return [Graft(finality, "check_context", make)]


def value_disappears() -> list[Graft]:
    def make(create: Any) -> Any:
        def forgetful(manager: Any, outpoint: Any, *given: Any) -> Any:
            return None if outpoint.vout == 1 else create(manager, outpoint, *given)

        return forgetful

    return [Graft(UTXOStateManager, "_create", make)]


def evidence_against_resender() -> list[Graft]:
    """Whoever lock-voted one rival and commit-voted the other passes for a double voter."""

    def make(find: Any) -> Any:
        def careless(*given: Any) -> Any:
            signed = VoteSet.signed

            def any_vote(votes: Any, kind: VoteKind, voter: str) -> Any:
                return signed(votes, kind, voter) or signed(votes, COMMIT, voter)

            VoteSet.signed = any_vote  # type: ignore[method-assign,assignment]
            try:
                return find(*given)
            finally:
                VoteSet.signed = signed  # type: ignore[method-assign]

        return careless

    def counting(count: Any) -> Any:
        def suspicious(self: Any, batch: Any, sender: str) -> None:
            count(self, batch, sender)
            for txid in batch.commit:
                payment = self.payments.get(txid)
                for outpoint, rival in () if payment is None else self.payments.rivals(payment):
                    self.suspect(batch.voter, outpoint, payment, rival)

        return suspicious

    return [Graft(evidence, "find_evidence", make), Graft(Finality, "count", counting)]


def evidence_across_a_release() -> list[Graft]:
    """The heights in the votes are not looked at: a lock vote of before a release counts against one after it."""

    def make(find: Any) -> Any:
        return lambda voter, outpoint, masternodes, sides, height: find(voter, outpoint, masternodes, sides, 10**9)

    return [Graft(evidence, "find_evidence", make)]


def unbounded_orphans() -> list[Graft]:
    def make(wait: Any) -> Any:
        def patient(payments: Any, payment: Any, parents: Any) -> Any:
            wait(payments, payment, parents)
            return []

        return patient

    return [Graft(Payments, "wait", make)]


