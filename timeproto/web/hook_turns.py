"""Whose POST is next. Receivers that are slow, or not there, wait for each other and not before the quick ones."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from timeproto.web import bounds


class Slow(Protocol):
    """Compared by identity."""

    slow: bool


T = TypeVar("T", bound=Slow)


class Turns(Generic[T]):
    """Two queues, the quick and the slow, and how many of each are under way. None is in a queue twice."""

    def __init__(self) -> None:
        self._ready: dict[bool, dict[T, None]] = {False: {}, True: {}}
        self._running: dict[T, bool] = {}

    def add(self, one: T) -> None:
        """Its turn comes, after those that wait already."""
        self.leave(one)
        self._ready[one.slow][one] = None

    def leave(self, one: T) -> None:
        for queue in self._ready.values():
            queue.pop(one, None)

    def is_any(self) -> bool:
        """True if :meth:`take` has one to give."""
        return self._lane() is not None

    def take(self) -> T | None:
        """The next, which is under way until :meth:`ended`; None if nobody waits or too many are under way."""
        lane = self._lane()
        if lane is None:
            return None
        one = next(iter(self._ready[lane]))
        del self._ready[lane][one]
        self._running[one] = lane
        return one

    def ended(self, one: T) -> None:
        self._running.pop(one, None)

    def _lane(self) -> bool | None:
        if len(self._running) >= bounds.WEBHOOK_POSTS:
            return None
        slow_has_room = sum(self._running.values()) < bounds.WEBHOOK_SLOW_POSTS
        # Of two that may go, the slow one does: the quick ones leave room again at once.
        if self._ready[True] and slow_has_room:
            return True
        return False if self._ready[False] else None
