"""What was told of before a reset and is not shown any more: spent meanwhile, or not known to this node yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from timeproto.errors import Refusal
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, from_wire
from timeproto.wallet.backoff import Backoff
from timeproto.wallet.belief import Belief, Lie, Unserved
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wallet.resuming import Place, pages
from timeproto.wallet.watch import Watch
from timeproto.wire import messages

AGAIN, SELDOM = 10.0, 300.0
"""Seconds after which a node that did not say is asked again; twice as many each time, up to the second."""
PATIENCE = 60.0
"""Seconds after which another node is tried."""


class Stale:
    """Asks what became of it. Only what is spent for ever is told: whatever else there is comes as changes."""

    log = Logger()

    def __init__(
        self,
        belief: Belief,
        watches: Sequence[Watch],
        place: Place,
        on_trouble: Callable[[Exception], None],
        clock: Any,
    ) -> None:
        """``watches`` goes on changing."""
        self._belief = belief
        self._watches = watches
        self._place = place
        self._on_trouble = on_trouble
        self._clock = clock
        self._again = Backoff(AGAIN, SELDOM)
        self.begin()

    def begin(self) -> None:
        """A new connection, on which nothing was asked yet."""
        self.is_owed = False
        """True while the node does not say: what was told may be spent, and counts for no balance."""
        self._since = math.inf
        self._again.begin_again(math.inf)

    def is_due(self) -> bool:
        """True once, when it is time to ask again."""
        is_due = self._again.is_due(self._clock.seconds())
        if is_due:
            self._again.at = math.inf
        return is_due

    async def ask(self, protocol: WalletClientProtocol) -> None:
        """Asks, and tells what is spent; all that is not shown any more has been shown then. A false answer is a
        :class:`Lie`; one that is refused is owed."""
        stale = set[Outpoint]().union(*(watch.stale for watch in self._watches))
        for page in pages(stale):
            try:
                reply = await protocol.request(messages.UTXOStateQuery(outpoints=tuple(page)))
            except Refusal as refusal:
                return self._is_not_said(refusal)
            if len(reply.states) != len(page):
                raise Lie("not every coin that was asked after is answered for")
            for item in reply.states:
                await self._hear(item, stale)
        self._place.whole()
        self.begin()

    async def _hear(self, item: messages.ItemState, stale: set[Outpoint]) -> None:
        if item.outpoint is None or item.outpoint not in stale or item.output is None or item.state is None:
            return
        state = from_wire(item.state)
        is_final = isinstance(state, SpentFinalized | Confirmed)
        if is_final:
            try:
                await self._belief.is_proven(item.outpoint, item.output, state, None)
            except Lie as lie:
                self._place.lose()
                return self._on_trouble(lie)
        for watch in [each for each in self._watches if item.outpoint in each.stale]:
            if is_final:
                watch.show(item.outpoint, item.output, state, True)
            if watch.hears(item.outpoint, item.output) or item.outpoint not in watch.told:
                watch.stale.discard(item.outpoint)

    def _is_not_said(self, refusal: Refusal) -> None:
        now = self._clock.seconds()
        if not self.is_owed:
            self._since = now
            self.log.info("what became of coins is not said: {why}", why=refusal)
        self.is_owed = True
        self._again.tried(now)
        if now - self._since >= PATIENCE:
            self._on_trouble(Unserved(f"it does not say what became of coins: {refusal}"))
