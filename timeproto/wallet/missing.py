"""What one node shows of the coins that are watched, and another has not told: some pages of them at a time.

A node that keeps to itself what it would have to prove breaks no proof: somebody else has to be asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

import attrs

from timeproto import limits
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Unspent, UTXOState, from_wire, kind
from timeproto.wallet.belief import Ask, Belief
from timeproto.wallet.watch import Watch, Watched
from timeproto.wire import messages
from timeproto.wire.messages import CoinState

PAGES = 5
"""Requests of a kind in one look: a wallet of any size is looked through in turn, and no look is long."""

FOUND = 100
"""Coins found missing that are looked into: a node is left for one."""

T = TypeVar("T")


@attrs.frozen
class Missing:
    """A coin that one node shows, as ``state``, of which another had told ``before`` to ``watch``; None if nothing."""

    watch: Watch
    coin: CoinState
    state: UTXOState
    before: UTXOState | None

    def __str__(self) -> str:
        told = "it has told nothing of it" if self.before is None else f"it has told that it is {kind(self.before)}"
        return f"the coin {self.coin.outpoint} is {kind(self.state)}, and {told}"

    @property
    def is_still(self) -> bool:
        """True if nothing was told of the coin meanwhile."""
        return not self.watch.is_stopped and not self.watch.was_told_since(self.coin.outpoint, self.before)


class Comparison:
    """Goes through what is watched, in each look from where the last one ended."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        """``watches`` goes on changing."""
        self._watches = watches
        self._items: deque[Watched] = deque()
        self._long: deque[str] = deque()
        self._last: Outpoint | None = None
        self._coins: deque[Outpoint] = deque()
        self._locked: dict[tuple[Watch, Outpoint], str] = {}

    @property
    def has_begun(self) -> bool:
        """True if there is anything to be compared."""
        return any(watch.begun for watch in self._watches)

    async def look(self, belief: Belief) -> list[Missing]:
        """What the node of ``belief`` shows, and proves, and was not told here. That a coin is locked is but a word: if
        it was told for two looks, and is free by two other nodes, that is missing too. Raises :class:`Lie` if something
        is not proven, :class:`Refusal` and :class:`ConnectionGone` as ``belief.ask`` does."""
        shown = {coin.outpoint: coin for coin in await self._told(belief.ask) + await self._owned(belief.ask)}
        self._locked = {key: lock for key, lock in self._locked.items() if not key[0].is_stopped}
        watching: dict[Watched, list[Watch]] = {}
        for watch in self._watches:
            for item in watch.begun:
                watching.setdefault(item, []).append(watch)
        untold: list[Missing] = []
        for coin in shown.values():
            state = from_wire(coin.state)
            for watch in dict.fromkeys(watching.get(coin.outpoint, []) + watching.get(coin.output.address, [])):
                if self._is_stuck(watch, coin.outpoint, state) or watch.lacks(coin, state):
                    untold.append(Missing(watch, coin, state, watch.told.get(coin.outpoint)))
        for each in untold[:FOUND]:
            await belief.is_proven(each.coin.outpoint, each.coin.output, each.state, None)
        return untold[:FOUND]

    def _is_stuck(self, watch: Watch, outpoint: Outpoint, state: UTXOState) -> bool:
        """True of a free coin that was told to be locked, by the same transaction as when it was looked at last."""
        lock, before = watch.lock_on(outpoint), self._locked.pop((watch, outpoint), None)
        if lock is None or not isinstance(state, Unspent):
            return False
        self._locked[watch, outpoint] = lock
        return lock == before

    async def _owned(self, ask: Ask) -> list[CoinState]:
        """The coins of some of the addresses, and some of those named: what is spent of an address is not shown."""
        coins: list[CoinState] = []
        if not self._long:
            items = _next(self._items, limits.FILTER, (item for watch in self._watches for item in watch.begun))
            addresses = tuple(item for item in items if isinstance(item, str))
            named = tuple(item for item in items if isinstance(item, Outpoint))
            if not items:
                return []
            question = messages.UTXOSubscribe(subscriber_id="compare", addresses=addresses, outpoints=named)
            reply = await ask(question)
            if not reply.more:
                return list(reply.states)
            self._long.extend(addresses)
            coins += await self._states(ask, named)
        for _ in range(PAGES):
            if not self._long:
                break
            page = await ask(messages.GetAddressUTXOs(address=self._long[0], after=self._last))
            coins += page.coins
            self._last = page.coins[-1].outpoint if page.more and page.coins else None
            if self._last is None:
                self._long.popleft()
        return coins

    async def _told(self, ask: Ask) -> list[CoinState]:
        """Some of the coins of which a state was told that is not their last."""
        coins: list[CoinState] = []
        for _ in range(PAGES):
            told = _next(self._coins, limits.QUERY, (coin for watch in self._watches for coin in watch.told))
            coins += await self._states(ask, told)
            if not self._coins:
                break
        return coins

    async def _states(self, ask: Ask, outpoints: Sequence[Outpoint]) -> list[CoinState]:
        if not outpoints:
            return []
        reply = await ask(messages.UTXOStateQuery(outpoints=tuple(outpoints)))
        return [
            CoinState(item.outpoint, item.state, item.output)
            for item in reply.states
            if item.outpoint is not None and item.state is not None and item.output is not None
        ]


def _next(line: deque[T], size: int, every: Iterable[T]) -> list[T]:
    """The next ``size`` of ``line``, which begins with ``every`` again once it is empty."""
    if not line:
        line.extend(dict.fromkeys(every))
    return [line.popleft() for _ in range(min(size, len(line)))]
