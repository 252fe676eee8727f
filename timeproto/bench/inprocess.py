"""All masternodes of a network in this process, in lockstep: what deciding costs, with no socket, disk or thread.

In one round every node takes what the round before sent it: decode, verify, step, commit to memory, encode. Each of
these is clocked by what was taken in, so that a cost has an address. Time stands still but for the replicas' timers,
which are fired in order. It is the node's own code; what is left out is how the node is kept busy: the reactor,
threads, the disk and the kernel.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from timeproto.consensus.effects import Effects, Heard, Input, LinkUp, Submit, Tick, Wake
from timeproto.consensus.replica import Replica, found
from timeproto.consensus.verifier import Verifier
from timeproto.model.address import address_of
from timeproto.model.block import BlockVote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Changes, Store
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.vote import VoteBatch
from timeproto.params import COIN, GENESIS_VERSION, NETWORKS
from timeproto.storage.memory import MemoryStore
from timeproto.wallet import builder
from timeproto.wallet.coins import Selection, WalletCoin
from timeproto.wire import codec, messages

START = 1_700_000_000_000
"""Unix milliseconds at the beginning."""
OWNER = SigningKey(b"\x01" * 32)
RECEIVER = SigningKey(b"\x02" * 32)
AMOUNT = 10_000


def make_genesis(keys: Sequence[SigningKey], coins: int) -> Genesis:
    """A devnet of masternodes with these keys, and ``coins`` coins of one owner."""
    params = NETWORKS["devnet"]
    return Genesis(
        version=GENESIS_VERSION,
        network="devnet",
        timestamp=0,
        block_interval=params.block_interval,
        masternodes=tuple(key.public_hex for key in keys),
        allocations=(TxOutput(COIN, address_of(OWNER.public_bytes, params)),) * coins,
    ).check()


def make_payments(genesis: Genesis, first: int, count: int) -> list[Transaction]:
    """Signed payments with the genesis' coins from number ``first``."""
    params = genesis.params
    owner, receiver = address_of(OWNER.public_bytes, params), address_of(RECEIVER.public_bytes, params)
    fee = builder.fee_for(1, 2, params)
    return [
        builder.build(
            Selection((WalletCoin(Outpoint(genesis.hash, vout), COIN, owner),), fee, COIN - AMOUNT - fee),
            [TxOutput(AMOUNT, receiver)],
            change_address=owner,
            keys={owner: OWNER},
            genesis=genesis,
            timestamp=0,
        )
        for vout in range(first, first + count)
    ]


@attrs.define
class Costs:
    """CPU seconds by (phase, part), and of the longest single turn: phases as in :func:`phase_of`, parts ``decode``,
    ``verify``, ``step``, ``commit``, ``encode``."""

    seconds: defaultdict[tuple[str, str], float] = attrs.field(factory=lambda: defaultdict(float))
    longest: dict[tuple[str, str], float] = attrs.field(factory=dict)

    def spent(self, phase: str, part: str, began: float) -> float:
        now = time.process_time()
        self.seconds[phase, part] += now - began
        self.longest[phase, part] = max(now - began, self.longest.get((phase, part), 0.0))
        return now

    def clear(self) -> None:
        self.seconds.clear()
        self.longest.clear()

    def part(self, *parts: str) -> float:
        """Seconds of these parts, over all phases."""
        return sum(seconds for (_, part), seconds in self.seconds.items() if part in parts)


@attrs.define
class Node:
    """One masternode: its replica with its store, and what the others sent it."""

    key: str
    replica: Replica
    verifier: Verifier
    store: Store
    inbox: list[tuple[str, bytes]] = attrs.field(factory=list)
    asked: list[Input] = attrs.field(factory=list)


class Cluster:
    """``masternodes`` nodes with a link between any two, all voting.

    ``committed(node, phase, changes)`` and ``sent(message)`` are told what is made durable and what is said."""

    def __init__(
        self,
        masternodes: int,
        coins: int,
        *,
        committed: Callable[[Node, str, Changes], None] = lambda node, phase, changes: None,
        sent: Callable[[Any], None] = lambda message: None,
    ) -> None:
        keys = [SigningKey(bytes([7]) * 28 + number.to_bytes(4, "big")) for number in range(masternodes)]
        self.genesis = make_genesis(keys, coins)
        self.costs = Costs()
        self.bytes_sent = 0
        self.nodes = [self._make(key) for key in keys]
        self._by_key = {node.key: node for node in self.nodes}
        self._committed = committed
        self._sent = sent
        self._elapsed = 0
        self._timers: list[tuple[int, int, Node, Wake]] = []
        self._order = itertools.count()
        self._paid = 0
        for node in self.nodes:
            node.asked += [LinkUp(other.key) for other in self.nodes if other is not node]
        self.run()
        self.tick()
        while any(node.replica.not_voting is not None or not node.replica.is_synced for node in self.nodes):
            self.tick()
        self.costs.clear()

    def _make(self, key: SigningKey) -> Node:
        store = MemoryStore()
        founding = found(store, self.genesis)
        if founding is not None:
            store.commit(founding)
        return Node(key.public_hex, Replica(store, self.genesis, key), Verifier(self.genesis), store)

    def pay(self, count: int, at: int = 0) -> list[Transaction]:
        """``count`` payments, submitted together to one node, and final at every one when this returns."""
        payments = make_payments(self.genesis, self._paid, count)
        self._paid += count
        before = [node.replica.final_count for node in self.nodes]
        self.nodes[at].asked += [Submit(tx, tx.txid) for tx in payments]
        self.run()
        for node, final in zip(self.nodes, before, strict=True):
            if node.replica.final_count != final + count:
                raise RuntimeError(f"{count} payments were sent, {node.replica.final_count - final} are final")
        return payments

    def decide_block(self) -> None:
        """Fires timers until every node has one block more."""
        wanted = max(node.replica.height for node in self.nodes) + 1
        while any(node.replica.height < wanted for node in self.nodes):
            if not self._timers:
                raise RuntimeError("nobody waits for a block")
            due, _, node, wake = heapq.heappop(self._timers)
            self._elapsed = max(self._elapsed, due)
            node.asked.append(wake)
            if not self._timers or self._timers[0][0] > self._elapsed:
                self.run()

    def tick(self) -> None:
        """A second passes."""
        self._elapsed += 1000
        for node in self.nodes:
            node.asked.append(Tick())
        self.run()

    def run(self) -> None:
        """Rounds until nothing is under way."""
        while any(node.inbox or node.asked for node in self.nodes):
            taken = [(node, node.asked, node.inbox) for node in self.nodes]
            for node in self.nodes:
                node.asked, node.inbox = [], []
            for node, asked, inbox in taken:
                if asked or inbox:
                    self._turn(node, asked, inbox)

    def _turn(self, node: Node, asked: list[Input], inbox: list[tuple[str, bytes]]) -> None:
        costs, clock = self.costs, time.process_time()
        heard = [_heard(node.replica, sender, payload) for sender, payload in inbox]
        inputs = [*asked, *(entry for entry in heard if entry is not None)]
        if not inputs:
            costs.spent("settled", "decode", clock)
            return
        phase = phase_of(inputs)
        clock = costs.spent(phase, "decode", clock)
        verified = node.verifier.check([(entry, {}) for entry in inputs])
        clock = costs.spent(phase, "verify", clock)
        effects = node.replica.step(verified.inputs, START + self._elapsed)
        clock = costs.spent(phase, "step", clock)
        if verified.refused or verified.faults or effects.alarm:
            raise RuntimeError(f"the replica does not go on: {effects.alarm or verified}")
        if effects.changes is not None:
            self._committed(node, phase, effects.changes)
            clock = time.process_time()
            node.store.commit(effects.changes)
            clock = costs.spent(phase, "commit", clock)
        payloads = [(key, message, codec.encode(message)) for key, message in effects.send]
        costs.spent(phase, "encode", clock)
        self._release(node, effects, payloads)

    def _release(self, node: Node, effects: Effects, payloads: list[tuple[str | None, Any, bytes]]) -> None:
        for key, message, payload in payloads:
            self._sent(message)
            others = [self._by_key[key]] if key is not None else [each for each in self.nodes if each is not node]
            self.bytes_sent += len(others) * (4 + len(payload))
            for other in others:
                other.inbox.append((node.key, payload))
        for milliseconds, wake in effects.timers:
            heapq.heappush(self._timers, (self._elapsed + milliseconds, next(self._order), node, wake))


def _heard(replica: Replica, sender: str, payload: bytes) -> Heard | None:
    """What is new in a message, as a node hears it: of n votes the last are thrown away when all is decided."""
    message = codec.decode(payload)
    if isinstance(message, VoteBatch) and replica.is_settled(message):
        return None
    return Heard(replica.news(message), sender)


def phase_of(inputs: Sequence[Input]) -> str:
    """What a turn is about, by the first of these kinds among what was taken in."""
    kinds = {_kind(entry) for entry in inputs}
    return next((phase for phase in PHASES if phase in kinds), "other")


PHASES = ("submit", "transactions", "commit votes", "lock votes", "proposal", "block votes", "block timer")
"""The way of payments: ``submit`` at the node that the wallet asks, ``transactions`` at all others (locked, voted for),
``lock votes`` (counted, and answered by a commit vote), ``commit votes`` (counted, and final); then that of a block."""


def _kind(entry: Input) -> str:
    match entry:
        case Submit():
            return "submit"
        case Wake():
            return "block timer"
        case Heard(message=messages.Transactions() | messages.TransactionBroadcast()):
            return "transactions"
        case Heard(message=VoteBatch() as batch):
            return "commit votes" if batch.commit else "lock votes"
        case Heard(message=messages.BlockProposal()):
            return "proposal"
        case Heard(message=BlockVote()):
            return "block votes"
    return "other"
