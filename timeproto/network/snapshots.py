"""What wallets are shown of coins: as one node holds them, between two commits (protocol §7, §8)."""

from __future__ import annotations

from typing import Any, Protocol

from timeproto import limits
from timeproto.model.ledger import Coin
from timeproto.model.transaction import Outpoint, parse_outpoint
from timeproto.model.utxo_state import to_wire
from timeproto.wire.messages import CoinState, ItemState


class Coins(Protocol):
    """Where coins are looked up."""

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]: ...


def item_state(item: Any, look: Coins) -> ItemState:
    outpoint = parse_outpoint(item)
    if outpoint is None:
        return ItemState("malformed")
    coin = look.coin(outpoint)
    if coin is None:
        return ItemState("unknown", outpoint)
    return ItemState("known", outpoint, to_wire(coin.state), coin.output)


def coin_state(outpoint: Outpoint, coin: Coin) -> CoinState:
    return CoinState(outpoint, to_wire(coin.state), coin.output)


def snapshot(items: set[Outpoint | str], look: Coins) -> tuple[dict[Outpoint, Coin], bool]:
    """The coins of a new filter, at most ``limits.QUERY`` of them, and whether there are more."""
    coins: dict[Outpoint, Coin] = {}
    outpoints = sorted(item for item in items if isinstance(item, Outpoint))
    for outpoint in outpoints:
        coin = look.coin(outpoint)
        if coin is not None:
            coins[outpoint] = coin
    more = False
    for address in sorted(item for item in items if isinstance(item, str)):
        room = limits.QUERY - len(coins)
        page, unfinished = look.address_coins(address, None, max(room, 1), spent=False)
        more = more or unfinished or (room <= 0 and bool(page))
        if room > 0:
            coins.update(page)
    return coins, more
