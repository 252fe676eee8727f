"""Blocks that a lying proposer may show: other good ones, and ones with one thing wrong and the rest made right."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from timeproto.consensus.chain import in_order
from timeproto.consensus.replica import Replica
from timeproto.model.block import Block, BlockHeader, Verdict, make_coinbase
from timeproto.model.transaction import Transaction
from timeproto.sim.book import Book

replace = msgspec.structs.replace


class BadBlocks:
    """Made with the liar's own replica: it knows what a good block would be."""

    def __init__(self, book: Book, chance: random.Random) -> None:
        self._book = book
        self._chance = chance

    def other_good(self, replica: Replica, block: Block) -> Block:
        """As good as ``block``, and another."""
        header = block.header
        kept = self._some_closed(replica, block.transactions)
        if self._chance.random() < 0.5 or not block.transactions:
            return self._made(replica, block, header=replace(header, timestamp=header.timestamp + 1))
        committed = [verdict for verdict in block.verdicts if verdict.kind == "abort" or verdict.txid in kept]
        return self._made(replica, block, txids=kept, verdicts=tuple(committed))

    @staticmethod
    def _some_closed(replica: Replica, txids: Sequence[str]) -> tuple[str, ...]:
        """All but the last: whatever comes last is nobody's parent."""
        return tuple(txids[:-1])

    def spoilt(self, replica: Replica, block: Block, known: Sequence[Any], proved: Sequence[Verdict]) -> Block:
        """``block`` with one thing wrong. ``known``: signed votes of anybody, to make certificates of; ``proved``:
        verdicts with real ones, for what may be decided long ago."""
        header = block.header

        def made(**changes: Any) -> Callable[[], Block]:
            return lambda: self._made(replica, block, **changes)

        kinds: list[list[Callable[[], Block]]] = [
            [made(header=replace(header, timestamp=header.timestamp + 3_600_000))],
            [made(extra_fees=1), lambda: replace(block, header=replace(header, commitment="cd" * 32))],
            [made(wrong_subsidy=True)],
            [
                lambda: replace(block, header=replace(header, root="ab" * 32)),
                made(header=replace(header, parent="ef" * 32)),
                made(header=replace(header, timestamp=replica.tip.timestamp)),
                made(header=replace(header, height=header.height + 1)),
                made(header=replace(header, set="12" * 32)),
                made(header=replace(header, round=header.round + 1)),
            ],
            [
                made(txids=tuple(reversed(block.transactions))),
                made(txids=(*block.transactions, *block.transactions[:1])),
                made(txids=block.transactions[1:]),
                made(verdicts=(*block.verdicts, *block.verdicts[:1])),
            ],
        ]
        if proved:
            late = [verdict for verdict in proved if replica._finality.ending(verdict.txid) is not None]
            kinds += [[lambda: self._judging(replica, block, late or proved)]] * 2
            kinds += [[lambda: self._judging(replica, block, proved)]] * 2
        some = self._some_transaction(replica)
        if some is not None:
            forged = self._forged(some, known)
            aborts = tuple(replace(verdict, kind="abort") for verdict in forged)
            kinds += [[made(txids=self._with(block, some))]] * 2
            kinds.append([
                made(txids=self._with(block, some), verdicts=(*block.verdicts, *forged)),
                made(verdicts=aborts),
                lambda: replace(block, transactions=(*block.transactions, some.txid)),
            ])
        return self._chance.choice(self._chance.choice(kinds))()

    def _judging(self, replica: Replica, block: Block, verdicts: Sequence[Verdict]) -> Block:
        """With one or two of these verdicts instead: some come too late, and some go against each other."""
        drawn = self._chance.sample(verdicts, min(len(verdicts), self._chance.randint(1, 2)))
        chosen = tuple(sorted({verdict.txid: verdict for verdict in drawn}.values(), key=lambda each: each.txid))
        committed = {verdict.txid for verdict in block.verdicts if verdict.kind == "commit"}
        listed = dict.fromkeys(txid for txid in block.transactions if txid not in committed)
        parents = {**listed, **{verdict.txid: None for verdict in chosen if verdict.kind == "commit"}}
        return self._made(replica, block, txids=in_order(dict.fromkeys(parents, ())), verdicts=chosen)

    def _some_transaction(self, replica: Replica) -> Transaction | None:
        """Rather one whose fate is open."""
        undecided = [payment.tx for payment in replica.payments if payment.tx is not None]
        some = undecided or [entry.tx for entry in list(self._book.entries.values())[-6:]]
        return self._chance.choice(some) if some else None

    @staticmethod
    def _with(block: Block, tx: Transaction) -> tuple[str, ...]:
        parents = dict.fromkeys((*block.transactions, tx.txid), ())
        return tuple(in_order(parents))

    @staticmethod
    def _forged(tx: Transaction, known: Sequence[Any]) -> tuple[Verdict, ...]:
        """A certificate of real signatures that are not for this transaction."""
        return (Verdict("commit", tx.txid, tuple(known)),) if known else ()

    def _made(
        self,
        replica: Replica,
        block: Block,
        *,
        header: BlockHeader | None = None,
        txids: Sequence[str] | None = None,
        verdicts: tuple[Verdict, ...] | None = None,
        extra_fees: int = 0,
        wrong_subsidy: bool = False,
    ) -> Block:
        """A block with those contents, whose root, coinbase and commitment are what they must be; but that
        ``extra_fees`` are paid, or a subsidy that is not due, or none that is."""
        header = header or block.header
        listed = block.transactions if txids is None else tuple(txids)
        found = self._book.transactions(listed)
        params, tip = replica._finality.genesis.params, replica.tip
        amount = sum(tx.fee for tx in found) + extra_fees
        if (header.timestamp >= tip.due) is not wrong_subsidy:
            amount += params.subsidy(tip.minted + 1)
        coinbase = make_coinbase(header.height, amount, header.proposer, params)
        draft = Block(header, coinbase, listed, block.verdicts if verdicts is None else verdicts)
        try:
            commitment = replica._agreement.chain._after(coinbase, found).digest
        except (AssertionError, AttributeError):
            commitment = header.commitment  # it spends what this replica does not have: wrong in any case
        header = replace(header, root=draft.tree.root.hex(), commitment=commitment)
        return replace(draft, header=header)
