"""All coins of an address, page by page, as a node claims them."""

from __future__ import annotations

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.wallet.belief import Ask, Lie
from timeproto.wire import messages
from timeproto.wire.messages import CoinState, UTXOSubscribed

Coins = dict[Outpoint, tuple[CoinState, int]]
"""Each with the position in the node's log at which it was so."""

COINS = 200_000
"""Coins of one address that are read: a node may claim any number of them."""


class Unreadable(Refusal):
    """An address has more coins than are read."""


async def address_coins(ask: Ask, address: str, *, spent: bool = False) -> list[CoinState]:
    """All coins of an address as a node claims them, page by page; :class:`Lie` if the pages do not go on."""
    return [coin for coin, _ in (await read_coins(ask, address, spent=spent)).values()]


async def shown_by(
    ask: Ask, reply: UTXOSubscribed, page: frozenset[Outpoint | str]
) -> tuple[Coins, dict[str, Refusal]]:
    """The coins of a page of items that a node has taken; and the addresses of which that is not all, with why."""
    coins: Coins = {coin.outpoint: (coin, reply.cursor.position) for coin in reply.states}
    unread: dict[str, Refusal] = {}
    for address in (item for item in page if reply.more and isinstance(item, str)):
        try:
            coins.update(await read_coins(ask, address))
        except Unreadable as why:
            unread[address] = why
    return coins, unread


async def read_coins(ask: Ask, address: str, *, spent: bool = False) -> Coins:
    """All coins of an address; :class:`Unreadable` if there are too many, :class:`Lie` if the pages do not go on."""
    coins: Coins = {}
    last: Outpoint | None = None
    while True:
        page = await ask(messages.GetAddressUTXOs(address=address, after=last, spent=spent))
        known = len(coins)
        coins.update((coin.outpoint, (coin, page.cursor.position)) for coin in page.coins)
        if not page.more:
            return coins
        if len(coins) == known:
            raise Lie(f"more coins of {address} are announced than shown")
        if len(coins) > COINS:
            why = f"{address} has too many coins to be read"
            raise Unreadable(ErrorCode.OVER_LIMIT, why, limit="coins", value=COINS)
        last = page.coins[-1].outpoint
