"""What a wallet with money must remember: its phrase, which addresses it handed out, which payments are undecided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from timeproto.model.transaction import Transaction


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

    def reserve_receive_index(self) -> int: ...

    def reserve_change_index(self) -> int: ...

    def add_pending(self, tx: Transaction) -> None: ...

    def remove_pending(self, txid: str) -> None: ...


class MemoryPurse:
    """A purse that is gone with the process: for servers that keep the phrase themselves, demos and tests."""

    def __init__(self, phrase: str, *, receive_index: int = 1, change_index: int = 0) -> None:
        self.phrase = phrase
        self.receive_index = receive_index
        self.change_index = change_index
        self.pending: list[Transaction] = []

    def __repr__(self) -> str:
        return f"<MemoryPurse of {self.receive_index} addresses>"

    def reserve_receive_index(self) -> int:
        self.receive_index += 1
        return self.receive_index - 1

    def reserve_change_index(self) -> int:
        self.change_index += 1
        return self.change_index - 1

    def add_pending(self, tx: Transaction) -> None:
        self.pending.append(tx)

    def remove_pending(self, txid: str) -> None:
        self.pending = [tx for tx in self.pending if tx.txid != txid]
