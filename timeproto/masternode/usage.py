"""How much of the processors is used, by everybody on this machine and by this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

STAT = Path("/proc/stat")
_NICE, _IDLE, _IOWAIT = 1, 3, 4
"""Where these stand among the times of a processor (proc(5)). The last two, guests', are in the first two already."""
_TIMES = 8


@attrs.frozen
class Usage:
    """Of the time since the last look: the share of the machine's processors that was ``taken``, from 0 to 1, and how
    many processors this process has had, all its threads counted. In a container too the machine is the whole of it.

    What its host kept from this machine is taken. What is nice (nice(1)) is not: it stands back for whoever comes.
    """

    taken: float
    own: float


class Meter:
    """Call it for the :class:`Usage` since the call before. None where the system does not tell (it is Linux's), or
    tells what cannot be: counters go back where a processor is taken away, or a machine moves to another host."""

    def __init__(self, clock: Any, own: Callable[[], float] = time.process_time, stat: Path = STAT) -> None:
        """``clock``: IReactorTime; ``own`` gives the seconds of processor's time that this process has had."""
        self._clock = clock
        self._own = own
        self._stat = stat
        self._last = self._read()

    def __call__(self) -> Usage | None:
        before, self._last = self._last, self._read()
        if before is None or self._last is None:
            return None
        seconds, own, taken, free = (now - then for now, then in zip(self._last, before, strict=True))
        if seconds <= 0 or min(own, taken, free) < 0 or not taken + free:
            return None
        return Usage(taken / (taken + free), own / seconds)

    def _read(self) -> tuple[float, float, int, int] | None:
        """The time, this process's, and the machine's clock ticks since it started: those taken and the others."""
        try:
            with self._stat.open("rb") as lines:
                ticks = [int(word) for word in lines.readline().split()[1 : 1 + _TIMES]]
            free = ticks[_NICE] + ticks[_IDLE] + ticks[_IOWAIT]
        except (OSError, ValueError, IndexError):
            return None
        return self._clock.seconds(), self._own(), sum(ticks) - free, free
