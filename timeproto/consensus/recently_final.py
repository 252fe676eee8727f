"""What became final a moment ago: a vote that comes late is recognised without a look at the disk."""

from __future__ import annotations

from timeproto import limits


class RecentlyFinal:
    """Bounded by ``limits.RECENTLY_FINAL``: the oldest is forgotten first."""

    def __init__(self) -> None:
        self._txids: dict[str, None] = {}

    def __contains__(self, txid: object) -> bool:
        return txid in self._txids

    def __len__(self) -> int:
        return len(self._txids)

    def note(self, txid: str) -> None:
        """``txid`` is final."""
        self._txids[txid] = None
        if len(self._txids) > limits.RECENTLY_FINAL:
            del self._txids[next(iter(self._txids))]
