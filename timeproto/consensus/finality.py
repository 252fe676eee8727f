"""Two rounds of votes: from a transaction to its lock vote, its commit vote, its finality (protocol §3, §4).

Quorum is a level: a payment's certificates are asked for again (:meth:`Finality._weigh`) whenever a vote, its
transaction or a parent arrives, so no order of arrival can lose one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from timeproto import limits
from timeproto.consensus.ballot import Ballot
from timeproto.consensus.effects import Ticket, Turn
from timeproto.consensus.evidence import Accusations
from timeproto.consensus.mandate import Mandate
from timeproto.consensus.payments import Payment, Payments, Standing
from timeproto.consensus.recently_final import RecentlyFinal
from timeproto.consensus.refusals import crowded, double_spend, in_flight, not_voting, unknown_input
from timeproto.consensus.utxo_state_manager import IllegalTransition, UTXOStateManager
from timeproto.consensus.validation import check_context
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import FinalityProof
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Ledger, OwnVotes, Summary, TransactionRecord
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import Confirmed, SpentFinalized, holder
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.wire import messages


class Finality:
    """The votes of one replica, and what follows from everybody's.

    ``turn`` is where the running step collects what it decides; the hub replaces it at every step.
    """

    def __init__(self, ledger: Ledger, genesis: Genesis, key: SigningKey, summary: Summary) -> None:
        self.key = key
        self.genesis = genesis
        self.masternodes = genesis.masternode_set
        self.ledger = ledger
        self.manager = UTXOStateManager(ledger)
        self.payments = Payments(self.masternodes)
        self.recent = RecentlyFinal()
        self.turn = Turn(0)
        self.tick = 0
        self.height = 0
        self.finalized, self.evidence = summary.finalized, summary.evidence
        self.mandate = Mandate(self.masternodes)
        self._accusations = Accusations(self.masternodes, ledger.evidence(limits.EVIDENCE))
        self._ballot = Ballot(key, genesis, summary.batches)
        self._finishing: dict[str, Payment] = {}
        for record in ledger.pending():
            self.recall(record)

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
        if (payment is not None and payment.standing is Standing.LOCKED) or self.is_final(tx.txid):
            self.turn.answer(ticket, messages.TransactionAccepted(txid=tx.txid))
            return
        if self.not_voting is not None:
            self.turn.answer(ticket, not_voting(self.not_voting))
            return
        if payment is None or payment.tx is None:
            full = self.payments.seen_count >= limits.IN_FLIGHT
            if full or self.payments.crowded(tx):
                self.turn.answer(ticket, in_flight() if full else crowded())
                return
            payment = payment or self.payments.open(tx.txid, self.tick)
            self.payments.seen(payment, tx, None)
        payment.tickets.append(ticket)
        self._admit(payment)

    def hear_transaction(self, tx: Transaction, sender: str) -> None:
        """A transaction from a masternode: relayed, or fetched because others voted for it."""
        payment = self.payments.get(tx.txid)
        if payment is not None and payment.tx is not None:
            return
        if payment is None and (self.is_final(tx.txid) or self.payments.is_refused(tx.txid)):
            return
        full = self.payments.seen_count >= limits.IN_FLIGHT_PEER or self.payments.crowded(tx)
        if full and (payment is None or not self._is_believable(payment)):
            return  # the votes for it stay, and it is fetched again when there is room or more of them
        payment = payment or self.payments.open(tx.txid, self.tick)
        self.payments.seen(payment, tx, sender)
        self._admit(payment)

    def _is_believable(self, payment: Payment) -> bool:
        """True if at least one honest masternode voted for it."""
        return payment.proof is not None or payment.votes.count(VoteKind.LOCK) > self.masternodes.faulty

    def _admit(self, payment: Payment) -> None:
        """Judges a transaction against the coins that exist now: waits, refuses, contends, or locks."""
        tx = payment.tx
        assert tx is not None
        coins = [self.manager.get_utxo_info(outpoint) for outpoint in tx.outpoints]
        parents = [outpoint.txid for outpoint, coin in zip(tx.outpoints, coins, strict=True) if coin is None]
        present = [coin for coin in coins if coin is not None]
        if any(parent == self.genesis.hash or self.is_final(parent) for parent in parents):
            self.give_up(payment, unknown_input(tx, self.manager), for_ever=True)
            return
        if parents:
            self._wait(payment, parents)
            return
        try:
            check_context(tx, present, self.genesis.params)
        except Refusal as refusal:
            self.give_up(payment, refusal, for_ever=True)
            return
        spent_by = [
            holder(coin.state) for coin in present if isinstance(coin.state, SpentFinalized | Confirmed)
        ]
        if len(spent_by) == len(present):  # while a coin is left it can still be locked for this one elsewhere
            self.give_up(payment, double_spend(tx, self.manager), for_ever=True)
            return
        if not self.manager.may_lock(tx):
            if payment.source is None and not payment.votes.count(VoteKind.LOCK):
                self.give_up(payment, double_spend(tx, self.manager))
                return
            self.answer_all(payment, double_spend(tx, self.manager))
            payment.standing = Standing.RIVAL
            self._contend(payment)
        else:
            self._contend(payment)
            payment.standing = Standing.OPEN
            self._lock(payment)
        self._weigh(payment)

    def _lock(self, payment: Payment) -> None:
        """The lock vote, if this replica votes: all inputs are free (or this transaction's already)."""
        if self.not_voting is not None or payment.tx is None:
            return
        for outpoint, rival in self.payments.rivals(payment):
            if rival.cast_lock:  # the locks rule it out; if they ever fail, no vote is cast
                raise IllegalTransition(f"two lock votes for {outpoint}: {payment.txid} and {rival.txid}")
        self.manager.process_transaction(payment.tx, self.turn.now)
        payment.standing = Standing.LOCKED
        self._ballot.lock(payment)
        self._sign_if_full()
        if payment.source is None:
            self.turn.relay.append(payment.tx)
        self.answer_all(payment, None)

    def _wait(self, payment: Payment, parents: list[str]) -> None:
        pushed_out = self.payments.wait(payment, parents)
        if payment.source is not None:  # for a wallet's, time asks: no wallet can make this node ask all the others
            self.ask_for([txid for txid in payment.missing if self.payments.get(txid) is None], payment.source)
        if pushed_out is not None and pushed_out.tx is not None:
            self.give_up(pushed_out, unknown_input(pushed_out.tx, self.manager))

    def _contend(self, payment: Payment) -> None:
        self.payments.contend(payment)
        voters = payment.votes.voters(VoteKind.LOCK)
        for outpoint, rival in self.payments.rivals(payment):
            for voter in voters:
                self._suspect(voter, outpoint, payment, rival)

    def give_up(self, payment: Payment, refusal: Refusal, *, for_ever: bool = False) -> None:
        """A payment that cannot be: its wallets are told why. ``for_ever``: no later knowledge can change it."""
        self.answer_all(payment, refusal)
        if not for_ever:
            self.payments.drop(payment)
            return
        if payment.votes.has_quorum(VoteKind.LOCK) or payment.proof is not None:
            raise IllegalTransition(f"a quorum voted for {payment.txid}, which is not valid: {refusal}")
        if refusal.code in (ErrorCode.NOT_OWNER, ErrorCode.VALUE_MISMATCH):
            # Whoever handed it on may not have its parents yet; whoever voted for it has, and lied.
            blame = Refusal(ErrorCode.BAD_VOTE, f"a lock vote for an invalid transaction: {refusal.message}")
            voters = payment.votes.voters(VoteKind.LOCK)
            self.turn.effects.blame += [(voter, blame) for voter in voters if voter != self.key.public_hex]
        self.payments.refuse(payment)

    # -- votes ------------------------------------------------------------------------------------------

    def count(self, batch: VoteBatch, sender: str) -> None:
        """A signed batch, from its voter or handed on by another masternode."""
        if batch.voter == self.key.public_hex:
            for kind, txid in batch.votes():
                self._compare_with_memory(kind, txid)
            return
        for kind, txid in batch.votes():
            payment = self.spoken_of(txid, batch.voter, sender)
            if payment is None:
                if kind is VoteKind.COMMIT:
                    self.recent.heard(txid, batch.voter)
                continue
            if payment.votes.add(kind, batch.voter, batch):
                if kind is VoteKind.LOCK:
                    for outpoint, rival in self.payments.rivals(payment):
                        self._suspect(batch.voter, outpoint, payment, rival)
                self._weigh(payment)

    def spoken_of(self, txid: str, voter: str, sender: str) -> Payment | None:
        """The payment that ``voter`` speaks of, fetched from ``sender`` if nobody spoke of it before; None if there is
        nothing left to decide about it."""
        payment = self.payments.get(txid)
        if payment is not None and payment.tx is not None:
            return payment
        if payment is None:
            if self.is_final(txid) or self.payments.is_refused(txid):
                return None
            payment = self.payments.open(txid, self.tick)
            self.ask_for([txid], sender)
        forgotten = self.payments.early_vote(payment, voter)
        if forgotten is not None:
            self.payments.drop(forgotten)
        return payment

    def _weigh(self, payment: Payment) -> None:
        """Asks for both certificates of a payment: called whenever anything about it arrived."""
        if payment.tx is None or payment.standing in (Standing.UNSEEN, Standing.WAITING):
            return
        if payment.proof is not None or payment.votes.has_quorum(VoteKind.COMMIT):
            self._finishing[payment.txid] = payment
        may_commit = not payment.cast_commit and self.not_voting is None
        if may_commit and payment.votes.has_quorum(VoteKind.LOCK):
            # Also where a rival holds a coin: with this certificate the rival can never have one, and
            # f + 1 honest replicas found the coins free (protocol §4: "holds T's lock certificate").
            if payment.standing is Standing.LOCKED:
                votes = payment.votes.count(VoteKind.LOCK)
                self.manager.pend_transaction(payment.tx, votes, len(self.masternodes), self.turn.now)
            self._ballot.commit(payment)
            self._sign_if_full()
            if payment.votes.has_quorum(VoteKind.COMMIT):
                self._finishing[payment.txid] = payment

    def _sign_if_full(self) -> None:
        if self._ballot.is_full:
            self._ballot.sign(self.height, self.turn)

    def settle(self) -> None:
        """Signs what was cast and finishes what became final, until neither leads to more."""
        while self._ballot or self._finishing:
            self._ballot.sign(self.height, self.turn)
            finishing, self._finishing = self._finishing, {}
            for payment in finishing.values():
                try:
                    self._finish(payment)
                except IllegalTransition as broken:
                    self.alarm(broken)

    def _suspect(self, voter: str, outpoint: Outpoint, payment: Payment, rival: Payment) -> None:
        """Keeps the evidence if ``voter`` lock-voted both."""
        if voter == self.key.public_hex:
            return
        assert payment.tx is not None and rival.tx is not None
        evidence = self._accusations.find(voter, outpoint, (payment.tx, payment.votes), (rival.tx, rival.votes))
        if evidence is not None:
            self.turn.evidence.append(evidence)
            self.evidence += 1

    # -- finality ---------------------------------------------------------------------------------------

    def hear_proofs(self, proofs: Iterable[FinalityProof], sender: str) -> None:
        for proof in proofs:
            self.hear_proof(proof, sender)

    def hear_proof(self, proof: FinalityProof, sender: str) -> None:
        if any(vote.voter == self.key.public_hex for vote in proof.votes):
            self._compare_with_memory(VoteKind.COMMIT, proof.txid)
        if self.payments.is_refused(proof.txid):
            raise IllegalTransition(f"{proof.txid} is proven final, but it is not valid")
        payment = self.spoken_of(proof.txid, sender, sender)
        if payment is not None:
            payment.proof = payment.proof or proof
            self._weigh(payment)

    def _finish(self, payment: Payment) -> None:
        """The one way to finality: all inputs spent, all outputs there, the proof kept, in one change set."""
        tx, txid = payment.tx, payment.txid
        assert tx is not None
        proof = payment.proof or payment.votes.proof()
        self.manager.finalize_transaction(tx, len(proof.votes), self.turn.now)
        self.turn.transactions[txid] = TransactionRecord(tx, "final", proof)
        self.turn.finalized.append(txid)
        self.finalized += 1
        silent = set(self.masternodes.keys) - set(payment.votes.voters(VoteKind.COMMIT)) - {self.key.public_hex}
        self.recent.note(txid, silent)
        self.answer_all(payment, None)
        beaten, children = self.payments.decide(payment)
        for rival in beaten:
            self._reconsider_beaten(rival)
        for child in children:
            if self.payments.get(child.txid) is child:
                self._admit(child)

    def _reconsider_beaten(self, rival: Payment) -> None:
        """A rival lost a coin for ever. Other coins may still be locked for it: those wait for a block's verdict."""
        assert rival.tx is not None
        self.answer_all(rival, double_spend(rival.tx, self.manager))
        if self._is_beaten(rival.tx):
            self.payments.refuse(rival)
        else:
            rival.standing = Standing.RIVAL

    def _is_beaten(self, tx: Transaction) -> bool:
        """True if others have spent every one of its coins: there is nothing left for a block to decide."""
        states = (self.manager.get_state(outpoint) for outpoint in tx.outpoints)
        return all(isinstance(state, SpentFinalized | Confirmed) for state in states)

    def is_final(self, txid: str) -> bool:
        if txid in self.recent:
            return True
        record = self.ledger.transaction(txid)
        return record is not None and record.status == "final"

    # -- what this replica signed before ----------------------------------------------------------------

    def recall(self, record: TransactionRecord) -> None:
        """At a restart: a transaction this replica voted for, with the votes it cast, as they were sent."""
        tx = record.tx
        payment = self.payments.open(tx.txid, self.tick)
        self.payments.seen(payment, tx, self.key.public_hex)
        payment.own = self.ledger.own_votes(tx.txid) or OwnVotes()
        for kind, number in ((VoteKind.LOCK, payment.own.lock), (VoteKind.COMMIT, payment.own.commit)):
            batch = None if number is None else self.ledger.batch(number)
            if batch is not None:
                payment.votes.add(kind, self.key.public_hex, batch)
        payment.cast_lock = payment.own.lock is not None
        payment.cast_commit = payment.own.commit is not None
        if self._is_beaten(tx):
            self.payments.refuse(payment)
            return
        self.manager.hold(tx)
        payment.standing = Standing.LOCKED if self.manager.holds(tx) else Standing.RIVAL
        self.payments.contend(payment)

    def own_batches(self, payments: Iterable[Payment]) -> list[VoteBatch]:
        """The batches with this replica's votes for undecided payments, as they were sent, oldest first."""
        numbers = {
            number
            for payment in payments
            for number in (payment.own.lock, payment.own.commit)
            if number is not None
        }
        found = (self.turn.batches.get(number) or self.ledger.batch(number) for number in sorted(numbers))
        return [batch for batch in found if batch is not None]

    def vote_after(self, fulfil: Callable[[str], None], peer: str) -> None:
        """``fulfil(peer)`` meets a condition of the mandate; if it was the last, votes for what was found meanwhile."""
        before = self.not_voting
        fulfil(peer)
        if before is not None and self.not_voting is None:
            for payment in self.payments:
                if payment.standing is Standing.OPEN and payment.tx is not None:
                    if self.manager.may_lock(payment.tx):
                        self._lock(payment)
                    else:
                        payment.standing = Standing.RIVAL
                self._weigh(payment)

    def _compare_with_memory(self, kind: VoteKind, txid: str) -> None:
        """A vote signed with this replica's own key: it must be remembered (protocol §4, O-05, P-19)."""
        payment = self.payments.get(txid)
        if payment is not None and payment.votes.has(kind, self.key.public_hex):
            return
        own = self.ledger.own_votes(txid) or OwnVotes()  # the payment may have been forgotten since, not the vote
        if {VoteKind.LOCK: own.lock, VoteKind.COMMIT: own.commit}.get(kind) is None:
            reason = (
                f"a {kind.name.lower()} vote for {txid} is signed with this node's key, and this node does not"
                " know it: another process uses the key, or the data directory is older than the votes"
            )
            self.mandate.halt(reason)
            self.turn.effects.identity_conflict = self.turn.effects.identity_conflict or reason

    # -- small words ------------------------------------------------------------------------------------

    def ask_for(self, txids: Iterable[str], peer: str) -> None:
        """Fetch transactions from ``peer``, as many as one request holds; time asks for the rest."""
        wanted = tuple(dict.fromkeys(txids))
        if wanted:
            self.turn.effects.send.append((peer, messages.GetTransactions(txids=wanted[: limits.FETCH])))

    def answer_all(self, payment: Payment, refusal: Refusal | None) -> None:
        """Tells every wallet that waits for this payment why not; None: it is accepted."""
        tickets, payment.tickets = payment.tickets, []
        for ticket in tickets:
            self.turn.answer(ticket, refusal or messages.TransactionAccepted(txid=payment.txid))
