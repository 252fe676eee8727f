"""A second node, asked now and then: the one that a wallet talks to can keep payments and coins to itself.

What it keeps back breaks no proof, so nothing that it says shows it. A payment that is not decided in time is handed to
another node as well, and from time to time another is asked what it knows of the coins that are watched. No watch is
told what that one says, and no word of it ends a payment without a proof: it is a reason to leave the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto.errors import Refusal
from timeproto.model.utxo_state import Confirmed, SpentFinalized, from_wire
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import conversation
from timeproto.wallet.belief import Belief, Lie, Silence
from timeproto.wallet.missing import Missing
from timeproto.wallet.outbox import ASK_AGAIN, Outbox
from timeproto.wallet.payment import Payment
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.watching import Watches
from timeproto.wire import messages

if TYPE_CHECKING:  # a client makes itself one
    from timeproto.wallet.client import WalletClient

LOOK = 120.0
"""Seconds between two looks at what another node knows."""

GRACE = 30.0
"""Seconds after a look in which what was missing may still be told: the coins of a large block take some."""


@attrs.frozen
class _Doubt:
    """What the node of ``connection`` has not told, as another one showed it at the second ``since``."""

    connection: WalletClientProtocol
    missing: Sequence[Missing]
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
        self._look_at = reactor.seconds() + LOOK
        self._doubt: _Doubt | None = None
        self._asking: Deferred[None] | None = None
        self._gone: Deferred[None] | None = None
        self.setServiceParent(client)

    def stopService(self) -> Deferred[None] | None:
        """Fires when no connection is left."""
        super().stopService()
        self._doubt = None
        if self._asking is not None:
            self._asking.cancel()
        return self._gone

    def tick(self) -> None:
        """To be called every ``ASK_AGAIN`` seconds while the service runs."""
        connection, now = self._client.connection, self._reactor.seconds()
        if connection is None or self._client.has_one_node:
            return
        doubt = self._doubt
        if doubt is not None and now >= doubt.since + GRACE:
            self._doubt = None
            self._client.run(self._confront(doubt))
        if self._asking is not None or self._gone is not None:
            return
        is_look = now >= self._look_at and (self._watches.comparison.has_begun or self._outbox.waits_for_blocks)
        overdue = self._outbox.overdue()
        if overdue or is_look:
            self._look_at = now + LOOK if is_look else self._look_at
            self._asking = asking = Deferred.fromCoroutine(self._ask(connection, overdue, is_look=is_look))
            asking.addErrback(Failure.trap, CancelledError)  # the client was stopped
            asking.addErrback(lambda failure: self.log.failure("a second node cannot be asked", failure=failure))
            asking.addBoth(self._asked)

    async def _ask(self, connection: WalletClientProtocol, overdue: Sequence[Payment], *, is_look: bool) -> None:
        node = self._nodes.another()
        try:
            async with conversation(self._reactor, node, self._client.genesis, access_key=node.access_key) as protocol:
                self._gone = gone = Deferred[None]()
                protocol.on_lost(lambda reason: self._is_gone(gone))  # and until then no other is asked
                await protocol.when_ready()
                belief = self._client.belief.of(protocol.request)
                await self._hand_on(connection, protocol, belief, overdue)
                if is_look:
                    await self._outbox.look_for_blocks(belief)
                    missing = await self._watches.comparison.look(belief)
                    self._doubt = _Doubt(connection, missing, self._reactor.seconds()) if missing else None
        except (ConnectionGone, Refusal) as error:
            self.log.debug("the node at {node} could not be asked: {why}", node=node.address, why=error)
        except Lie as lie:
            self.log.warn("the node at {node} lies: {what}", node=node.address, what=lie)

    def _asked(self, result: None) -> None:
        self._asking = None

    def _is_gone(self, gone: Deferred[None]) -> None:
        self._gone = None
        gone.callback(None)

    # -- payments ------------------------------------------------------------------------------------

    async def _hand_on(
        self, own: WalletClientProtocol, protocol: WalletClientProtocol, belief: Belief, payments: Sequence[Payment]
    ) -> None:
        """Hands on payments that are not decided in time. A node that kept one to itself, or its end, is left."""
        waiting = []
        for payment in payments:
            if await self._outbox.hand_on(payment, belief):
                self._blame(own, f"it took the payment {payment.txid} and has not passed it on")
            if not payment.is_over:
                waiting.append(payment)
        if waiting:
            await protocol.pause(ASK_AGAIN)
        for payment in waiting:
            if not payment.is_over:
                await self._outbox.look_for_proof(payment, belief)
                if payment.proof is not None and not await self._knows(payment.txid):
                    self._blame(own, f"it does not know that the payment {payment.txid} is final")

    def _blame(self, own: WalletClientProtocol, why: str) -> None:
        if self._client.connection is own:
            self._client.troubled(Silence(why))

    async def _knows(self, txid: str) -> bool:
        """True if the client's own node can prove that a transaction is final, or is not there to be asked."""
        try:
            await self._client.fetch_proof(txid)
        except Refusal:
            return False
        except ConnectionGone:
            return True
        except Lie as lie:
            self._client.troubled(lie)
        return True

    # -- coins ---------------------------------------------------------------------------------------

    async def _confront(self, doubt: _Doubt) -> None:
        """Leaves the client's own node if what was missing has still not been told."""
        await self._watches.settled()
        for each in doubt.missing:
            is_still = each.is_still and not await self._is_spent(each)
            if self._client.connection is not doubt.connection:
                return
            if is_still and each.is_still:  # while that was asked too
                self._watches.distrust(Silence(str(each)))
                return

    async def _is_spent(self, missing: Missing) -> bool:
        """True if the client's own node proves that a coin is spent which another showed as new: that one is behind."""
        if missing.before is not None or isinstance(missing.state, SpentFinalized | Confirmed):
            return False
        outpoint = missing.coin.outpoint
        try:
            reply = await self._client.ask(messages.UTXOStateQuery(outpoints=(outpoint,)))
            said = reply.states[0].state if reply.states else None
            state = from_wire(said or "Unspent")
            is_final = isinstance(state, SpentFinalized | Confirmed)
            return is_final and await self._client.belief.is_proven(outpoint, missing.coin.output, state, None)
        except (ConnectionGone, Refusal):  # who is to be kept does not refuse to say
            return False
