"""Several replicas in one process, over a network that a seed decides: for tests of consensus.

No reactor, no clock, no sockets: messages wait in a list and a seeded generator picks which is delivered next, so any
order of arrival can happen and any run can be repeated. Messages cross as bytes, through the real codec and the
real verify stage.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

from timeproto.consensus.effects import Effects, Heard, Input, LinkDown, LinkUp, Submit, Tick, Wake
from timeproto.consensus.replica import Replica, found
from timeproto.consensus.verifier import Verifier
from timeproto.errors import Refusal
from timeproto.model.address import address_of
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Store
from timeproto.model.transaction import (
    FINAL_SEQUENCE,
    Outpoint,
    Transaction,
    TxInput,
    TxOutput,
    canonical_bytes,
    sighash,
    txid_of,
)
from timeproto.params import COIN, NETWORKS
from timeproto.storage.memory import MemoryStore
from timeproto.wire import codec

DEVNET = NETWORKS["devnet"]


def key(number: int) -> SigningKey:
    """A key for each number, the same in every run."""
    return SigningKey(number.to_bytes(32, "big"))


def address(owner: SigningKey) -> str:
    return address_of(owner.public_bytes, DEVNET)


def make_genesis(masternodes: int, wallets: Iterable[SigningKey], coins: int = 4) -> Genesis:
    """``masternodes`` voters with keys 1…n, and ``coins`` coins of 10 TIME for each wallet."""
    return Genesis(
        version=2,
        network="devnet",
        timestamp=0,
        block_interval=5,
        masternodes=tuple(key(number + 1).public_hex for number in range(masternodes)),
        allocations=tuple(TxOutput(10 * COIN, address(wallet)) for wallet in wallets for _ in range(coins)),
    )


def pay(
    genesis: Genesis,
    spends: Iterable[tuple[Outpoint, int, SigningKey]],
    to: Iterable[tuple[str, int]],
    *,
    timestamp: int = 0,
    fee: int = 10_000,
) -> Transaction:
    """A signed transaction of coins (outpoint, amount, owner) to (address, amount)s; the rest returns to the first
    owner."""
    coins = list(spends)
    outputs = [TxOutput(amount, where) for where, amount in to]
    rest = sum(amount for _, amount, _ in coins) - sum(output.amount for output in outputs) - fee
    if rest >= DEVNET.dust:
        outputs.append(TxOutput(rest, address(coins[0][2])))
    inputs = tuple(TxInput(outpoint, tuple(owner.public_bytes), FINAL_SEQUENCE) for outpoint, _, owner in coins)
    return sign(genesis, inputs, tuple(outputs), [owner for _, _, owner in coins], timestamp, fee)


def sign(
    genesis: Genesis,
    inputs: tuple[TxInput, ...],
    outputs: tuple[TxOutput, ...],
    owners: list[SigningKey],
    timestamp: int = 0,
    fee: int = 10_000,
) -> Transaction:
    """Any inputs and outputs, well signed, valid or not."""
    canonical = canonical_bytes(inputs, outputs, timestamp, fee)
    digest = sighash(canonical, genesis.hash)
    distinct = {owner.public_hex: owner for owner in owners}
    signature = b"".join(owner.sign(digest) for owner in distinct.values())
    return Transaction(txid_of(canonical), inputs, outputs, timestamp, tuple(signature), fee)


class Node:
    """One replica with its store and its verify stage."""

    def __init__(self, genesis: Genesis, owner: SigningKey, store: Store) -> None:
        self.key = owner.public_hex
        self.signing_key = owner
        self.genesis = genesis
        self.store = store
        self.alive = True
        founding = found(store, genesis)
        if founding is not None:
            store.commit(founding)
        self.replica = Replica(store, genesis, owner)
        self.verifier = Verifier(genesis)
        self.replies: dict[Any, Any] = {}
        self.told: list[Any] = []
        self.effects: list[Effects] = []

    def step(self, inputs: list[Input], now: int) -> Effects:
        """Verify, step, commit; what follows may leave."""
        verified = self.verifier.check([(entry, self._known(entry)) for entry in inputs])
        for ticket, refusal in verified.refused:
            self.replies[ticket] = refusal
        effects = self.replica.step(verified.inputs, now)
        if effects.changes is not None:
            self.store.commit(effects.changes)
            self.told += effects.changes.transitions
        effects.blame += verified.blame
        for ticket, answer in effects.replies:
            self.replies[ticket] = answer
        self.effects.append(effects)
        return effects

    def _known(self, entry: Input) -> dict[str, Transaction]:
        tx = self.replica.transaction(entry.tx.txid) if isinstance(entry, Submit) else None
        return {} if tx is None else {tx.txid: tx}


class Cluster:
    """n nodes, their links, and the messages under way."""

    def __init__(
        self,
        n: int,
        seed: int = 0,
        *,
        wallets: int = 3,
        coins: int = 4,
        duplicate: float = 0.0,
        lose: float = 0.0,
        store: Callable[[], Store] = MemoryStore,
    ) -> None:
        self.random = random.Random(seed)
        self.wallets = [key(1_000 + number) for number in range(wallets)]
        self.genesis = make_genesis(n, self.wallets, coins)
        self.nodes = [self.make_node(number, store()) for number in range(n)]
        self.by_key = {node.key: node for node in self.nodes}
        self.duplicate, self.lose = duplicate, lose
        self.cut: set[frozenset[str]] = set()
        self.wire: list[tuple[str, str, bytes]] = []
        self.sent: list[tuple[str, str, Any]] = []
        self.now = 1_000_000
        self.time = 0
        self._timers: list[tuple[int, int, str, Wake]] = []
        self._order = itertools.count()
        self._tickets = 0
        for node in self.nodes:
            self._link(node)

    def make_node(self, number: int, store: Store) -> Node:
        """Masternode ``number``, at the start or again; tests put others in its place here."""
        return Node(self.genesis, key(number + 1), store)

    def coins_of(self, wallet: int) -> list[tuple[Outpoint, int, SigningKey]]:
        """The wallet's genesis coins, ready for :func:`pay`."""
        owner = self.wallets[wallet]
        return [
            (outpoint, output.amount, owner)
            for outpoint, output in self.genesis.coins()
            if output.address == address(owner)
        ]

    def payment(self, wallet: int, coin: int, to: int, amount: int = COIN, **more: Any) -> Transaction:
        """One genesis coin of ``wallet`` pays ``amount`` to wallet ``to``."""
        return pay(self.genesis, [self.coins_of(wallet)[coin]], [(address(self.wallets[to]), amount)], **more)

    # -- the network ---------------------------------------------------------------------------------

    def reachable(self, a: str, b: str) -> bool:
        return frozenset((a, b)) not in self.cut and self.by_key[a].alive and self.by_key[b].alive

    def _link(self, node: Node) -> None:
        for other in self.nodes:
            if other is not node and self.reachable(node.key, other.key):
                self.act(node, [LinkUp(other.key)])
                if node.key in self.by_key and other.alive:
                    self.act(other, [LinkUp(node.key)])

    def partition(self, *groups: Iterable[int]) -> None:
        """Only nodes of one group reach each other."""
        sides = [{self.nodes[number].key for number in group} for group in groups]
        for a in self.by_key:
            for b in self.by_key:
                together = any(a in side and b in side for side in sides)
                if a < b and not together and frozenset((a, b)) not in self.cut:
                    self.act(self.by_key[a], [LinkDown(b)])
                    self.act(self.by_key[b], [LinkDown(a)])
                    self.cut.add(frozenset((a, b)))
        self.wire = [entry for entry in self.wire if self.reachable(entry[0], entry[1])]

    def heal(self) -> None:
        cut, self.cut = self.cut, set()
        for pair in sorted(cut, key=sorted):
            a, b = sorted(pair)
            if self.reachable(a, b):
                self.act(self.by_key[a], [LinkUp(b)])
                self.act(self.by_key[b], [LinkUp(a)])

    def kill(self, number: int) -> None:
        """kill -9: everything but the store is gone, and so is what was under way to and from the node."""
        node = self.nodes[number]
        node.alive = False
        self.wire = [entry for entry in self.wire if node.key not in entry[:2]]
        for other in self.nodes:
            if other.alive:
                self.act(other, [LinkDown(node.key)])

    def restart(self, number: int, store: Store | None = None) -> Node:
        old = self.nodes[number]
        node = self.make_node(number, store or old.store)
        node.replies = old.replies
        node.told = old.told
        self.nodes[number] = self.by_key[old.key] = node
        self._link(node)
        return node

    def act(self, node: Node, inputs: list[Input]) -> Effects:
        """One step of a node; what it sends goes on the wire."""
        self.now += 1
        effects = node.step(inputs, self.now)
        for delay, wake in effects.timers:
            heapq.heappush(self._timers, (self.time + delay, next(self._order), node.key, wake))
        for to, message in effects.send:
            for other in self.nodes if to is None else [self.by_key[to]]:
                if other is not node:
                    self.post(node.key, other.key, message)
        return effects

    def post(self, sender: str, to: str, message: Any) -> None:
        self.sent.append((sender, to, message))
        if not self.reachable(sender, to) or self.random.random() < self.lose:
            return
        payload = codec.encode(message)
        self.wire.append((sender, to, payload))
        while self.random.random() < self.duplicate:
            self.wire.append((sender, to, payload))

    def deliver(self) -> bool:
        """Delivers a random handful of what waits for one node, in random order, as one batch."""
        if not self.wire:
            return False
        to = self.random.choice(self.wire)[1]
        waiting = [entry for entry in self.wire if entry[1] == to]
        taken = self.random.sample(waiting, self.random.randint(1, min(len(waiting), 6)))
        for entry in taken:
            self.wire.remove(entry)
        node = self.by_key[to]
        if node.alive:
            inputs: list[Input] = [Heard(codec.decode(payload), sender) for sender, _, payload in taken]
            self.act(node, inputs)
        return True

    def submit(self, tx: Transaction, number: int) -> int:
        """Hands a wallet's transaction to a node; the ticket finds the answer in ``replies``."""
        self._tickets += 1
        crossed = codec.decode(codec.encode(_broadcast(tx))).tx  # type: ignore[union-attr]
        self.act(self.nodes[number], [Submit(crossed, self._tickets)])
        return self._tickets

    def tick(self) -> None:
        for node in self.nodes:
            if node.alive:
                self.act(node, [Tick()])

    def pass_time(self, milliseconds: int) -> None:
        """Lets time go by in ticks of a second: timers run out, what they send arrives."""
        end = self.time + milliseconds
        while self.time < end:
            self.time = min(end, self.time + 1_000)
            self.now += 1_000
            while self._timers and self._timers[0][0] <= self.time:
                _, _, key_, wake = heapq.heappop(self._timers)
                if self.by_key[key_].alive:
                    self.act(self.by_key[key_], [wake])
                    self.run()
            self.tick()
            self.run()

    def run(self, steps: int = 100_000) -> None:
        """Until nothing is under way."""
        while steps and self.deliver():
            steps -= 1
        assert steps, "the messages never end"

    def settle(self, ticks: int = 10) -> None:
        """Runs, with time passing, until everybody has had the chance to ask everybody."""
        self.run()
        for _ in range(ticks):
            self.tick()
            self.run()

    # -- looking -------------------------------------------------------------------------------------

    def final(self, txid: str) -> list[bool]:
        """Whether each node holds ``txid`` final, durably."""
        records = [node.store.transaction(txid) for node in self.nodes]
        return [record is not None and record.status == "final" for record in records]

    def digests(self) -> set[str]:
        return {node.replica.state_digest() for node in self.nodes if node.alive}

    def answer(self, ticket: int) -> Any:
        return next((node.replies[ticket] for node in self.nodes if ticket in node.replies), None)

    def refusal(self, ticket: int) -> str | None:
        """The code a ticket was refused with."""
        answer = self.answer(ticket)
        return str(answer.code) if isinstance(answer, Refusal) else None


def _broadcast(tx: Transaction) -> Any:
    from timeproto.wire.messages import TransactionBroadcast

    return TransactionBroadcast(tx=tx)
