"""Who is in: the connections that come to a node, counted, by address block too, and who makes room for whom.

Past ``limits.CONNECTIONS`` only masternodes find a place, if they prove in time that they are. Whoever has not said a
word yet (half of a TLS handshake is none) is a *stranger*: of them there are few, and in a full house none, for the one
who has been silent longest makes room for whoever comes next. So no number of open mouths keeps the others out.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from timeproto import limits
from timeproto.network.budget import Budgets, block_of


class Guest(Protocol):
    """A connection that came in."""

    peer_host: str

    def abort(self) -> None: ...


class House:
    """``wallets`` is the number of connections that have spoken, and not as a masternode."""

    def __init__(self, budgets: Budgets, *, reserved: int, room: int | None = None) -> None:
        """``reserved``: places beside ``room`` (by default ``limits.CONNECTIONS``) for those who prove a masternode."""
        self._budgets = budgets
        self._reserved = reserved
        self._room = room
        self._guests: dict[Guest, None] = {}
        self._strangers: dict[Guest, None] = {}
        self._blocks = Counter[str]()
        self.wallets = 0

    @property
    def room(self) -> int:
        """Connections that are served, those of masternodes aside."""
        return limits.CONNECTIONS if self._room is None else self._room

    def door(self, host: str) -> bool | None:
        """True if a connection from ``host`` is welcome, False if only a masternode's is, None if none is."""
        if self._strangers and (len(self._guests) >= self.room or len(self._strangers) >= limits.STRANGERS):
            stranger = next(iter(self._strangers))
            self.leave(stranger)
            stranger.abort()
        if len(self._guests) >= self.room + self._reserved:
            return None
        block = block_of(host)
        crowd = block is not None and self._blocks[block] >= limits.CONNECTIONS_PER_BLOCK
        return not (crowd or len(self._guests) >= self.room or self._budgets.is_overdrawn(host))

    def enter(self, guest: Guest) -> None:
        self._guests[guest] = self._strangers[guest] = None
        block = block_of(guest.peer_host)
        if block is not None:
            self._blocks[block] += 1

    def heard(self, guest: Guest) -> None:
        """It has said a word; nothing if it did before."""
        if guest in self._strangers:
            del self._strangers[guest]
            self.wallets += 1

    def proven(self, guest: Guest) -> None:
        """It is a masternode."""
        if guest in self._guests:
            self.heard(guest)
            self.wallets -= 1

    def leave(self, guest: Guest, *, masternode: bool = False) -> None:
        """It is gone, or as good as gone; nothing if it was before. ``masternode``: it had proven to be one."""
        if guest not in self._guests:
            return
        del self._guests[guest]
        if guest in self._strangers:
            del self._strangers[guest]
        elif not masternode:
            self.wallets -= 1
        block = block_of(guest.peer_host)
        if block is not None:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]
