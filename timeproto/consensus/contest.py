"""Contested transactions: who contests, when this replica votes to abort, which verdicts it can prove (protocol §5).

Nothing in here frees a coin. An abort vote is a promise never to commit; only a decided block acts on q of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from timeproto import limits
from timeproto.consensus.effects import Ticket
from timeproto.consensus.finality import Finality
from timeproto.consensus.payments import CONTEST_TICKS, JUDGED, Payment
from timeproto.consensus.refusals import aborted, already_final
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import Verdict
from timeproto.model.vote import VoteKind
from timeproto.wire import messages

CERTIFIED_TICKS = math.ceil(limits.CERTIFIED_WAIT / limits.TICK)
"""Ticks after which a lock certificate is good for a verdict on what nobody here contests."""


class Contest:
    """The contested among a replica's payments."""

    def __init__(self, finality: Finality) -> None:
        self._finality = finality

    # -- an owner's wish -----------------------------------------------------------------------------

    def cancel(self, cancel: messages.TransactionCancel, ticket: Ticket) -> None:
        """A wallet's wish: the ticket is answered at once."""
        self._finality.turn.answer(ticket, self._heed(cancel) or messages.CancelAccepted(txid=cancel.txid))

    def hear_cancel(self, cancel: messages.TransactionCancel) -> None:
        """The same from a masternode; for a transaction that is not here it is heard again with the votes for it."""
        self._heed(cancel)

    def _heed(self, cancel: messages.TransactionCancel) -> Refusal | None:
        finality = self._finality
        payment = finality.payments.get(cancel.txid)
        if payment is None or payment.tx is None:
            if finality.is_final(cancel.txid):
                return already_final(cancel.txid)
            ending = finality.ending(cancel.txid)
            if ending is not None:
                return aborted(cancel.txid, ending)
            return Refusal(ErrorCode.NOT_FOUND, f"there is no transaction {cancel.txid} here", txid=cancel.txid)
        if bytes.fromhex(cancel.key) not in payment.tx.keys:
            return Refusal(ErrorCode.NOT_OWNER, f"{cancel.key} spends no coin in {cancel.txid}", txid=cancel.txid)
        if payment.cancel is None:
            payment.cancel = cancel
            finality.payments.contest(payment, finality.tick)
            finality.turn.effects.send.append((None, cancel))
        return None

    # -- time ----------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Casts the abort votes that are due."""
        if self._finality.not_voting is None:
            for payment in self._finality.payments.contested:
                if self._is_due(payment) and self._may_abort(payment):
                    self._finality.abort(payment)

    def _is_due(self, payment: Payment) -> bool:
        return payment.contested is not None and self._finality.tick - payment.contested >= CONTEST_TICKS

    @staticmethod
    def _may_abort(payment: Payment) -> bool:
        """Whoever holds a lock certificate, or has said commit, must not say abort: it may be final by that."""
        bound = payment.cast_commit or payment.cast_abort or payment.proof is not None
        return payment.standing in JUDGED and not bound and not payment.votes.has_quorum(VoteKind.LOCK)

    # -- what a block can say ------------------------------------------------------------------------

    def verdicts(self) -> Iterator[Verdict]:
        """Each verdict this replica can prove. Where both certificates are held the payment goes through."""
        for payment in self._open():
            kind = self._provable(payment)
            if kind is VoteKind.LOCK:
                yield Verdict("commit", payment.txid, payment.votes.certificate(kind))
            elif kind is VoteKind.ABORT:
                yield Verdict("abort", payment.txid, payment.votes.certificate(kind))

    @property
    def has_verdicts(self) -> bool:
        """True if a verdict can be proved: after a block, that had no room for it."""
        return any(self._provable(payment) is not None for payment in self._open())

    def _open(self) -> list[Payment]:
        """The contested, and after them what has its lock certificate and is long not final: somebody may know of a
        contest that nobody here heard of, keep to its abort vote, and propose nothing the others believe in time."""
        finality = self._finality
        late = [payment for payment in finality.payments if payment.contested is None and payment.cast_commit]
        return [*finality.payments.contested, *(each for each in late if finality.tick - each.born >= CERTIFIED_TICKS)]

    def _provable(self, payment: Payment) -> VoteKind | None:
        """The votes that prove a verdict on the payment, if any do."""
        if payment.proof is not None or not (payment.contested is None or self._is_due(payment)):
            return None  # it may still become final by itself
        if payment.standing in JUDGED and payment.votes.has_quorum(VoteKind.LOCK):
            return VoteKind.LOCK
        return VoteKind.ABORT if payment.votes.has_quorum(VoteKind.ABORT) else None
