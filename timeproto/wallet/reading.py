"""All coins of an address, page by page, as a node claims them."""

from __future__ import annotations

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.wallet.belief import Ask, Lie
from timeproto.wire import messages
from timeproto.wire.messages import CoinState

COINS = 200_000
"""Coins of one address that are read: a node may claim any number of them."""


async def address_coins(ask: Ask, address: str, *, spent: bool = False) -> list[CoinState]:
    """All coins of an address as a node claims them, page by page; :class:`Lie` if the pages do not go on."""
    return [coin for coin, _ in (await read_coins(ask, address, spent=spent)).values()]


async def read_coins(ask: Ask, address: str, *, spent: bool = False) -> dict[Outpoint, tuple[CoinState, int]]:
    """Each coin with the position in the node's log at which it was so."""
    coins: dict[Outpoint, tuple[CoinState, int]] = {}
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
            raise Refusal(ErrorCode.OVER_LIMIT, f"{address} has too many coins to be read", limit="coins", value=COINS)
        last = page.coins[-1].outpoint
