"""When a node steps: at once while the processor is there when it is wanted, and less often the more others want it.

Each message that is stepped on its own costs a signature check, a step and a write to the disk; a hundred in one step
cost hardly more. So while a machine has time to spare nothing waits here but for the sockets that can be read already,
and where it has not, what arrives gathers. What tells the one from the other are two clocks: a step that takes longer
by the clock on the wall than by the processor's has stood in a queue with others. The length of steps alone does not
tell: they are the longer the more has gathered, so what once waited long would go on to. But a quick step is never put
off: there is nothing to save, whoever fills the machine. A slow disk does not count, nor how busy this node itself is:
while it is at work everything gathers anyway. And where a step's worth is here already nothing is waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time
from typing import Any, TypeVar

T = TypeVar("T")

CROWDED = 2.0
"""From how many seconds on the wall for one of the processor's on the next step is put off for longer …"""
LONGER = 1.25
"""… by this factor, after each step …"""
SHORTER = 1.15
"""… and shorter by this one where there is no crowd …"""
LEAST = 0.0005
"""… from so many seconds on …"""
LONGEST = 0.15
"""… to so many: until it is final a payment waits four times."""
QUICK = 0.001
"""Seconds on the wall that a step takes without being put off: a few payments' worth …"""
GATHER = 16.0
"""… and for how many times what it takes beyond that it is put off at most."""
WEIGHT = 0.07
"""Of the last step in the averages …"""
MOST = QUICK + LONGEST / GATHER
"""… in which it counts as so many seconds at most: a block is one long step, and says little of the next."""


class Pace:
    """Puts the next step off, by how long the last ones took and stood in a queue for the processor."""

    def __init__(self, clock: Any, processor: Callable[[], float] = thread_time) -> None:
        """``clock``: IReactorTime; ``processor`` gives the seconds of processor's time that this thread has had."""
        self._clock = clock
        self._processor = processor
        self._on_the_wall = self._on_the_processor = 0.0
        self._patience = LEAST

    @property
    def wait(self) -> float:
        """Seconds for which what arrives gathers before it is stepped."""
        return min(self._patience, GATHER * max(0.0, self._on_the_wall - QUICK))

    def gather(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once what comes together is here: when all sockets that have something are read, or later."""
        self._clock.callLater(self.wait, then)

    def during(self, step: Callable[..., T], *given: Any) -> T:
        """What ``step(*given)`` returns; how long it took, and how much of that it worked, counts."""
        began, worked = self._clock.seconds(), self._processor()
        result = step(*given)
        took, worked = self._clock.seconds() - began, self._processor() - worked
        share = min(1.0, MOST / took) if took else 1.0
        self._on_the_wall += WEIGHT * (share * took - self._on_the_wall)
        self._on_the_processor += WEIGHT * (share * worked - self._on_the_processor)
        is_crowded = self._on_the_wall > CROWDED * self._on_the_processor
        self._patience = min(LONGEST, max(LEAST, self._patience * LONGER if is_crowded else self._patience / SHORTER))
        return result
