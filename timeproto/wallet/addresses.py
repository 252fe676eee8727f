"""The addresses of one purse and their keys: what was handed out, and where change goes.

A restore from the phrase stops after ``GAP_LIMIT`` unused addresses in a row, so an address that was taken for change
and never paid is used again; and of so many that a node watches them no more than barely, an old one is.
"""

from __future__ import annotations

from collections.abc import Callable

from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal, StorageError
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Transaction
from timeproto.params import NetworkParams
from timeproto.wallet import hd
from timeproto.wallet.purse import Purse

GAP_LIMIT = 20
"""Unused addresses in a row after which no more are looked for (BIP-44)."""
MOST_CHANGE = 5_000
"""Addresses for change, from which on one that is empty is used again …"""
MOST = limits.FILTERS_CONNECTION
"""… since a node watches so many in all for one wallet."""
RECEIVE, CHANGE = 0, 1


class Addresses:
    """Every address that was handed out or taken for change, also by other processes with this purse."""

    def __init__(self, purse: Purse, params: NetworkParams) -> None:
        self.keys: dict[str, SigningKey] = {}
        """By address."""
        self._purse = purse
        self._params = params
        self._tree = hd.Tree(hd.seed_of(purse.phrase))
        self._learnt = {RECEIVE: 0, CHANGE: 0}
        self._change: dict[str, int] = {}
        self._fresh: list[str] = []
        self._unwritten: list[int] = []
        self.learn()
        self._fresh.clear()

    def at(self, change: int, index: int) -> str:
        """The address at a place of the tree, whether it was handed out or not."""
        return hd.address(self._tree.key(0, change, index), self._params)

    def learn(self) -> None:
        """Takes in those that the purse counts and that are not known here yet."""
        for change, count in ((RECEIVE, self._purse.receive_index), (CHANGE, self._purse.change_index)):
            for index in range(self._learnt[change], count):
                key = self._tree.key(0, change, index)
                address = hd.address(key, self._params)
                self.keys[address] = key
                if change == CHANGE:
                    self._change[address] = index
                self._fresh.append(address)
            self._learnt[change] = max(self._learnt[change], count)

    def fresh(self) -> list[str]:
        """Those that were learnt since this was asked last, whoever made them."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def new(self) -> str:
        """A fresh one to be paid at; :class:`Refusal` ``over_limit`` if no node would watch it."""
        if len(self.keys) - len(self._change) >= MOST - max(MOST_CHANGE, len(self._change)):
            raise Refusal(
                ErrorCode.OVER_LIMIT,
                f"a wallet has at most {MOST} addresses, {MOST_CHANGE} of them for change: make another wallet",
                limit="filters_connection",
                value=MOST,
            )
        index = self._purse.reserve_receive_index()
        self.learn()
        return self.at(RECEIVE, index)

    def take_change(self, occupied: Callable[[], set[str]]) -> str:
        """Where the change of the next payment goes; ``occupied()`` are the addresses where coins are, or will be."""
        index = self._unwritten.pop() if self._unwritten else self._purse.take_spare_change()
        if index is None:
            coming = [each for tx in self._purse.pending for each in self.change_of(tx)]
            if len(set(coming)) >= GAP_LIMIT - 1:  # if all but the last of them fail, a restore must find that one
                return self.at(CHANGE, coming[-1])
        if index is None and len(self._change) >= MOST_CHANGE:
            full = occupied()
            empty = next((address for address in self._change if address not in full), None)
            if empty is not None:
                self._change[empty] = self._change.pop(empty)  # the last to be used again
                return empty
        if index is None:
            index = self._purse.reserve_change_index()
        self.learn()
        return self.at(CHANGE, index)

    def give_back(self, address: str) -> None:
        """No payment with its change there came about. What cannot be written is used again by this process: a restore
        would not look beyond too many that never were paid."""
        index = self._change[address]
        try:
            self._purse.give_back_change(index)
        except (StorageError, ConfigurationError):
            self._unwritten.append(index)

    def change_of(self, tx: Transaction) -> list[int]:
        """The indices of addresses for change that ``tx`` pays to."""
        return [self._change[output.address] for output in tx.outputs if output.address in self._change]
