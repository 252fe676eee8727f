"""What each connection watches, and how far it has been told (protocol §8).

A feed is a position in the transition log and nothing more. Live it is fed at every commit; behind, it reads the log;
it queues nothing. A replay begins behind, a reader who does not read falls behind, and both come back the same way: at
a boundary between two commits a feed that has been told everything is live again. So nothing is lost or told twice,
however many commits happen meanwhile.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Literal, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import KeptProof
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import SpentFinalized, Unspent, holder
from timeproto.network.fanout import FanOut, Shared
from timeproto.network.filters import Subscription
from timeproto.network.history import History, Watched
from timeproto.network.node_view import Client, NodeView
from timeproto.network.notifications import Proofs, notification
from timeproto.network.outbox import Outbox
from timeproto.wire import codec, messages
from timeproto.wire.messages import Cursor

T = TypeVar("T")

BUSY_PAUSE = 1.0
"""Seconds after which the node is asked again for what it was too busy to be asked."""

Reason = Literal["another_node", "ahead", "too_old", "too_long"]

_PAYMENT = "payment "
"""Opens the name of a payment's subscriber; the space keeps it apart from every name a wallet can choose."""


_Line = tuple[int, Shared]
"""A notification, with its position in the log."""


@attrs.frozen(cache_hash=True)
class Subscriber:
    """A connection's subscription by its name; names of one connection mean nothing to another."""

    client: Client
    name: str

    @property
    def is_payment(self) -> bool:
        """True if this stands for the inputs of a payment the connection sent."""
        return self.name.startswith(_PAYMENT)


@attrs.define(eq=False)
class Payment:
    """An undecided payment: the watcher of its inputs, and how many requests with it were not refused.

    One that ``is_over`` is kept until its end, which is in the log, has been told.
    """

    subscriber: Subscriber
    items: dict[Watched, int]
    asked: int = 0
    is_over: bool = False


@attrs.define(eq=False)
class Feed:
    """One connection. ``at`` is None while it is live, else everything up to that position has been told.

    Nothing of payments is told from the log up to ``start``: that was told live, before the feed went back.
    """

    client: Client
    names: dict[str, Subscription] = attrs.field(factory=dict)
    payments: dict[str, Payment] = attrs.field(factory=dict)
    inputs: int = 0
    at: int | None = None
    start: int = 0
    knows_cursors: bool = False
    waiting: deque[Callable[[], None]] = attrs.field(factory=deque)
    call: Any = None
    outbox: Outbox | None = None

    @property
    def wants_watermarks(self) -> bool:
        """False where "all has been told" could be taken for more than it is: nothing is subscribed, or not all yet."""
        return self.knows_cursors and bool(self.names) and all(each.begun for each in self.names.values())

    @property
    def watched(self) -> int:
        return self.inputs + sum(len(each) for each in self.names.values())


class Feeds:
    """The feeds of one node. Whatever looks at coins or positions runs inside ``NodeView.read``."""

    log = Logger()

    def __init__(self, view: NodeView, clock: Any) -> None:
        """``clock``: an IReactorTime provider, or None: then a replay is told in one go, whoever reads."""
        self._view = view
        self._clock = clock
        self._history = History(view, clock)
        self._fan_out = FanOut(clock)
        self.all: dict[Client, Feed] = {}
        self.listeners: set[Subscriber] = set()
        """Whoever asked for hints too (network.incoming)."""

    def of(self, client: Client) -> Feed:
        feed = self.all.get(client)
        if feed is None:
            feed = self.all[client] = Feed(client, outbox=getattr(client, "outbox", None))
        return feed

    def is_open(self, feed: Feed) -> bool:
        """False once its connection is lost."""
        return self.all.get(feed.client) is feed

    def forget(self, client: Client) -> Feed | None:
        """The connection is lost: nothing of it stays. Returns what it was."""
        feed = self.all.pop(client, None)
        if feed is not None:
            for name in feed.names:
                self.unwatch(Subscriber(client, name))
            for payment in feed.payments.values():
                self._view.remove_subscription(payment.subscriber)
            if feed.call is not None and feed.call.active():
                feed.call.cancel()
            feed.waiting.clear()
        return feed

    def unwatch(self, subscriber: Subscriber) -> None:
        """A subscription is told nothing more."""
        self._view.remove_subscription(subscriber)
        self.listeners.discard(subscriber)

    def is_slow(self, feed: Feed) -> bool:
        """True if so much waits for its reader that there is no use in sending more now."""
        return self._room(feed) < 0

    def _room(self, feed: Feed) -> float:
        """Bytes that may still wait for its reader; one message more than that does no harm."""
        if self._clock is None:
            return inf
        waiting: int = getattr(feed.client, "backlog", 0) if feed.outbox is None else feed.outbox.size
        return limits.FEED_QUEUE - waiting

    def send_shared(self, feed: Feed, *shared: Shared) -> None:
        """To one of many, whose reader is not slow: it holds that until its turn, if it can."""
        if feed.outbox is not None:
            self._fan_out.send(feed.outbox, *shared)
            return
        for each in shared:
            feed.client.send_payload(each.payload)

    def cursor(self, feed: Feed | None = None) -> Cursor:
        """Up to where everything has been told, at a boundary."""
        at = None if feed is None else feed.at
        return Cursor(self._view.node_key, self._view.position() if at is None else at)

    # -- payments ------------------------------------------------------------------------------------

    def watch_payment(self, feed: Feed, tx: Transaction) -> Payment:
        """Sending a payment is watching it: no step of it may be missed because a subscription came late."""
        payment = feed.payments.get(tx.txid)
        if payment is None:
            items: dict[Watched, int] = dict.fromkeys(tx.outpoints, 0)
            payment = Payment(Subscriber(feed.client, _PAYMENT + tx.txid), items)
            feed.payments[tx.txid] = payment
            feed.inputs += len(items)
            self._view.add_subscription(payment.subscriber, items)
        payment.asked += 1
        return payment

    def unwatch_payment(self, client: Client, txid: str) -> None:
        """It is over, or every request with it was refused."""
        feed = self.all.get(client)
        payment = None if feed is None else feed.payments.get(txid)
        if feed is None or payment is None:
            return
        if feed.at is not None and payment.asked:
            payment.is_over = True
            return
        del feed.payments[txid]
        feed.inputs -= len(payment.items)
        self._view.remove_subscription(payment.subscriber)

    # -- live ----------------------------------------------------------------------------------------

    def why_not(self, since: Cursor) -> Reason | None:
        """Why the log cannot be told from ``since`` on, at a boundary; None if it can."""
        behind = self._view.position() - since.position
        if since.node != self._view.node_key:
            return "another_node"
        if behind < 0:
            return "ahead"
        if behind > limits.REPLAY:
            return "too_long"
        return "too_old" if behind and self._history.page(since.position) is None else None

    def tell(
        self, transitions: Iterable[Transition], proofs: Mapping[str, KeptProof], blocks: Sequence[DecidedBlock]
    ) -> None:
        """A commit: each live feed is told what it watches, once, in order; encoded once for all of them.

        All events of one transaction arrive together, since a step lists them so. Told is what was given to the
        connection: it writes later, but before all it is given later.
        """
        finished: list[Subscriber] = []
        known = Proofs(proofs, blocks)
        lines: defaultdict[Client, list[_Line]] = defaultdict(list)
        same: list[Any] = []
        live: list[Client] = []
        for transition, subscribers in self._view.notify_subscribers(transitions):
            if subscribers != same:  # or the outputs of one payment, to the same crowd
                same = subscribers
                clients = dict.fromkeys(each.client for each in subscribers if isinstance(each, Subscriber))
                live = [client for client in clients if self.all[client].at is None]
            if live:
                told = notification(transition, self._view.node_key, known)
                line = transition.position, Shared(codec.encode(told))
                for client in live:
                    lines[client].append(line)
            if transition.old_state is not None:  # a coin that has just been created ends no payment
                watchers = (each for each in subscribers if isinstance(each, Subscriber))
                finished += [each for each in watchers if _is_over(each, transition)]
        for client, due in lines.items():
            self._tell_live(self.all[client], due)
        for each in finished:
            self.unwatch_payment(each.client, each.name.removeprefix(_PAYMENT))

    def _tell_live(self, feed: Feed, lines: list[_Line]) -> None:
        """As much of a commit as its reader has room for; the rest comes from the log."""
        room, fits = self._room(feed), 0
        for _, shared in lines:
            if room < 0:
                break
            room -= len(shared.frame)
            fits += 1
        if fits:
            self.send_shared(feed, *[shared for _, shared in lines[:fits]])
        if fits < len(lines):
            feed.at = lines[fits][0] - 1
            self.go_on(feed, limits.FEED_PAUSE)

    # -- behind --------------------------------------------------------------------------------------

    def when_live(self, feed: Feed, question: Callable[[], T]) -> Deferred[T]:
        """Runs ``question`` at a boundary at which ``feed`` has been told everything; never once it is closed.

        What it does to the feed therefore meets what was told before without a gap and without an overlap.
        """
        answer: Deferred[T] = Deferred()

        def ask() -> None:
            try:
                answer.callback(question())
            except Exception:
                answer.errback()

        def look() -> None:
            if not self.is_open(feed):
                return
            if feed.at is None and not feed.waiting:
                ask()
            elif len(feed.waiting) >= limits.SUBSCRIPTIONS:
                raise Refusal(ErrorCode.BUSY, "a replay is under way on this connection", retry_after_ms=1_000)
            else:
                feed.waiting.append(ask)

        self._view.read(look).addErrback(answer.errback)
        return answer

    def go_back(self, feed: Feed, position: int, subscription: Subscription) -> None:
        """The feed, which is live, will tell ``subscription`` after ``position``, and nothing else twice: see
        :meth:`go_on`."""
        feed.start = self._view.position()
        for each in feed.names.values():
            each.start = feed.start
        subscription.start = 0
        feed.at = position

    def go_on(self, feed: Feed, seconds: float = 0) -> None:
        """Tells a feed that is behind what it lacks, beginning after ``seconds``."""
        if self._clock is None:
            self._view.read(lambda: self._all_turns(feed)).addErrback(self._failed, feed)
        else:
            feed.call = self._clock.callLater(seconds, self._turn_later, feed)

    def _all_turns(self, feed: Feed) -> None:
        while self._turn(feed) is not None:
            pass

    def _turn_later(self, feed: Feed) -> None:
        def turn() -> None:
            wait = self._turn(feed)
            if wait is not None:
                self.go_on(feed, wait)

        self._view.read(turn).addErrback(self._failed, feed)

    def _failed(self, failure: Failure, feed: Feed) -> None:
        refusal = failure.value
        if isinstance(refusal, Refusal) and refusal.code is ErrorCode.BUSY and self._clock is not None:
            if self.is_open(feed):
                self.go_on(feed, BUSY_PAUSE)
            return
        if not isinstance(refusal, Refusal):
            self.log.failure("a replay failed", failure=failure)
            refusal = Refusal(ErrorCode.INTERNAL, "the node failed to replay its log")
        close = getattr(feed.client, "close", None)
        if close is not None:
            close(refusal)

    def _turn(self, feed: Feed) -> float | None:
        """A piece of a replay, at a boundary; the seconds until the next, None if the feed is live, or at its end."""
        if not self.is_open(feed) or feed.at is None:
            return None
        head = self._view.position()
        if head - feed.at > limits.REPLAY:
            raise Refusal(
                ErrorCode.OVER_LIMIT, "the reader is too far behind", limit="replay", value=limits.REPLAY
            )
        if self.is_slow(feed):
            return limits.FEED_PAUSE
        if feed.at < head:
            self._tell_page(feed, feed.at)
            if feed.at < head:
                return self._history.debt
        self._become_live(feed)  # at once: after a wait it would be behind again
        return None

    def _tell_page(self, feed: Feed, at: int) -> None:
        page = self._history.page(at)
        if page is None:
            raise Refusal(ErrorCode.NOT_FOUND, "the log does not reach back so far any more")
        wanted: set[int] = set()
        for subscription in feed.names.values():
            if subscription.begun and subscription.start < page.last:
                wanted |= page.about(subscription.items, max(at, subscription.start))
        for payment in feed.payments.values():
            wanted |= page.about(payment.items, max(at, feed.start))
        for sent, position in enumerate(sorted(wanted)):
            if sent == limits.REPLAY_TURN or self.is_slow(feed):
                feed.at = position - 1
                return
            feed.client.send_payload(self._history.payload(page.entry(position)))
        feed.at = page.last

    def _become_live(self, feed: Feed) -> None:
        feed.at = feed.call = None
        for txid in [txid for txid, payment in feed.payments.items() if payment.is_over]:
            self.unwatch_payment(feed.client, txid)
        if feed.wants_watermarks:
            feed.client.send(self.watermark())
        while feed.waiting and feed.at is None:
            feed.waiting.popleft()()

    def watermark(self) -> messages.UTXOWatermark:
        return messages.UTXOWatermark(cursor=self.cursor(), height=self._view.confirmed_height())


def _is_over(payment: Subscriber, transition: Transition) -> bool:
    """True if a payment's coin is spent for ever, by it or by a rival, or is free again since a block ended it."""
    if not payment.is_payment:
        return False
    if isinstance(transition.new_state, SpentFinalized):
        return True
    old = transition.old_state
    if old is None or not isinstance(transition.new_state, Unspent):
        return False
    return _PAYMENT + (holder(old) or "") == payment.name
