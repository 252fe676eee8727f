"""From send to the verified proof at the wallet: seven processes, real wallets, payments at a given rate.

Open loop: payments leave at their appointed times whether or not earlier ones are final, so a stall shows in the
percentiles instead of slowing the load. All are signed before the clock starts; each spends a coin of its own.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from timeproto.bench.machine import percentile
from timeproto.devnet.layout import COIN_AMOUNT, Layout, lay_out
from timeproto.devnet.processes import Devnet
from timeproto.model.transaction import Transaction, TxOutput
from timeproto.wallet import builder, hd
from timeproto.wallet.client import WalletClient
from timeproto.wallet.coins import Selection, WalletCoin
from timeproto.wallet.payment import Payment
from timeproto.wallet.watching import Change

PATIENCE = 30.0
"""Seconds after the last send in which a payment must be final to count."""
AMOUNT = 10**8


@attrs.define
class Result:
    """Times in milliseconds. ``lock``: to the ``TransactionAccepted``; ``final``: to the verified proof; ``notify``:
    from the node's step to the receiver's wallet, at another node."""

    sent: int
    final: int
    failed: int
    final_ms: list[float]
    lock_ms: list[float]
    notify_ms: list[float]
    agree: bool
    seconds: float
    cpu_s: float

    def summary(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "final": self.final,
            "failed": self.failed,
            "per_second": round(self.final / self.seconds, 1) if self.seconds else None,
            "p50_ms": percentile(self.final_ms, 50),
            "p95_ms": percentile(self.final_ms, 95),
            "p99_ms": percentile(self.final_ms, 99),
            "lock_p50_ms": percentile(self.lock_ms, 50),
            "lock_p99_ms": percentile(self.lock_ms, 99),
            "notify_p50_ms": percentile(self.notify_ms, 50),
            "notify_p99_ms": percentile(self.notify_ms, 99),
            "cpu_s_per_1000": round(1000 * self.cpu_s / self.sent, 2),
            "nodes_agree": self.agree,
        }


async def measure(
    reactor: Any, datadir: Path, *, masternodes: int, rate: float, seconds: float, base_port: int
) -> Result:
    """Starts a devnet in ``datadir``, sends ``rate`` × ``seconds`` payments, stops it."""
    count = max(1, round(rate * seconds))
    layout = lay_out(datadir, masternodes, base_port, log_level="warn", coins_per_wallet=count)
    transactions, receiver = prepare(layout, count)
    devnet = Devnet(reactor, layout)
    try:
        await devnet.start()
        return await _load(reactor, devnet, transactions, receiver, rate)
    finally:
        await devnet.stop()


def prepare(layout: Layout, count: int) -> tuple[list[Transaction], str]:
    """``count`` signed payments of Alice to Bob, and Bob's address."""
    params = layout.genesis.params
    alice = hd.derive(layout.phrase("alice"))
    sender = hd.address(alice, params)
    receiver = hd.address(hd.derive(layout.phrase("bob")), params)
    fee = builder.fee_for(1, 2, params)
    coins = [
        WalletCoin(outpoint, output.amount, output.address)
        for outpoint, output in layout.genesis.coins()
        if output.address == sender
    ]
    transactions = [
        builder.build(
            Selection(coins=(coin,), fee=fee, change=COIN_AMOUNT - AMOUNT - fee),
            [TxOutput(AMOUNT, receiver)],
            change_address=sender,
            keys={sender: alice},
            genesis=layout.genesis,
            timestamp=0,
        )
        for coin in coins[:count]
    ]
    return transactions, receiver


async def _load(reactor: Any, devnet: Devnet, transactions: list[Transaction], receiver: str, rate: float) -> Result:
    genesis = devnet.layout.genesis
    clients = [WalletClient(reactor, genesis, [address]) for address in devnet.addresses]
    watcher = WalletClient(reactor, genesis, [devnet.addresses[-1]])
    for client in (*clients, watcher):
        client.startService()
    notify_ms: list[float] = []

    def told(change: Change) -> None:
        if change.timestamp:
            notify_ms.append(time.time() * 1000 - change.timestamp)

    try:
        for client in (*clients, watcher):
            await client.when_connected()
        await watcher.watch(told, addresses=[receiver])
        cpu_before = devnet.cpu_seconds()
        began = reactor.seconds()
        payments: list[Payment] = []
        for number, tx in enumerate(transactions):
            wait = began + number / rate - reactor.seconds()
            if wait > 0:
                await deferLater(reactor, wait)
            payments.append(clients[number % len(clients)].submit(tx))
        waiting = DeferredList([payment.when_final() for payment in payments], consumeErrors=True)
        patience = reactor.callLater(PATIENCE, waiting.cancel)
        await waiting
        if patience.active():
            patience.cancel()
        took = reactor.seconds() - began
        cpu = devnet.cpu_seconds() - cpu_before
        await watcher.settled()
        agree = await _agree(reactor, devnet)
    finally:
        for client in (*clients, watcher):
            await client.stopService()
    final_ms = [step.ms for payment in payments for step in payment.history if step.state == "SpentFinalized"]
    lock_ms = [step.ms for payment in payments for step in payment.history if step.state == "accepted"]
    final = sum(1 for payment in payments if payment.proof is not None)
    return Result(len(payments), final, len(payments) - final, final_ms, lock_ms, notify_ms, agree, took, cpu)


async def _agree(reactor: Any, devnet: Devnet) -> bool:
    """True if all nodes come to one digest within a few seconds."""
    for _ in range(20):
        infos = [await devnet.info(number + 1) for number in range(len(devnet.processes))]
        if len({info.digest if info is not None else "" for info in infos}) == 1:
            return True
        await deferLater(reactor, 0.25)
    return False
