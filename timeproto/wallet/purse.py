"""What a wallet with money must remember: its phrase, which addresses it handed out, which payments are undecided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from timeproto.model.transaction import Transaction
from timeproto.wallet import hd


class CoinsTaken(Exception):
    """Undecided ``payments`` of the purse, another process' perhaps, spend coins of the one that was to be added."""

    def __init__(self, payments: tuple[Transaction, ...]) -> None:
        super().__init__(f"coins are spent by {', '.join(tx.txid for tx in payments)}, which is not decided yet")
        self.payments = payments


class Purse(Protocol):
    """The seam: a wallet file (wallet.keystore.WalletFile) or memory. What a method changed is kept when it returns."""

    phrase: str

    @property
    def receive_index(self) -> int:
        """How many addresses were handed out."""

    @property
    def change_index(self) -> int: ...

    @property
    def pending(self) -> Sequence[Transaction]:
        """Payments that may have left and are not known to be decided."""

    def look(self) -> None:
        """Sees what another process has changed, if others may."""

    def reserve_receive_index(self) -> int: ...

    def reserve_change_index(self) -> int: ...

    def take_spare_change(self) -> int | None:
        """The index of an address for change that was given back, which is nobody else's from now on; None if there is
        none."""

    def give_back_change(self, *indices: int) -> None:
        """The addresses for change with these indices were never paid. Again: nothing."""

    def add_pending(self, tx: Transaction) -> None:
        """Raises :class:`CoinsTaken` if a coin of ``tx`` is in a pending payment already."""

    def share(self, *txids: str) -> list[str]:
        """Notes that one more process may send these payments from now on; returns those that are pending."""

    def take_back(self, txid: str, *spare: int) -> bool:
        """Removes the payment and gives ``spare`` indices of change back, unless another process may have sent it: then
        False. In one step, so that none can begin to send it meanwhile."""

    def remove_pending(self, txid: str, *spare: int) -> None:
        """The payment is over, whoever sent it. ``spare`` indices of change are given back if it was still there."""


def require_free(tx: Transaction, pending: Iterable[Transaction]) -> None:
    """Returns if no payment of ``pending`` spends a coin of ``tx``; raises :class:`CoinsTaken`."""
    coins = set(tx.outpoints)
    taken = tuple(each for each in pending if not coins.isdisjoint(each.outpoints))
    if taken:
        raise CoinsTaken(taken)


class MemoryPurse:
    """A purse that is gone with the process: for servers that keep the phrase themselves, demos and tests."""

    def __init__(self, phrase: str, *, receive_index: int = 1, change_index: int = 0) -> None:
        """:class:`ConfigurationError` for a phrase that is none."""
        self.phrase = hd.check_phrase(phrase)
        self.receive_index = receive_index
        self.change_index = change_index
        self.pending: list[Transaction] = []
        self._spare: list[int] = []
        self._shared: set[str] = set()

    def __repr__(self) -> str:
        return f"<MemoryPurse of {self.receive_index} addresses>"

    def look(self) -> None:
        """Nobody else has it."""

    def reserve_receive_index(self) -> int:
        self.receive_index += 1
        return self.receive_index - 1

    def reserve_change_index(self) -> int:
        self.change_index += 1
        return self.change_index - 1

    def take_spare_change(self) -> int | None:
        return self._spare.pop(0) if self._spare else None

    def give_back_change(self, *indices: int) -> None:
        self._spare = sorted({*self._spare, *indices})

    def add_pending(self, tx: Transaction) -> None:
        require_free(tx, self.pending)
        self.pending.append(tx)

    def share(self, *txids: str) -> list[str]:
        there = [tx.txid for tx in self.pending if tx.txid in txids]
        self._shared.update(there)
        return there

    def take_back(self, txid: str, *spare: int) -> bool:
        is_ours = txid not in self._shared and any(tx.txid == txid for tx in self.pending)
        if is_ours:
            self.remove_pending(txid, *spare)
        return is_ours

    def remove_pending(self, txid: str, *spare: int) -> None:
        rest = [tx for tx in self.pending if tx.txid != txid]
        if len(rest) < len(self.pending):
            self.pending = rest
            self._shared.discard(txid)
            self.give_back_change(*spare)
