"""A wallet's one subscription over all its connections: what is watched, and how far it was told (protocol §8).

The subscription is leased to a key that the wallet makes for itself, where the node knows of that: then neither a new
connection nor another node needs to be told what is watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint
from timeproto.network.ownership import digest, show
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.watch import Watched
from timeproto.wire.messages import Cursor, Owner, UTXOSubscribe, UTXOSubscribed

SUBSCRIPTION = "wallet"

LEASE_MS = 600_000
"""For so long a node is asked to keep the filter while the wallet is not there."""

ANEW = 600.0
"""Seconds after which everything is shown anew, since something could not be proven: where there is another node that
is asked at once."""

PATIENCE = 120.0
"""Seconds of a replay without a word, after which the node is left: more than it takes to read all that a node reads
again, at the speed at which it reads for all of its wallets together."""
LONGEST = 600.0
"""Seconds after which a replay has to come to its end: a node must not keep us waiting for ever, word by word."""
assert 10 * limits.REPLAY / limits.REPLAY_RATE < PATIENCE < LONGEST

RENEWED = limits.LEASE_LEAST / 2
"""Seconds between two renewals: no lease ends sooner, however often a node says that one does."""

_NEVER = frozenset((ErrorCode.OVER_LIMIT, ErrorCode.BAD_ADDRESS, ErrorCode.BAD_FIELD))


class Proprietor:
    """The key that a wallet's lease belongs to."""

    def __init__(self, key: SigningKey, genesis_hash: str, now: Callable[[], int]) -> None:
        """``now`` gives Unix seconds; that the times of what is signed grow does not depend on it."""
        self._key = key
        self._genesis_hash = genesis_hash
        self._now = now
        self._time = 0

    def show(self, protocol: WalletClientProtocol, filter: str | None) -> Owner:
        """The key, shown on a connection to a node that has proven its own."""
        assert protocol.node_key is not None and protocol.node_nonce is not None  # it knows owners
        self._time = max(self._time + 1, self._now() * 1000)
        node, nonce = protocol.node_key, protocol.node_nonce
        return show(self._key, self._genesis_hash, node, nonce, SUBSCRIPTION, time=self._time, filter=filter)


class Place:
    """How far one subscription has been told, in the log of which node.

    The place moves with what was *told*, not with what was heard: where checking stops, the next connection goes on.
    There is one place, and not one for each node: what another node told meanwhile would be told again.
    """

    log = Logger()

    def __init__(self, clock: Any, owner: Proprietor | None = None) -> None:
        """``clock``: an IReactorTime provider. ``owner`` has the key that leases are to belong to."""
        self._clock = clock
        self._owner = owner
        self._shown_on: WalletClientProtocol | None = None
        self._is_owned = False
        self._renewed_on: WalletClientProtocol | None = None
        self._renew_at = 0.0
        self._was_refused = False
        self._items: set[Watched] = set()
        self._reached: Cursor | None = None
        self._is_whole, self._is_lost = True, False
        self._lost_at = 0.0
        self.listens = False
        """True if somebody wants to hear of payments on their way: nodes that tell of them are asked to."""
        self._token: str | None = None
        self._snapshot: float = 0
        self._replay: Deferred[None] | None = None
        self._call: Any = None
        self._until = 0.0

    # -- how far -------------------------------------------------------------------------------------

    @property
    def cursor(self) -> Cursor | None:
        """Everything has been told up to here; None while something is missing that no replay would bring."""
        return self._reached if self._is_whole and not self._is_lost else None

    def is_after(self, cursor: Cursor) -> bool:
        """True if ``cursor`` comes after what was told on this connection."""
        reached = self._reached
        return reached is None or (cursor.node == reached.node and cursor.position > reached.position)

    def reached(self, cursor: Cursor) -> None:
        """Everything that has begun has been told up to ``cursor``; a node's word that leads back is ignored."""
        if self.is_after(cursor):
            self._reached = cursor

    def lose(self) -> None:
        """Something was not told, and no replay will tell it: the next connection has to begin anew."""
        self._lost_at = self._lost_at if self._is_lost else self._clock.seconds()
        self._is_lost = True

    @property
    def is_to_be_left(self) -> bool:
        """True if something is missing for so long that even the only node is to be asked anew."""
        return self._is_lost and self._clock.seconds() >= self._lost_at + ANEW

    def begin(self) -> None:
        """Nothing counts that was told before; nor what is told now, until it is :meth:`whole`."""
        self._items.clear()
        self._token = self._reached = None
        self._snapshot = 0
        self._is_whole = self._is_lost = False

    def whole(self) -> None:
        """Every coin has been shown."""
        self._is_whole = True

    def holds_more_than(self, items: Collection[Watched]) -> bool:
        """True if a node watches something else too: what was watched once."""
        return not self._items.issubset(items)

    # -- the node's side -----------------------------------------------------------------------------

    async def subscribe(self, protocol: WalletClientProtocol, page: Iterable[Watched]) -> UTXOSubscribed:
        """Watches ``page`` too, at most ``limits.FILTER`` items, beginning with the states of their coins."""
        before, self._snapshot = self._snapshot, math.inf  # for an answer may be lost on its way
        try:
            reply = await self._ask(protocol, page, ttl_ms=LEASE_MS if protocol.knows_cursors else None)
        except Refusal as refusal:
            if refusal.code is not ErrorCode.TIMEOUT:
                self._snapshot = before  # the node has taken nothing
            raise
        self.took(reply, page)
        return reply

    def took(self, reply: UTXOSubscribed, items: Iterable[Watched]) -> None:
        """The states of ``items`` are in ``reply``."""
        self._token = reply.token or self._token
        self._snapshot = reply.cursor.position
        self._items.update(items)

    async def resume(
        self, protocol: WalletClientProtocol, items: Collection[Watched]
    ) -> tuple[str | None, UTXOSubscribed | None]:
        """Takes ``items`` up where they were left; returns (None, None) when the node has sent all that was missed.

        Otherwise it returns why that cannot be, and what happened meanwhile is known only by its outcome: by the reply,
        if there is one, which has the states of all ``items``.
        """
        since = self.cursor
        if since is None:
            return "unchecked", None
        if not protocol.knows_cursors:
            return "no_cursors", None
        reply = await self._taken_up(protocol, since) if self._items == set(items) else None
        if reply is None and since.node != protocol.node_key:
            return "another_node", None
        if reply is None:
            reply = await self._with_items(protocol, since, items)
        self._token = reply.token
        if since.node != protocol.node_key and not reply.reset:
            return "another_node", None  # nobody can go on with the log of somebody else
        if reply.reset:
            is_shown = len(items) <= limits.FILTER  # no reply shows more
            return reply.reason or "reset", reply if is_shown else None
        self._items = set(items)
        await self._end_of_replay(protocol)
        return None, None

    async def _taken_up(self, protocol: WalletClientProtocol, since: Cursor) -> UTXOSubscribed | None:
        """Without naming an item, if the node, or the one that had the lease, still has it."""
        token, self._token = self._token, None
        is_here, is_owned = since.node == protocol.node_key, self._is_owned and protocol.knows_owners
        if is_here and since.position < self._snapshot:
            return None  # a lease goes on after the last snapshot of an item, and that was not told
        if not is_here and len(self._items) > limits.FILTER:
            return None  # they have to be named anyway, to be shown their coins
        if not is_owned and (token is None or not is_here):
            return None
        more: dict[str, Any] = {"filter": digest(self._items)} if is_owned else {"token": token}
        try:
            return await self._ask(protocol, (), since=since, ttl_ms=LEASE_MS, **more)
        except Refusal as refusal:
            if refusal.code is not ErrorCode.NOT_FOUND:
                raise
            return None  # the lease has ended, or the node has forgotten it

    async def _with_items(
        self, protocol: WalletClientProtocol, since: Cursor, items: Collection[Watched]
    ) -> UTXOSubscribed:
        *held, last = pages(items)
        for page in held:
            await self._ask(protocol, page, hold=True)
        return await self._ask(protocol, last, since=since, ttl_ms=LEASE_MS)

    async def _end_of_replay(self, protocol: WalletClientProtocol) -> None:
        replay = self._replay = Deferred()
        protocol.on_lost(lambda reason: self._stop_waiting(replay, ConnectionGone("the node left in mid-replay")))
        self._until = self._clock.seconds() + LONGEST
        self._call = self._clock.callLater(PATIENCE, self._late, replay)
        try:
            await replay
        finally:
            self._replay = None
            if self._call.active():
                self._call.cancel()

    def _late(self, replay: Deferred[None]) -> None:
        self.lose()  # else the same would happen again, for ever
        self._stop_waiting(replay, Refusal(ErrorCode.TIMEOUT, "the node did not tell all of what was missed"))

    def _stop_waiting(self, replay: Deferred[None], why: Exception) -> None:
        if replay is self._replay:
            self._replay = None
            replay.errback(why)

    def heard(self) -> None:
        """A change has come: a replay that goes on is waited for."""
        if self._replay is not None and self._clock.seconds() < self._until:
            self._call.reset(PATIENCE)

    def caught_up(self) -> None:
        """The node has sent everything."""
        replay, self._replay = self._replay, None
        if replay is not None:
            replay.callback(None)

    def renew(self, protocol: WalletClientProtocol) -> None:
        """Asks for the lease anew; if that fails the subscription ends, and that is told too."""
        if protocol is not self._renewed_on:
            self._renewed_on, self._renew_at, self._was_refused = protocol, 0.0, False
        if self._clock.seconds() < self._renew_at:
            return
        self._renew_at = math.inf

        async def renew() -> None:
            why: Exception | None = None
            try:
                await self._ask(protocol, (), ttl_ms=LEASE_MS)
            except (ConnectionGone, Refusal) as error:
                why = error
            if protocol is not self._renewed_on:
                return
            self._renew_at = self._clock.seconds() + RENEWED
            if why is not None and not self._was_refused:
                self._was_refused = True  # said once: a node must not fill the disk
                self.log.info("the subscription could not be renewed: {why}", why=why)

        ensureDeferred(renew())

    def expired(self) -> None:
        """The lease has ended."""
        self._token = None
        self._is_owned = False

    async def _ask(
        self, protocol: WalletClientProtocol, items: Iterable[Watched], filter: str | None = None, **more: Any
    ) -> UTXOSubscribed:
        """One request. The first on a connection shows the key: for ``filter``, or for what is named."""
        owner = None
        if self._owner is not None and protocol is not self._shown_on and protocol.knows_owners:
            owner = self._owner.show(protocol, filter)
        reply: UTXOSubscribed = await protocol.request(
            UTXOSubscribe(
                subscriber_id=SUBSCRIPTION,
                addresses=tuple(item for item in items if isinstance(item, str)),
                outpoints=tuple(item for item in items if isinstance(item, Outpoint)),
                statuses=self.listens and protocol.knows_statuses,
                owner=owner,
                **more,
            )
        )
        self._shown_on = self._shown_on if owner is None else protocol
        self._is_owned = self._shown_on is protocol
        return reply


def pages(items: Collection[Watched]) -> list[list[Watched]]:
    """``items`` in an order that is always the same, as many in each list as one request may name."""
    every, size = sorted(items, key=str), min(limits.FILTER, limits.QUERY)
    return [every[start : start + size] for start in range(0, len(every), size)]


def comes_too_soon(refusal: Refusal) -> bool:
    """True of a refusal for what was asked before, whatever is asked for now."""
    return refusal.code is ErrorCode.OVER_LIMIT and "retry_after_ms" in refusal.details


def is_for_good(refusal: Refusal) -> bool:
    """True if every node would repeat this refusal of a subscription: what was to be watched will not be."""
    return refusal.code in _NEVER and not comes_too_soon(refusal)
