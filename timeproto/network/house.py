"""Who is in: the connections that come to a node, counted, by address block too, and who makes room for whom.

Past ``limits.CONNECTIONS`` only masternodes find a place, if they prove in time that they are. Whoever has none yet,
since it has not said a word (half of a TLS handshake is none) or has yet to prove that, is a *stranger*. Of them there
are few: past that the address block with most of them gives way to whoever comes next, and of it the one who came
first. So no number of open mouths keeps the others out, and nobody who opens many reaches those of others.
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
    """``wallets`` is the number of connections that have spoken and found a place, but for masternodes."""

    def __init__(self, budgets: Budgets, *, reserved: int, room: int | None = None) -> None:
        """``reserved``: places beside ``room`` (by default ``limits.CONNECTIONS``) for those who prove a masternode."""
        self._budgets = budgets
        self._reserved = reserved
        self._room = room
        self._guests: dict[Guest, str | None] = {}
        self._strangers: dict[str | None, dict[Guest, None]] = {}
        self._masternodes: set[Guest] = set()
        self._blocks = Counter[str]()
        self.wallets = 0

    @property
    def room(self) -> int:
        """Connections that are served, those of masternodes aside."""
        return limits.CONNECTIONS if self._room is None else self._room

    def door(self, host: str) -> bool | None:
        """True if a connection from ``host`` is welcome, False if only a masternode's is, None if none is."""
        block = block_of(host)
        crowd = block is not None and self._blocks[block] >= limits.CONNECTIONS_PER_BLOCK
        is_welcome = not (crowd or self._budgets.is_overdrawn(host))
        strangers = sum(map(len, self._strangers.values()))
        is_full = strangers >= limits.STRANGERS or len(self._guests) >= self.room + self._reserved
        if is_full and not self._make_room(block, at_home=not is_welcome):
            return None
        return is_welcome and self.wallets < self.room

    def _make_room(self, block: str | None, *, at_home: bool) -> bool:
        """A stranger goes for a newcomer from ``block``; ``at_home``: only one from there. False if there is none."""
        own = self._strangers.get(block, {})
        most = own if at_home else max(self._strangers.values(), key=len, default=own)
        # The newcomer counts too: who has as many as anybody makes room for itself.
        stranger = next(iter(most if len(most) > len(own) else own), None)
        if stranger is None:
            return False
        self.leave(stranger)
        stranger.abort()
        return True

    def enter(self, guest: Guest) -> None:
        block = self._guests[guest] = block_of(guest.peer_host)
        self._strangers.setdefault(block, {})[guest] = None
        if block is not None:
            self._blocks[block] += 1

    def heard(self, guest: Guest) -> bool:
        """It has said a word; nothing if it did before. False if it finds no place: then it stays a stranger."""
        if self.wallets < self.room and self._settle(guest):
            self.wallets += 1
        return guest not in self._strangers.get(self._guests.get(guest), {})

    def proven(self, guest: Guest) -> None:
        """It is a masternode's, and stays."""
        if guest in self._guests and guest not in self._masternodes:
            self._masternodes.add(guest)
            if not self._settle(guest):
                self.wallets -= 1

    def _settle(self, guest: Guest) -> bool:
        """It is no stranger any more; False if it was none."""
        block = self._guests.get(guest)
        strangers = self._strangers.get(block, {})
        if guest not in strangers:
            return False
        del strangers[guest]
        if not strangers:
            del self._strangers[block]
        return True

    def leave(self, guest: Guest) -> None:
        """It is gone, or as good as gone; nothing if it was before."""
        if guest not in self._guests:
            return
        if not self._settle(guest) and guest not in self._masternodes:
            self.wallets -= 1
        self._masternodes.discard(guest)
        block = self._guests.pop(guest)
        if block is not None:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]
