"""When a node steps: at once while the machine has time to spare, and less often the less it has.

Each message that is stepped on its own costs a signature check, a step, a write to the disk and what other processes
had in the processor's caches; a hundred in one step cost hardly more. So while there is time to spare nothing waits
here but for the sockets that can be read already, and where there is little, what arrives gathers, for longer and
longer until there is some again. What tells is how busy the machine is, and neither the length of steps nor how long
they stand in a queue: both are the longer the more has gathered, and what once waited long would go on to.

A node that does little itself does not wait: it would save next to nothing, whoever fills the machine. And where a
step's worth is here already nothing is waited for (masternode.integration).
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

from timeproto.masternode.usage import Usage

TAKEN = 0.8
"""The share of the machine's processors that may be taken: the wait grows above it, and shrinks below …"""
GAIN = 10.0
"""… by this power of e for the whole machine …"""
LOOK = 0.25
"""… at each look, so many seconds apart …"""
SHORTEST = 0.004
"""… from so many seconds, below which nothing waits …"""
LONGEST = 0.03
"""… to so many: until it is final a payment waits four times."""
WORTH = 0.5
"""Seconds of waiting, at most, for each processor that this process has: one that works for a tenth of the time waits
no longer than 50 ms, for there is no more to save."""


class Pace:
    """Puts the next step off, by how busy the machine is."""

    def __init__(self, clock: Any, usage: Callable[[], Usage | None]) -> None:
        """``clock``: IReactorTime; ``usage`` tells what was used since it was asked last (masternode.usage.Meter)."""
        self._clock = clock
        self._usage = usage
        self._looked = clock.seconds()
        self._patience = SHORTEST
        self._own = 0.0

    @property
    def wait(self) -> float:
        """Seconds for which what arrives gathers before it is stepped."""
        return min(self._patience, WORTH * self._own) if self._patience > SHORTEST else 0.0

    def gather(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once what comes together is here: when all sockets that have something are read, or later."""
        now = self._clock.seconds()
        if abs(now - self._looked) >= LOOK:  # a clock can be set back
            self._looked = now
            self._look()
        self._clock.callLater(self.wait, then)

    def _look(self) -> None:
        usage = self._usage()
        if usage is None:
            self._patience = SHORTEST
            return
        patience = self._patience * exp(GAIN * (usage.taken - TAKEN))
        self._patience = min(LONGEST, max(SHORTEST, patience))
        self._own = usage.own
