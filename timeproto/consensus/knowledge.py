"""What one replica knows, in memory and in the ledger: the questions every other part of it asks."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from timeproto import limits
from timeproto.consensus.effects import Turn
from timeproto.consensus.payments import Payment, Payments
from timeproto.consensus.recent import Recent
from timeproto.consensus.utxo_state_manager import UTXOStateManager
from timeproto.errors import Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Ending, Ledger, Summary, TransactionRecord
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import Confirmed, SpentFinalized, UTXOState
from timeproto.wire import messages


@attrs.frozen
class Contained:
    """The record of a transaction, and the decided block that contains it."""

    record: TransactionRecord
    decided: DecidedBlock

    @property
    def height(self) -> int:
        return self.decided.block.header.height


class Knowledge:
    """``turn`` is where the running step collects what it decides; the hub replaces it at every step. ``height`` is the
    last decided block's, ``unconfirmed`` what is final and in no block yet, with those parents that are not either;
    ``wanted`` are transactions for which there is always room: a decided block names them, or one that is not
    judged yet has a certified verdict for them; ``confirming`` those of the last blocks that are not marked Confirmed
    yet (see consensus.decided), in the order of the chain.

    The records of what waits for a block are kept at hand, up to ``limits.RECORDS_AT_HAND``: a block asks for each of
    its transactions several times, and to read one from the disk costs what a signature check does.
    """

    def __init__(self, ledger: Ledger, genesis: Genesis, key: SigningKey, summary: Summary) -> None:
        self.key = key
        self.genesis = genesis
        self.masternodes = genesis.masternode_set
        self.ledger = ledger
        self.manager = UTXOStateManager(ledger)
        self.payments = Payments(self.masternodes)
        self.recent: Recent[str, None] = Recent(limits.RECENTLY_FINAL)
        self.turn = Turn(0)
        self.tick = 0
        tip = ledger.tip()
        self.height = 0 if tip is None else tip.height
        self.finalized, self.evidence = summary.finalized, summary.evidence
        self.wanted: frozenset[str] = frozenset()
        self.unconfirmed: dict[str, tuple[str, ...]] = {}
        self._at_hand: dict[str, TransactionRecord] = {}
        self._unseen: dict[str, list[str]] = {}
        self.confirming: dict[str, Contained] = {}
        for record in ledger.unconfirmed():
            self.await_block(record)
        for height in range(max(1, self.height - limits.CONFIRM_BLOCKS + 1), self.height + 1):
            decided = ledger.block(height)
            assert decided is not None  # the tip is above it, or is it
            for txid in decided.block.transactions:
                if txid in self.unconfirmed:
                    self.is_in_block(txid, decided)

    def await_block(self, record: TransactionRecord) -> None:
        """``record``'s transaction is final, and the next block is for it."""
        tx, unconfirmed = record.tx, self.unconfirmed
        parents = [outpoint.txid for outpoint in tx.outpoints if outpoint.txid in unconfirmed]
        unconfirmed[tx.txid] = tuple(dict.fromkeys(parents))
        if len(self._at_hand) < limits.RECORDS_AT_HAND:
            self._at_hand[tx.txid] = record

    def is_in_block(self, txid: str, decided: DecidedBlock) -> None:
        """The block contains it, and it is final: it waits for none any more, but to be marked Confirmed."""
        record = self.record(txid)
        assert record is not None  # final
        self.confirming[txid] = Contained(record, decided)
        self.unconfirmed.pop(txid, None)
        self._at_hand.pop(txid, None)

    def given_in(self, state: UTXOState) -> int | None:
        """The height of the block that gave a coin in ``state`` away, whether it is marked so already; None if none
        did."""
        if isinstance(state, Confirmed):
            return state.block_height
        contained = self.confirming.get(state.txid) if isinstance(state, SpentFinalized) else None
        return None if contained is None else contained.height

    def is_beaten(self, tx: Transaction) -> bool:
        """True if others have spent every one of its coins: there is nothing left to free."""
        states = (self.manager.get_state(outpoint) for outpoint in tx.outpoints)
        return all(isinstance(state, SpentFinalized | Confirmed) for state in states)

    def is_final(self, txid: str) -> bool:
        if txid in self.recent or txid in self.unconfirmed:
            return True
        record = self.record(txid)
        return record is not None and record.status == "final"

    def record(self, txid: str) -> TransactionRecord | None:
        """What is kept of a transaction, this step's changes counted."""
        return self.turn.transactions.get(txid) or self._at_hand.get(txid) or self.ledger.transaction(txid)

    def at_hand(self, txid: str) -> Transaction | None:
        """The transaction if it is final, in no block yet, and in memory."""
        record = self._at_hand.get(txid)
        return None if record is None else record.tx

    def ending(self, txid: str) -> Ending | None:
        return self.turn.endings.get(txid) or self.ledger.ending(txid)

    def ended_at(self, tx: Transaction) -> int | None:
        """The height of the block that ended ``tx``, if one did: by a verdict, or since it contains a rival."""
        ending = self.ending(tx.txid)
        heights = [] if ending is None else [ending.height]
        for state in map(self.manager.get_state, tx.outpoints):
            if isinstance(state, SpentFinalized | Confirmed) and state.txid != tx.txid:
                given_in = self.given_in(state)
                heights += [] if given_in is None else [given_in]
        return min(heights, default=None)

    def held(self, txid: str) -> Transaction | None:
        """The transaction if it is here, undecided or final."""
        payment = self.payments.get(txid)
        if payment is not None:
            return payment.tx
        record = self.record(txid)
        return record.tx if record is not None and record.status == "final" else None

    def has_spent(self, tx: Transaction) -> bool:
        """True if ``tx`` is final here: then it has spent all its coins for ever, and nothing else ever did. It is at
        its coins that a payment is looked for, so this costs no read of a record that most often is not there."""
        state = self.manager.get_state(tx.outpoints[0])
        return isinstance(state, SpentFinalized | Confirmed) and state.txid == tx.txid

    def is_over(self, txid: str) -> bool:
        """True if there is nothing left to decide about it."""
        return self.is_final(txid) or self.is_refused_or_ended(txid)

    def is_refused_or_ended(self, txid: str) -> bool:
        return self.payments.is_refused(txid) or self.ending(txid) is not None

    # -- small words ------------------------------------------------------------------------------------

    def ask_for(self, txids: Iterable[str], peer: str) -> None:
        """Fetch transactions from ``peer``, as many as one request holds; time asks for the rest."""
        wanted = tuple(dict.fromkeys(txids))
        if wanted:
            self.turn.effects.send.append((peer, messages.GetTransactions(txids=wanted[: limits.FETCH])))

    def ask_later(self, payment: Payment, peer: str) -> None:
        """Fetch it from ``peer`` at the end of the step, if it has not come by then."""
        payment.is_asked_for = True
        self._unseen.setdefault(peer, []).append(payment.txid)

    def ask_for_unseen(self) -> None:
        for peer, txids in self._unseen.items():
            payments = ((txid, self.payments.get(txid)) for txid in txids)
            self.ask_for([txid for txid, payment in payments if payment is not None and payment.tx is None], peer)
        self._unseen = {}

    def answer_all(self, payment: Payment, refusal: Refusal | None) -> None:
        """Tells every wallet that waits for this payment why not; None: it is accepted."""
        tickets, payment.tickets = payment.tickets, []
        for ticket in tickets:
            self.turn.answer(ticket, refusal or messages.TransactionAccepted(txid=payment.txid))
