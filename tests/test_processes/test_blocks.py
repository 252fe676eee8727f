"""Blocks on real processes: they decide what is contested, whoever is killed, and all nodes have the same."""

from __future__ import annotations

import random
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater

from tests.test_processes.harness import DevnetCase, rival_of, until
from timeproto.errors import Refusal
from timeproto.model.block import check_inclusion, transaction_leaf, verdict_leaf
from timeproto.model.transaction import Transaction
from timeproto.wallet.client import WalletClient
from timeproto.wire import messages

FEW = 3
"""Block intervals within which every coin is final once, or free: contests wait for about four seconds."""


class BlocksCase(DevnetCase):
    async def clients(self) -> list[WalletClient]:
        return [await self.client(node.number) for node in self.devnet.layout.nodes]

    async def heights(self) -> list[int]:
        infos = [await self.devnet.info(node.number) for node in self.devnet.layout.nodes]
        return [-1 if info is None else info.height for info in infos]

    async def one_chain(self) -> None:
        """All nodes come to one tip and one commitment, at one height."""

        async def same() -> bool:
            infos = [await self.devnet.info(node.number) for node in self.devnet.layout.nodes]
            return len({info and (info.height, info.tip, info.commitment, info.digest) for info in infos}) == 1

        await until(same, pause=0.1)


async def broadcast(client: WalletClient, tx: Transaction) -> None:
    """Hands a transaction to one node, whatever it says: a rival may be there already."""
    try:
        await client.ask(messages.TransactionBroadcast(tx=tx))
    except Refusal as refusal:
        if str(refusal.code) not in ("double_spend", "aborted"):
            raise


async def look_up(client: WalletClient, tx: Transaction) -> messages.TransactionInfo | None:
    """What a node knows of a transaction; None if that is nothing."""
    try:
        return await client.ask(messages.GetTransaction(txid=tx.txid))
    except Refusal as refusal:
        if str(refusal.code) != "not_found":
            raise
        return None


class Contested(BlocksCase):
    """Sixty coins spent twice at the same moment: each half of the masternodes hears of another payment first."""

    coins = 60

    async def test_every_coin_is_final_once_or_free_again_within_a_few_blocks(self) -> None:
        """None stays frozen: each coin is spent by one of the two for ever, or both are aborted and it is free."""
        await self.start(7)
        clients = await self.clients()
        genesis = self.devnet.layout.genesis
        await until(self.are_voting)
        pairs = [(tx, rival_of(self.devnet.layout, tx)) for tx in self.transactions]
        sent = []
        for number, pair in enumerate(pairs):
            for at in range(7):
                sent.append(ensureDeferred(broadcast(clients[at], pair[(at + number) % 2])))
        began = max(await self.heights())
        await DeferredList(sent, fireOnOneErrback=True)

        async def all_decided() -> bool:
            for client in clients:
                states = await self.states(client)
                if not all(state == "Unspent" or state in ("SpentFinalized", "Confirmed") for state in states):
                    return False
            return True

        await until(all_decided, patience=60, pause=0.2)
        freed = []
        for pair in pairs:
            told = [await look_up(clients[0], tx) for tx in pair]
            final = [info for info in told if info is not None and info.status == "final"]
            self.assertLessEqual(len(final), 1)
            self.assertTrue(final or all(told), "only the rival of a final payment may leave no trace")
            for info in told:
                if info is None or info.status != "aborted":
                    continue
                self.assertLessEqual(info.height, began + FEW)
                rival = info.conflicting_txid
                leaf = verdict_leaf("abort", info.tx.txid) if rival is None else transaction_leaf(rival)
                check_inclusion(info.inclusion, leaf, genesis.masternode_set, genesis.hash)
            if not final:
                freed.append(pair[0])
        self.assertTrue(freed)
        again = [rival_of(self.devnet.layout, tx, timestamp=9) for tx in freed]
        for tx in again:
            await clients[0].submit(tx).when_final()
        await self.one_chain()
        info = await self.devnet.info(1)
        assert info is not None
        self.assertEqual((info.evidence, info.contested), (0, 0))

    async def are_voting(self) -> bool:
        infos = [await self.devnet.info(node.number) for node in self.devnet.layout.nodes]
        return all(info is not None and info.voting for info in infos)

    async def states(self, client: WalletClient) -> list[str]:
        outpoints: tuple[Any, ...] = tuple(str(tx.outpoints[0]) for tx in self.transactions)
        reply = await client.ask(messages.UTXOStateQuery(outpoints=outpoints))
        return [
            item.state if isinstance(item.state, str) else type(item.state._given()[0]).__name__
            for item in reply.states
        ]


class Killed(BlocksCase):
    """kill -9 of up to two of seven, again and again, while payments and blocks go on."""

    rounds = 6
    """Of three seconds, each with other masternodes dead; 20 are a minute."""
    coins = 30 * rounds
    timeout = 240

    async def test_blocks_go_on_and_all_end_with_the_same(self) -> None:
        """No final payment is lost, no masternode stands accused, and all stores hold one chain."""
        devnet = await self.start(7, block_interval=2)
        client = await self.client(1, 2, 3, 4, 5, 6, 7)
        chance = random.Random(11)
        waiting = list(self.transactions)
        payments = []
        down: list[int] = []
        for _ in range(self.rounds):
            for number in down:
                devnet.restart(number)
            down = sorted(chance.sample(range(1, 8), chance.randint(1, 2)))
            for number in down:
                process = devnet.processes[number - 1]
                process.signal(signal.SIGKILL)
                await process.when_ended()
            for _ in range(30):
                payments.append(client.submit(waiting.pop()))
                await deferLater(reactor, 0.1)
        for number in down:
            devnet.restart(number)
        for payment in payments:
            await payment.when_final()
        before = max(await self.heights())

        async def confirmed() -> bool:
            infos = [await devnet.info(node.number) for node in devnet.layout.nodes]
            return all(
                info is not None and info.voting and info.height > before and not info.unconfirmed for info in infos
            )

        await until(confirmed, patience=60, pause=0.2)
        await self.one_chain()
        for number in range(1, 8):
            info = await devnet.info(number)
            assert info is not None
            self.assertEqual((info.final, info.evidence), (len(payments), 0))
