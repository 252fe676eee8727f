"""The replica's timers on the reactor's clock, which runs on whatever somebody does to the wall clock."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timers:
    """Started by a step's effects; :meth:`stop` forgets those that have not run out."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._running: set[IDelayedCall] = set()

    def seconds(self) -> float:
        """The clock's time."""
        return float(self._clock.seconds())

    def start(self, milliseconds: int, then: Callable[[], None]) -> None:
        """Calls ``then`` once, after that time."""

        def due() -> None:
            self._running.discard(call)
            then()

        call = self._clock.callLater(milliseconds / 1000, due)
        self._running.add(call)

    def stop(self) -> None:
        running, self._running = self._running, set()
        for call in running:
            call.cancel()
