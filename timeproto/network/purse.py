"""Purses, and the time by which they are filled: more slowly, the more all who have one ask together.

It is not lateness that is looked at, nor the processor: a node that is late for reasons of its own, or on a machine
that others use, would slow its wallets for nothing. What they ask is known, and so is what it costs.
"""

from __future__ import annotations

from typing import Any

from timeproto import limits

_LOOK = 0.1
"""Seconds between two looks at what all ask together …"""
_SLOWER = 0.25
_FASTER = 1.1
"""… and by how much time may pass more slowly, or faster, from one to the next."""
_BURST_LEFT = 0.05
"""Of its burst everybody keeps so much however slowly time passes: who pays now and then notices nothing."""


class Pace:
    """Time as it passes for those who pay: ``speed`` is 1 unless they, ``payers`` in number, ask too much together."""

    __slots__ = ("_looked", "_seconds", "_spent", "_then", "kept", "payers", "speed")

    def __init__(self, clock: Any) -> None:
        self._seconds = clock.seconds
        self._looked: float = clock.seconds()
        self._then = 0.0
        self._spent = 0.0
        self.payers = 0
        self.speed = 1.0
        self.kept = 1.0
        """Of a burst, what may be kept."""

    def now(self, cost: float = 0.0) -> float:
        """Seconds as they have passed for purses; ``cost`` was spent now."""
        self._spent += cost
        passed: float = self._seconds() - self._looked
        if passed >= _LOOK:
            self._look(passed)
            passed = 0.0
        elif passed < 0:  # a clock that was put back costs nobody anything
            self._looked += passed
            passed = 0.0
        return self._then + passed * self.speed

    def _look(self, passed: float) -> None:
        self._then += passed * self.speed
        self._looked += passed
        asked, self._spent = self._spent / passed, 0.0
        most = _FASTER ** min(passed / _LOOK, 100.0)
        fits = limits.COST_NODE_PER_SECOND / asked if asked > 0 else most  # below 0 more was given back than spent
        # Never slower than what fits even if everybody is greedy.
        least = limits.COST_NODE_PER_SECOND / (limits.COST_PER_SECOND * max(1, self.payers))
        self.speed = min(1.0, max(least, self.speed * min(max(fits, _SLOWER), most)))
        self.kept = max(self.speed, _BURST_LEFT)


class Purse:
    """``rate`` comes in a second of ``pace``, at most ``burst`` is kept; starts full. Below 0 ``level`` is a debt."""

    __slots__ = ("_filled", "_pace", "burst", "level", "rate")

    def __init__(self, rate: float, burst: float, pace: Pace) -> None:
        self.rate = rate
        self.burst = burst
        self.level = burst
        self._pace = pace
        self._filled = pace.now()

    def take(self, cost: float, now: float) -> float:
        """What is left; ``now`` as the pace says it."""
        level = self.level + (now - self._filled) * self.rate
        most = self.burst * self._pace.kept
        if level > most:  # noqa: PLR1730  (min() takes three times as long)
            level = most
        self._filled = now
        self.level = level = level - cost
        return level

    @property
    def debt(self) -> float:
        """Seconds of ``rate`` that are owed, as of the last :meth:`take`; below 0 if none are."""
        return -self.level / self.rate
