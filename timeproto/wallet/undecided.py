"""Payments that are not decided, by their txid and by the coins that they spend."""

from __future__ import annotations

from collections.abc import Iterator

from timeproto.model.transaction import Outpoint
from timeproto.wallet.payment import Payment


class Undecided:
    """In the order in which they came; that may change while somebody goes through them."""

    def __init__(self) -> None:
        self._payments: dict[str, Payment] = {}
        self._spending: dict[Outpoint, dict[str, Payment]] = {}

    def __iter__(self) -> Iterator[Payment]:
        return iter(list(self._payments.values()))

    def get(self, txid: str) -> Payment | None:
        return self._payments.get(txid)

    def spending(self, outpoint: Outpoint) -> list[Payment]:
        """Those that want this coin."""
        return list(self._spending.get(outpoint, {}).values())

    def add(self, payment: Payment) -> None:
        """There is none of its txid yet."""
        self._payments[payment.txid] = payment
        for outpoint in set(payment.tx.outpoints):  # nobody takes one that names a coin twice, but may be asked to
            self._spending.setdefault(outpoint, {})[payment.txid] = payment

    def remove(self, payment: Payment) -> bool:
        """False if it is not here any more: what is kept under its txid then belongs to another one."""
        if self._payments.get(payment.txid) is not payment:
            return False
        del self._payments[payment.txid]
        for outpoint in set(payment.tx.outpoints):
            wanted_by = self._spending[outpoint]
            del wanted_by[payment.txid]
            if not wanted_by:
                del self._spending[outpoint]
        return True

    def clear(self) -> list[Payment]:
        """None is left; these were here."""
        payments = list(self)
        self._payments.clear()
        self._spending.clear()
        return payments
