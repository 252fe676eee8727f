"""The replica's timers on the reactor's clock, which runs on whatever somebody does to the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime


def keep_steady(reactor: Any) -> None:
    """From now on ``reactor`` goes by a clock that nobody can set. Twisted's own is the one on the wall: set back by an
    hour, it would keep whatever waits for a moment, and with it this node, waiting for an hour. Call it before anything
    is scheduled, for the two clocks count from different days."""
    reactor.seconds = time.monotonic


class Timers:
    """Started by a step's effects; :meth:`stop` forgets those that have not run out."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: dict[int, IDelayedCall] = {}
        self._started = 0

    def seconds(self) -> float:
        """The clock's time."""
        return float(self._clock.seconds())

    def start(self, milliseconds: int, then: Callable[[], None]) -> None:
        """Calls ``then`` once, after that time."""
        self._started += 1
        # The call knows its number and not itself: in a ring it would wait for the garbage collector, a hundred each
        # second where many ask.
        self._running[self._started] = self._clock.callLater(milliseconds / 1000, self._due, self._started, then)

    def _due(self, number: int, then: Callable[[], None]) -> None:
        del self._running[number]
        then()

    def stop(self) -> None:
        running, self._running = self._running, {}
        for call in running.values():
            call.cancel()
