"""What nodes say of payments on their way: heard by the watches that they pay, and asked after if nothing is heard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger

from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Aborted, Belief, Lie
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.watch import PAYMENTS, Watch
from timeproto.wire.messages import PaidOutput, TransactionStatus

SILENCE = 30.0
"""Seconds without a word of a payment on its way, after which a node is asked what became of it …"""
ASKED = 4
"""… of at most so many at a time; and in so many blocks at a time what is said to be in one is looked for."""

UNKNOWN = 3
"""Answers in a row that a payment is not known, after which it is not asked after until something is heard of it: it
may be an invention, and would be asked after for ever."""


class Arrivals:
    """Nothing in here makes or moves a coin, and nothing is final by it: that is told by the coins themselves."""

    log = Logger()

    def __init__(
        self, belief: Belief, watches: Sequence[Watch], on_trouble: Callable[[Exception], None], clock: Any
    ) -> None:
        """``watches`` goes on changing. ``on_trouble(lie)``: what must be proven is not."""
        self._belief = belief
        self._watches = watches
        self._on_trouble = on_trouble
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._unknown: dict[str, int] = {}
        self._is_asking = False
        self._blocks: dict[str, tuple[int | None, int | None]] = {}
        self._looked_for: set[str] = set()

    async def hear(self, message: TransactionStatus) -> None:
        """A node's word of a payment; that a block contains it is believed if it is proven."""
        self._unknown.pop(message.txid, None)  # also if it was told before: this node may know what became of it
        told = [(watch, hint) for watch in self._watches if (hint := watch.hint(message)) is not None]
        if not told:
            return
        if message.txid in self._heard or len(self._heard) < PAYMENTS:  # of others it is counted from the next look
            self._heard[message.txid] = self._clock.seconds()
        if message.status != "confirmed":
            for watch, hint in told:
                watch.expect(hint)
        elif message.txid not in self._looked_for:  # each is final: no more of them wait than have come
            self._blocks[message.txid] = message.height, message.timestamp
            if len(self._looked_for) < ASKED:
                looking = ensureDeferred(self._look_for_blocks())  # beside the changes, which do not wait for an answer
                looking.addErrback(lambda failure: self.log.failure("a block could not be checked", failure=failure))

    async def _look_for_blocks(self) -> None:
        try:
            while self._blocks:
                txid = next(iter(self._blocks))
                height, timestamp = self._blocks.pop(txid)
                self._looked_for.add(txid)
                try:
                    await self._look_for_block(txid, height, timestamp)
                finally:
                    self._looked_for.remove(txid)
        except ConnectionGone:
            pass  # the next node is asked
        finally:
            self._blocks.clear()  # what one node said is not asked of another one

    async def _look_for_block(self, txid: str, height: int | None, timestamp: int | None) -> None:
        try:
            proven = await self._belief.confirmed(txid, height)
        except Lie as lie:
            self._on_trouble(lie)
        except Refusal as refusal:  # it is asked after later
            self.log.debug("a block could not be checked: {why}", why=refusal)
        else:
            self._tell(txid, status="confirmed", height=proven, timestamp=timestamp)

    def came(self, watch: Watch, txid: str) -> None:
        """A coin of a payment that was on its way has been told: the payment is final, and as large as is proven."""
        tx, known = self._belief.proven(txid), watch.payments.get(txid)
        if tx is not None and known is not None and not known.is_final:
            coins = ((tx.output_outpoint(vout), output) for vout, output in enumerate(tx.outputs))
            outputs = tuple(PaidOutput(coin.vout, output) for coin, output in coins if watch.names(coin, output))
            watch.expect(Incoming(txid, "final", outputs))

    async def ask_after(self) -> None:
        """Asks how payments ended of which nothing is heard any more. To be called from time to time."""
        if self._is_asking:
            return
        self._is_asking, now = True, self._clock.seconds()
        try:
            waiting: dict[str, bool] = {}
            for watch in self._watches:
                for txid, each in watch.payments.items():
                    if not each.is_over:
                        waiting[txid] = each.is_final or waiting.get(txid, False)
            self._unknown = {txid: times for txid, times in self._unknown.items() if txid in waiting}
            asked = [txid for txid in waiting if waiting[txid] or self._unknown.get(txid, 0) < UNKNOWN]
            self._heard = {txid: self._heard.get(txid, now) for txid in asked}
            silent = [txid for txid, since in self._heard.items() if now - since >= SILENCE]
            silent.sort(key=self._heard.__getitem__)
            finals = [txid for txid in silent if waiting[txid]]
            words = [txid for txid in silent if not waiting[txid]]
            most = ASKED - 1 if words else ASKED  # many wait for a block, for minutes: a word has its turn beside them
            for txid in [*finals[:most], *words][:ASKED]:
                self._heard[txid] = now
                if waiting[txid] or await self._is_known(txid):
                    await self._ask_after(txid)
        except ConnectionGone:
            pass  # the next node is asked
        except Lie as lie:
            self._on_trouble(lie)
        finally:
            self._is_asking = False

    async def _is_known(self, txid: str) -> bool:
        """False if the node cannot say anything of a payment of which there are but words."""
        try:
            await self._belief.claimed(txid)
        except Refusal as refusal:
            if refusal.code is ErrorCode.NOT_FOUND:
                self._unknown[txid] = self._unknown.get(txid, 0) + 1
            return False
        self._unknown.pop(txid, None)
        return True

    async def _ask_after(self, txid: str) -> None:
        try:
            height = await self._belief.confirmed(txid)
        except Aborted as end:
            code = str(ErrorCode.ABORTED)
            self._tell(txid, status="aborted", rival=end.rival, code=code, height=end.height, timestamp=None)
        except Refusal:
            pass  # undecided, in no block yet, or not known there
        else:
            self._tell(txid, status="confirmed", height=height, timestamp=None)

    def _tell(self, txid: str, **news: Any) -> None:
        for watch in list(self._watches):
            known: Incoming | None = watch.payments.get(txid)
            if known is not None:
                watch.expect(attrs.evolve(known, **news))
