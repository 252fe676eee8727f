"""Every transaction that a wallet of the run has signed, and which of them compete; liars and checkers know it all."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from timeproto.model.genesis import Genesis
from timeproto.model.transaction import Outpoint, Transaction, TxOutput


@attrs.define
class Entry:
    """``contested_at`` is the virtual time at which a rival or a cancel of its owner was first handed to anybody."""

    tx: Transaction
    valid: bool = True
    contested_at: int | None = None
    cancelled: bool = False


class Book:
    """``outputs`` holds every coin there ever was or might be, by outpoint."""

    def __init__(self, genesis: Genesis) -> None:
        self.entries: dict[str, Entry] = {}
        self.outputs: dict[Outpoint, TxOutput] = dict(genesis.coins())
        self.minted: list[Outpoint] = []
        self.spenders: dict[Outpoint, list[str]] = {}

    def add(self, tx: Transaction, now: int, *, valid: bool = True, fresh: bool = False) -> Transaction:
        """``valid``: by itself and against its coins, whoever else wants them. ``fresh``: all who did have ended."""
        if tx.txid in self.entries:
            return tx
        entry = self.entries[tx.txid] = Entry(tx, valid)
        self.add_outputs(tx)
        if valid:
            for outpoint in tx.outpoints:
                spenders = self.spenders.setdefault(outpoint, [])
                spenders.append(tx.txid)
                if len(spenders) > 1 and not fresh:
                    for txid in spenders:
                        self._contest(self.entries[txid], now)
        assert entry.tx is tx
        return tx

    def add_outputs(self, tx: Transaction) -> None:
        for vout, output in enumerate(tx.outputs):
            self.outputs[tx.output_outpoint(vout)] = output

    def add_coinbase(self, tx: Transaction) -> None:
        """A decided block's: its coins may be spent like any other."""
        self.add_outputs(tx)
        self.minted += (tx.output_outpoint(vout) for vout in range(len(tx.outputs)))

    def cancel(self, txid: str, now: int) -> None:
        """Its owner has signed a cancel."""
        entry = self.entries[txid]
        entry.cancelled = True
        self._contest(entry, now)

    @staticmethod
    def _contest(entry: Entry, now: int) -> None:
        if entry.contested_at is None:
            entry.contested_at = now

    def tx(self, txid: str) -> Transaction | None:
        entry = self.entries.get(txid)
        return None if entry is None else entry.tx

    def is_contested(self, txid: str) -> bool:
        return self.entries[txid].contested_at is not None

    def rivals(self, txid: str) -> list[str]:
        """Every other transaction that spends one of its coins."""
        spenders = (each for outpoint in self.entries[txid].tx.outpoints for each in self.spenders.get(outpoint, ()))
        return [each for each in dict.fromkeys(spenders) if each != txid]

    def fee(self, txid: str) -> int:
        """What its coins hold more than it pays, whatever the transaction says."""
        tx = self.entries[txid].tx
        given = sum(self.outputs[outpoint].amount for outpoint in tx.outpoints)
        return given - sum(output.amount for output in tx.outputs)

    def transactions(self, txids: Iterable[str]) -> list[Transaction]:
        return [self.entries[txid].tx for txid in txids if txid in self.entries]
