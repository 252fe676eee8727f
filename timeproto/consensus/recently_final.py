"""What became final a moment ago, and whose commit vote for it is still out.

A vote that comes late is recognised without a look at the disk, and a masternode that stays silent is handed the
proof: it may have missed the votes.
"""

from __future__ import annotations

from timeproto import limits


class RecentlyFinal:
    """Bounded by ``limits.RECENTLY_FINAL``: the oldest is forgotten first."""

    def __init__(self) -> None:
        self._silent: dict[str, set[str]] = {}
        self._young: list[str] = []
        self._settled: list[str] = []

    def __contains__(self, txid: object) -> bool:
        return txid in self._silent

    def note(self, txid: str, silent: set[str]) -> None:
        """``txid`` is final; the masternodes ``silent`` have not been heard to commit to it."""
        self._silent[txid] = silent
        if silent:
            self._young.append(txid)
        if len(self._silent) > limits.RECENTLY_FINAL:
            del self._silent[next(iter(self._silent))]

    def heard(self, txid: str, voter: str) -> None:
        """A late commit vote."""
        if txid in self._silent:
            self._silent[txid].discard(voter)

    def laggards(self) -> list[tuple[str, list[str]]]:
        """Called once a tick: what was final a tick ago, with those who are still silent about it."""
        due = [(txid, sorted(self._silent.get(txid, ()))) for txid in self._settled]
        self._settled, self._young = self._young[-limits.HINTS :], []
        return [(txid, silent) for txid, silent in due if silent]
