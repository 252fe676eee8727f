"""The coins of a wallet, and picking some of them: pure, and in one step, so that no two payments pick one coin."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from timeproto import limits
from timeproto.model.transaction import Outpoint
from timeproto.wallet.amounts import format_amount

REMEMBERED_SPENT = 100_000
"""Spent coins remembered, so that a node that is behind does not bring them back."""

_RESERVED = ""
"""Who holds a coin that was picked for a transaction that has no txid yet."""


class InsufficientFunds(Exception):
    """There is not enough free money. Amounts in smallest units."""

    def __init__(self, available: int, needed: int) -> None:
        super().__init__(f"{format_amount(needed)} TIME are needed with the fee, {format_amount(available)} are free")
        self.available = available
        self.needed = needed


class TooManyCoins(InsufficientFunds):
    """The money is there, in more coins than one payment can hold; ``available`` is what one payment can spend."""

    def __init__(self, available: int, needed: int) -> None:
        super().__init__(available, needed)
        self.args = (
            f"one payment holds {limits.INPUTS_WALLET} coins, the largest free ones are {format_amount(available)} TIME"
            f" and {format_amount(needed)} are needed with the fee: pay in parts, or a part to yourself first",
        )


@attrs.frozen(order=True)
class WalletCoin:
    """A coin that this wallet can sign for."""

    outpoint: Outpoint
    amount: int
    address: str


@attrs.frozen
class Selection:
    """What was picked: Σ coins = what is paid + ``fee`` + ``change``; no change is below dust."""

    coins: tuple[WalletCoin, ...]
    fee: int
    change: int


@attrs.frozen
class Balance:
    """Smallest units. ``pending``: in our own undecided payments; ``locked``: held by somebody else's transaction."""

    available: int
    pending: int
    locked: int

    @property
    def total(self) -> int:
        return self.available + self.pending + self.locked


class CoinBook:
    """Every coin once, and who holds it: nobody, one of our payments, or a transaction the network told of."""

    def __init__(self) -> None:
        self._coins: dict[Outpoint, WalletCoin] = {}
        self._ours: dict[Outpoint, str] = {}
        self._theirs: dict[Outpoint, str] = {}
        self._gone: dict[Outpoint, None] = {}

    def __contains__(self, outpoint: Outpoint) -> bool:
        return outpoint in self._coins

    def add(self, coin: WalletCoin) -> None:
        """A coin of ours; one that was spent for ever stays spent, whatever a node says."""
        if coin.outpoint not in self._gone:
            self._coins[coin.outpoint] = coin

    def spent(self, outpoint: Outpoint) -> None:
        """Spent for ever: the caller holds the proof."""
        for table in (self._coins, self._ours, self._theirs):
            table.pop(outpoint, None)
        self._gone[outpoint] = None
        if len(self._gone) > REMEMBERED_SPENT:
            del self._gone[next(iter(self._gone))]

    def lock(self, outpoint: Outpoint, txid: str) -> None:
        """The network says that ``txid`` holds the coin."""
        self._theirs[outpoint] = txid

    def unlock(self, outpoint: Outpoint) -> None:
        """The network says that nobody holds the coin."""
        self._theirs.pop(outpoint, None)

    def reserve(self, outpoints: Iterable[Outpoint], txid: str) -> None:
        """Our payment ``txid`` holds these."""
        for outpoint in outpoints:
            self._ours[outpoint] = txid

    def release(self, outpoints: Iterable[Outpoint], txid: str = _RESERVED) -> None:
        """Our payment ``txid``, or what was to be one, holds these no more; nothing for what another one holds now."""
        for outpoint in outpoints:
            if self._ours.get(outpoint) == txid:
                del self._ours[outpoint]

    @property
    def addresses(self) -> set[str]:
        """Whose coins are here."""
        return {coin.address for coin in self._coins.values()}

    def free(self) -> list[WalletCoin]:
        """The coins nobody holds, the largest first; of equal ones the lower outpoint first."""
        held = self._ours.keys() | self._theirs.keys()
        return sorted(
            (coin for coin in self._coins.values() if coin.outpoint not in held),
            key=lambda coin: (-coin.amount, coin.outpoint),
        )

    def balance(self) -> Balance:
        available = pending = locked = 0
        for outpoint, coin in self._coins.items():
            if outpoint in self._ours:
                pending += coin.amount
            elif outpoint in self._theirs:
                locked += coin.amount
            else:
                available += coin.amount
        return Balance(available, pending, locked)

    def select_and_reserve(self, target: int, fee_for: Callable[[int, int], int], dust: int) -> Selection:
        """Picks coins for ``target`` and the fee, and reserves them before anybody else can pick.

        ``fee_for(inputs, outputs)`` is the fee of a transaction of that many. One coin is taken if one will do (the
        smallest such), otherwise the largest ones, at most ``limits.INPUTS_WALLET``. Change below ``dust`` goes to the
        fee. Raises :class:`InsufficientFunds`, or :class:`TooManyCoins` if paying in parts would help.
        """
        free = self.free()
        selection = self._one_coin(free, target, fee_for, dust) or self._many_coins(free, target, fee_for, dust)
        if selection is None:
            picked = free[: limits.INPUTS_WALLET]
            needed = target + fee_for(max(1, len(picked)), 2)
            available = sum(coin.amount for coin in free)
            if len(picked) < len(free) and available >= needed:
                raise TooManyCoins(sum(coin.amount for coin in picked), needed)
            raise InsufficientFunds(available, needed)
        self.reserve((coin.outpoint for coin in selection.coins), _RESERVED)
        return selection

    def _one_coin(
        self, free: list[WalletCoin], target: int, fee_for: Callable[[int, int], int], dust: int
    ) -> Selection | None:
        for coin in reversed(free):
            selection = _complete([coin], target, fee_for, dust)
            if selection is not None:
                return selection
        return None

    def _many_coins(
        self, free: list[WalletCoin], target: int, fee_for: Callable[[int, int], int], dust: int
    ) -> Selection | None:
        picked: list[WalletCoin] = []
        total = 0
        for coin in free[: limits.INPUTS_WALLET]:
            picked.append(coin)
            total += coin.amount
            if total >= target:
                selection = _complete(picked, target, fee_for, dust)
                if selection is not None:
                    return selection
        return None


def _complete(coins: list[WalletCoin], target: int, fee_for: Callable[[int, int], int], dust: int) -> Selection | None:
    """The selection these coins make, with change if it is worth it; None if they do not suffice."""
    total = sum(coin.amount for coin in coins)
    change = total - target - fee_for(len(coins), 2)
    if change >= dust:
        return Selection(tuple(coins), total - target - change, change)
    fee = total - target
    return Selection(tuple(coins), fee, 0) if fee >= fee_for(len(coins), 1) else None
