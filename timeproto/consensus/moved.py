"""What final transactions do to the commitment over all unspent coins, computed before a block needs it (protocol §6).

A block is for nearly all that is final and in no block yet, so the product over all of that is kept, and what a block
leaves out is taken out of it again. Everybody judges a block at the same moment: to multiply 500 transactions anew took
him 1.5 ms, and payments waited for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
from gmpy2 import mpz

from timeproto import limits
from timeproto.model.muhash import multiply


@attrs.frozen
class Moved:
    """The products of the coins that are made and of those that are spent; what counts is the one over the other."""

    made: mpz
    spent: mpz


def together(moved: Iterable[Moved], undone: Iterable[Moved] = ()) -> Moved:
    """All of ``moved``, without ``undone``."""
    moved, undone = list(moved), list(undone)
    made = multiply([*(each.made for each in moved), *(each.spent for each in undone)])
    spent = multiply([*(each.spent for each in moved), *(each.made for each in undone)])
    return Moved(made, spent)


class Movements:
    """By txid, and all together."""

    def __init__(self) -> None:
        self._of: dict[str, Moved] = {}
        self._all: Moved | None = together(())

    def __len__(self) -> int:
        return len(self._of)

    def get(self, txid: str) -> Moved | None:
        return self._of.get(txid)

    def add(self, txid: str, moved: Moved) -> None:
        """One that is not here yet."""
        self._of[txid] = moved
        every = self._all
        if every is not None:
            self._all = Moved(multiply((every.made, moved.made)), multiply((every.spent, moved.spent)))

    def remove(self, txids: Iterable[str]) -> None:
        """They are in a block. If it left much behind, what is left is not multiplied: a full block follows, which
        leaves much behind again."""
        before = len(self._of)
        for txid in txids:
            self._of.pop(txid, None)
        if len(self._of) < before:
            self._all = together(self._of.values()) if len(self._of) <= limits.BLOCK_WORTH else None

    def of(self, block: Mapping[str, Moved]) -> Moved:
        """All of ``block`` together."""
        if self._all is not None:
            more = [moved for txid, moved in block.items() if txid not in self._of]
            less = [moved for txid, moved in self._of.items() if txid not in block]
            if len(more) + len(less) < len(block):
                return together((self._all, *more), less)
        return together(block.values())
