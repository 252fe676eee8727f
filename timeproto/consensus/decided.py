"""What a decided block does to transactions and coins (protocol §3, §5): the only thing that ever frees one.

Coins of what it aborts are Unspent again; what it contains is final, waits for no other block, and ends every rival;
its coinbase mints. All of it is one change set, with the block.

That the coins of what was final before are marked Confirmed decides nothing any more, and is half of the work: it is
done in parts, a moment apart, in the order of the chain and a few blocks behind its tip at most. The list of what waits
for a block, and those blocks, tell after a restart what is left of it.
"""

from __future__ import annotations

import math
from itertools import islice, takewhile

import msgspec

from timeproto import limits
from timeproto.consensus.chain import Chain
from timeproto.consensus.finality import Finality
from timeproto.consensus.payments import Payment
from timeproto.consensus.refusals import aborted, unknown_input
from timeproto.consensus.utxo_state_manager import IllegalTransition
from timeproto.errors import Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import keep
from timeproto.model.ledger import Coin, Ending, OwnVotes, Times, TransactionRecord
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import UNSPENT, Confirmed, SpentFinalized
from timeproto.model.validation import check_context


class Decisions:
    """Applies decided blocks to what :class:`Finality` knows."""

    def __init__(self, finality: Finality, chain: Chain) -> None:
        self._finality = finality
        self._chain = chain
        self._freed: list[Outpoint] = []
        self._children: list[Payment] = []
        self._part = self._part_now()

    def apply(self, decided: DecidedBlock) -> None:
        """The next block, whose commit is checked and whose transactions are all here.

        Raises :class:`IllegalTransition` if it cannot follow from what is final here, with at most f liars.
        """
        finality, block = self._finality, decided.block
        height, turn = block.header.height, finality.turn
        self._confirm_older(height - limits.CONFIRM_BLOCKS)
        # What was cast before the block counts at the height before it; and what became final by that is final before
        # the block confirms it, or it would be made final once more after that, and wait for a block for ever.
        finality.settle()
        self._require_possible(decided)
        tip = self._chain.extend(decided)
        if tip is None:
            raise IllegalTransition(f"the coins after block {height} are not those it names")
        turn.blocks.append(decided)
        turn.tip = tip
        self._freed, self._children = [], []
        for txid in block.aborted:
            self._end(txid, Ending(height))
        turn.effects.blocks[height] = decided
        for txid in block.transactions:
            self._contain(txid, decided)
        self._mint(block.coinbase, height)
        finality.height = height
        self._part = self._part_now()
        self.confirm()
        self._go_on()

    def _require_possible(self, decided: DecidedBlock) -> None:
        """Everything that could be in the way, before anything is touched: what a quorum decided is valid, or the
        protocol's assumption is broken."""
        finality, block = self._finality, decided.block
        where = f"block {block.header.height}"
        for txid in block.aborted:
            if finality.is_final(txid):
                raise IllegalTransition(f"{where} aborts {txid}, which is final")
        named, final = set(block.transactions), finality.unconfirmed
        if final.keys() >= named and len(named) == len(block.transactions):
            return  # each has passed the gate, stays final, and nothing else that is final spends a coin of it
        made: dict[Outpoint, Coin] = {}
        taken, aborted_here = set[Outpoint](), set(block.aborted)
        for txid in block.transactions:
            tx = finality.held(txid)
            if tx is None or txid in aborted_here or (txid not in final and finality.ending(txid) is not None):
                raise IllegalTransition(f"{where} contains {txid}, which is ended")
            if not taken.isdisjoint(tx.outpoints):
                raise IllegalTransition(f"{where} spends a coin twice, the second time in {txid}")
            taken.update(tx.outpoints)
            if txid not in final:
                self._require_valid(tx, made, where)
            for vout, output in enumerate(tx.outputs):
                made[tx.output_outpoint(vout)] = Coin(output, UNSPENT)

    def _require_valid(self, tx: Transaction, made: dict[Outpoint, Coin], where: str) -> None:
        """The gate, for what is not final here: its coins are there and nobody else's."""
        coins = [made.get(outpoint) or self._finality.manager.get_utxo_info(outpoint) for outpoint in tx.outpoints]
        present = [coin for coin in coins if coin is not None]
        for coin in present:
            if isinstance(coin.state, SpentFinalized | Confirmed):
                raise IllegalTransition(f"{where} contains {tx.txid}, and {coin.state.txid} has spent its coin")
        try:
            check_context(tx, present, self._finality.genesis.params)
        except (Refusal, ValueError) as error:
            raise IllegalTransition(f"{where} contains {tx.txid}, which is not valid: {error}") from None

    def _end(self, txid: str, ending: Ending) -> None:
        """Ends a transaction for ever: its coins are free, its wallets are told, its children are hopeless."""
        finality, turn = self._finality, self._finality.turn
        if finality.ending(txid) is not None:
            return
        payment, record = finality.payments.get(txid), finality.record(txid)
        tx = payment.tx if payment is not None else None
        if tx is None and record is not None:  # forgotten, and perhaps spoken of again since
            tx = record.tx
        # A rival that nobody here voted for leaves no trace, or double spends would fill the disk.
        if ending.by is None or record is not None or (payment is not None and payment.own != OwnVotes()):
            turn.endings[txid] = ending
            if tx is not None:
                known = payment if payment is not None else record
                times = known.times if known is not None and known.times is not None else Times()
                times = msgspec.structs.replace(times, ended=turn.now)
                turn.transactions[txid] = TransactionRecord(tx, "aborted", times=times)
        if tx is not None:
            self._freed += finality.manager.release_transaction(tx, turn.now)
        if payment is not None:
            refusal = aborted(txid, ending)
            finality.answer_all(payment, refusal)
            finality.payments.refuse(payment, refusal)
        for child in finality.payments.waiting_for(txid):
            if child.tx is not None:
                finality.give_up(child, unknown_input(child.tx, finality.manager))

    def _contain(self, txid: str, decided: DecidedBlock) -> None:
        finality = self._finality
        was_final = finality.is_final(txid)
        if not was_final:
            self._finalize(txid, decided)
        for loser in finality.payments.take_beaten(txid):
            self._end(loser, Ending(decided.block.header.height, txid))
        finality.is_in_block(txid, decided)
        if not was_final:  # the block is all the proof there may be, so its height belongs to the record from the first
            self._mark(txid)

    def confirm(self) -> None:
        """Marks the next part of what blocks contain Confirmed."""
        for txid in list(islice(self._finality.confirming, self._part)):
            self._mark(txid)

    def _confirm_older(self, height: int) -> None:
        """Marks what is left of the blocks up to ``height``."""
        confirming = self._finality.confirming
        for txid in list(takewhile(lambda txid: confirming[txid].height <= height, confirming)):
            self._mark(txid)

    def _part_now(self) -> int:
        return max(limits.CONFIRMED_AT_ONCE, math.ceil(len(self._finality.confirming) / limits.CONFIRM_PARTS))

    def _mark(self, txid: str) -> None:
        finality = self._finality
        contained = finality.confirming.pop(txid)
        record, header = contained.record, contained.decided.block.header
        finality.turn.effects.blocks[header.height] = contained.decided
        finality.manager.confirm_transaction(record.tx, header.height, header.timestamp)
        record = TransactionRecord(record.tx, "final", record.kept, header.height, record.times)
        finality.turn.transactions[txid] = record

    def _finalize(self, txid: str, decided: DecidedBlock) -> None:
        """A quorum decided what is not final here yet: by a verdict, or by votes that have not arrived."""
        finality = self._finality
        payment = finality.payments.get(txid)
        assert payment is not None and payment.tx is not None  # all its transactions are here
        for outpoint in payment.tx.outpoints:
            for rival in finality.payments.wanting(outpoint):
                if rival is not payment:
                    self._end(rival.txid, Ending(decided.block.header.height, txid))
        votes = next((len(verdict.votes) for verdict in decided.block.verdicts if verdict.txid == txid), None)
        proof = None if payment.proof is None else keep(payment.proof)
        signed = len(decided.commit.signatures) if votes is None else votes
        self._children += finality.finish(payment, proof, len(proof.votes) if proof is not None else signed)

    def _mint(self, coinbase: Transaction, height: int) -> None:
        finality = self._finality
        finality.manager.mint(coinbase, finality.turn.now)
        finality.turn.transactions[coinbase.txid] = TransactionRecord(coinbase, "final", None, height)
        self._children += finality.payments.arrived(coinbase.txid)

    def _go_on(self) -> None:
        """What the block let go of, and whom it gave parents, is judged again."""
        finality = self._finality
        finality.suspect_again()
        for child in self._children:
            if finality.payments.get(child.txid) is child:
                finality.admit(child)
        for outpoint in self._freed:
            for payment in finality.payments.wanting(outpoint):
                finality.reconsider(payment)
