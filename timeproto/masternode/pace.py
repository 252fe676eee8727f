"""When a node steps: at once while steps are quick, and less often the longer they take.

Each message that is stepped on its own costs a signature check, a step and a write to the disk; a hundred in one step
cost hardly more. So while a machine has time to spare nothing waits here but for the sockets that can be read already,
and where it has not, what arrives gathers. What counts is how long a step takes by the clock on the wall, its commit
and its release with it: that grows with the load, with a slow disk, and with other programs that want the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

QUICK = 0.003
"""Seconds a step may take before the next one is put off: a commit to a good disk, and some."""
GATHER = 5.0
"""What arrives gathers for this many times what a step takes beyond that …"""
LONGEST = 0.05
"""… but no longer than so many seconds: until it is final a payment waits four times."""
WEIGHT = 0.1
"""Of the last step in the average."""


class Pace:
    """Puts the next step off, by how long the last ones took."""

    def __init__(self, clock: Any) -> None:
        """``clock``: IReactorTime."""
        self._clock = clock
        self._average = 0.0
        self._began: float | None = None

    @property
    def wait(self) -> float:
        """Seconds for which what arrives gathers before it is stepped."""
        return min(max(0.0, GATHER * (self._average - QUICK)), LONGEST)

    def gather(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once what comes together is here: when all sockets that have something are read, or later."""
        self._clock.callLater(self.wait, then)

    def begin(self) -> None:
        """A step begins."""
        self._began = self._clock.seconds()

    def end(self) -> None:
        """It is committed, and released."""
        if self._began is not None:
            took = self._clock.seconds() - self._began
            # A block is one long step, and says little of the next.
            self._average += WEIGHT * (min(took, LONGEST) - self._average)
            self._began = None


class AtOnce:
    """No pace: every input is stepped as it comes. For tests, whose messages come one after another anyway."""

    def gather(self, then: Callable[[], None]) -> None:
        then()

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass
