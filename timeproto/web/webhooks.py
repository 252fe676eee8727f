"""Webhooks: the transitions of an address, POSTed to whoever asked, in order, until they are taken.

The queue is the transition log itself, which is durable and without gaps: a webhook is a position in it, like a stream
of events, and a position is all that is kept. One POST of a webhook is under way at a time and the next begins where
the last that was taken ended, so the order is the log's. After a crash what was delivered since the last saving is
delivered again; the cursor of each transition tells its receiver. Where the log does not reach back so far, or is an
older one, the receiver is told that there is a gap before anything else, however often that takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from timeproto.errors import ErrorCode, Refusal
from timeproto.web import bounds
from timeproto.web.feed import Feed
from timeproto.web.hook_keeper import Keeper
from timeproto.web.hook_live import LiveHook
from timeproto.web.hook_pages import HookPage, next_page
from timeproto.web.hook_register import Register
from timeproto.web.hook_turns import Turns
from timeproto.web.hooks import (
    Hook,
    Kept,
    Outcome,
    Removal,
    WebhookAnswer,
    WebhookDelivery,
    WebhookList,
    WebhookQuestion,
    WebhookRequest,
    headers_of,
    hook_id,
    require_owner,
    require_target,
)
from timeproto.web.metrics import Metrics
from timeproto.web.targets import Targets
from timeproto.web.view import NodeView
from timeproto.wire import codec
from timeproto.wire.messages import Cursor


class Poster(Protocol):
    """Sends a body once and tells how that ended (web.post.Poster)."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[Outcome]: ...


class Webhooks(Service):
    """The webhooks of one node."""

    log = Logger()

    def __init__(
        self,
        *,
        clock: Any,
        view: NodeView,
        feed: Feed,
        metrics: Metrics,
        poster: Poster,
        targets: Targets,
        kept: Kept,
        configured: Sequence[tuple[str, str]],
        wallets: bool,
        save: Callable[[Kept], Deferred[None]],
        now: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        """``clock``: IReactorTime; ``now``: Unix seconds; ``random``: so many random bytes.

        ``kept``: as they were saved last; ``configured``: the operator's (address, URL); ``wallets``: whether wallets
        may register theirs; ``save`` makes all of them durable.
        """
        self.setName("webhooks")
        self._clock, self._now, self._random = clock, now, random
        self._view, self._feed, self._metrics = view, feed, metrics
        self._poster, self._targets = poster, targets
        self._wallets = wallets
        self._keeper = Keeper(lambda: save(self._records()))
        self._hooks = Register(kept.removed)
        self._asked: set[str] = set()
        self._turns: Turns[LiveHook] = Turns()
        self._begun = False
        self._seen = 0
        self._due: Any = None
        self._turn: Any = None
        self._kept = {each.hook: each for each in kept.hooks}
        self._configured = {hook_id(*each): each for each in configured}
        self._housework = LoopingCall(self._tidy)
        self._housework.clock = clock
        metrics.webhooks.set_function(lambda: len(self._hooks))
        metrics.webhooks_due.set_function(lambda: sum(each.due for each in self._hooks))
        metrics.webhooks_failing.set_function(lambda: sum(each.failures > 0 for each in self._hooks))
        metrics.webhook_behind.set_function(
            lambda: max((self._seen - each.done for each in self._hooks if each.due), default=0)
        )

    # -- life ----------------------------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._feed.listen(self._wake)
        self._view.read(self._view.position).addCallback(self._begin).addErrback(self._failed, "not begun")

    def _begin(self, position: int) -> None:
        if not self.running:
            return
        self._begun, self._seen = True, position
        for hook, (address, url) in self._configured.items():
            kept = self._kept.pop(hook, None) or self._made(address, url, position)
            self._resume(msgspec.structs.replace(kept, owner="operator", ends_at=None), position)
        for kept in self._kept.values():
            if kept.owner == "wallet" and self._wallets:  # the operator's are those in the configuration
                self._resume(kept, position)
        self._keeper.changed = True
        self._housework.start(bounds.WEBHOOK_SAVE, now=True).addErrback(self._failed, "not kept any more")
        self._pump()

    def _resume(self, kept: Hook, position: int) -> None:
        if kept.done > position:  # an older log is growing anew: its positions are others, from here on
            kept = msgspec.structs.replace(kept, done=position, gap="ahead")
        self._add(kept)

    def stopService(self) -> Deferred[None]:
        """Calls off what is under way and saves; fires when that is done."""
        super().stopService()
        self._feed.leave(self._wake)
        if self._housework.running:
            self._housework.stop()
        for call in (self._due, self._turn):
            if call is not None and call.active():
                call.cancel()
        for live in list(self._hooks):
            self._quiet(live)
        if not self._begun:
            return succeed(None)
        return self._keeper.keep().addErrback(self._failed, "not saved")

    def _failed(self, failure: Any, what: str) -> None:
        self.log.failure("webhooks: {what}", failure=failure, what=what)

    def _made(self, address: str, url: str, position: int) -> Hook:
        return Hook(hook_id(address, url), address, url, self._random(32).hex(), "wallet", position)

    def _add(self, hook: Hook, *, due: bool = True) -> LiveHook:
        live = LiveHook(hook, hook.done, hook.gap, due, slow=hook.owner == "wallet", failing_since=hook.failing_since)
        return self._put(live, due=due)

    def _put(self, live: LiveHook, *, due: bool) -> LiveHook:
        self._hooks.add(live)
        live.due = due
        if due:
            self._turns.add(live)
        return live

    def _drop(self, live: LiveHook) -> None:
        live.done = live.done_by(self._seen)
        self._hooks.drop(live)
        self._quiet(live)
        self._keeper.changed = True

    def _quiet(self, live: LiveHook) -> None:
        self._turns.leave(live)
        if live.waits:
            live.pause.cancel()
        if live.posting is not None:
            live.posting.cancel()

    def _records(self) -> Kept:
        hooks = tuple(live.record(self._seen) for live in self._hooks)
        return Kept(hooks=hooks, removed=self._hooks.removed())

    def _tidy(self) -> Deferred[None]:
        """Saves what was delivered; ends what has lapsed or never worked."""
        now = self._now()
        for live in list(self._hooks):
            lapsed = live.hook.ends_at is not None and live.hook.ends_at <= now * 1000
            if lapsed or (live.hook.owner == "wallet" and live.is_hopeless(now)):
                self._drop(live)
        if self._hooks.forget((now - bounds.WEBHOOK_CLOCK) * 1000):
            self._keeper.changed = True
        return self._keeper.keep_changes()

    # -- wallets -------------------------------------------------------------------------------------

    def ask(self, request: WebhookRequest, payer: str) -> Deferred[WebhookAnswer]:
        """A wallet registers, renews or removes a webhook; fires when that is durable, fails with :class:`Refusal`.

        ``payer``: the address block it asks from, empty on the loopback.
        """
        return Deferred.fromCoroutine(self._ask(request, payer))

    def list(self, question: WebhookQuestion) -> Deferred[WebhookList]:
        """What a wallet registered for its address; fails with :class:`Refusal`."""
        return Deferred.fromCoroutine(self._list(question))

    async def _ask(self, request: WebhookRequest, payer: str) -> WebhookAnswer:
        now = self._require_owner(request)
        require_target(request.url, self._targets)
        hook = hook_id(request.address, request.url)
        live = self._hooks.get(hook)
        if live is not None and live.hook.owner == "operator":
            raise Refusal(ErrorCode.NOT_AUTHORISED, "this webhook is the operator's")
        last = self._hooks.removal(hook) if live is None else live.hook
        if request.timestamp <= (self._hooks.forgotten(hook) if last is None else last.stamp):
            raise Refusal(ErrorCode.NOT_AUTHORISED, "a request with this time or a later one came before")
        if live is None and request.remove:
            raise Refusal(ErrorCode.NOT_FOUND, "there is no such webhook")
        if hook in self._asked:
            raise Refusal(ErrorCode.BUSY, "another request for this webhook is being saved", retry_after_ms=1000)
        self._keeper.require_room()
        live = live or self._new(request, payer)
        ends_at = None if request.remove else now + int(bounds.WEBHOOK_LIFE * 1000)
        live.hook = msgspec.structs.replace(live.hook, stamp=request.timestamp, ends_at=ends_at)
        answer = live.answer(self._view.node_key, self._seen)
        if request.remove:
            self._drop(live)
        elif live.waits:  # its receiver may be back; but nobody is to be stormed because somebody asks often
            left = live.pause.getTime() - self._clock.seconds()
            live.pause.reset(min(left, bounds.WEBHOOK_RENEWED))
        self._keeper.changed = True
        self._asked.add(hook)
        try:
            await self._keeper.keep()
        except Exception:
            self._undo(live, last, removed=request.remove)
            raise
        finally:
            self._asked.discard(hook)
        return answer

    def _undo(self, live: LiveHook, last: Hook | Removal | None, *, removed: bool) -> None:
        """A request could not be made durable: all is as it was before, and the same one may be sent again."""
        if isinstance(last, Hook):
            live.hook = last
            if self._hooks.get(last.hook) is not live and not removed:  # its receiver has ended it meanwhile
                self._hooks.remember(last)
            elif removed:
                self._put(live, due=True)  # what happened meanwhile is found in the log
                self._pump()
        else:
            self._hooks.unmake(live, last)
            self._quiet(live)
        self._keeper.changed = True

    async def _list(self, question: WebhookQuestion) -> WebhookList:
        self._require_owner(question)
        own = (live for live in self._hooks.of(question.address) if live.hook.owner == "wallet")
        return WebhookList(tuple(live.line(self._view.node_key, self._seen) for live in own))

    def _require_owner(self, request: WebhookRequest | WebhookQuestion) -> int:
        """The time, Unix ms, if the node takes such requests and this one is its address's owner's."""
        if not self._wallets:
            raise Refusal(ErrorCode.NOT_AUTHORISED, "this node takes no webhooks from wallets (webhook_wallets)")
        if not self._housework.running:
            raise Refusal(ErrorCode.BUSY, "the webhooks have not begun yet", retry_after_ms=1000)
        now = int(self._now() * 1000)
        require_owner(request, self._view, now)
        return now

    def _new(self, request: WebhookRequest, payer: str) -> LiveHook:
        made = msgspec.structs.replace(self._made(request.address, request.url, self._seen), payer=payer)
        self._hooks.require_room(made)
        return self._add(made, due=False)

    # -- what is there to tell -----------------------------------------------------------------------

    def _wake(self) -> None:
        """A commit is told: looked at once the node has told everybody else."""
        if self._due is None:
            self._due = self._clock.callLater(0, self._look)

    def _look(self) -> None:
        self._due = None
        told = self._feed.after(self._seen)
        if told is None:  # more happened at once than the feed remembers: each finds its own in the log
            self._view.read(self._view.position).addCallback(self._look_back).addErrback(self._failed, "not woken")
            return
        for one in told:
            for live in self._hooks.of(one.transition.output.address):
                if not live.due and one.position > live.done:
                    live.done, live.due = one.position - 1, True
                    self._turns.add(live)
            self._seen = one.position
        self._keeper.changed = self._keeper.changed or bool(self._hooks)
        self._pump()

    def _look_back(self, position: int) -> None:
        for live in self._hooks:
            if not live.due:
                live.done, live.due = max(live.done, self._seen), True
                self._turns.add(live)
        self._seen = position
        self._pump()

    def _read(self, live: LiveHook) -> HookPage:
        if live.gap is not None:
            return HookPage(live.done, self._view.position(), gap=live.gap)
        return next_page(self._view, live.hook.address, live.done, live.most)

    # -- telling -------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """One webhook a turn of the reactor: each may have a page of the log to read."""
        if self._turn is None and self.running and self._turns.is_any():
            self._turn = self._clock.callLater(0, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        live = self._turns.take()
        if live is not None:
            live.posting = Deferred.fromCoroutine(self._tell(live))
            live.posting.addErrback(self._stumbled, live).addBoth(self._told, live)
        self._pump()

    async def _tell(self, live: LiveHook) -> None:
        """One page of one webhook."""
        page = await self._view.read(lambda: self._read(live))
        if page.gap is not None:  # kept until it was told: what happens from here on comes after it
            live.gap, live.done, self._keeper.changed = page.gap, page.upto, True
        if page.events or page.gap is not None:
            began = self._clock.seconds()
            outcome = await self._post(live, page)
            if not self._works(live):
                return
            took = max(0.0, self._clock.seconds() - began)
            live.slow = outcome != "delivered" or took > bounds.WEBHOOK_SLOW
            self._metrics.webhook_seconds.observe(took)
            self._metrics.webhook_posts.labels(outcome=outcome).inc()
            if outcome != "delivered":
                self._not_taken(live, outcome)
                return
            live.failures, live.failing_since, live.outcome, live.gap = 0, None, outcome, None
            live.most = min(2 * live.most, bounds.WEBHOOK_EVENTS)
            self._metrics.webhook_events.inc(len(page.events))
        live.done = page.upto
        live.due = page.upto < max(page.head, self._seen)
        self._keeper.changed = True

    def _post(self, live: LiveHook, page: HookPage) -> Deferred[Outcome]:
        hook = live.hook
        raw: Any = tuple(msgspec.Raw(event) for event in page.events)
        cursor = Cursor(self._view.node_key, page.upto)
        body = codec.encode(WebhookDelivery(hook.hook, hook.address, cursor, raw, page.gap))
        moment = int(self._now())
        return self._poster.post(hook.url, body, headers_of(hook.hook, bytes.fromhex(hook.secret), moment, body))

    def _not_taken(self, live: LiveHook, outcome: Outcome) -> None:
        if outcome == "gone" and live.hook.owner == "wallet":
            live.posting = None  # it is over: nothing to call off
            self._drop(live)
            return
        if live.failing_since is None:
            live.failing_since, self._keeper.changed = int(self._now() * 1000), True
        if live.failures == 0:
            self.log.info("webhook {hook} of {address}: {outcome}", hook=live.hook.hook, address=live.hook.address,
                          outcome=outcome)
        live.failures, live.outcome, live.most = live.failures + 1, outcome, max(1, live.most // 2)
        chance = int.from_bytes(self._random(2), "big") / 2**16
        live.pause = self._clock.callLater(live.next_pause(chance), self._again, live)

    def _again(self, live: LiveHook) -> None:
        self._turns.add(live)
        self._pump()

    def _stumbled(self, failure: Any, live: LiveHook) -> None:
        """The node could not be read, or this stopped: later."""
        if self._works(live):
            if failure.check(Refusal) is None:
                self._failed(failure, "a POST failed here")
            self._not_taken(live, "unreachable")

    def _told(self, _: Any, live: LiveHook) -> None:
        live.posting = None
        self._turns.ended(live)
        if live.due and not live.waits and self._works(live):
            self._turns.add(live)
        self._pump()

    def _works(self, live: LiveHook) -> bool:
        """False once it was removed, or all of this stopped."""
        return bool(self.running) and self._hooks.get(live.hook.hook) is live
