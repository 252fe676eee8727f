"""This replica's list of final transactions, and where it stands in each peer's.

Every masternode lists what became final with it, in order. A replica follows each peer's list with a position of
its own, moves it only past what is final here too, and keeps it: so after any absence nothing is missed and
nothing is fetched twice, whoever else was away.
"""

from __future__ import annotations

from collections.abc import Iterable

from timeproto import limits
from timeproto.model.ledger import Ledger
from timeproto.wire.messages import Finalized, GetFinalized


class FinalList:
    """This replica's own list, as far as it is committed.

    Each peer comes for every entry soon after it was made, so the newest, up to ``limits.RECENTLY_FINAL``, are at hand.
    """

    def __init__(self, ledger: Ledger, length: int) -> None:
        """``length``: how many are committed."""
        self._ledger = ledger
        self._read_below = length
        self._at_hand: list[str] = []

    def extend(self, txids: Iterable[str]) -> None:
        """These are committed now."""
        self._at_hand += txids
        if len(self._at_hand) > limits.RECENTLY_FINAL:
            gone = len(self._at_hand) // 2  # by halves: to take the first out of a list moves all the others
            self._read_below += gone
            del self._at_hand[:gone]

    def page(self, request: GetFinalized) -> Finalized:
        """What is asked for of it."""
        head = self._read_below + len(self._at_hand)
        since = min(request.since, head)
        if since < self._read_below:
            txids = self._ledger.finalized(since, limits.CATCH_UP_PAGE)
        else:
            start = since - self._read_below
            txids = self._at_hand[start : start + limits.CATCH_UP_PAGE]
        return Finalized(id=request.id, txids=tuple(txids), next=since + len(txids), head=head)


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
