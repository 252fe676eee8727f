"""What one subscription watches: its items, those that wait for the rest of them, and where each was told last; and how
much all of them do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs

from timeproto.network.history import Watched
from timeproto.network.ownership import digest


@attrs.define(eq=False)
class Subscription:
    """A filter with a name: each item with the position after which it is told; ``held`` ones are not told yet.

    Nothing is told up to ``start``: that was told before the feed went back for another subscription; and nothing at
    all before it has ``begun`` on the connection that has it. ``block`` is the address block whose share it is of, None
    if of none.
    """

    name: str
    block: str | None = None
    begun: bool = False
    items: dict[Watched, int] = attrs.field(factory=dict)
    held: set[Watched] = attrs.field(factory=set)
    start: int = 0
    _size: int = 0
    _digest: tuple[int, str] = (0, "")

    def __len__(self) -> int:
        """How many items it watches, or will; one that is held again counts once."""
        return self._size

    @property
    def filter(self) -> Iterable[Watched]:
        """All that it watches, or will."""
        return self.items.keys() | self.held

    @property
    def has_digest(self) -> bool:
        """True if it is at hand: it is made again when the filter has grown."""
        return self._digest[0] == len(self)

    @property
    def digest(self) -> str:
        """Of the filter (network.ownership)."""
        if not self.has_digest:
            self._digest = len(self), digest(self.filter)
        return self._digest[1]

    def hold(self, items: Iterable[Watched], *, again: bool) -> int:
        """Keeps ``items`` back, with ``again`` also those that are told already; returns how many are new."""
        new = self.lacks(items)
        self._size += new
        self.held.update(item for item in items if again or item not in self.items)
        return new

    def lacks(self, items: Iterable[Watched]) -> int:
        """How many of ``items`` would be new."""
        return sum(1 for item in items if item not in self.items and item not in self.held)


class Tally:
    """How much is watched: by all subscriptions of a node (``total``), and by those of one address block."""

    def __init__(self) -> None:
        self.total = 0
        self._blocks = Counter[str]()

    def of(self, block: str) -> int:
        return self._blocks[block]

    def add(self, subscription: Subscription, items: int) -> None:
        """The subscription has so many items more, or with a number below 0 fewer."""
        self.total += items
        block = subscription.block
        if block is None or not items:
            return
        self._blocks[block] += items
        if not self._blocks[block]:
            del self._blocks[block]

    def move(self, subscription: Subscription, block: str | None) -> None:
        """It is of the share of another block from now on."""
        self.add(subscription, -len(subscription))
        subscription.block = block
        self.add(subscription, len(subscription))
