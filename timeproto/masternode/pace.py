"""When a node steps: at once while steps are quick, and less often the longer they take.

Each message that is stepped on its own costs a signature check, a step and a write to the disk; a hundred in one step
cost hardly more. So while a machine has time to spare nothing waits here but for the sockets that can be read already,
and where it has not, what arrives gathers. What counts is how long the replica's step takes by the clock on the wall:
that grows with the load, and with other programs that want the processor. A slow disk does not count: while a commit is
on its way there, everything gathers anyway. And where a step's worth is here already nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

QUICK = 0.001
"""Seconds a step may take before the next one is put off: a few payments' worth."""
GATHER = 16.0
"""What arrives gathers for this many times what a step takes beyond that …"""
LONGEST = 0.15
"""… but no longer than so many seconds: until it is final a payment waits four times."""
WEIGHT = 0.07
"""Of the last step in the average …"""
MOST = QUICK + LONGEST / GATHER
"""… in which it counts as so many seconds at most: a block is one long step, and says little of the next."""


class Pace:
    """Puts the next step off, by how long the last ones took."""

    def __init__(self, clock: Any) -> None:
        """``clock``: IReactorTime."""
        self._clock = clock
        self._average = 0.0

    @property
    def wait(self) -> float:
        """Seconds for which what arrives gathers before it is stepped."""
        return min(max(0.0, GATHER * (self._average - QUICK)), LONGEST)

    def gather(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once what comes together is here: when all sockets that have something are read, or later."""
        self._clock.callLater(self.wait, then)

    def during(self, step: Callable[..., T], *given: Any) -> T:
        """What ``step(*given)`` returns; how long it took counts."""
        began = self._clock.seconds()
        result = step(*given)
        took: float = self._clock.seconds() - began
        self._average += WEIGHT * (min(took, MOST) - self._average)
        return result
