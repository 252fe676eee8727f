"""What one node shows of the coins that are watched, and another has not told: some of them at a time.

A node that keeps to itself what it would have to prove breaks no proof: somebody else has to be asked. In what order is
left to chance, and nothing that one node says leads to where the next one is asked: one of them may be an accomplice.
"""

from __future__ import annotations

import os
import random
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

FEWER = 8
"""By how much fewer items are asked for where their coins do not fit one reply."""

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
        """True if nothing was told meanwhile that makes up for it: another lock does not."""
        watch, outpoint = self.watch, self.coin.outpoint
        is_locked = isinstance(self.state, Unspent) and watch.is_locked(outpoint)
        return not watch.is_stopped and (is_locked or watch.lacks(self.coin, self.state))


class Comparison:
    """Goes through what is watched, in each look from where the last one ended."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        """``watches`` goes on changing."""
        self._watches = watches
        self._items: deque[Watched] = deque()
        self._coins: deque[Outpoint] = deque()
        self._locked: dict[tuple[Watch, Outpoint], str] = {}

    @property
    def has_begun(self) -> bool:
        """True if there is anything to be compared."""
        return any(watch.begun for watch in self._watches)

    async def look(self, belief: Belief, node: str) -> list[Missing]:
        """What the node of ``belief``, at the address ``node``, shows and proves, and was not told here. That a coin is
        locked is but a word: if it is told so for two looks, at two other nodes where it is free, that is missing too.
        Raises :class:`Lie` if something is not proven, :class:`Refusal` and :class:`ConnectionGone` as ``belief.ask``.
        """
        shown = {coin.outpoint: coin for coin in await self._told(belief.ask) + await self._owned(belief.ask)}
        locked = [key for key in self._locked if not key[0].is_stopped and key[0].is_locked(key[1])]
        self._locked = {key: self._locked[key] for key in locked}
        watching: dict[Watched, list[Watch]] = {}
        for watch in self._watches:
            for item in watch.begun:
                watching.setdefault(item, []).append(watch)
        untold: list[Missing] = []
        free = {coin.outpoint for coin in shown.values() if isinstance(from_wire(coin.state), Unspent)}
        is_doubtful = any(watch.is_locked(outpoint) for watch in self._watches for outpoint in free & watch.told.keys())
        knows = is_doubtful and await _takes_part(belief.ask)
        for coin in shown.values():
            state = from_wire(coin.state)
            for watch in dict.fromkeys(watching.get(coin.outpoint, []) + watching.get(coin.output.address, [])):
                if (knows and self._is_stuck(watch, coin.outpoint, state, node)) or watch.lacks(coin, state):
                    untold.append(Missing(watch, coin, state, watch.told.get(coin.outpoint)))
        for each in untold[:FOUND]:
            await belief.is_proven(each.coin.outpoint, each.coin.output, each.state, None)
        return untold[:FOUND]

    def _is_stuck(self, watch: Watch, outpoint: Outpoint, state: UTXOState, node: str) -> bool:
        """True of a coin that was told to be locked, and is free at ``node`` and at another that was asked before."""
        if not watch.is_locked(outpoint):
            return False
        if not isinstance(state, Unspent):
            self._locked.pop((watch, outpoint), None)
            return False
        return self._locked.setdefault((watch, outpoint), node) != node

    async def _owned(self, ask: Ask) -> list[CoinState]:
        """The coins of some addresses, and some of those named: what is spent of an address is not shown."""
        coins: list[CoinState] = []
        size = limits.FILTER
        for _ in range(PAGES):
            _refill(self._items, (item for watch in self._watches for item in watch.begun))
            items = list(self._items)[:size]
            if not items:
                break
            addresses = tuple(item for item in items if isinstance(item, str))
            named = tuple(item for item in items if isinstance(item, Outpoint))
            reply = await ask(
                messages.UTXOSubscribe(subscriber_id="compare", addresses=addresses, outpoints=named)
            )
            if reply.more and len(items) > 1:
                size = max(1, len(items) // FEWER)
                continue
            coins += reply.states
            _take(self._items, items)
            if reply.more and addresses:
                return coins + await self._from_anywhere(ask, addresses[0])
            if not self._items:
                break
        return coins

    async def _from_anywhere(self, ask: Ask, address: str) -> list[CoinState]:
        """Some coins of an address with many: those that come after a place that is left to chance."""
        coins: list[CoinState] = []
        after: Outpoint | None = Outpoint(os.urandom(32).hex(), 0)
        for _ in range(PAGES):
            page = await ask(messages.GetAddressUTXOs(address=address, after=after))
            coins += page.coins
            after = page.coins[-1].outpoint if page.more and page.coins else None
        return coins

    async def _told(self, ask: Ask) -> list[CoinState]:
        """Some of the coins of which a state was told that is not their last."""
        coins: list[CoinState] = []
        for _ in range(PAGES):
            _refill(self._coins, (coin for watch in self._watches for coin in watch.told))
            told = list(self._coins)[: limits.QUERY]
            if not told:
                break
            reply = await ask(messages.UTXOStateQuery(outpoints=tuple(told)))
            for item in reply.states:
                if item.outpoint is not None and item.state is not None and item.output is not None:
                    coins.append(CoinState(item.outpoint, item.state, item.output))
            _take(self._coins, told)
            if not self._coins:
                break
        return coins


async def _takes_part(ask: Ask) -> bool:
    """True of a node that would have locked a coin too: it votes, and reaches a quorum."""
    info = await ask(messages.GetInfo())
    return info.voting and not info.degraded


def _refill(line: deque[T], every: Iterable[T]) -> None:
    """Begins again, in another order, once the line is empty."""
    if not line:
        new = list(dict.fromkeys(every))
        random.shuffle(new)
        line.extend(new)


def _take(line: deque[T], taken: Sequence[T]) -> None:
    for _ in taken:
        line.popleft()
