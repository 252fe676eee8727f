"""Payments to measure with: made and signed before the clock starts, each with a coin of its own.

A payment gives back its change, so a purse lasts for many loads: what was final pays for the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import attrs

from timeproto.bench.frames import frame
from timeproto.devnet.layout import WALLETS, Layout
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.wallet import builder, hd
from timeproto.wallet.coins import Selection, WalletCoin
from timeproto.wire import codec
from timeproto.wire.messages import TransactionBroadcast

AMOUNT = 10_000
"""What each payment pays, in smallest units: a coin of a devnet lasts for half a million of them."""


@attrs.define(eq=False)
class Payment:
    """One payment and what became of it. Times are of :func:`time.perf_counter`; ``due`` is when it had to leave."""

    tx: Transaction
    frame: bytes
    coin: WalletCoin
    due: float = 0.0
    sent: float | None = None
    locked: float | None = None
    final: float | None = None
    refused: str | None = None

    @property
    def change(self) -> WalletCoin:
        """The coin that is left once this payment is final."""
        output = self.tx.outputs[-1]
        return WalletCoin(Outpoint(self.tx.txid, len(self.tx.outputs) - 1), output.amount, output.address)


class Purse:
    """All coins of a devnet's wallets, first in, first out. ``receivers`` are addresses that own nothing yet, paid in
    turn; ``receiver`` is the first."""

    def __init__(self, layout: Layout, receivers: int = 1) -> None:
        self._genesis = layout.genesis
        params = layout.genesis.params
        owners = [hd.derive(layout.phrase(name)) for name in WALLETS]
        self._keys = {hd.address(key, params): key for key in owners}
        self._fee = builder.fee_for(1, 2, params)
        phrase = layout.phrase(WALLETS[0])
        self.receivers = tuple(
            hd.address(hd.derive(phrase, account=0, change=0, index=number), params)
            for number in range(1, receivers + 1)
        )
        self.receiver = self.receivers[0]
        self._coins = deque(
            WalletCoin(outpoint, output.amount, output.address)
            for outpoint, output in layout.genesis.coins()
            if output.address in self._keys
        )

    def __len__(self) -> int:
        return len(self._coins)

    def payments(self, count: int) -> list[Payment]:
        """``count`` signed payments to the receiver, as requests numbered from 1; their coins leave the purse.

        ValueError if it has too few."""
        if count > len(self._coins):
            raise ValueError(f"{count} payments need as many coins, the purse has {len(self._coins)}")
        return [self._pay(number, self._coins.popleft()) for number in range(1, count + 1)]

    def _pay(self, number: int, coin: WalletCoin) -> Payment:
        tx = builder.build(
            Selection(coins=(coin,), fee=self._fee, change=coin.amount - AMOUNT - self._fee),
            [TxOutput(AMOUNT, self.receivers[number % len(self.receivers)])],
            change_address=coin.address,
            keys=self._keys,
            genesis=self._genesis,
            timestamp=0,
        )
        return Payment(tx, frame(codec.encode(TransactionBroadcast(id=number, tx=tx))), coin)

    def take_back(self, payments: Iterable[Payment]) -> None:
        """What those that are final left over, and the coins of those that were never sent or were refused."""
        for payment in payments:
            if payment.final is not None:
                self._coins.append(payment.change)
            elif payment.sent is None or payment.refused is not None:
                self._coins.append(payment.coin)
