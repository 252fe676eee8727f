"""Subscribing: filters with names, snapshots and replays, leases, and how much a connection and a node may watch.

A request is judged whole before anything is changed, and runs when its connection has been told everything
(:meth:`Feeds.when_live`), so that its answer stands at one place in the order of what is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.network import costs
from timeproto.network.fanout import Shared
from timeproto.network.feeds import BUSY_PAUSE, Feed, Feeds, Reason, Subscriber
from timeproto.network.filters import Subscription, Tally
from timeproto.network.handover import not_found
from timeproto.network.history import Watched
from timeproto.network.leases import Lease, Leases
from timeproto.network.node_view import Client, NodeView
from timeproto.network.ownership import is_shown
from timeproto.network.snapshots import coin_state, snapshot
from timeproto.wire import codec
from timeproto.wire.messages import (
    CoinState,
    Cursor,
    GetLease,
    LeaseFilter,
    Owner,
    UTXOSubscribe,
    UTXOSubscribed,
    UTXOSubscriptionNotice,
)


class Subscriptions:
    """Every subscription of one node. Requests run inside ``NodeView.read``."""

    log = Logger()

    def __init__(
        self, view: NodeView, feeds: Feeds, clock: Any, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """``clock``: an IReactorTime provider, or None: then no lease is granted, and no watermark comes by itself."""
        self._view = view
        self._feeds = feeds
        self._clock = clock
        self._leases = Leases(clock, on_expiring=self._expiring, on_end=self._end, random=random)
        self._tally = Tally()
        self._beat: Any = None
        self.count = 0
        """Subscriptions of connections, those that wait for their wallet not among them."""

    # -- requests ------------------------------------------------------------------------------------

    def subscribe(self, feed: Feed, message: UTXOSubscribe, items: set[Watched]) -> None:
        """Answers with ``UTXOSubscribed``; raises :class:`Refusal` with nothing done."""
        lease, subscription, replaced = self._meant(feed, message, items)
        if subscription is None and not items:
            raise Refusal(ErrorCode.BAD_FIELD, "a subscription names at least one outpoint or address")
        taken = lease is not None and lease.feed is not feed
        self._require_room(feed, subscription, items, taken)
        if message.owner is not None:
            self._require_room_of(message.owner, lease, replaced)
        if replaced is not None and self._leases.of(replaced.subscription) is replaced:  # it may have made room
            self._let_go(replaced)
        if message.knows_cursors:
            feed.knows_cursors = True
            self._keep_time()
        if subscription is None:
            subscription = feed.names[message.subscriber_id] = Subscription(message.subscriber_id)
            self.count += 1
        elif lease is not None and taken:
            self._take_up(lease, feed)
        self._tally.move(subscription, _block(feed.client))
        if message.statuses:
            self._feeds.listeners.add(Subscriber(feed.client, subscription.name))
        ttl, owner = message.ttl_ms, message.owner
        if (ttl is not None or owner is not None) and self._clock is not None:
            left = int(limits.LEASE * 1000) if lease is None else self._leases.left(lease)
            lease = self._leases.grant(feed, subscription, left if ttl is None else ttl, owner)
        self._tally.add(subscription, subscription.hold(items, again=message.hold))
        reply = self._begin(feed, subscription, items, message)
        feed.client.send(self._with_lease(reply, lease if message.knows_cursors else None))
        if feed.at is not None:
            self._feeds.go_on(feed)

    def _begin(
        self, feed: Feed, subscription: Subscription, items: set[Watched], message: UTXOSubscribe
    ) -> UTXOSubscribed:
        since, head, begun = message.since, self._view.position(), subscription.begun
        if message.hold or (since is None and begun and not items and not subscription.held):
            return self._reply(message)
        fresh, subscription.held = items | subscription.held, set()
        reason = None if since is None else self._feeds.why_not(since)
        whole = not begun or reason is not None
        told: set[Watched] = {*subscription.items, *fresh} if whole else fresh
        charge(feed.client, message, costs.of_filter(len(told) - len(fresh)))  # as if it had named them
        self._view.add_subscription(Subscriber(feed.client, subscription.name), fresh if begun else told)
        subscription.begun = True
        if since is not None and reason is None:
            for item in fresh:
                subscription.items[item] = min(since.position, subscription.items.get(item, since.position))
            self._feeds.go_back(feed, since.position, subscription)
            return self._reply(message, cursor=since)
        subscription.items.update(dict.fromkeys(told, head))
        states, more = self._states(told)
        return self._reply(message, states=states, more=more, reset=since is not None, reason=reason)

    def _states(self, items: set[Watched]) -> tuple[tuple[CoinState, ...], bool]:
        """Of more than one request may name not one: to look up a whole long filter would keep the node too long."""
        if len(items) > limits.FILTER:
            return (), True
        coins, more = snapshot(items, self._view)
        return tuple(coin_state(outpoint, coin) for outpoint, coin in coins.items()), more

    def unsubscribe(self, feed: Feed, name: str) -> None:
        """Raises ``not_found`` for an id that is not this connection's."""
        subscription = feed.names.pop(name, None)
        if subscription is None:
            # The same answer for another's id as for one that never was: nobody learns of others here.
            raise Refusal(ErrorCode.NOT_FOUND, "this connection has no such subscription")
        self._feeds.unwatch(Subscriber(feed.client, name))
        self.count -= 1
        self._forget(subscription)

    def connection_lost(self, client: Client) -> None:
        """Leased subscriptions wait for their wallet, nothing else stays."""
        feed = self._feeds.forget(client)
        for subscription in () if feed is None else feed.names.values():
            self.count -= 1
            lease = self._leases.of(subscription)
            if lease is None:
                self._forget(subscription)
                continue
            self._leases.park(lease)
            if subscription.block is not None and len(self._leases.parked_of(subscription.block)) > limits.PARKED_BLOCK:
                self._evict(block=subscription.block)
            if self._leases.parked > limits.PARKED:
                self._evict()

    # -- parts ---------------------------------------------------------------------------------------

    def price(self, message: UTXOSubscribe) -> int:
        """What it costs to say whether it :meth:`is_here`, in units of network.costs."""
        owner = message.owner
        lease = None if owner is None else self._leases.owned(owner.key, message.subscriber_id)
        return 0 if lease is None or lease.subscription.has_digest else costs.of_digest(len(lease.subscription))

    def is_here(self, message: UTXOSubscribe) -> bool:
        """False if an owner wants to take up what is not here, or is here as it was some time ago."""
        owner = message.owner
        if owner is None or owner.filter is None:
            return True
        lease = self._leases.owned(owner.key, message.subscriber_id)
        return lease is not None and lease.subscription.digest == owner.filter

    def _meant(
        self, feed: Feed, message: UTXOSubscribe, items: set[Watched]
    ) -> tuple[Lease | None, Subscription | None, Lease | None]:
        """The subscription that a request speaks of, with its lease; and the lease that it takes the place of."""
        known, owner = feed.names.get(message.subscriber_id), message.owner
        lease = None if known is None else self._leases.of(known)
        if owner is not None:
            if not (items or self.is_here(message)):
                raise not_found()
            owned = self._leases.owned(owner.key, message.subscriber_id)
            if lease is not None and lease.owner not in (None, owner.key):
                raise not_found()  # the connection has one of this name that belongs to another key
            if owned is None or owned is lease:
                return lease, known, None
            if items:
                return lease, known, owned  # what is named, or was fetched, is the newer one
            found: Lease | None = owned
        elif message.token is not None:
            found = self._leases.find(message.token, message.subscriber_id)
        else:
            return lease, known, None
        if found is None or (known is not None and known is not found.subscription):
            raise not_found()
        return found, found.subscription, None

    def give(self, message: GetLease, node: str) -> LeaseFilter:
        """Hands a lease over to the masternode ``node``, to which its owner has shown the key, later than to this one.

        Raises ``not_found`` if there is none, or not this one, or not for that node.
        """
        owner = message.owner
        lease = self._leases.owned(owner.key, message.subscriber_id)
        if (
            lease is None
            or owner.time <= lease.time
            or owner.filter != lease.subscription.digest
            or not is_shown(owner, self._view.genesis.hash, node, message.nonce, message.subscriber_id)
        ):
            raise not_found()
        items = list(lease.subscription.filter)
        self._let_go(lease)
        return LeaseFilter(
            id=message.id,
            outpoints=tuple(item for item in items if isinstance(item, Outpoint)),
            addresses=tuple(item for item in items if isinstance(item, str)),
        )

    def _let_go(self, lease: Lease) -> None:
        """Its owner has it elsewhere from now on; a connection that still has it is told."""
        self._take_from(lease, "moved")
        self._forget(lease.subscription)

    def _take_from(self, lease: Lease, event: Any) -> None:
        """The connection that has the lease, if one has, has it no longer."""
        feed, subscription = lease.feed, lease.subscription
        if feed is not None:
            del feed.names[subscription.name]
            self._feeds.unwatch(Subscriber(feed.client, subscription.name))
            self._notice(feed, subscription, event)
            self.count -= 1

    def _require_room(
        self, feed: Feed, subscription: Subscription | None, items: set[Watched], taken: bool
    ) -> None:
        """Raises ``over_limit`` for what one connection may watch, ``busy`` for what all together may."""
        more = len(items) if subscription is None else subscription.lacks(items)
        joins = taken or subscription is None
        if joins and len(feed.names) >= limits.SUBSCRIPTIONS:
            raise over("subscriptions", limits.SUBSCRIPTIONS, "subscriptions of one connection")
        require_room(feed, more + (len(subscription) if taken and subscription is not None else 0))
        self._require_share(_block(feed.client), subscription, more)
        while self._tally.total + more > limits.FILTERS_NODE and self._evict(subscription):
            pass
        while subscription is None and self.count + self._leases.parked >= limits.SUBSCRIPTIONS_NODE and self._evict():
            pass
        if self._tally.total + more > limits.FILTERS_NODE:
            raise _full("filters_node", limits.FILTERS_NODE)
        if subscription is None and self.count + self._leases.parked >= limits.SUBSCRIPTIONS_NODE:
            raise _full("subscriptions_node", limits.SUBSCRIPTIONS_NODE)

    def _require_room_of(self, owner: Owner, lease: Lease | None, replaced: Lease | None) -> None:
        """Raises ``over_limit`` for what one key may have."""
        more = (lease is None or lease.owner is None) and replaced is None
        if not more or self._leases.count_of(owner.key) < limits.LEASES_KEY:
            return
        oldest = self._leases.oldest_of(owner.key)
        if oldest is None:
            raise over("leases_key", limits.LEASES_KEY, "leases of one key")
        self._forget(oldest.subscription)

    def _require_share(self, block: str | None, subscription: Subscription | None, more: int) -> None:
        """Raises ``over_limit`` for what one address block may watch; its own that wait go before that."""
        if block is None:
            return
        if subscription is not None and subscription.block != block:
            more += len(subscription)
        while self._tally.of(block) + more > limits.FILTERS_BLOCK:
            if not self._evict(subscription, block):
                raise over("filters_block", limits.FILTERS_BLOCK, "items watched from one address block")

    def _evict(self, but: Subscription | None = None, block: str | None = None) -> bool:
        """Whoever is here goes before those who are not, of all or of a block; False if nobody is left to go."""
        waiting = self._leases.parked_of(block)
        lease = next((each for each in waiting if each.subscription is not but), None)
        if lease is None:
            return False
        self._forget(lease.subscription)
        return True

    def _forget(self, subscription: Subscription) -> None:
        self._tally.add(subscription, -len(subscription))
        lease = self._leases.of(subscription)
        if lease is not None:
            self._leases.drop(lease)

    def _take_up(self, lease: Lease, feed: Feed) -> None:
        """With the token, or the key, comes the right to it."""
        subscription = lease.subscription
        self._take_from(lease, "moved")
        subscription.begun = False
        self._leases.take_up(lease, feed)
        feed.names[subscription.name] = subscription
        self.count += 1

    def _reply(
        self,
        message: UTXOSubscribe,
        *,
        cursor: Cursor | None = None,
        states: tuple[CoinState, ...] = (),
        more: bool = False,
        reset: bool = False,
        reason: Reason | None = None,
    ) -> UTXOSubscribed:
        return UTXOSubscribed(
            id=message.id,
            subscriber_id=message.subscriber_id,
            cursor=cursor or self._feeds.cursor(),
            states=states,
            more=more,
            reset=reset,
            reason=reason,
        )

    def _with_lease(self, reply: UTXOSubscribed, lease: Lease | None) -> UTXOSubscribed:
        if lease is None:
            return reply
        return replace(reply, token=lease.token, ttl_ms=self._leases.left(lease))

    # -- time ----------------------------------------------------------------------------------------

    def _expiring(self, lease: Lease, milliseconds: int) -> None:
        def tell() -> None:
            left = self._leases.left(lease)
            if self._leases.of(lease.subscription) is not lease or left > milliseconds:
                return  # over, or renewed, while a commit was under way
            if lease.feed is not None:
                self._notice(lease.feed, lease.subscription, "expiring", in_ms=left)

        self._at_boundary(tell)

    def _end(self, lease: Lease) -> None:
        def end() -> None:
            if self._leases.of(lease.subscription) is not lease or self._leases.left(lease):
                return  # renewed, or over, while the commit was under way
            if lease.feed is not None and lease.feed.waiting:
                self._leases.put_off(lease)  # what waits behind a replay may renew it, and came in time
                return
            self._take_from(lease, "expired")
            self._forget(lease.subscription)

        self._at_boundary(end)

    def _notice(self, feed: Feed, subscription: Subscription, event: Any, in_ms: int | None = None) -> None:
        cursor = self._feeds.cursor(feed)
        feed.client.send(
            UTXOSubscriptionNotice(subscriber_id=subscription.name, event=event, cursor=cursor, in_ms=in_ms)
        )

    def _keep_time(self) -> None:
        if self._beat is None and self._clock is not None:
            self._beat = self._clock.callLater(limits.WATERMARK, self._beats)

    def _beats(self) -> None:
        """Silence becomes information: everything up to here has been told. One encoding for all."""
        self._beat = None

        def tell() -> None:
            shared: Shared | None = None
            for feed in list(self._feeds.all.values()):
                if not feed.knows_cursors:
                    continue
                self._keep_time()
                if feed.wants_watermarks and feed.at is None and not self._feeds.is_slow(feed):
                    shared = shared or Shared(codec.encode(self._feeds.watermark()))
                    self._feeds.send_shared(feed, shared)

        self._at_boundary(tell)

    def _at_boundary(self, work: Callable[[], None]) -> None:
        def failed(failure: Failure) -> None:
            refusal = failure.value
            if not isinstance(refusal, Refusal):  # a node that stops refuses, and has told so
                self.log.failure("the time of subscriptions could not be kept", failure=failure)
            elif refusal.code == ErrorCode.BUSY:  # or time would stand still from here on
                self._clock.callLater(BUSY_PAUSE, self._at_boundary, work)

        self._view.read(work).addErrback(failed)


def _block(client: Client) -> str | None:
    account = getattr(client, "account", None)
    return None if account is None else account.block


def charge(client: Client, message: Any, cost: int) -> None:
    """A request turned out to be dearer than it looked: whoever asked pays for that too."""
    account = getattr(client, "account", None)
    if account is not None and cost:
        account.add(message, cost)


def require_room(feed: Feed, more: int) -> None:
    """Raises ``over_limit`` if the connection would watch too much with ``more`` items."""
    if feed.watched + more > limits.FILTERS_CONNECTION:
        raise over("filters_connection", limits.FILTERS_CONNECTION, "items watched by one connection")


def over(limit: str, value: int, what: str) -> Refusal:
    return Refusal(ErrorCode.OVER_LIMIT, f"at most {value} {what}", limit=limit, value=value)


def _full(limit: str, value: int) -> Refusal:
    what = "this node watches as much as it can"
    return Refusal(ErrorCode.BUSY, what, limit=limit, value=value, retry_after_ms=10_000)
