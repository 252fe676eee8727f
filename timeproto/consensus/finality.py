"""Two rounds of votes: from a transaction to its lock vote, its commit vote, its finality (protocol §3, §4).

Quorum is a level: a payment's certificates are asked for again (:meth:`Finality._weigh`) whenever a vote, its
transaction or a parent arrives, so no order of arrival can lose one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from timeproto import limits
from timeproto.consensus import own_votes
from timeproto.consensus.ballot import Ballot
from timeproto.consensus.effects import Ticket
from timeproto.consensus.mandate import Mandate
from timeproto.consensus.payments import CONTEST_TICKS, JUDGED, Payment, Standing
from timeproto.consensus.refusals import aborted, backlog, double_spend, no_room, not_synced, not_voting, unknown_input
from timeproto.consensus.suspicion import Suspicion
from timeproto.consensus.utxo_state_manager import IllegalTransition, are_free
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import FinalityProof, KeptProof, keep
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Coin, Ledger, Summary, TransactionRecord
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import Confirmed, SpentFinalized
from timeproto.model.validation import check_context
from timeproto.model.vote import ABORT, COMMIT, LOCK, VoteBatch, VoteKind
from timeproto.wire import messages


class Finality(Suspicion):
    """The votes of one replica, and what follows from everybody's."""

    def __init__(self, ledger: Ledger, genesis: Genesis, key: SigningKey, summary: Summary) -> None:
        super().__init__(ledger, genesis, key, summary)
        self.mandate = Mandate(self.masternodes)
        self._ballot = Ballot(key, genesis, summary.batches)
        self._finishing: dict[str, Payment] = {}
        self._heard_of: dict[str, None] = {}
        own_votes.recall(self)

    @property
    def batches(self) -> int:
        """How many vote batches this replica has signed in its life."""
        return self._ballot.batches

    @property
    def not_voting(self) -> str | None:
        """Why this replica casts no votes, in words; None while it votes."""
        return self.mandate.not_voting

    def alarm(self, broken: IllegalTransition) -> None:
        """What happened cannot happen with at most f liars: no vote of this replica may add to it."""
        self.mandate.halt(f"the protocol's assumption is broken: {broken}")
        self.turn.effects.alarm = self.turn.effects.alarm or str(broken)

    # -- transactions -----------------------------------------------------------------------------------

    def submit(self, tx: Transaction, ticket: Ticket) -> None:
        """A wallet's transaction: the ticket is answered now, or when its parents are final, or when they are not."""
        payment = self.payments.get(tx.txid)
        if (payment is not None and payment.standing is Standing.LOCKED) or self.has_spent(tx):
            self.turn.answer(ticket, messages.TransactionAccepted(txid=tx.txid))
            return
        ending = self.ending(tx.txid)
        if ending is not None:
            self.turn.answer(ticket, aborted(tx.txid, ending))
            return
        if self.not_voting is not None:
            refuse = not_voting if self.mandate.is_halted else not_synced
            self.turn.answer(ticket, refuse(self.not_voting))
            return
        if len(self.unconfirmed) >= limits.BACKLOG:
            self.turn.answer(ticket, backlog())
            return
        if payment is None or payment.tx is None:
            full = no_room(tx, self.payments)
            if full is not None:
                self.turn.answer(ticket, full)
                return
            payment = payment or self.payments.open(tx.txid, self.tick)
            self.payments.seen(payment, tx, None, self.tick, self.turn.now)
        payment.tickets.append(ticket)
        self.admit(payment)

    def hear_transaction(self, tx: Transaction, sender: str) -> None:
        """A transaction from a masternode: relayed, or fetched because others voted for it."""
        payment = self.payments.get(tx.txid)
        if payment is not None and payment.tx is not None:
            return
        if payment is None and (self.has_spent(tx) or self.is_refused_or_ended(tx.txid)):
            return
        if not self._has_room(tx, payment):
            return  # the votes for it stay, and it is fetched again when there is room or more of them
        payment = payment or self.payments.open(tx.txid, self.tick)
        self.payments.seen(payment, tx, sender, self.tick, self.turn.now)
        self.admit(payment)

    def _has_room(self, tx: Transaction, payment: Payment | None) -> bool:
        """True if ``tx`` is to be kept; always if it is wanted or proven, or somebody honest has it."""
        if tx.txid in self.wanted:
            return True
        if payment is not None and (payment.proof or payment.votes.holders > self.masternodes.faulty):
            return True
        if self.payments.seen_count >= limits.IN_FLIGHT_PEER or self.payments.seen_bytes >= limits.IN_FLIGHT_PEER_BYTES:
            return False
        return not self.payments.crowded(tx) or (payment is not None and self.payments.is_backed(payment, tx))

    def admit(self, payment: Payment) -> None:
        """Judges a transaction against the coins that exist now: waits, refuses, contends, or locks."""
        tx = payment.tx
        assert tx is not None
        coins = [self.manager.get_utxo_info(outpoint) for outpoint in tx.outpoints]
        present = [coin for coin in coins if coin is not None]
        if len(present) < len(coins):
            parents = [outpoint.txid for outpoint, coin in zip(tx.outpoints, coins, strict=True) if coin is None]
            if any(parent == self.genesis.hash or self.is_final(parent) or self.ending(parent) for parent in parents):
                self.give_up(payment, unknown_input(tx, self.manager), for_ever=True)
            else:
                self._wait(payment, parents)
            return
        try:
            check_context(tx, present, self.genesis.params)
        except Refusal as refusal:
            self.give_up(payment, refusal, for_ever=True)
            return
        if self._is_hopeless(present):
            self.give_up(payment, double_spend(tx, self.manager), for_ever=True)
            return
        if not are_free(present, tx.txid):
            self.answer_all(payment, double_spend(tx, self.manager))
            payment.standing = Standing.RIVAL
            self.contend(payment)
            for coin in present:
                if isinstance(coin.state, SpentFinalized):
                    self.payments.is_beaten_by(tx.txid, coin.state.txid)
        else:
            self.contend(payment)
            payment.standing = Standing.OPEN
            self._lock(payment)
        if payment.standing is not Standing.LOCKED:
            self.turn.effects.seen.append(tx)
        self._heed_aborts(payment)
        self._weigh(payment)
        if self.not_voting is not None and payment.txid not in self._finishing:  # whose wallet waited for its parents
            self.answer_all(payment, not_voting(self.not_voting))

    def _is_hopeless(self, coins: list[Coin]) -> bool:
        """True if a block gave a coin to another, or others have spent all of them. While one is left, this transaction
        can be locked elsewhere, until the block that contains a rival."""
        spent = [coin.state for coin in coins if isinstance(coin.state, SpentFinalized | Confirmed)]
        return len(spent) == len(coins) or any(self.given_in(state) is not None for state in spent)

    def _lock(self, payment: Payment) -> None:
        """The lock vote, if this replica votes: all inputs are free (or this transaction's already).

        An abort vote does not forbid it. It must not: those who know no rival (a block may have ended the only one) do
        not abort, and with this vote missing neither certificate would ever be whole.
        """
        if self.not_voting is not None or payment.tx is None:
            return
        for outpoint, rival in self.payments.rivals(payment):
            if rival.cast_lock:  # the locks rule it out; if they ever fail, no vote is cast
                raise IllegalTransition(f"two lock votes for {outpoint}: {payment.txid} and {rival.txid}")
        self.manager.process_transaction(payment.tx, self.turn.now)
        payment.standing = Standing.LOCKED
        self._ballot.lock(payment, self.turn.now)
        self._sign_if_full()
        if payment.source is None:
            self.payments.is_brought(payment)
            self.turn.relay.append(payment.tx)
        self.answer_all(payment, None)

    def _wait(self, payment: Payment, parents: list[str]) -> None:
        pushed_out = self.payments.wait(payment, parents)
        if payment.source is not None:  # for a wallet's, time asks: no wallet can make this node ask all the others
            self.ask_for([txid for txid in payment.missing if self.payments.get(txid) is None], payment.source)
        for each in pushed_out:
            if each.tx is not None:
                self.give_up(each, unknown_input(each.tx, self.manager))

    def contend(self, payment: Payment) -> None:
        self.payments.contend(payment)
        for outpoint, rival in self.payments.rivals(payment):
            self.payments.contest(payment, self.tick)
            self.payments.contest(rival, self.tick)
            for voter in payment.votes.voters(LOCK):
                self.suspect(voter, outpoint, payment, rival)

    def _heed_aborts(self, payment: Payment) -> None:
        """f + 1 abort votes: an honest masternode knows of the contest, and has waited."""
        if payment.standing in JUDGED and payment.votes.count(ABORT) > self.masternodes.faulty:
            self.payments.contest(payment, self.tick - CONTEST_TICKS)

    def reconsider(self, payment: Payment) -> None:
        """What stood in the way of a payment may be gone: a lock, or that this replica did not vote."""
        if payment.standing in (Standing.OPEN, Standing.RIVAL) and payment.tx is not None:
            if self.manager.may_lock(payment.tx):
                payment.standing = Standing.OPEN
                self._lock(payment)
            else:
                payment.standing = Standing.RIVAL
        self._weigh(payment)

    def abort(self, payment: Payment) -> None:
        """The abort vote: this replica will never commit to the payment."""
        self._ballot.abort(payment)
        self._sign_if_full()

    def give_up(self, payment: Payment, refusal: Refusal, *, for_ever: bool = False) -> None:
        """A payment that cannot be: its wallets are told why. ``for_ever``: no later knowledge can change it."""
        self.answer_all(payment, refusal)
        if not for_ever:
            self.payments.drop(payment)
            return
        # A quorum may have locked what a block, not here yet, has ended since; nobody honest locks what is not valid.
        beaten = refusal.code is ErrorCode.DOUBLE_SPEND
        if payment.proof is not None or (payment.votes.has_quorum(LOCK) and not beaten):
            raise IllegalTransition(f"a quorum voted for {payment.txid}, which is not valid: {refusal}")
        if refusal.code in (ErrorCode.NOT_OWNER, ErrorCode.VALUE_MISMATCH):
            # Whoever handed it on may not have its parents yet; whoever voted for it has, and lied.
            blame = Refusal(ErrorCode.BAD_VOTE, f"a lock vote for an invalid transaction: {refusal.message}")
            voters = payment.votes.voters(LOCK)
            self.turn.effects.blame += [(voter, blame) for voter in voters if voter != self.key.public_hex]
        self.payments.refuse(payment, refusal)

    # -- votes ------------------------------------------------------------------------------------------

    def count(self, batch: VoteBatch, sender: str) -> None:
        """A signed batch, from its voter or handed on by another masternode."""
        if batch.voter == self.key.public_hex:
            for kind, txid in batch.votes():
                own_votes.compare(self, kind, txid, sender)
            return
        payments, kept = self.payments, self.payments.retained.keep(batch)
        for kind, txids in batch.lists():
            for txid in txids:
                payment = payments.get(txid)
                if payment is None or payment.tx is None:
                    payment = self.spoken_of(txid, batch.voter, sender)
                if payment is None or not payment.votes.add(kind, batch.voter, kept):
                    continue
                kept.counting += 1
                payments.is_spoken_of(payment)
                if payment.contested is not None or kind is ABORT:
                    self._count_contested(payment, kind, batch.voter)
                if payment.votes.has_quorum(kind) and not (kind is LOCK and payment.cast_commit):
                    self._weigh(payment)
        payments.retained.let_go(kept)
        self._heard_of[batch.voter] = None

    def _count_contested(self, payment: Payment, kind: VoteKind, voter: str) -> None:
        """A vote for a payment that meets rivals, or that its owner wants to end."""
        if kind is LOCK:
            for outpoint, rival in self.payments.rivals(payment):
                self.suspect(voter, outpoint, payment, rival)
        elif kind is ABORT:
            self._heed_aborts(payment)
            self._weigh(payment)

    def needs_no_lock(self, txid: str) -> bool:
        """True if nobody contests the payment, its lock certificate is held and the commit vote for it is cast."""
        payment = self.payments.get(txid)
        if payment is None or payment.contested is not None or not payment.cast_commit:
            return False
        return payment.votes.has_quorum(LOCK)

    def conclude(self) -> None:
        """At the very end of a step, since within it what was counted stays counted."""
        if not self.mandate.is_met:
            for txid in list(self.turn.finalized):
                self.vote_after(self.mandate.became_final, txid)
        self.ask_for_unseen()
        for voter in self._heard_of:
            self.payments.forget_least(voter)
        self._heard_of = {}

    def spoken_of(self, txid: str, voter: str, sender: str, *, is_wanted: bool = False) -> Payment | None:
        """The payment that ``voter`` speaks of; None if there is nothing left to decide about it.

        It is fetched from ``sender`` if it ``is_wanted``, or if somebody honest speaks of it: f + 1 do. Under load the
        first votes often overtake the transaction itself, which is on its way already.
        """
        payment = self.payments.get(txid)
        if payment is not None and payment.tx is not None:
            return payment
        if payment is None:
            if self.is_over(txid):
                return None
            payment = self.payments.open(txid, self.tick)
        forgotten = self.payments.early_vote(payment, voter)
        if forgotten is not None:
            self.payments.drop(forgotten)
        if not payment.is_asked_for and (is_wanted or len(payment.early_voters) > self.masternodes.faulty):
            self.ask_later(payment, sender)
        return payment

    def _weigh(self, payment: Payment) -> None:
        """Asks for both certificates of a payment: called whenever anything about it arrived."""
        if payment.tx is None or payment.standing not in JUDGED:
            return
        if payment.proof is not None or payment.votes.has_quorum(COMMIT):
            self._finishing[payment.txid] = payment
        may_commit = not (payment.cast_commit or payment.cast_abort) and self.not_voting is None
        if may_commit and payment.votes.has_quorum(LOCK):
            # Also where a rival holds a coin: with this certificate the rival can never have one, and
            # f + 1 honest replicas found the coins free (protocol §4: "holds T's lock certificate").
            if payment.standing is Standing.LOCKED:
                votes = payment.votes.count(LOCK)
                self.manager.pend_transaction(payment.tx, votes, len(self.masternodes), self.turn.now)
            self._ballot.commit(payment, self.turn.now)
            self._sign_if_full()
            if payment.votes.has_quorum(COMMIT):
                self._finishing[payment.txid] = payment

    def _sign_if_full(self) -> None:
        if self._ballot.is_full:
            self._ballot.sign(self.height, self.turn)

    def sign(self) -> None:
        """Signs what was cast, at the height at which it was."""
        self._ballot.sign(self.height, self.turn)

    def settle(self) -> None:
        """Signs what was cast and finishes what became final, until neither leads to more."""
        while self._ballot or self._finishing:
            self.sign()
            finishing, self._finishing = self._finishing, {}
            for payment in finishing.values():
                try:
                    self._finish(payment)
                except IllegalTransition as broken:
                    self.alarm(broken)

    # -- finality ---------------------------------------------------------------------------------------

    def hear_proofs(self, proofs: Iterable[FinalityProof], sender: str) -> None:
        for proof in proofs:
            self.hear_proof(proof, sender)

    def hear_proof(self, proof: FinalityProof, sender: str) -> None:
        if any(vote.voter == self.key.public_hex for vote in proof.votes):
            own_votes.compare_proven(self, proof.txid)
        if self.payments.is_refused(proof.txid) or self.ending(proof.txid) is not None:
            raise IllegalTransition(f"{proof.txid} is proven final, but it is not valid, or a block ended it")
        payment = self.spoken_of(proof.txid, sender, sender, is_wanted=True)
        if payment is not None:
            payment.proof = payment.proof or proof
            self._weigh(payment)

    def _finish(self, payment: Payment) -> None:
        """Finality by votes. A replica that committed to a rival waits for the block that ended that one."""
        if payment.tx is not None and self.manager.may_finalize(payment.tx):
            proof = payment.votes.proof() if payment.proof is None else keep(payment.proof)
            for child in self.finish(payment, proof, len(proof.votes)):
                if self.payments.get(child.txid) is child:
                    self.admit(child)

    def finish(self, payment: Payment, proof: KeptProof | None, votes: int) -> list[Payment]:
        """The one way to finality: all inputs spent, all outputs there, the proof kept, in one change set.

        ``proof`` is None if a decided block makes it final. Returns the payments whose last parent this was.
        """
        tx, txid = payment.tx, payment.txid
        assert tx is not None
        self.manager.finalize_transaction(tx, votes, self.turn.now)
        times = payment.note(final=self.turn.now)
        record = self.turn.transactions[txid] = TransactionRecord(tx, "final", proof, times=times)
        self.turn.finalized.append(txid)
        self.finalized += 1
        self.await_block(record)
        self.recent.put(txid, None)
        self.answer_all(payment, None)
        beaten, children = self.payments.decide(payment)
        for rival in beaten:
            self._reconsider_beaten(rival)
        return children

    def _reconsider_beaten(self, rival: Payment) -> None:
        """A rival lost a coin for ever. Others may still be locked for it: the block with the winner frees those."""
        assert rival.tx is not None
        self.answer_all(rival, refusal := double_spend(rival.tx, self.manager))
        if self.is_beaten(rival.tx):
            self.payments.refuse(rival, refusal)
        else:
            rival.standing = Standing.RIVAL

    def vote_after(self, fulfil: Callable[[str], None], what: str) -> None:
        """``fulfil(what)`` meets a condition of the mandate; if it was the last, votes for what was found meanwhile.
        They are signed here: after a block, which may be the last condition, the next is proposed in the same step."""
        before = self.not_voting
        fulfil(what)
        if self.mandate.is_to_be_judged:
            self.settle()  # what has come with it is over by that
            own_votes.judge(self)
        if before is not None and self.not_voting is None:
            for payment in self.payments:
                self.reconsider(payment)
            self.settle()
