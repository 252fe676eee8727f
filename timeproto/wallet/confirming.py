"""Which block contains a payment: asked after for who waits for it, and noted of payments of ours if it is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, fail

from timeproto.errors import Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.utxo_state import Confirmed
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Aborted, Belief
from timeproto.wallet.payment import Payment
from timeproto.wallet.turns import Once
from timeproto.wallet.waiters import refuse

if TYPE_CHECKING:
    from timeproto.wallet.client import WalletClient
    from timeproto.wallet.outbox import Outbox

UNCONFIRMED = 10_000
"""Final payments of which it is still noted, if it is told, which block contains them."""

ASKED_ELSEWHERE = 100
"""Blocks that another node is asked for at a time."""


class Confirming:
    """The part of an outbox that comes after finality."""

    def __init__(self, client: WalletClient, outbox: Outbox, once: Once) -> None:
        self._client = client
        self._outbox = outbox
        self._once = once
        self._unconfirmed: dict[str, Payment] = {}
        self._waiting: dict[str, list[Deferred[int]]] = {}

    def get(self, txid: str) -> Payment | None:
        """A final payment that no block is known to contain."""
        return self._unconfirmed.get(txid)

    @property
    def is_waited_for(self) -> bool:
        """True if somebody waits for a block."""
        return bool(self._waiting)

    def close(self, why: Exception) -> list[Callable[[], None]]:
        """Nothing will be heard any more: what is returned tells whoever waits."""
        waiting, self._waiting = self._waiting, {}
        return [partial(refuse, each, why) for those in waiting.values() for each in those]

    def is_final(self, payment: Payment) -> None:
        """From here on it is noted which block contains it."""
        self._unconfirmed[payment.txid] = payment
        if len(self._unconfirmed) > UNCONFIRMED:
            del self._unconfirmed[next(iter(self._unconfirmed))]

    def when_confirmed(self, txid: str) -> Deferred[int]:
        """Fires with the height of the decided block that holds ``txid``, proven; fails if the payment does."""
        waiting: Deferred[int] = Deferred(lambda waiting: self._wait_no_more(txid, waiting))
        try:
            self._client.require_open()
        except ConnectionGone as error:
            return fail(error)
        self._waiting.setdefault(txid, []).append(waiting)
        self._client.run(self._look_for(txid))
        return waiting

    def _wait_no_more(self, txid: str, waiting: Deferred[int]) -> None:
        others = [each for each in self._waiting.pop(txid, ()) if each is not waiting]
        if others:
            self._waiting[txid] = others

    def tick(self) -> None:
        """Asks the node of the moment for what is waited for."""
        for txid in list(self._waiting):
            self._once(("block", txid), partial(self._look_for, txid))

    async def look_elsewhere(self, belief: Belief) -> list[str]:
        """Asks another node, for some of them at a time; returns what it has proven to be in a block."""
        found = []
        for txid in list(self._waiting)[:ASKED_ELSEWHERE]:
            if txid in self._waiting:
                self._waiting[txid] = self._waiting.pop(txid)  # the others come first the next time
                found += [txid] * await self._is_found(txid, belief)
        return found

    async def _look_for(self, txid: str) -> None:
        await self._is_found(txid, None)

    async def _is_found(self, txid: str, belief: Belief | None) -> bool:
        try:
            height = await (belief or self._client.belief).confirmed(txid)
        except Aborted as end:
            self._outbox.is_dead(txid, end)
            return False
        except (Refusal, ConnectionGone):
            return False  # no block holds it yet, or nobody to ask
        await self._outbox.is_in_a_block(txid, belief)
        self.is_confirmed(txid, height)
        return True

    def told(self, state: Confirmed, place: InclusionProof | None) -> None:
        """A node says that a coin is Confirmed as spent by a transaction, which may be of interest."""
        if state.txid in self._unconfirmed or state.txid in self._waiting:
            self._once(("told", state.txid, place), partial(self._hear, state, place))

    async def _hear(self, state: Confirmed, place: InclusionProof | None) -> None:
        try:
            height = await self._client.belief.confirmed(state.txid, state.block_height, place)
        except (Refusal, ConnectionGone):
            return  # it cannot be checked now; whoever waits for it asks again
        self.is_confirmed(state.txid, height)

    def is_confirmed(self, txid: str, height: int) -> None:
        """Proven: the decided block of this height contains it."""
        payment = self._unconfirmed.pop(txid, None)
        if payment is not None:
            payment.confirmed(height, self._client.seconds())
        for waiting in self._waiting.pop(txid, ()):
            if not waiting.called:
                waiting.callback(height)

    def refuse(self, txid: str, why: Exception) -> None:
        """No block will contain it."""
        for waiting in self._waiting.pop(txid, ()):
            refuse(waiting, why)
