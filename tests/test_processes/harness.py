"""Real masternodes as processes on free ports of the loopback, and payments to put to them."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from timeproto.devnet.layout import COIN_AMOUNT, Layout, lay_out
from timeproto.devnet.processes import Devnet
from timeproto.model.transaction import Transaction, TxOutput
from timeproto.params import COIN
from timeproto.wallet import builder, hd
from timeproto.wallet.client import WalletClient
from timeproto.wallet.coins import Selection, WalletCoin


def _own_ports() -> Iterator[int]:
    """Ports that no other worker of trial chooses (each has a folder of its own, by its number), over and over: what is
    chosen is not taken at once, and would be free for others meanwhile."""
    worker = Path.cwd().name
    number = int(worker) % 6 if worker.isdigit() else 0
    first = 20_000 + 2_000 * number
    while True:
        yield from range(first + random.randrange(100), first + 2_000)


_ports = _own_ports()


def free_ports(count: int) -> int:
    """The first of ``count`` free ports in a row."""
    row: list[int] = []
    for port in islice(_ports, 4_000):
        if row and port != row[-1] + 1:
            row.clear()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                row.clear()
                continue
        row.append(port)
        if len(row) == count:
            return row[0]
    raise RuntimeError("no free ports")


async def until(condition: Any, patience: float = 30.0, pause: float = 0.05) -> None:
    """Returns when ``condition()`` (which may be awaited) is true; fails after ``patience`` seconds."""
    deadline = reactor.seconds() + patience
    while True:
        held = condition()
        if hasattr(held, "__await__"):
            held = await held
        if held:
            return
        if reactor.seconds() > deadline:
            raise AssertionError(f"{condition} did not become true within {patience:g} s")
        await deferLater(reactor, pause)


class DevnetCase(TestCase):
    """A devnet per test, stopped whatever happens."""

    timeout = 150
    coins = 60

    async def start(self, masternodes: int, **options: Any) -> Devnet:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        layout = lay_out(
            folder, masternodes, free_ports(masternodes), log_level="warn", coins_per_wallet=self.coins, **options
        )
        self.devnet = Devnet(reactor, layout)
        self.addCleanup(self._stop)
        self.transactions = signed_payments(layout, self.coins)
        await self.devnet.start()
        return self.devnet

    async def _stop(self) -> None:
        await self.devnet.stop()
        self.assert_clean_logs()

    def assert_clean_logs(self) -> None:
        """No node logged a failure of its own code (L-8)."""
        for node in self.devnet.layout.nodes:
            if node.log.exists():
                text = node.log.read_text("utf-8", "replace")
                self.assertNotIn("Traceback", text, f"masternode {node.number}")
                self.assertNotIn("Unhandled error", text, f"masternode {node.number}")

    async def client(self, *numbers: int) -> WalletClient:
        """A connected wallet client of nodes by number (from 1)."""
        nodes = [self.devnet.node(number) for number in numbers]
        client = WalletClient(reactor, self.devnet.layout.genesis, nodes)
        client.startService()
        self.addCleanup(client.stopService)
        await client.when_connected()
        return client

    async def digests(self) -> set[str | None]:
        infos = [await self.devnet.info(node.number) for node in self.devnet.layout.nodes]
        return {None if info is None else info.digest for info in infos}

    async def agree(self, patience: float = 30.0) -> None:
        """All nodes come to one digest."""

        async def one_digest() -> bool:
            found = await self.digests()
            return len(found) == 1 and None not in found

        await until(one_digest, patience)

    async def finals(self, number: int) -> int:
        info = await self.devnet.info(number)
        return -1 if info is None else info.final


def signed_payments(layout: Layout, count: int, *, timestamp: int = 0) -> list[Transaction]:
    """Payments of Alice to Bob, each with a coin of its own; another ``timestamp`` gives others of the same coins."""
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
    return [
        builder.build(
            Selection(coins=(coin,), fee=fee, change=COIN_AMOUNT - COIN - fee),
            [TxOutput(COIN, receiver)],
            change_address=sender,
            keys={sender: alice},
            genesis=layout.genesis,
            timestamp=timestamp,
        )
        for coin in coins[:count]
    ]


def rival_of(layout: Layout, tx: Transaction, timestamp: int = 1) -> Transaction:
    """Another signed payment of the same coins by the same owner."""
    owner = hd.derive(layout.phrase("alice"))
    address = hd.address(owner, layout.genesis.params)
    fee = builder.fee_for(1, 1, layout.genesis.params)
    coin = WalletCoin(tx.outpoints[0], COIN_AMOUNT, address)
    return builder.build(
        Selection((coin,), fee, 0),
        [TxOutput(COIN_AMOUNT - fee, address)],
        change_address=None,
        keys={address: owner},
        genesis=layout.genesis,
        timestamp=timestamp,
    )
