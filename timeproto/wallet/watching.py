"""Watching coins: subscriptions that come back after every reconnect, changes checked and told in order.

Checking a claim may mean fetching a transaction, so what arrives waits in one line: nothing is told before what came
before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import Confirmed, SpentFinalized, UTXOState, from_wire, holder, kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Ask, Belief, Lie, Proof
from timeproto.wallet.protocol import WalletClientProtocol
from timeproto.wire import messages

SUBSCRIPTION = "wallet"

BEHIND = 10_000
"""Changes that may wait to be checked: a node that tells more, and faster than it answers, is left."""

COINS = 200_000
"""Coins of one address that are read: a node may claim any number of them."""


@attrs.frozen
class Change:
    """A proven or claimed change of a watched coin. ``proven`` says which: a claim is never money."""

    outpoint: Outpoint
    output: TxOutput
    old_state: UTXOState | None
    new_state: UTXOState
    timestamp: int
    proven: bool


@attrs.define(eq=False)
class Watch:
    """A standing wish to be told. ``on_change(change)`` is called in order, once for each transition."""

    addresses: frozenset[str]
    outpoints: frozenset[Outpoint]
    on_change: Callable[[Change], None]
    _stop: Callable[[Watch], None]

    def wants(self, outpoint: Outpoint, output: TxOutput) -> bool:
        return outpoint in self.outpoints or output.address in self.addresses

    def stop(self) -> None:
        self._stop(self)


class Watches:
    """All watches of one client, whatever connection it has at the moment."""

    log = Logger()

    def __init__(self, belief: Belief, on_trouble: Callable[[Exception], None]) -> None:
        """``on_trouble(why)``: a change is a :class:`Lie`, or could not be checked on this connection; a new one begins
        with snapshots."""
        self._belief = belief
        self._on_trouble = on_trouble
        self._watches: list[Watch] = []
        self._told: dict[Outpoint, UTXOState] = {}
        self._line: deque[Callable[[], Coroutine[Any, Any, None]]] = deque()
        self._at_work: Deferred[None] | None = None
        self.is_checked = True
        """False while something this connection told could not be checked."""

    def add(
        self, on_change: Callable[[Change], None], addresses: Iterable[str], outpoints: Iterable[Outpoint]
    ) -> Watch:
        watch = Watch(frozenset(addresses), frozenset(outpoints), on_change, self._remove)
        self._watches.append(watch)
        return watch

    def _remove(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

    async def resubscribe(self, protocol: WalletClientProtocol) -> None:
        """Takes the watches up on a new connection, and hears what became of known coins meanwhile."""
        addresses = frozenset[str]().union(*(watch.addresses for watch in self._watches))
        outpoints = frozenset[Outpoint]().union(*(watch.outpoints for watch in self._watches))
        self.is_checked = True
        seen = await self.subscribe(protocol, addresses, outpoints, None)
        lost = sorted(self._told.keys() - seen)  # spent while we were away: no snapshot lists those
        for start in range(0, len(lost), limits.QUERY):
            page = tuple(lost[start : start + limits.QUERY])
            reply = await protocol.request(messages.UTXOStateQuery(outpoints=page))
            for item in reply.states:
                if item.outpoint is not None and item.state is not None and item.output is not None:
                    coin = messages.CoinState(item.outpoint, item.state, item.output)
                    self._in_order(partial(self._hear_snapshot, coin, None))

    async def subscribe(
        self,
        protocol: WalletClientProtocol,
        addresses: frozenset[str],
        outpoints: frozenset[Outpoint],
        newcomer: Watch | None,
    ) -> set[Outpoint]:
        """Subscribes, and has the snapshot heard: by ``newcomer`` alone, or as news by every watch.

        Returns the coins in the snapshot.
        """
        items: list[Any] = [*sorted(addresses), *sorted(outpoints)]
        seen: set[Outpoint] = set()
        for start in range(0, len(items), limits.FILTER):
            page = items[start : start + limits.FILTER]
            subscribed = await protocol.request(
                messages.UTXOSubscribe(
                    subscriber_id=SUBSCRIPTION,
                    addresses=tuple(item for item in page if isinstance(item, str)),
                    outpoints=tuple(item for item in page if isinstance(item, Outpoint)),
                )
            )
            coins = {coin.outpoint: coin for coin in subscribed.states}
            if subscribed.more:
                for address in (item for item in page if isinstance(item, str)):
                    rest = await address_coins(protocol.request, address)
                    coins.update((coin.outpoint, coin) for coin in rest)
            for coin in coins.values():
                self._in_order(partial(self._hear_snapshot, coin, newcomer))
            seen.update(coins)
        return seen

    def notified(self, message: messages.UTXOStateNotification) -> None:
        """A notification of the node of the moment."""
        if not any(watch.wants(message.notification.outpoint, message.output) for watch in self._watches):
            return
        if len(self._line) < BEHIND:
            self._in_order(partial(self._hear_change, message))
            return
        self.is_checked = False
        why = "the node tells more changes than it lets be checked"
        self._on_trouble(Refusal(ErrorCode.OVER_LIMIT, why, limit="behind", value=BEHIND))

    async def settled(self) -> None:
        """Returns when everything heard so far has been checked and told."""
        while self._at_work is not None:
            await after(self._at_work)

    def _in_order(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``work`` after all that came before it: checking may have to fetch, the order must stay."""
        self._line.append(work)
        if self._at_work is None:
            self._at_work = Deferred()
            ensureDeferred(self._work())

    async def _work(self) -> None:
        """Works off the line: a loop and no chain, since a thousand coins of one payment are checked in one turn."""
        while self._line:
            try:
                await self._line.popleft()()
            except Lie as lie:
                self._on_trouble(lie)
            except (ConnectionGone, Refusal) as error:
                self.is_checked = False
                self._on_trouble(error)
            except Exception:
                self.log.failure("a change could not be told")
        done, self._at_work = self._at_work, None
        if done is not None:
            done.callback(None)

    async def _hear_snapshot(self, coin: messages.CoinState, newcomer: Watch | None) -> None:
        """A coin's state now. A newcomer is told in any case, the others only if it is not what they were told last."""
        state = from_wire(coin.state)
        before = self._told.get(coin.outpoint)
        if newcomer is None and before is not None and (kind(before), holder(before)) == (kind(state), holder(state)):
            return
        proven = await self._is_proven(coin.outpoint, coin.output, state, None)
        watches = list(self._watches) if newcomer is None else [newcomer]
        old = before if newcomer is None else None
        self._tell(watches, Change(coin.outpoint, coin.output, old, state, 0, proven))

    async def _hear_change(self, message: messages.UTXOStateNotification) -> None:
        change = message.notification
        state = from_wire(change.new_state)
        proven = await self._is_proven(change.outpoint, message.output, state, message.inclusion or message.proof)
        old = None if change.old_state is None else from_wire(change.old_state)
        told = Change(change.outpoint, message.output, old, state, change.timestamp, proven)
        self._tell(list(self._watches), told)

    async def _is_proven(
        self, outpoint: Outpoint, output: TxOutput, state: UTXOState, proof: Proof | None
    ) -> bool:
        """True if the coin exists and, where it is said to be spent, is; :class:`Lie` if a proof is false or lacking.

        Locked and SpentPending are what a node says of itself: nothing proves them, and nothing hangs on them."""
        if isinstance(state, Confirmed):
            place = proof if isinstance(proof, InclusionProof) else None
            await self._belief.confirmed(state.txid, state.block_height, place)
        if isinstance(state, SpentFinalized | Confirmed):
            await self._belief.coin_is_spent(outpoint, state.txid, proof)
            return True
        await self._belief.coin_exists(outpoint, output, proof)
        return holder(state) is None

    def _tell(self, watches: list[Watch], change: Change) -> None:
        outpoint = change.outpoint
        by_name = any(outpoint in watch.outpoints for watch in self._watches)
        if isinstance(change.new_state, Confirmed) and not by_name:
            self._told.pop(outpoint, None)  # it will not be heard of again
        else:
            self._told[outpoint] = change.new_state
        for watch in watches:
            if watch in self._watches and watch.wants(outpoint, change.output):
                watch.on_change(change)


async def address_coins(ask: Ask, address: str, *, spent: bool = False) -> list[messages.CoinState]:
    """All coins of an address as a node claims them, page by page; :class:`Lie` if the pages do not go on."""
    coins: dict[Outpoint, messages.CoinState] = {}
    last: Outpoint | None = None
    while True:
        page = await ask(messages.GetAddressUTXOs(address=address, after=last, spent=spent))
        known = len(coins)
        coins.update((coin.outpoint, coin) for coin in page.coins)
        if not page.more:
            return list(coins.values())
        if len(coins) == known:
            raise Lie(f"more coins of {address} are announced than shown")
        if len(coins) > COINS:
            raise Refusal(ErrorCode.OVER_LIMIT, f"{address} has too many coins to be read", limit="coins", value=COINS)
        last = page.coins[-1].outpoint


def after(done: Deferred[None]) -> Deferred[None]:
    """Another Deferred that ends as ``done`` does: many may wait for one."""
    waiting: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        if isinstance(result, Failure):
            waiting.errback(result)
            return None  # whoever waits has been told
        waiting.callback(None)
        return result

    done.addBoth(pass_on)
    return waiting
