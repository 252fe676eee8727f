"""Who watches what: an index from outpoints and addresses to subscribers.

A subscriber is any hashable value of the shell's (a connection and a name). Bounds are the caller's to check,
with :meth:`SubscriptionIndex.size`; the index only remembers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Set

from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint

Watched = Outpoint | str


class SubscriptionIndex:
    """Outpoints and addresses, each with its watchers, and the way back."""

    def __init__(self) -> None:
        self._watchers: dict[Watched, dict[Hashable, None]] = {}
        self._watched: dict[Hashable, dict[Watched, None]] = {}

    def __len__(self) -> int:
        """The number of subscribers."""
        return len(self._watched)

    def __contains__(self, subscriber: Hashable) -> bool:
        return subscriber in self._watched

    def size(self, subscriber: Hashable) -> int:
        """How many outpoints and addresses ``subscriber`` watches."""
        return len(self._watched.get(subscriber, ()))

    def add(self, subscriber: Hashable, items: Iterable[Watched]) -> None:
        """Watch ``items`` too: outpoints and address strings. Adding one twice changes nothing."""
        watched = self._watched.setdefault(subscriber, {})
        for item in items:
            watched[item] = None
            self._watchers.setdefault(item, {})[subscriber] = None

    def remove(self, subscriber: Hashable) -> bool:
        """Forget ``subscriber``; False if it was not there."""
        watched = self._watched.pop(subscriber, None)
        if watched is None:
            return False
        for item in watched:
            watchers = self._watchers[item]
            del watchers[subscriber]
            if not watchers:
                del self._watchers[item]
        return True

    def match(self, transition: Transition) -> list[Hashable]:
        """The subscribers of this coin's outpoint or owner, each once, in the order they came."""
        by_outpoint = self._watchers.get(transition.outpoint)
        by_address = self._watchers.get(transition.output.address)
        if by_outpoint is None or by_address is None:
            return list(by_outpoint or by_address or ())
        return list(by_outpoint | by_address)

    def among(self, subscribers: Set[Hashable], outpoint: Outpoint, address: str) -> set[Hashable]:
        """Those of ``subscribers`` that watch a coin, which need not exist yet. Takes no longer than the fewer of them
        and the coin's watchers are."""
        found = set[Hashable]()
        for item in (outpoint, address):
            watchers = self._watchers.get(item)
            if watchers is not None:
                found |= watchers.keys() & subscribers
        return found
