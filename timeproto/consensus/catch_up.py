"""Where this replica stands in each peer's list of final transactions.

Every masternode lists what became final with it, in order. A replica follows each peer's list with a position of
its own, moves it only past what is final here too, and keeps it: so after any absence nothing is missed and
nothing is fetched twice, whoever else was away.
"""

from __future__ import annotations

from timeproto.wire.messages import Finalized


class CatchUp:
    def __init__(self, positions: dict[str, int]) -> None:
        """``positions``: as committed, by masternode key."""
        self._positions = dict(positions)
        self._changed: dict[str, int] = {}
        self._goals: dict[str, int] = {}
        self._awaited: dict[str, str] = {}

    def position(self, peer: str) -> int:
        return self._positions.get(peer, 0)

    def fits(self, peer: str, page: Finalized) -> bool:
        """True if the page begins where we stand; false for a late copy."""
        if page.head < self.position(peer):
            self._positions[peer] = self._changed[peer] = 0  # it lost its list: read it from the start
            self._goals.pop(peer, None)
            return False
        return page.next - len(page.txids) == self.position(peer) and page.next <= page.head

    def advance(self, peer: str, page: Finalized, known: int) -> bool:
        """Moves past the first ``known`` of a page that fits: those are final here. The rest is to be fetched.

        True if all is final here that was final at ``peer`` when it was first asked in this life.
        """
        if known:
            self._positions[peer] = self._changed[peer] = self.position(peer) + known
        if known < len(page.txids):
            self._awaited[peer] = page.txids[known]
        return self.position(peer) >= self._goals.setdefault(peer, page.head)

    def awaited(self, peer: str) -> str | None:
        """The first txid of ``peer``'s list that is not final here and was asked for: once it is, the list goes on."""
        return self._awaited.get(peer)

    def forget(self, peer: str) -> None:
        """No longer wait for ``peer``."""
        self._awaited.pop(peer, None)

    def take_changes(self) -> dict[str, int]:
        """The positions that moved since the last call, to be committed."""
        changed, self._changed = self._changed, {}
        return changed
