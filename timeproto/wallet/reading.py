"""All coins of an address, page by page, as a node claims them."""

from __future__ import annotations

import secrets

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, from_wire
from timeproto.wallet.belief import Ask, Belief, Lie
from timeproto.wire import messages
from timeproto.wire.messages import CoinState, UTXOSubscribed

Coins = dict[Outpoint, tuple[CoinState, int]]
"""Each with the position in the node's log at which it was so."""

COINS = 200_000
"""Coins of all addresses of one page of items that are read: a node may claim any number of them."""

_LAST = Outpoint("ff" * 32, 2**32 - 1)
"""After this come those that are spent for ever."""

PAGE = limits.QUERY
"""Coins that are asked for at once. Of a node that says that there are more it takes so many to be believed: else it
could invent one at a time, for ever."""


class Unreadable(Refusal):
    """An address has more coins than are read."""

    is_next = False
    """True if that is for the coins of others which were read with it: by itself it can be read next."""


async def address_coins(ask: Ask, address: str, *, spent: bool = False) -> list[CoinState]:
    """All coins of an address as a node claims them, page by page; raises as :func:`read_coins` does.

    With ``spent`` those too that are spent for ever: they are read after the others, in an order of their own, for who
    goes on from a coin that is spent meanwhile would pass over what was not shown yet."""
    coins = await read_coins(ask, address)
    if spent:
        coins.update(await read_coins(ask, address, spent=True))
    return [coin for coin, _ in coins.values()]


async def shown_by(
    ask: Ask, reply: UTXOSubscribed, page: frozenset[Outpoint | str], belief: Belief
) -> tuple[Coins, dict[str, Unreadable]]:
    """The coins of a page of items that a node has taken; and the addresses of which that is not all, with why."""
    coins: Coins = {coin.outpoint: (coin, reply.cursor.position) for coin in reply.states}
    unread: dict[str, Unreadable] = {}
    room = COINS
    for address in (item for item in page if reply.more and isinstance(item, str)):
        try:
            found = await read_coins(ask, address, room=room, belief=belief)
        except Unreadable as why:
            why.is_next = room < COINS
            unread[address] = why
        else:
            room -= len(found)
            coins.update(found)
    return coins, unread


async def read_coins(
    ask: Ask, address: str, *, spent: bool = False, room: int | None = None, belief: Belief | None = None
) -> Coins:
    """All coins of an address that are not spent for ever, or those that are, at most ``room`` (``COINS`` if None).
    :class:`Unreadable` if there are more, :class:`Lie` if they are not what was asked for, or the pages not such as
    every node makes.

    With ``belief`` one coin of each page is checked that is not the last: who invents them can make any number."""
    coins: Coins = {}
    last: CoinState | None = None
    room = COINS if room is None else room
    while True:
        after = (_LAST if spent else None) if last is None else last.outpoint
        page = await ask(messages.GetAddressUTXOs(address=address, after=after, spent=spent, limit=PAGE))
        for coin in page.coins:
            if coin.output.address != address or _is_spent(coin) != spent:
                raise Lie(f"the coin {coin.outpoint} is shown, which is none of those of {address} asked for")
            if last is not None and coin.outpoint <= last.outpoint:
                raise Lie(f"the coin {coin.outpoint} of {address} is shown after {last.outpoint}")
            coins[coin.outpoint] = coin, page.cursor.position
            last = coin
        if page.more and len(page.coins) < PAGE:
            raise Lie(f"more coins of {address} are announced than shown")
        if belief is not None and page.coins and (page.more or len(coins) > room):
            one = secrets.choice(page.coins)
            await belief.coin_exists(one.outpoint, one.output)
        if len(coins) > room:
            why = f"{address} has too many coins to be read"
            raise Unreadable(ErrorCode.OVER_LIMIT, why, limit="coins", value=COINS)
        if not page.more:
            return coins


def _is_spent(coin: CoinState) -> bool:
    return isinstance(from_wire(coin.state), SpentFinalized | Confirmed)
