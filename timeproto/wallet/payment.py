"""One payment of ours on its way: what was heard of it, and the Deferreds that wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from timeproto.model.transaction import Transaction
from timeproto.wallet.backoff import Backoff
from timeproto.wallet.belief import Proof

ASK_AGAIN = 2.0
"""Seconds after which an undecided payment's proof is asked for …"""
ASK_SELDOM = 60.0
"""… and then whenever it has become half as old again, at least so often: most of what is old waits for a block."""

RESTLESS = 60.0
"""Seconds between two nodes, at the most, that are tried for a payment: all may refuse it, until a block decides."""

OVERDUE = 10.0
"""Seconds after which a payment that a node was given, and that is not decided, is handed to another one as well …"""
OVERDUE_MAX = 320.0
"""… and after twice as many to the next one, and so on, up to this: it may be waiting for a block, or for a quorum."""


@attrs.frozen
class Step:
    """A state the payment reached: ``accepted``, ``Locked``, ``SpentPending``, ``SpentFinalized``, ``Confirmed``, the
    last with the block's ``height``; ``ms`` since it was sent."""

    state: str
    ms: float
    height: int | None = None


@attrs.define(eq=False)
class Payment:
    """A transaction that was handed to the network. It ends in a verified proof, or in an exception that says why.

    A node's refusal ends it for whoever waits; but a node can say no and pass it on. If it is proven final after all it
    has an ``error`` and the ``proof``, its listeners hear of the step ``SpentFinalized``, and the log warns.
    """

    log = Logger()

    tx: Transaction
    sent_at: float
    history: list[Step] = attrs.field(factory=list)
    proof: Proof | None = None
    height: int | None = None
    error: Exception | None = None
    is_accepted: bool = False
    is_bounced: bool = False
    may_be_known: bool = False
    """True if some node may have locked its coins: then a node's no does not end it."""
    take_back: Callable[[], bool] = attrs.field(default=lambda: True)
    """Sees to it that nobody else sends it any more, before it ends by a node's no; False if somebody may have."""
    _hand_on: Backoff = attrs.field(factory=lambda: Backoff(2 * OVERDUE, OVERDUE_MAX))
    _leave: Backoff = attrs.field(factory=lambda: Backoff(ASK_AGAIN, RESTLESS))
    _taken: tuple[Any, float] | None = None
    _ask_at: float = attrs.field(default=attrs.Factory(lambda payment: payment.sent_at + ASK_AGAIN, True))
    asking: list[Any] = attrs.field(factory=list)
    """The connections over which a node was asked, and has not answered."""
    _accepted: list[Deferred[Payment]] = attrs.field(factory=list)
    _final: list[Deferred[Proof]] = attrs.field(factory=list)
    _listeners: list[Any] = attrs.field(factory=list)

    @property
    def txid(self) -> str:
        return self.tx.txid

    @property
    def is_over(self) -> bool:
        return self.proof is not None or self.error is not None

    def when_accepted(self) -> Deferred[Payment]:
        """Fires when a node has locked the coins, durably; fails if the payment does."""
        waiting: Deferred[Payment] = Deferred()
        if self.proof is None and self.error is not None:
            waiting.errback(self.error)
        elif self.is_accepted:
            waiting.callback(self)
        else:
            self._accepted.append(waiting)
        return waiting

    def when_final(self) -> Deferred[Proof]:
        """Fires with the proof, verified here; fails if the payment does, with ``Aborted`` if a block ended it."""
        waiting: Deferred[Proof] = Deferred()
        if self.proof is not None:
            waiting.callback(self.proof)
        elif self.error is not None:
            waiting.errback(self.error)
        else:
            self._final.append(waiting)
        return waiting

    def on_step(self, listener: Any) -> None:
        """Calls ``listener(step)`` for every step, those in the past first; what it raises later is logged."""
        for step in self.history:
            listener(step)
        self._listeners.append(listener)

    # -- for the client ------------------------------------------------------------------------------

    def is_given(self, now: float) -> None:
        """A node is given it, or is to be, and has ``OVERDUE`` seconds before another is."""
        self._hand_on.at = max(now + OVERDUE, self._hand_on.at)

    def is_urgent(self, now: float) -> None:
        """Something new is to be said of it: it does not wait for its turn if that is far off."""
        self._hand_on.begin_again(min(now + OVERDUE, self._hand_on.at))

    @property
    def hand_on_at(self) -> float:
        """When another node is to be given it too."""
        return self._hand_on.at

    def is_handed_on(self, now: float) -> None:
        """Another node is given it, and the next one later."""
        self._hand_on.tried(now)

    def is_restless(self, now: float) -> bool:
        """True if it is time, since a node refuses it, to try the next: at once, and then ever more seldom."""
        is_time = self._leave.is_due(now)
        if is_time:
            self._leave.tried(now)
        return is_time

    def is_to_be_asked_after(self, now: float) -> bool:
        return now >= self._ask_at

    def is_asked_after(self, now: float) -> None:
        self._ask_at = now + min(max(ASK_AGAIN, (now - self.sent_at) / 2), ASK_SELDOM)

    def is_taken(self, connection: Any, now: float) -> None:
        """The node of ``connection`` has locked its coins, or says so."""
        self._taken = connection, now

    def was_kept_by(self, connection: Any, now: float) -> bool:
        """True if that node has had it long enough to pass it on."""
        return self._taken is not None and self._taken[0] is connection and now - self._taken[1] >= OVERDUE

    def reached(self, state: str, now: float) -> None:
        """A state was told: each is noted once, in the order of its first arrival."""
        if not self.is_over and not any(step.state == state for step in self.history):
            self._note(Step(state, (now - self.sent_at) * 1000))

    def _note(self, step: Step) -> None:
        self.history.append(step)
        for listener in self._listeners:
            try:
                listener(step)
            except Exception:  # the payment goes on, and whoever else waits for it is told
                self.log.failure("a payment's own code failed")

    def accepted(self, now: float) -> None:
        self.reached("accepted", now)
        self.is_accepted = True
        waiting, self._accepted = self._accepted, []
        for each in waiting:
            each.callback(self)

    def became_final(self, proof: Proof, now: float) -> None:
        """``proof`` is verified already."""
        if self.is_over:
            return
        self.accepted(now)
        self.reached("SpentFinalized", now)
        self.proof = proof
        waiting, self._final = self._final, []
        for each in waiting:
            each.callback(proof)

    def final_after_all(self, proof: Proof, now: float) -> None:
        """A node refused it, whoever waited was told so, and may have paid again. ``proof`` is verified already."""
        self.log.warn("the payment {txid} is final, though a node refused it: {why}", txid=self.txid, why=self.error)
        self.is_accepted, self.proof = True, proof
        self._note(Step("SpentFinalized", (now - self.sent_at) * 1000))

    def confirmed(self, height: int, now: float) -> None:
        """The payment is final, and a decided block of this height holds it: verified already."""
        if self.height is None:
            self.height = height
            self._note(Step("Confirmed", (now - self.sent_at) * 1000, height))

    def failed(self, why: Exception) -> None:
        if self.is_over:
            return
        self.error = why
        accepted, self._accepted = self._accepted, []
        final, self._final = self._final, []
        for each in accepted:
            each.errback(why)
        for waiting in final:
            waiting.errback(why)
