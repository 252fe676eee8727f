"""Leases: subscriptions that outlive their connection for a time, and are taken up with a token, or by the key they
belong to (protocol §8).

A lease is a filter and a time. Where its wallet went on reading is the wallet's to say, with a cursor; so a lease that
waits for its wallet costs its filter and nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import attrs

from timeproto import limits
from timeproto.network.feeds import Feed
from timeproto.network.filters import Subscription
from timeproto.wire.messages import Owner


@attrs.define(eq=False)
class Lease:
    """``feed`` is None while no connection has it; ``ends_at`` in seconds of the reactor's clock.

    One that belongs to a key (``owner``) has no token; ``time`` is that of the newest word of its owner.
    """

    token: str | None = attrs.field(repr=False)
    subscription: Subscription
    feed: Feed | None
    ends_at: float
    owner: str | None = None
    time: int = 0
    call: Any = None


class Leases:
    """The leases of one node. Each is announced to its connection before it ends, and told when it has ended."""

    def __init__(
        self,
        clock: Any,
        *,
        on_expiring: Callable[[Lease, int], None],
        on_end: Callable[[Lease], None],
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``clock``: an IReactorTime provider. ``on_expiring(lease, milliseconds)``, ``on_end(lease)``: its time is up;
        whoever is told calls :meth:`drop`."""
        self._clock = clock
        self._on_expiring = on_expiring
        self._on_end = on_end
        self._random = random
        self._by_token: dict[str, Lease] = {}
        self._of: dict[Subscription, Lease] = {}
        self._of_key: dict[str, dict[str, Lease]] = {}
        self._parked: dict[Lease, None] = {}
        self._parked_of: dict[str, dict[Lease, None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    @property
    def parked(self) -> int:
        """How many wait for their wallet."""
        return len(self._parked)

    def parked_of(self, block: str | None) -> dict[Lease, None]:
        """Those that wait, of an address block or with None of all, in the order in which they began to; not to be
        changed."""
        return self._parked if block is None else self._parked_of.get(block, {})

    def of(self, subscription: Subscription) -> Lease | None:
        return self._of.get(subscription)

    def find(self, token: str, name: str) -> Lease | None:
        """The lease of this token, if its subscription has this name."""
        lease = self._by_token.get(token)
        return lease if lease is not None and lease.subscription.name == name else None

    def owned(self, key: str, name: str) -> Lease | None:
        """The lease of this name that belongs to ``key``."""
        return self._of_key.get(key, {}).get(name)

    def count_of(self, key: str) -> int:
        return len(self._of_key.get(key, ()))

    def oldest_of(self, key: str) -> Lease | None:
        """The first of the key's that waits for its wallet."""
        return next((lease for lease in self._of_key.get(key, {}).values() if lease in self._parked), None)

    def grant(self, feed: Feed, subscription: Subscription, milliseconds: int, owner: Owner | None = None) -> Lease:
        """A new lease, or the same for longer: as long as asked, within ``limits.LEASE_LEAST`` and ``limits.LEASE``.

        From then on it belongs to ``owner``, if there is one.
        """
        seconds = min(max(milliseconds / 1000, limits.LEASE_LEAST), limits.LEASE)
        lease = self._of.get(subscription)
        if lease is None:
            token = self._random(32).hex() if owner is None else None
            lease = self._of[subscription] = Lease(token, subscription, feed, 0.0)
            if token is not None:
                self._by_token[token] = lease
        if owner is not None:
            self._give(lease, owner)
        lease.ends_at = self._clock.seconds() + seconds
        self._call(lease, seconds * (1 - limits.LEASE_NOTICE), self._expiring)
        return lease

    def _give(self, lease: Lease, owner: Owner) -> None:
        if lease.token is not None:  # who knows it must not be able to take away what belongs to a key
            del self._by_token[lease.token]
        lease.token, lease.owner, lease.time = None, owner.key, max(lease.time, owner.time)
        self._of_key.setdefault(owner.key, {})[lease.subscription.name] = lease

    def put_off(self, lease: Lease) -> None:
        """Its time is up, but not its end: whoever is told of that is told again, ``limits.LEASE_LEAST`` later."""
        self._call(lease, limits.LEASE_LEAST, self._on_end)

    def left(self, lease: Lease) -> int:
        """Milliseconds until it ends."""
        seconds: float = lease.ends_at - self._clock.seconds()
        return max(0, round(seconds * 1000))

    def take_up(self, lease: Lease, feed: Feed) -> None:
        lease.feed = feed
        self._unpark(lease)

    def park(self, lease: Lease) -> None:
        """Its connection is lost."""
        lease.feed = None
        self._parked[lease] = None
        if lease.subscription.block is not None:
            self._parked_of.setdefault(lease.subscription.block, {})[lease] = None

    def _unpark(self, lease: Lease) -> None:
        self._parked.pop(lease, None)
        block = lease.subscription.block
        waiting = self._parked_of.get(block or "", {})
        waiting.pop(lease, None)
        if block is not None and not waiting:
            self._parked_of.pop(block, None)

    def drop(self, lease: Lease) -> None:
        """It is over: nobody finds it again."""
        if lease.call is not None and lease.call.active():
            lease.call.cancel()
        if lease.token is not None:
            self._by_token.pop(lease.token, None)
        if lease.owner is not None:
            mine = self._of_key.get(lease.owner, {})
            mine.pop(lease.subscription.name, None)
            if not mine:
                self._of_key.pop(lease.owner, None)
        self._of.pop(lease.subscription, None)
        self._unpark(lease)

    def _call(self, lease: Lease, seconds: float, then: Callable[[Lease], None]) -> None:
        if lease.call is not None and lease.call.active():
            lease.call.cancel()
        lease.call = self._clock.callLater(max(0.0, seconds), then, lease)

    def _expiring(self, lease: Lease) -> None:
        self._call(lease, lease.ends_at - self._clock.seconds(), self._on_end)
        self._on_expiring(lease, self.left(lease))
