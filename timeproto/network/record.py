"""What masternodes were proven to have done wrong, and who is shut out for it, for how long (errors.POLICY).

Only members of the set have a record, and only what the sender itself must have known to be false is in it. A torn
stream is nobody's crime, and never more than f of them are shut out: no trick makes a node cut itself off.
"""

from __future__ import annotations

from typing import Any

import attrs

from timeproto import limits
from timeproto.model.masternodes import MasternodeSet


@attrs.frozen
class Entry:
    """``points`` of a masternode that are not forgotten; ``seconds`` it is still shut out, 0 if it is not."""

    key: str
    points: int
    seconds: float


class Record:
    """The records of one set of masternodes, since the start."""

    def __init__(self, clock: Any, members: MasternodeSet) -> None:
        """``clock``: an IReactorTime provider."""
        self._clock = clock
        self._members = members
        self._faults: dict[str, tuple[int, float]] = {}
        self._banned: dict[str, float] = {}

    def add(self, key: str, points: int) -> bool:
        """Counts a proven fault; True if the masternode is shut out for it, for ``limits.BAN`` seconds from now.

        Faults are forgotten after ``limits.BAN`` without a new one.
        """
        if key not in self._members:
            return False
        now = self._clock.seconds()
        points += self._points(key, now)
        self._faults[key] = points, now
        banned = [each for each, until in self._banned.items() if until > now]
        if points < limits.MISBEHAVIOUR or len(banned) >= self._members.faulty:
            return False
        self._banned[key] = now + limits.BAN
        del self._faults[key]
        return True

    def _points(self, key: str, now: float) -> int:
        points, last = self._faults.get(key, (0, now))
        return points if now - last < limits.BAN else 0

    def shut_out(self, key: str) -> float:
        """For how many seconds a masternode is still shut out; 0 if it is not."""
        return max(0.0, float(self._banned.get(key, 0.0) - self._clock.seconds()))

    def lift(self, key: str) -> bool:
        """Forgets all of a masternode; False if there was nothing."""
        known = self.shut_out(key) > 0 or self._points(key, self._clock.seconds()) > 0
        self._banned.pop(key, None)
        self._faults.pop(key, None)
        return known

    def entries(self) -> list[Entry]:
        """Of everybody who has a record now."""
        now = self._clock.seconds()
        every = [Entry(key, self._points(key, now), self.shut_out(key)) for key in self._members.keys]
        return [each for each in every if each.points or each.seconds]
