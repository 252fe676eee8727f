"""Virtual time: what happens next, and when. Whole microseconds, so that no rounding can order two events."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

MILLISECOND = 1_000
SECOND = 1_000_000


class Events:
    """Things that will happen, in the order of their time; at one time in the order they were planned."""

    def __init__(self) -> None:
        self.now = 0
        self.happened = 0
        self._planned: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: int, what: Callable[..., None], *args: Any) -> None:
        """``what(*args)`` in ``delay`` microseconds."""
        self._count += 1
        heapq.heappush(self._planned, (self.now + delay, self._count, what, args))

    def at(self, time: int, what: Callable[..., None], *args: Any) -> None:
        self.after(max(0, time - self.now), what, *args)

    def run_until(self, time: int) -> None:
        """Everything up to and at ``time``, which is then now."""
        planned = self._planned
        while planned and planned[0][0] <= time:
            self.now, _, what, args = heapq.heappop(planned)
            self.happened += 1
            what(*args)
        self.now = time


def stream(seed: int, name: str) -> random.Random:
    """The chance of one part of a run: what one part draws moves no other part."""
    return random.Random(f"timeproto/sim/{seed}/{name}")  # noqa: S311 - the point is that it can be repeated
