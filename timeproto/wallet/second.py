"""A second node, asked now and then: the one that a wallet talks to can keep payments and coins to itself.

What it keeps back breaks no proof, so nothing that it says shows it. A payment that is not decided in time is handed to
another node as well, and from time to time another is asked what it knows of the coins that are watched. No watch is
told what that one says, and no word of it ends a payment without a proof: it is a reason to leave the first.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.utxo_state import Confirmed, SpentFinalized, from_wire
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import conversation
from timeproto.wallet.belief import Belief, Lie, Silence
from timeproto.wallet.missing import Missing
from timeproto.wallet.outbox import Outbox
from timeproto.wallet.payment import ASK_AGAIN, Payment
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.turns import together
from timeproto.wallet.watching import Watches
from timeproto.wire import messages

if TYPE_CHECKING:  # a client makes itself one
    from timeproto.wallet.client import WalletClient

LOOK = 300.0
"""Seconds between two looks at what another node knows, about: each costs that node as much as a small reconnect."""

GRACE = 30.0
"""Seconds after a look in which what was missing may still be told: the coins of a large block take some …"""
SETTLE = 240.0
"""… and then so many for what was told to be checked, which the node that told it may delay."""

SESSION = 60.0
"""Seconds after which another node has been asked for long enough: it may answer as slowly as it likes."""
UNREACHED = 30.0
"""Seconds for which nobody is asked when all the others could not be reached."""

TRIES = 3
"""How many times a node is asked, ``ASK_AGAIN`` seconds apart, before it is said not to have answered."""

STRIKES = 2
"""Payments that were not passed on, as others show it, before a node is left for that: one of them may lie."""

AT_A_TIME = 20
"""Payments that another node is given at the same time."""


@attrs.frozen
class _Claim:
    """What another node has proven, and the client's own has to be able to prove in a while; ``why`` if it is not."""

    prove: Callable[[], Awaitable[object]]
    why: str


@attrs.frozen
class _Doubt:
    """What the node of ``connection`` has not told, as another one showed it at the second ``since``."""

    connection: WalletClientProtocol
    missing: Sequence[Missing]
    claims: Sequence[_Claim]
    since: float


class SecondNode(Service):
    """Asks one node at a time, another each time, and not the one that the client talks to."""

    log = Logger()

    def __init__(self, client: WalletClient, reactor: Any, nodes: Any, outbox: Outbox, watches: Watches) -> None:
        """``nodes``: a :class:`~timeproto.wallet.nodes.Rotation`."""
        self._client = client
        self._reactor = reactor
        self._nodes = nodes
        self._outbox = outbox
        self._watches = watches
        self._look_at = reactor.seconds() + spread(LOOK)
        self._not_before = 0.0
        self._unreached = 0
        self._struck: WalletClientProtocol | None = None
        self._strikes = 0
        self._doubt: _Doubt | None = None
        self._asking: Deferred[None] | None = None
        self._protocol: WalletClientProtocol | None = None
        self._gone: Deferred[None] | None = None
        self.setServiceParent(client)

    def stopService(self) -> Deferred[None] | None:
        """Fires when no connection is left."""
        super().stopService()
        self._doubt = None
        if self._protocol is not None:
            self._protocol.abort()
        elif self._asking is not None:
            self._asking.cancel()
        return self._gone

    def tick(self) -> None:
        """To be called every ``ASK_AGAIN`` seconds while the service runs."""
        now, doubt = self._reactor.seconds(), self._doubt
        if self._client.has_one_node:
            return
        if doubt is not None and now >= doubt.since + GRACE:
            self._doubt = None
            self._client.run(self._confront(doubt))
        is_due = bool(self._outbox.overdue()) or self._is_to_look
        if is_due and self._asking is None and self._gone is None and now >= self._not_before:
            self._asking = asking = Deferred.fromCoroutine(self._ask())
            asking.addErrback(Failure.trap, CancelledError)  # the client was stopped
            asking.addErrback(lambda failure: self.log.failure("a second node cannot be asked", failure=failure))
            asking.addBoth(self._asked)

    @property
    def _is_to_look(self) -> bool:
        is_wanted = self._watches.comparison.has_begun or self._outbox.confirming.is_waited_for
        return is_wanted and self._client.connection is not None and bool(self._reactor.seconds() >= self._look_at)

    async def _ask(self) -> None:
        node, self._unreached = self._nodes.another(), self._unreached + 1
        try:
            async with conversation(self._reactor, node, self._client.genesis, access_key=node.access_key) as protocol:
                self._is_there(protocol)
                await protocol.when_ready()
                self._unreached = 0
                belief = self._client.belief.of(partial(self._ask_of, protocol))
                if self._is_to_look:
                    self._look_at = self._reactor.seconds() + spread(LOOK)
                    await self._look(belief, node.address)
                await self._hand_on(protocol, belief)
        except (ConnectionGone, Refusal) as error:
            self.log.debug("the node at {node} could not be asked: {why}", node=node.address, why=error)
        except Lie as lie:
            self.log.warn("the node at {node} lies: {what}", node=node.address, what=lie)

    async def _ask_of(self, protocol: WalletClientProtocol, question: Any) -> Any:
        try:
            return await protocol.request(question)
        except Refusal as refusal:
            if refusal.code is ErrorCode.TIMEOUT:  # it would be as slow with the next
                raise ConnectionGone(refusal.message) from None
            raise

    def _asked(self, result: None) -> None:
        self._asking = None
        if self._unreached >= len(self._nodes) - 1:
            self._unreached, self._not_before = 0, self._reactor.seconds() + UNREACHED

    def _is_there(self, protocol: WalletClientProtocol) -> None:
        """Until the connection is gone no other node is asked, and it does not stay for long."""
        self._protocol, self._gone = protocol, Deferred()
        late = self._reactor.callLater(SESSION, protocol.abort)

        def is_gone(reason: object) -> None:
            if late.active():
                late.cancel()
            gone, self._protocol, self._gone = self._gone, None, None
            if gone is not None:
                gone.callback(None)

        protocol.on_lost(is_gone)

    # -- payments ------------------------------------------------------------------------------------

    async def _hand_on(self, protocol: WalletClientProtocol, belief: Belief) -> None:
        """Hands on payments that are not decided in time. A node that keeps them to itself, or their ends, is left."""
        own, payments = self._client.connection, self._outbox.overdue()
        unheard: list[Payment] = []
        settled: list[Payment] = []

        async def give(payment: Payment) -> None:
            was_kept = payment.was_kept_by(own, self._reactor.seconds())
            if await self._outbox.hand_on(payment, protocol, belief) and was_kept:
                unheard.append(payment)

        async def look(payment: Payment) -> None:
            if not payment.is_over:
                await self._outbox.look_for_proof(payment, belief)
                settled.extend([payment] * (payment.proof is not None))

        try:
            await self._each(give, payments)
            for _ in range(TRIES):
                waiting = [payment for payment in payments if not payment.is_over]
                if waiting:
                    await protocol.pause(ASK_AGAIN)
                    await self._each(look, waiting)
        finally:
            self._judge(own, [payment for payment in unheard if payment in settled], settled)

    async def _each(self, work: Callable[[Payment], Coroutine[Any, Any, None]], payments: Sequence[Payment]) -> None:
        for first in range(0, len(payments), AT_A_TIME):
            await together(work(payment) for payment in payments[first : first + AT_A_TIME])

    def _judge(self, own: WalletClientProtocol | None, unheard: Sequence[Payment], settled: Sequence[Payment]) -> None:
        """``settled``: proven final by another node; those ``unheard`` of by it lacked nothing but to be passed on."""
        if own is None or self._client.connection is not own:
            return
        if own is not self._struck:
            self._struck, self._strikes = own, 0
        self._strikes += len(unheard)
        if self._strikes >= STRIKES:
            self._blame(own, f"it took the payment {unheard[-1].txid} and has not passed it on")
        elif settled:
            txid = settled[0].txid
            prove = partial(self._client.fetch_proof, txid)
            self._is_claimed(own, [_Claim(prove, f"it does not know that the payment {txid} is final")])

    def _blame(self, own: WalletClientProtocol, why: str) -> None:
        if self._client.connection is own:
            self._client.troubled(Silence(why))

    # -- coins and blocks ----------------------------------------------------------------------------

    async def _look(self, belief: Belief, address: str) -> None:
        own = self._client.connection
        blocks = await self._outbox.confirming.look_elsewhere(belief)
        claims = [
            _Claim(partial(self._client.belief.confirmed, txid), f"it does not know that a block contains {txid}")
            for txid in blocks[:1]
        ]
        missing = await self._watches.comparison.look(belief, address)
        if own is not None:
            self._is_claimed(own, claims, missing)

    def _is_claimed(
        self, own: WalletClientProtocol, claims: Sequence[_Claim], missing: Sequence[Missing] = ()
    ) -> None:
        """It has some time to make up for it, unless it has had that for something else already."""
        if self._doubt is None and (claims or missing):
            self._doubt = _Doubt(own, missing, claims, self._reactor.seconds())

    async def _confront(self, doubt: _Doubt) -> None:
        """Leaves the client's own node if what was missing has still not been told, or cannot be proven."""
        own = doubt.connection
        for claim in doubt.claims:
            if not await self._can(own, claim.prove):
                return self._blame(own, claim.why)
        if doubt.missing:
            try:
                await self._watches.settled().addTimeout(SETTLE, self._reactor)
            except TooLate:
                return self._blame(own, "it tells what takes too long to check")
        for each in doubt.missing:
            is_still = each.is_still and not await self._is_spent(each)
            if self._client.connection is not own:
                return
            if is_still and each.is_still:  # while that was asked too
                self._watches.distrust(Silence(str(each)))
                return

    async def _can(self, own: WalletClientProtocol, prove: Callable[[], Awaitable[object]]) -> bool:
        """False if the client's own node is there, and has not proven something after some tries."""
        for _ in range(TRIES):
            try:
                await prove()
            except Refusal:
                with suppress(ConnectionGone):
                    await own.pause(ASK_AGAIN)
            except ConnectionGone:
                return True
            except Lie as lie:
                self._client.troubled(lie)
                return True
            else:
                return True
        return False

    async def _is_spent(self, missing: Missing) -> bool:
        """True if the client's own node proves that a coin is spent which another showed as new: that one is behind."""
        if missing.before is not None or isinstance(missing.state, SpentFinalized | Confirmed):
            return False
        outpoint, own = missing.coin.outpoint, self._client.connection
        for _ in range(TRIES):
            try:
                reply = await self._client.ask(messages.UTXOStateQuery(outpoints=(outpoint,)))
                state = from_wire((reply.states[0].state if reply.states else None) or "Unspent")
                is_final = isinstance(state, SpentFinalized | Confirmed)
                return is_final and await self._client.belief.is_proven(outpoint, missing.coin.output, state, None)
            except (Refusal, ConnectionGone):
                if own is None or not own.is_open:
                    break
            with suppress(ConnectionGone):
                await own.pause(ASK_AGAIN)
        return False  # who is to be kept does not refuse to say


def spread(seconds: float, chance: Callable[[], float] = random.random) -> float:
    """A quarter of it more or less, so that a thousand wallets do not ask in the same moment."""
    return seconds * (0.75 + chance() / 2)
