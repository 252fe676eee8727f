"""What this replica signed before: taken up at a restart, served again, compared with what others show of it.

A vote signed with this replica's key that it does not know means that another process has the key, or that the data are
older than the votes: it must not vote again (protocol §4; O-05, P-19 of the fault catalogue). For what is final that
is different, see :func:`compare_proven`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from timeproto import limits
from timeproto.consensus.payments import Payment, Standing
from timeproto.consensus.refusals import double_spend
from timeproto.consensus.vote_set import OwnBatch
from timeproto.model.ledger import OwnVotes, TransactionRecord
from timeproto.model.utxo_state import Locked, SpentFinalized, SpentPending
from timeproto.model.vote import VoteBatch, VoteKind

if TYPE_CHECKING:
    from timeproto.consensus.finality import Finality

PATIENCE = 2
"""Block intervals for which what was forgotten may be undecided, before it is a conflict."""


def recall(finality: Finality) -> None:
    """At a restart: the transactions this replica voted for, with the votes it cast, as they were sent."""
    carriers: dict[int, OwnBatch] = {}
    for record in finality.ledger.pending():
        _recall(finality, record, carriers)


def _recall(finality: Finality, record: TransactionRecord, carriers: dict[int, OwnBatch]) -> None:
    """``carriers``: this replica's batches by number, as far as they were read; many payments share one."""
    tx, me, ledger = record.tx, finality.key.public_hex, finality.ledger
    payment = finality.payments.open(tx.txid, finality.tick)
    finality.payments.seen(payment, tx, me, finality.tick)
    payment.times = record.times or payment.times
    own = payment.own = ledger.own_votes(tx.txid) or OwnVotes()
    for kind, number in ((VoteKind.LOCK, own.lock), (VoteKind.COMMIT, own.commit), (VoteKind.ABORT, own.abort)):
        if number is not None and number not in carriers and (batch := ledger.batch(number)) is not None:
            carriers[number] = OwnBatch(batch)
        if number in carriers:
            payment.votes.add(kind, me, carriers[number])
    payment.cast_lock, payment.cast_commit = own.lock is not None, own.commit is not None
    payment.cast_abort = own.abort is not None
    for outpoint in tx.outpoints:
        state = finality.manager.get_state(outpoint)
        if isinstance(state, SpentFinalized):
            finality.payments.is_beaten_by(tx.txid, state.txid)
        elif isinstance(state, Locked) and state.txid == tx.txid:  # the record is of the first vote, this of the last
            payment.note(locked=state.locked_at)
        elif isinstance(state, SpentPending) and state.txid == tx.txid:
            payment.note(pending=state.spent_at)
    if finality.is_beaten(tx):
        finality.payments.refuse(payment, double_spend(tx, finality.manager))
        return
    payment.standing = Standing.LOCKED if finality.manager.holds(tx) else Standing.RIVAL
    if payment.standing is Standing.LOCKED:
        finality.payments.is_brought(payment)
    finality.contend(payment)
    if payment.cast_abort:
        finality.payments.contest(payment, finality.tick)


def batches(finality: Finality, payments: Iterable[Payment]) -> list[VoteBatch]:
    """The batches with this replica's votes for undecided payments, as they were sent, oldest first."""
    numbers = {
        number
        for payment in payments
        for number in (payment.own.lock, payment.own.commit, payment.own.abort)
        if number is not None
    }
    found = (finality.turn.batches.get(number) or finality.ledger.batch(number) for number in sorted(numbers))
    return [batch for batch in found if batch is not None]


def compare(finality: Finality, kind: VoteKind, txid: str, sender: str) -> None:
    """A vote for ``txid`` that is signed with this replica's own key: it must be remembered.

    Unless ``txid`` is over here: no vote can go against that (see :func:`compare_proven`), and anybody may have kept
    the vote. Before the mandate it may be over without this replica's knowing, since who tells it may be behind: then
    it is judged when the mandate would be met (:func:`judge`).
    """
    if _is_known(finality, kind, txid) or _is_over(finality, txid):
        return
    mandate = finality.mandate
    if mandate.is_met or mandate.is_halted:
        _unknown(finality, kind, txid)
    else:
        mandate.doubt(txid, kind, sender)


def judge(finality: Finality) -> None:
    """Nothing else is left of the mandate: what this replica was shown of its votes and words, and does not know, is
    over by now, or soon will be, or it is a conflict. What was under way when it lost its data ends without its vote,
    unless that is needed: as a rule in a moment, or with the next block if it is contested. What is proven final, and
    only its transaction is not here yet, is waited for however long that takes."""
    mandate = finality.mandate
    doubts, word = mandate.take_doubts()
    left = {}
    for txid, kind in doubts.items():
        if _is_known(finality, kind, txid) or _is_over(finality, txid):
            continue
        if _is_proven(finality, txid):
            mandate.await_final(txid)
        else:
            left[txid] = kind
    word = word if word > finality.height else 0
    if mandate.waited * limits.TICK <= PATIENCE * finality.genesis.block_interval:
        mandate.keep_doubts(left, word)
        return
    for txid, kind in left.items():
        _unknown(finality, kind, txid)
    if word:
        conflict(finality, f"a word about block {word}")


def tick(finality: Finality) -> None:
    """Judges again what was left."""
    finality.vote_after(lambda _: finality.mandate.tick(), "")


def _is_over(finality: Finality, txid: str) -> bool:
    """True if no vote for ``txid`` matters any more: it is final, or ended, or can be neither for want of its coins."""
    if finality.is_final(txid) or finality.is_refused_or_ended(txid):
        return True
    payment = finality.payments.get(txid)
    return payment is not None and payment.tx is not None and finality.is_beaten(payment.tx)


def _is_proven(finality: Finality, txid: str) -> bool:
    """True if a quorum's commit votes for ``txid`` are here, whether the transaction is or not."""
    payment = finality.payments.get(txid)
    return payment is not None and (payment.proof is not None or payment.votes.has_quorum(VoteKind.COMMIT))


def compare_proven(finality: Finality, txid: str) -> None:
    """The same for this replica's commit vote inside a proof that ``txid`` is final.

    What is final here cannot be contradicted by any vote: its coins are spent for ever, and it is not voted on again.
    So an unknown vote for it says no more than that the data were older once, and were brought up to date since.

    Nor is it a conflict, before this replica has its mandate, if the payment is not final here yet. Whoever lost his
    data is shown such proofs as soon as he catches up; that something undecided may be forgotten, too, is what the
    mandate is for. But until the payment is final here a rival of it could be locked. So the mandate waits for it,
    whoever has vouched.

    With the mandate this replica knows what a quorum knew of its votes, and the vote is somebody else's.
    """
    if _is_known(finality, VoteKind.COMMIT, txid) or finality.is_final(txid):
        return
    mandate = finality.mandate
    if mandate.is_met or mandate.is_halted:
        _unknown(finality, VoteKind.COMMIT, txid)
    else:
        mandate.await_final(txid)


def _is_known(finality: Finality, kind: VoteKind, txid: str) -> bool:
    payment = finality.payments.get(txid)
    if payment is not None and payment.votes.has(kind, finality.key.public_hex):
        return True
    own = finality.ledger.own_votes(txid) or OwnVotes()  # the payment may have been forgotten since, not the vote
    return {VoteKind.LOCK: own.lock, VoteKind.COMMIT: own.commit, VoteKind.ABORT: own.abort}[kind] is not None


def _unknown(finality: Finality, kind: VoteKind, txid: str) -> None:
    conflict(finality, f"a {kind.name.lower()} vote for {txid}")


def conflict(finality: Finality, what: str) -> None:
    """Stops voting: ``what`` was signed with this replica's key and is not known here."""
    reason = (
        f"{what} is signed with this node's key, and this node does not know it: another process uses the key, or the"
        " data directory is older than the votes"
    )
    finality.mandate.halt(reason)
    finality.turn.effects.identity_conflict = finality.turn.effects.identity_conflict or reason
