"""Wallets that are dropped and come back at random, under load, across a node's death: none misses or repeats anything.

The truth is the transition log in the store of the stopped node, and not what the node says of it.
"""

from __future__ import annotations

import random
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.internet.task import deferLater

from tests.test_processes.harness import DevnetCase, until
from tests.test_wallet.logs import Heard, judge
from timeproto.devnet.layout import COIN_AMOUNT, NodeFiles
from timeproto.errors import Refusal
from timeproto.masternode.config import read_key
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.network.requests import ConnectionGone
from timeproto.storage.rocks import open_store
from timeproto.wallet import builder, hd
from timeproto.wallet.client import WalletClient
from timeproto.wallet.coins import Selection, WalletCoin
from timeproto.wallet.watch import Change, Watch
from timeproto.wire import messages

LATER = {"unknown_input", "not_voting", "not_synced", "busy", "timeout"}
"""Refusals of a node that is behind or has just started: the payment is sent again, to others."""


class Wallet:
    """One of many: a key, a client that is dropped again and again, and what its watch was told."""

    def __init__(self, number: int, phrase: str, case: Reconnect, nodes: list[int]) -> None:
        layout = case.devnet.layout
        self.key = hd.derive(phrase, index=number)
        self.address = hd.address(self.key, layout.genesis.params)
        self.heard: Heard = []
        self.drops = 0
        self.is_away = False
        self.nodes = nodes
        self.client = WalletClient(reactor, layout.genesis, [case.devnet.node(each) for each in nodes])
        self.client.startService()

    async def begin(self) -> Watch:
        await self.client.when_connected()
        self.watch = await self.client.watch(self.heard.append, addresses=[self.address], on_reset=self.heard.append)
        return self.watch

    @property
    def changes(self) -> list[Change]:
        return [each for each in self.heard if isinstance(each, Change)]

    @property
    def resets(self) -> int:
        return len(self.heard) - len(self.changes)

    def drop(self) -> None:
        """The connection breaks, whatever is on its way; a subscription that is being taken up, too."""
        connection = self.client._protocol
        if connection is not None and connection.is_open:
            connection.abort()
            self.drops += 1

    async def leave(self, seconds: float) -> None:
        """Away for a while; what it had sent and not seen final it gives up."""
        if self.is_away:
            return
        self.is_away = True
        self.drops += 1
        await self.client.stopService()
        await deferLater(reactor, seconds)
        self.client.startService()
        self.is_away = False

    def is_level(self, heads: dict[str, int]) -> bool:
        cursor = self.client.cursor
        return self.client.is_current and cursor is not None and cursor.position >= heads[cursor.node]


class Reconnect(DevnetCase):
    """A few of each, in seconds; ``make torture`` has the full sizes."""

    timeout = 240
    wallets = 20
    payments = 200
    at_once = 10
    drops_a_second = 50.0
    kills = 1
    seed: int | None = None
    """None: another in every run."""

    COINS_EACH = 5
    OUTPUTS = 50
    coins = 100

    async def test_every_wallet_s_log_is_the_node_s(self) -> None:
        """Dropped in the middle of anything, across a SIGKILL: each transition once, in order, or an explicit reset."""
        seed = random.randrange(2**32) if self.seed is None else self.seed
        try:
            await self.torture(random.Random(seed))
        except Exception as error:
            raise AssertionError(f"with the seed {seed}: {type(error).__name__}: {error}") from error

    async def torture(self, chance: random.Random) -> None:
        self.chance = chance
        began = reactor.seconds()
        devnet = await self.start(4, block_interval=2)
        phrase = hd.generate_phrase()
        self.people = [
            Wallet(number, phrase, self, [1, 2] if number % 10 == 9 else [1]) for number in range(self.wallets)
        ]
        self.payer = await self.client(2, 3, 4)
        for wallet in self.people:
            self.addCleanup(wallet.client.stopService)
            await wallet.begin()
        self.free: list[WalletCoin] = []
        self.left = self.payments
        self.is_over = False
        self.restless = ensureDeferred(self.unrest())
        for tx in self.funding():
            await self.paid(tx, self.payer)
        paying = [ensureDeferred(self.pay()) for _ in range(self.at_once)]
        killing = ensureDeferred(self.kill())
        await DeferredList([*paying, killing], fireOnOneErrback=True)
        self.is_over = True
        await self.restless
        await until(self.is_confirmed, patience=60, pause=0.2)
        heads = {await self.key_of(number): await self.head(number) for number in (1, 2)}
        await until(lambda: all(wallet.client.connection for wallet in self.people), patience=120)
        for wallet in self.people:
            wallet.drop()  # what a replay brings is marked at once, and not after a pause
        await until(lambda: all(wallet.is_level(heads) for wallet in self.people), patience=120)
        last = {wallet: wallet.client.cursor.node for wallet in self.people if wallet.client.cursor is not None}
        for wallet in self.people:
            await wallet.client.settled()
            await wallet.client.stopService()
        await devnet.stop()
        self.compare(last, reactor.seconds() - began)

    # -- payments ------------------------------------------------------------------------------------

    def funding(self) -> list[Transaction]:
        """From Alice, to everybody: several coins each."""
        layout = self.devnet.layout
        alice = hd.derive(layout.phrase("alice"))
        sender = hd.address(alice, layout.genesis.params)
        coins = [WalletCoin(at, out.amount, sender) for at, out in layout.genesis.coins() if out.address == sender]
        owners = [wallet.address for wallet in self.people] * self.COINS_EACH
        fee = builder.fee_for(1, self.OUTPUTS, layout.genesis.params)
        found = []
        for start in range(0, len(owners), self.OUTPUTS):
            amount = COIN_AMOUNT // self.OUTPUTS - fee
            outputs = [TxOutput(amount, owner) for owner in owners[start : start + self.OUTPUTS]]
            change = COIN_AMOUNT - sum(output.amount for output in outputs) - fee
            found.append(self.signed(coins[len(found)], outputs, {sender: alice}, fee, change))
        return found

    def signed(
        self, coin: WalletCoin, outputs: list[TxOutput], keys: dict[str, SigningKey], fee: int, change: int
    ) -> Transaction:
        genesis = self.devnet.layout.genesis
        selection = Selection((coin,), fee, change)
        return builder.build(
            selection, outputs, change_address=coin.address, keys=keys, genesis=genesis, timestamp=0
        )

    async def pay(self) -> None:
        """One payment after the other, each with a coin that is final and nobody else's at the moment."""
        fee = builder.fee_for(1, 2, self.devnet.layout.genesis.params)
        while self.left > 0:
            self.left -= 1
            coin = self.free.pop(self.chance.randrange(len(self.free)))
            payer = next(wallet for wallet in self.people if wallet.address == coin.address)
            amount = (coin.amount - fee) // 2
            outputs = [TxOutput(amount, self.chance.choice(self.people).address)]
            tx = self.signed(coin, outputs, {payer.address: payer.key}, fee, coin.amount - fee - amount)
            is_here = not payer.is_away and self.chance.random() < 0.5
            await self.paid(tx, payer.client if is_here else self.payer)

    async def paid(self, tx: Transaction, client: WalletClient) -> None:
        """Final, by whoever; the coins it makes are free then."""
        while True:
            try:
                await client.submit(tx, again=client is self.payer).when_final()
                break
            except ConnectionGone:  # the wallet left
                client = self.payer
            except Refusal as refusal:
                if str(refusal.code) not in LATER:
                    raise
                client = self.payer
                await deferLater(reactor, 0.2)
        ours = {wallet.address for wallet in self.people}
        self.free += [
            WalletCoin(Outpoint(tx.txid, vout), output.amount, output.address)
            for vout, output in enumerate(tx.outputs)
            if output.address in ours and output.amount > 100_000
        ]

    # -- unrest --------------------------------------------------------------------------------------

    async def unrest(self) -> None:
        leaving = []
        while not self.is_over:
            await deferLater(reactor, self.chance.expovariate(self.drops_a_second))
            wallet = self.chance.choice(self.people)
            if self.chance.random() < 0.7:
                wallet.drop()
            else:
                leaving.append(ensureDeferred(wallet.leave(self.chance.expovariate(1.0))))
        await DeferredList(leaving, fireOnOneErrback=True)

    async def kill(self) -> None:
        """SIGKILL of the node that all wallets know, and some know alone."""
        for number in range(self.kills):
            due = self.payments * (self.kills - number) // (self.kills + 1)
            await until(lambda due=due: self.left <= due, patience=self.timeout)  # type: ignore[misc]
            process = self.devnet.processes[0]
            process.signal(signal.SIGKILL)
            await process.when_ended()
            await deferLater(reactor, self.chance.uniform(0.5, 2))
            self.devnet.restart(1)

    # -- the end -------------------------------------------------------------------------------------

    async def is_confirmed(self) -> bool:
        infos = [await self.devnet.info(node.number) for node in self.devnet.layout.nodes]
        return all(info is not None and info.voting and not info.unconfirmed for info in infos) and (
            len({info.final for info in infos if info is not None}) == 1
        )

    async def key_of(self, number: int) -> str:
        return read_key(self.devnet.layout.nodes[number - 1].folder / "node.key").public_hex

    async def head(self, number: int) -> int:
        """The position at which a node's log ends."""
        client = await self.client(number)
        reply = await client.ask(messages.GetAddressUTXOs(address=self.people[0].address, limit=1))
        return int(reply.cursor.position)

    def log_of(self, node: NodeFiles) -> tuple[str, list[Transition]]:
        key = read_key(node.folder / "node.key").public_hex
        store = open_store(node.folder / "store", self.devnet.layout.genesis.hash, key)
        try:
            return key, store.transitions(0, 2**40)
        finally:
            store.close()

    def compare(self, last: dict[Wallet, str], seconds: float) -> None:
        logs = dict(self.log_of(node) for node in self.devnet.layout.nodes[:2])
        first = next(iter(logs))
        transitions = 0
        for wallet in self.people:
            transitions += judge(wallet.heard, logs, wallet.watch, last[wallet])
            if wallet.nodes == [1] or not wallet.resets:  # all that its node ever logged of its coins, and no reset
                teller = first if wallet.nodes == [1] else last[wallet]
                self.assertEqual(told(wallet.heard), logged(logs[teller], wallet.address))
        numbers: dict[str, Any] = {
            "wallets": len(self.people),
            "payments": self.payments,
            "drops": sum(wallet.drops for wallet in self.people),
            "resets": sum(wallet.resets for wallet in self.people),
            "kills": self.kills,
            "transitions compared": transitions,
            "seconds": round(seconds),
        }
        self.tell(", ".join(f"{value} {name}" for name, value in numbers.items()))
        self.assertGreater(min(numbers.values()), 0, numbers)
        self.assertTrue(all(wallet.drops for wallet in self.people))

    def tell(self, numbers: str) -> None:
        """What happened, for those who want to know."""


def told(heard: Heard) -> list[Any]:
    return [
        each
        if isinstance(each, str) or each.cursor is None
        else (each.cursor.position, each.outpoint, each.output, each.old_state, each.new_state, each.timestamp)
        for each in heard
    ]


def logged(log: list[Transition], address: str) -> list[Any]:
    return [
        (each.position, each.outpoint, each.output, each.old_state, each.new_state, each.timestamp)
        for each in log
        if each.output.address == address
    ]
