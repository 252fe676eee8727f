"""The durable log of transitions, as replays read it: a page is read, searched and encoded once for all who want it.

After a restart hundreds of wallets ask for the same stretch of the log at once. What they find in it differs; what it
costs to find is shared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from timeproto import limits
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.network.node_view import NodeView
from timeproto.network.notifications import LookedUp, Proofs, is_unproven, notification
from timeproto.network.throttle import TokenBucket
from timeproto.wire import codec

Watched = Outpoint | str
"""An outpoint, or an address."""


_NONE = Proofs({})


class Page:
    """Entries of the log without a gap, and which of them concern an outpoint or an address."""

    __slots__ = ("_places", "entries", "first", "last")

    def __init__(self, entries: list[Transition]) -> None:
        """``entries`` is not empty."""
        self.entries = entries
        self.first = entries[0].position
        self.last = entries[-1].position
        self._places: dict[Watched, list[int]] = {}
        for at, transition in enumerate(entries):
            for item in (transition.outpoint, transition.output.address):
                self._places.setdefault(item, []).append(at)

    def about(self, items: Mapping[Watched, int], after: int) -> set[int]:
        """The positions after ``after`` of what concerns ``items``, of each item only those after its own value."""
        fewer: Collection[Watched] = items if len(items) < len(self._places) else self._places
        found: set[int] = set()
        for item in fewer:
            places, start = self._places.get(item), items.get(item)
            if places is not None and start is not None:
                least = max(start, after) - self.first
                found.update(self.first + at for at in places if at > least)
        return found

    def entry(self, position: int) -> Transition:
        return self.entries[position - self.first]


class History:
    """The log in pages, the newest used of them kept. Everything in here is called inside ``NodeView.read``."""

    def __init__(self, view: NodeView, clock: Any) -> None:
        """``clock``: an IReactorTime provider, or None: then reading is not slowed."""
        self._view = view
        self._pages: dict[int, Page] = {}
        self._payloads: dict[int, bytes] = {}
        self._bytes = 0
        self._looked: tuple[str, int, Proofs] | None = None
        self._bucket = None if clock is None else TokenBucket(limits.REPLAY_RATE, limits.REPLAY, clock)
        self.debt = 0.0
        """Seconds whoever reads should wait, since the disk was asked faster than ``limits.REPLAY_RATE``."""

    def page(self, after: int) -> Page | None:
        """The page with the entry that follows ``after``, which there is; None if the log does not reach back so far.

        Sets ``debt``.
        """
        number = after // limits.REPLAY_PAGE
        page = self._pages.pop(number, None)
        self.debt = 0.0
        if page is None or not page.first <= after + 1 <= page.last:
            page = self._read(number)
        if page is None or not page.first <= after + 1 <= page.last:
            return None
        self._pages[number] = page
        if len(self._pages) > limits.REPLAY_PAGES:
            del self._pages[next(iter(self._pages))]
        return page

    def _read(self, number: int) -> Page | None:
        entries = self._view.transitions(number * limits.REPLAY_PAGE, limits.REPLAY_PAGE)
        if self._bucket is not None:
            self.debt = self._bucket.take(len(entries))
        is_whole = bool(entries) and entries[-1].position - entries[0].position + 1 == len(entries)
        return Page(entries) if is_whole else None

    def payload(self, transition: Transition) -> bytes:
        """The notification of an entry with what proves it, encoded."""
        payload = self._payloads.pop(transition.position, None)
        if payload is None:
            proofs = _NONE if is_unproven(transition) else self._proofs_of(transition.txid)
            payload = codec.encode(notification(transition, self._view.node_key, proofs))
            self._bytes += len(payload)
        self._payloads[transition.position] = payload
        while self._bytes > limits.REPLAY_BYTES and len(self._payloads) > 1:
            self._bytes -= len(self._payloads.pop(next(iter(self._payloads))))
        return payload

    def _proofs_of(self, txid: str) -> Proofs:
        """The coins of one transaction stand together in the log: it is looked up once for all of them."""
        now = self._view.position()
        if self._looked is None or self._looked[:2] != (txid, now):
            self._looked = txid, now, LookedUp(txid, self._view.transaction(txid))
        return self._looked[2]
