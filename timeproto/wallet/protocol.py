"""The wallet's end of a connection: requests with replies, notifications with a listener (protocol §7, §8).

For those who write a wallet of their own::

    factory = WalletClientFactory(reactor, genesis, on_notification=print)
    protocol = await endpoint.connect(factory)
    await protocol.when_ready()
    await protocol.request(messages.UTXOSubscribe(subscriber_id="w", addresses=("TIME0…",)))

Whatever a node says is a claim until :mod:`timeproto.wallet.belief` has checked its proof.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.genesis import Genesis
from timeproto.network.budget import BUDGETS
from timeproto.network.handshake import CURSORS, OWNERS, STATUSES, HandshakeMachine
from timeproto.network.protocol import MessageProtocol
from timeproto.network.requests import ConnectionGone
from timeproto.network.tls import channel_binding
from timeproto.wire import messages
from timeproto.wire.messages import Role

Listener = Callable[[messages.UTXOStateNotification], None]
ANSWERS, LONG = 8, 10.0
"""Over so many answers, about, goes the mean of the time that they take, and not more than so many seconds for one."""
QUICK = messages.GetTransaction | messages.GetFinalityProof | messages.TransactionCancel
"""Requests that a node answers at once: they name one thing, and wait for no disk."""

AGAIN = 0.5
"""Seconds, at the least, until a request is sent again: a node may ask for less, and be asked all the time."""

Notice = messages.UTXOWatermark | messages.UTXOSubscriptionNotice | messages.TransactionStatus


class WalletClientProtocol(MessageProtocol):
    """A connection to a node. With a genesis it makes the node prove its masternode key before anything is sent."""

    remote_role = Role.NODE

    def __init__(
        self,
        clock: Any,
        genesis: Genesis | None = None,
        *,
        node_key: str | None = None,
        access_key: str | None = None,
        on_notification: Listener | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``access_key``: a secret from the node's operator, by whose quota requests are paid."""
        super().__init__(clock)
        self.raise_frame_limit()
        self._genesis = genesis
        self._expected_key = node_key
        self._access_key = access_key
        self.key_refusal: Refusal | None = None
        """Why the node does not take the access key: everything works without it, and more slowly."""
        self._on_notification = on_notification
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._random = random
        self._machine: HandshakeMachine | None = None
        self._is_ready = False
        self._ended: Exception | None = None
        self._expectant: list[Deferred[None]] = []
        self._pauses: set[Deferred[None]] = set()
        self.slowness = 0.0
        """Seconds that an answer takes, as a running mean."""

    @property
    def node_key(self) -> str | None:
        """The node's key, proven; None while it is not."""
        machine = self._machine
        return machine.peer_key if machine is not None and machine.done else None

    @property
    def knows_cursors(self) -> bool:
        """True if the node, once it has greeted, understands cursors and leases."""
        return self._can(CURSORS)

    @property
    def knows_owners(self) -> bool:
        """True if a lease there can belong to a key."""
        return self._can(OWNERS) and self.knows_cursors and self.node_nonce is not None

    @property
    def node_nonce(self) -> str | None:
        """What the node, proven, gave this connection: a key is shown for it (network.ownership)."""
        machine = self._machine
        return machine.theirs.nonce if machine is not None and machine.done and machine.theirs is not None else None

    @property
    def knows_statuses(self) -> bool:
        """True if the node, once it has greeted, tells of payments on their way."""
        return self._can(STATUSES)

    def _can(self, capability: str) -> bool:
        machine = self._machine
        return machine is not None and machine.theirs is not None and capability in machine.theirs.capabilities

    def request(self, message: Any) -> Deferred[Any]:
        """As :meth:`MessageProtocol.request`; what is refused since too much was asked is asked again when the node
        says, for at most ``limits.IDLE`` seconds."""
        return Deferred.fromCoroutine(self._patient(message))

    async def _timed(self, message: Any) -> Any:
        """As the node takes it: what is large, or many at once, may take its time."""
        counts = isinstance(message, QUICK) and len(self._requests) < ANSWERS
        began = self._clock.seconds()
        try:
            return await super().request(message)
        finally:
            if counts:
                self.slowness += (min(self._clock.seconds() - began, LONG) - self.slowness) / ANSWERS

    async def _patient(self, message: Any) -> Any:
        until = self._clock.seconds() + limits.IDLE
        while True:
            while len(self._requests) >= limits.REQUESTS and self._clock.seconds() + AGAIN <= until:
                await self.pause(AGAIN)  # they are answered, or given up, and then there is room
            try:
                return await self._timed(message)
            except Refusal as refusal:
                pause = refusal.details.get("retry_after_ms")
                patient = refusal.code is ErrorCode.OVER_LIMIT and isinstance(pause, int) and pause >= 0
                seconds = max(AGAIN, int(pause or 0) / 1000)
                if not patient or self._clock.seconds() + seconds > until:
                    raise
                await self.pause(seconds)

    async def pause(self, seconds: float) -> None:
        """Returns after so many seconds; :class:`ConnectionGone` as soon as the connection is lost."""
        if not self.is_open:
            raise ConnectionGone(f"the connection to {self.peer_host} is closed")
        waiting: Deferred[None] = Deferred()
        late = self._clock.callLater(seconds, waiting.callback, None)
        self._pauses.add(waiting)
        try:
            await waiting
        finally:
            self._pauses.discard(waiting)
            if late.active():
                late.cancel()

    def when_ready(self) -> Deferred[None]:
        """Fires when requests may be sent; fails with :class:`Refusal` or :class:`ConnectionGone`."""
        waiting: Deferred[None] = Deferred()
        if self._is_ready:
            waiting.callback(None)
        elif self._ended is not None:
            waiting.errback(self._ended)
        else:
            self._expectant.append(waiting)
        return waiting

    def is_greeted(self) -> bool:
        return self._is_ready

    def ready(self) -> None:
        if self._genesis is None:
            self._become_ready()
            return
        self._machine = HandshakeMachine(
            genesis=self._genesis,
            key=None,
            dialled=True,
            nonce=self._random(32),
            binding=channel_binding(self.transport),
            expected_key=self._expected_key,
        )
        for message in self._machine.begin():
            self.send(message)

    def _deliver(self, message: messages.AnyMessage) -> None:
        """A node tells of its own log, and when it has proven who it is: what somebody says in the name of another
        would lead a wallet astray there."""
        if not self._is_ready and isinstance(message, messages.UTXOStateNotification | Notice):
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "nothing is told before the handshake")
        cursor, me = getattr(message, "cursor", None), self.node_key
        if cursor is not None and me is not None and cursor.node != me:
            self.log.warn("the masternode {me} speaks in the name of {other}", me=me, other=cursor.node)
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "a cursor is of the node that tells it")
        super()._deliver(message)

    def message_received(self, message: messages.AnyMessage) -> None:
        if isinstance(message, messages.UTXOStateNotification):
            if self._on_notification is not None:
                self._on_notification(message)
        elif isinstance(message, Notice):
            if self._on_notice is not None:
                self._on_notice(message)
        elif isinstance(message, messages.Handshake | messages.HandshakeAck):
            self._shake_hands(message)

    def _shake_hands(self, message: messages.Handshake | messages.HandshakeAck) -> None:
        machine = self._machine
        if machine is None:
            raise Refusal(ErrorCode.BAD_HANDSHAKE, "no handshake was begun")
        try:
            if isinstance(message, messages.Handshake):
                machine.hear_handshake(message)
                self.hear_capabilities(message.capabilities)
            else:
                machine.hear_ack(message)
        except Refusal as refusal:
            self._end(refusal)
            raise
        if machine.done:
            self._become_ready()

    def complained(self, refusal: Refusal) -> None:
        """The node refuses the conversation itself: whoever waits for it is told why."""
        super().complained(refusal)
        if not self._is_ready:
            self._end(refusal)

    def gone(self, reason: Any) -> None:
        self._is_ready = False
        why = f"the node at {self.peer_host} went away"
        for waiting in tuple(self._pauses):
            waiting.errback(ConnectionGone(why))
        self._end(ConnectionGone(why))
        if self._on_lost is not None:
            self._on_lost()

    def _become_ready(self) -> None:
        self._is_ready = True
        if self._access_key is not None and (self._machine is None or self._can(BUDGETS)):
            self.request(messages.GetBudget(key=self._access_key)).addErrback(self._without_key)
        waiting, self._expectant = self._expectant, []
        for each in waiting:
            each.callback(None)

    def _without_key(self, failure: Failure) -> None:
        if isinstance(failure.value, Refusal):
            self.key_refusal = failure.value
        self.log.info("{who} does not take the access key: {why}", who=self, why=failure.getErrorMessage())

    def _end(self, why: Exception) -> None:
        self._ended = self._ended or why
        waiting, self._expectant = self._expectant, []
        for each in waiting:
            each.errback(self._ended)


class WalletClientFactory(Factory):
    """Makes :class:`WalletClientProtocol`; ``arguments`` are its."""

    noisy = False

    def __init__(self, clock: Any, genesis: Genesis | None = None, **arguments: Any) -> None:
        self._clock = clock
        self._genesis = genesis
        self._arguments = arguments

    def buildProtocol(self, addr: Any) -> WalletClientProtocol:
        return WalletClientProtocol(self._clock, self._genesis, **self._arguments)
