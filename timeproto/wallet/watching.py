"""Watching coins: subscriptions that go on after every reconnect, changes checked and told in order.

Checking a claim may mean fetching a transaction, so what arrives waits in one line: nothing is told before what came
before it. The place from which a next connection resumes moves along with what has been told, not with what was heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import UTXOState, from_wire
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.arrivals import Arrivals
from timeproto.wallet.belief import Belief, Lie, Unserved
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.line import Line, Work, size_of
from timeproto.wallet.missing import Comparison
from timeproto.wallet.protocol import Notice, WalletClientProtocol
from timeproto.wallet.reading import Unreadable, shown_by
from timeproto.wallet.resuming import Place, Proprietor, comes_too_soon, is_for_good, pages
from timeproto.wallet.stale import Stale
from timeproto.wallet.turns import Turns
from timeproto.wallet.waiters import after, refuse
from timeproto.wallet.watch import Change, Watch, Watched
from timeproto.wire import messages
from timeproto.wire.messages import CoinState

Taken = dict[Watch, frozenset[Watched]]
"""What one reply covers of each watch that it is for, as that was when the reply came."""

REFUSED = 300.0
"""Seconds after which a node is asked again for what it refused for now. To be put off by it may take a fifth of that,
and then everything else that is asked of it waits."""


class Watches:
    """All watches of one client, whatever connection it has at the moment."""

    log = Logger()

    def __init__(
        self, belief: Belief, on_trouble: Callable[[Exception], None], clock: Any, owner: Proprietor | None = None
    ) -> None:
        """``on_trouble(why)``: what was told is a :class:`Lie`, or could not be checked on this connection.
        ``clock``: an IReactorTime provider. ``owner`` has the key that the subscription is leased to."""
        self._belief = belief
        self._on_trouble = on_trouble
        self._clock = clock
        self._ask_again_at = math.inf
        self._place = Place(clock, owner)
        self._in_turn = Turns()  # in the middle of a resume a request would begin what is not complete
        self._watches: list[Watch] = []
        self.comparison = Comparison(self._watches)
        self.arrivals = Arrivals(belief, self._watches, on_trouble, clock)
        self._waiting: dict[Watch, Deferred[None]] = {}
        self._was_tried = False
        self._ahead_until = 0
        self._line = Line(self._do)
        self._stale = Stale(belief, self._watches, self._place, self._on_trouble, clock)
        self.is_checked = True
        """False once something this connection told could not be checked: nothing more is taken from it."""

    @property
    def cursor(self) -> messages.Cursor | None:
        """Everything has been told up to here; None while something is missing that no replay would bring."""
        return self._place.cursor

    @property
    def is_to_begin_anew(self) -> bool:
        """True if something has been missing for a while, and this connection will not bring it."""
        return self._place.is_to_be_left

    @property
    def is_known(self) -> bool:
        """True if all that was told up to here is known to be so still: nobody owes us what became of it."""
        return self.is_checked and not self._stale.is_owed

    def add(
        self,
        on_change: Callable[[Change], None],
        addresses: Iterable[str],
        outpoints: Iterable[Outpoint],
        on_reset: Callable[[str], None],
        on_payment: Callable[[Incoming], None] | None = None,
    ) -> Watch:
        items = frozenset(addresses), frozenset(outpoints)
        watch = Watch(*items, on_change, on_reset, on_payment, self._remove, self.arrivals.came)
        self._watches.append(watch)
        self._place.listens = self._place.listens or on_payment is not None
        return watch

    def _remove(self, watch: Watch) -> None:
        watch.is_stopped = True
        if watch in self._watches:
            self._watches.remove(watch)
            self._waiting.pop(watch, None)

    # -- asking --------------------------------------------------------------------------------------

    def resubscribe(self, protocol: WalletClientProtocol) -> Deferred[None]:
        """Takes the watches up on a new connection: hears every change since the last, or else what became of it."""
        return self._in_turn(partial(self._resubscribe, protocol))

    async def _resubscribe(self, protocol: WalletClientProtocol) -> None:
        await self.settled()  # what the last connection told is told before the place to resume from is read
        self.is_checked = True
        self._stale.begin()
        begun = set[Watched]().union(*(watch.begun for watch in self._watches))
        reason, reply = await self._place.resume(protocol, begun) if begun else ("new", None)
        if reason is not None:
            self._begin_anew(reason)
        items = set[Watched]().union(*(watch.items - watch.begun - watch.untaken for watch in self._watches))
        if reply is not None:
            self._place.took(reply, begun)
            self._in_order(partial(self._hear_states, protocol, reply, frozenset(begun), self._took(begun)))
            items -= begun
        await self._subscribe(protocol, items)
        self._ask_after_stale(protocol, is_anew=reason is not None)
        if self._waiting or any(watch.untaken for watch in self._watches):
            self._ask_for_the_rest(protocol)

    async def _take_up_the_rest(self, protocol: WalletClientProtocol) -> None:
        """What no node has taken yet, once the connection stands: all of it, or else each watch as it may be."""
        if not protocol.is_open:
            return
        rest = [watch for watch in self._watches if watch.untaken or watch in self._waiting]
        every = refusal = await self._refusal_of(protocol, set[Watched]().union(*(watch.untaken for watch in rest)))
        for watch in rest:
            if watch.is_stopped:
                continue
            if every is not None and not (refusal is not None and comes_too_soon(refusal)):
                refusal = await self._refusal_of(protocol, watch.untaken)
            if not watch.is_stopped:
                self._answer(watch, refusal if watch.untaken else None)

    async def _refusal_of(self, protocol: WalletClientProtocol, items: Collection[Watched]) -> Refusal | None:
        """Why the node did not take all of ``items``, if it did not."""
        try:
            await self._take_up(protocol, items)
        except Refusal as refusal:
            return refusal
        return None

    def extend(self, protocol: WalletClientProtocol | None, watch: Watch, addresses: Collection[str]) -> None:
        """``watch`` is told of ``addresses`` too, and the node asked for them; if none is there, the next one.

        All that none has taken is asked for together: a request and no more, where it is refused again and again."""
        watch.addresses |= frozenset(addresses)
        watch.untaken.update(addresses)
        if protocol is not None:
            asking = self.ask(protocol, watch).addErrback(Failure.trap, ConnectionGone)  # the next connection goes on
            asking.addErrback(lambda failure: self.log.failure("an address cannot be watched", failure=failure))

    def ask(self, protocol: WalletClientProtocol, watch: Watch) -> Deferred[None]:
        """Fires when the node was asked for all of ``watch`` that none has taken yet, and took it, or refused it: then
        ``watch.refusal`` says why. :class:`ConnectionGone` if it went away. However many ask, one waits in line."""
        asking = watch.asking
        if asking is None:
            asking = watch.asking = Deferred()

            async def ask() -> None:
                watch.asking = None
                refusal = await self._refusal_of(protocol, watch.untaken)
                if refusal is not None:
                    self._refused(watch, refusal)

            self._in_turn(ask).chainDeferred(asking)
        return after(asking)

    def _refused(self, watch: Watch, refusal: Refusal) -> None:
        """Notes why, and writes it down if that is new: it is refused again and again, perhaps."""
        self._ask_again_at = min(self._ask_again_at, self._clock.seconds() + REFUSED)
        before, watch.refusal = watch.refusal, refusal
        if before is None or before.code is not refusal.code:
            self.log.warn("what was to be watched was refused: {why}", why=refusal)
        if not isinstance(refusal, Unreadable) and not (is_for_good(refusal) and self._was_tried):
            self._was_tried = is_for_good(refusal)  # which the next one may say too, and then that is that
            self._on_trouble(Unserved(f"it refuses what is to be watched: {refusal}"))

    def take_up(self, protocol: WalletClientProtocol | None, watch: Watch) -> Deferred[None]:
        """Fires when a node has taken all that a new watch asks for. It waits for one that does, if none is there, the
        one that is goes away, or it refuses for now; :class:`Refusal` if none would ever take it."""
        waiting = self._waiting[watch] = Deferred()
        if protocol is not None:
            self._ask_for_the_rest(protocol)
        return waiting

    def ask_again(self, protocol: WalletClientProtocol) -> None:
        """For what was refused for now a while ago. To be called from time to time."""
        if self._clock.seconds() >= self._ask_again_at:
            self._ask_for_the_rest(protocol)
        if self._stale.is_due():
            self._in_order(partial(self._stale.ask, protocol))

    def _ask_for_the_rest(self, protocol: WalletClientProtocol) -> None:
        self._ask_again_at = math.inf
        rest = self._in_turn(partial(self._take_up_the_rest, protocol))
        rest.addErrback(Failure.trap, ConnectionGone)  # the next connection goes on
        rest.addErrback(lambda failure: self.log.failure("a watch cannot be taken up", failure=failure))

    def _answer(self, watch: Watch, refusal: Refusal | None) -> None:
        """Tells whoever waits for ``watch`` that it is taken, or never will be: others were told before."""
        waiting = self._waiting.get(watch)
        if refusal is not None and (waiting is None or not is_for_good(refusal)):
            self._refused(watch, refusal)
        elif waiting is not None:
            del self._waiting[watch]
            if refusal is None:
                waiting.callback(None)
            else:
                waiting.errback(refusal)

    def close(self, why: Exception) -> list[Callable[[], None]]:
        """Whoever waits for a node waits no more: what is returned tells them."""
        waiting, self._waiting = self._waiting, {}
        return [partial(refuse, each, why) for each in waiting.values()]

    async def _take_up(self, protocol: WalletClientProtocol, items: Collection[Watched]) -> None:
        try:
            await self._subscribe(protocol, items)
        except Refusal as refusal:
            has_no_room = is_for_good(refusal) and refusal.code is ErrorCode.OVER_LIMIT
            if has_no_room and self._place.holds_more_than(set().union(*(watch.items for watch in self._watches))):
                why = "the node has no room beside what is not watched any more, and is asked anew"
            elif refusal.code is ErrorCode.TIMEOUT:
                why = "the node did not answer in time"
            else:
                self._ask_after_stale(protocol)  # for some of it was taken, perhaps
                raise
            self._leave(refusal)
            raise ConnectionGone(f"{why}: {refusal}") from refusal
        self._ask_after_stale(protocol)

    def _ask_after_stale(self, protocol: WalletClientProtocol, *, is_anew: bool = False) -> None:
        if is_anew or any(watch.stale for watch in self._watches):
            self._in_order(partial(self._stale.ask, protocol))

    async def _subscribe(self, protocol: WalletClientProtocol, items: Collection[Watched]) -> None:
        for page in pages(items):
            reply = await self._place.subscribe(protocol, page)
            self._in_order(partial(self._hear_states, protocol, reply, frozenset(page), self._took(page)))

    def _took(self, items: Collection[Watched]) -> Taken:
        """A node has taken ``items`` for these watches; what one wants later is asked for again."""
        for watch in self._watches:
            watch.untaken.difference_update(items)
        return {watch: taken for watch in self._watches if (taken := watch.items.intersection(items))}

    def _begin_anew(self, reason: str) -> None:
        self._place.begin()
        self._ahead_until = 0
        for watch in list(self._watches):
            watch.reset(reason)

    # -- hearing -------------------------------------------------------------------------------------

    def notified(self, message: messages.UTXOStateNotification) -> None:
        """A notification of the node of the moment."""
        self._place.heard()
        if not any(watch.names(message.notification.outpoint, message.output) for watch in self._watches):
            return
        if self._line.is_full:
            self._leave(Refusal(ErrorCode.OVER_LIMIT, "more is told than can be checked"))
        else:
            self._in_order(partial(self._hear_change, message), size_of(message))

    def noted(self, protocol: WalletClientProtocol, message: Notice) -> None:
        """What the node of the moment says of the subscription itself."""
        if isinstance(message, messages.UTXOWatermark):
            if not self._line.is_full:  # what is told after it leads as far
                self._in_order(partial(self._hear_watermark, message.cursor))
            self._place.caught_up()
        elif isinstance(message, messages.TransactionStatus):
            if not self._line.is_full:  # it is a hint: what became of the payment is asked for later
                self._in_order(partial(self.arrivals.hear, message), size_of(message))
        elif message.event == "expiring":
            self._place.renew(protocol)
        else:
            self._place.expired()
            self._leave(Refusal(ErrorCode.NOT_FOUND, f"the node has ended the subscription: {message.event}"))

    def _leave(self, why: Exception) -> None:
        """What was told up to here stands, and the next connection goes on from there; nothing more of this one."""
        if self.is_checked:
            self.is_checked = False
            self._on_trouble(why)

    def settled(self) -> Deferred[None]:
        """Fires when everything heard so far has been checked and told."""
        return self._line.settled()

    def _in_order(self, work: Work, size: int = 0) -> None:
        """Runs ``work`` after all that came before it; until then it holds ``size`` bytes."""
        if self.is_checked:
            self._line.append(work, size)

    async def _do(self, work: Work) -> None:
        try:
            await work()
        except Lie as lie:
            self.distrust(lie)
        except (ConnectionGone, Refusal) as error:
            self._line.clear()  # it comes again
            self._leave(error)
        except Exception:
            self._place.lose()
            self.log.failure("what a node told could not be told on")

    def distrust(self, lie: Lie) -> None:
        """It is not told, so the truth in its place may be missing: the next connection shows everything anew."""
        self._place.lose()
        self._on_trouble(lie)

    # -- telling -------------------------------------------------------------------------------------

    async def _hear_states(
        self,
        protocol: WalletClientProtocol,
        reply: messages.UTXOSubscribed,
        page: frozenset[Watched],
        watches: Taken,
    ) -> None:
        """The coins of a page of items as they are now, as many at a time as may be held."""
        while page:
            page = await self._hear_some(protocol, reply, page, watches)
            watches = {watch: taken & page for watch, taken in watches.items()}

    async def _hear_some(
        self,
        protocol: WalletClientProtocol,
        reply: messages.UTXOSubscribed,
        page: frozenset[Watched],
        watches: Taken,
    ) -> frozenset[Watched]:
        """Once all of them are checked, all of them are told; what is left of the page comes next."""
        try:
            coins, unread = await shown_by(protocol.request, reply, page, self._belief)
        except Lie:
            for watch, taken in watches.items():  # nothing of it was shown: it may be asked for again
                watch.untaken |= taken - watch.begun
            raise
        # Who hears of a coin by one of these items hears its changes from here on; who does not is shown nothing of it.
        left = frozenset(address for address, why in unread.items() if why.is_next)
        new = {watch: taken - unread.keys() for watch, taken in watches.items()}
        checked: list[tuple[CoinState, int, UTXOState, bool | None]] = []
        for coin, at in coins.values():
            state, proven = from_wire(coin.state), None
            if any(watch.is_news(coin, state, items) for watch, items in new.items()):
                try:
                    proven = await self._belief.is_proven(coin.outpoint, coin.output, state, None)
                except Lie as lie:
                    self.distrust(lie)
                    continue
            checked.append((coin, at, state, proven))
        # Nothing waits from here on: the page is told as a whole, or not at all.
        for watch, items in new.items():
            for coin, at, state, proven in checked:
                watch.show_page(coin, state, items, proven, later=at if at > reply.cursor.position else None)
            for address in (unread.keys() & watches[watch]) - watch.begun - left:
                watch.untaken.add(address)
                self._refused(watch, unread[address])
            watch.begun |= items
            watch.refusal = watch.refusal if watch.untaken else None
        self._was_tried = self._was_tried and any(watch.untaken for watch in self._watches)
        self._ahead_until = max([self._ahead_until, *(at for _, at, _, _ in checked if at > reply.cursor.position)])
        self._place.reached(reply.cursor)
        return left

    async def _hear_change(self, message: messages.UTXOStateNotification) -> None:
        change, cursor = message.notification, message.cursor
        if not self._place.is_after(cursor):
            raise Lie(f"the change {cursor.position} of {change.outpoint} was told before")
        state = from_wire(change.new_state)
        waiting = [each for each in self._watches if each.waits_for(change.outpoint, message.output, cursor.position)]
        if waiting:
            proof = message.inclusion or message.proof
            is_news = any(each.differs(change.outpoint, state) for each in waiting)
            proven = is_news and await self._belief.is_proven(change.outpoint, message.output, state, proof)
            old = None if change.old_state is None else from_wire(change.old_state)
            told = Change(change.outpoint, message.output, old, state, change.timestamp, proven, cursor)
            for watch in list(self._watches):
                if watch.waits_for(change.outpoint, message.output, cursor.position):
                    watch.hear(told)
        await self._hear_watermark(cursor)

    async def _hear_watermark(self, cursor: messages.Cursor) -> None:
        self._place.reached(cursor)
        if self._ahead_until and cursor.position >= self._ahead_until:
            self._ahead_until = 0
            for watch in self._watches:
                watch.ahead.clear()
