"""Whatever happens: every watcher's log equals the node's log of its coins, each once, in order, or a reset says so.

Payments, blocks, power cuts in the middle of a commit, lost connections, words lost on their way, resumes by token and
by filter, readers that stop reading, leases that end: at random, and then the truth is asked.
"""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from tests.cluster import COIN, address, pay
from tests.test_network.test_cursors import Reader, step_of
from timeproto import limits
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import to_wire
from timeproto.network.fanout import frame_of
from timeproto.network.outbox import Outbox
from timeproto.wire import messages
from timeproto.wire.messages import (
    Cursor,
    TransactionStatus,
    UTXOStateNotification,
    UTXOSubscribe,
    UTXOSubscribed,
    UTXOSubscriptionNotice,
    UTXOWatermark,
)

WALLETS = 3


class Holding(Reader):
    """A connection as over TCP: what goes to many is held for its turn, and must not be overtaken."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.outbox.open(self)

    def write(self, data: bytes) -> None:
        """The transport."""
        while data:
            size = 4 + int.from_bytes(data[:4], "big")
            super().send_payload(data[4:size])
            data = data[size:]

    def send_payload(self, payload: bytes) -> None:
        self.outbox.write(frame_of(payload, squeezed=False))


TTL = 40_000


class Watcher:
    """A wallet that trusts its log: it resumes from the last thing it received."""

    def __init__(self, addresses: list[str], outpoints: list[str], listens: bool) -> None:
        """``listens``: to what is on its way, too."""
        self.addresses, self.outpoints, self.listens = addresses, outpoints, listens
        self.hints = 0
        self.reader: Reader | None = None
        self.is_answered = False
        self.cursor: Cursor | None = None
        self.token: str | None = None
        self.began = 0
        self.log: list[UTXOStateNotification] = []
        self.known: dict[Any, Any] = {}
        self.resets: list[str] = []
        self.replays = self.expired = 0

    def wants(self, entry: Transition) -> bool:
        return entry.output.address in self.addresses or str(entry.outpoint) in self.outpoints

    def connect(self, node: Node, *, lease: bool, holds: bool = True) -> None:
        self.reader, self.is_answered = Holding() if holds else Reader(), False
        self.ask(node, self.reader, lease=lease)

    def ask(self, node: Node, reader: Reader, *, lease: bool) -> None:
        named = self.token is None
        request = UTXOSubscribe(
            id=1,
            subscriber_id="w",
            addresses=tuple(self.addresses) if named else (),
            outpoints=tuple(self.outpoints) if named else (),
            since=self.cursor,
            token=self.token,
            statuses=self.listens,
            ttl_ms=TTL if lease else None,
        )
        node.handler.handle_message(reader, request)

    def receive(self, node: Node, count: int | None = None) -> None:
        """Takes the first ``count`` words that have come."""
        reader = self.reader
        if reader is None:
            return
        words = reader.told if count is None else reader.told[:count]
        reader.told = reader.told[len(words) :]
        if reader.reads:
            reader.backlog = 0
        for word in words:
            if isinstance(word, UTXOSubscribed):
                self.subscribed(node, word)
            elif isinstance(word, UTXOWatermark):
                assert self.is_answered, "a watermark for nothing"
                self.cursor = word.cursor
            elif isinstance(word, UTXOStateNotification):
                self.notified(word)
            elif isinstance(word, TransactionStatus):
                self.hinted(word)
            elif isinstance(word, messages.Error) and word.id == 1:
                assert word.code == "not_found", word
                self.token = None
                self.ask(node, reader, lease=True)
            elif isinstance(word, UTXOSubscriptionNotice) and word.event == "expired":
                self.cursor, self.token, self.is_answered = word.cursor, None, False
                self.expired += 1
                self.ask(node, reader, lease=True)

    def subscribed(self, node: Node, word: UTXOSubscribed) -> None:
        before, self.cursor, self.token = self.cursor, word.cursor, word.token or self.token
        self.is_answered = True
        if before is not None and not word.reset:
            assert word.cursor == before and not word.states
            self.replays += 1
            return
        if before is not None:
            assert word.reason == "too_long" and node.view.position() - before.position > limits.REPLAY, word.reason
            self.resets.append(word.reason)
        self.check(node, False)
        self.began, self.log = word.cursor.position, []
        self.known = {coin.outpoint: coin.state for coin in word.states}

    def notified(self, word: UTXOStateNotification) -> None:
        if not self.is_answered:
            return  # a step of a payment that this connection sent: the subscription has not begun
        change, self.cursor = word.notification, word.cursor
        if word.output.address not in self.addresses and str(change.outpoint) not in self.outpoints:
            return  # a step of a payment that this connection sent
        before = self.known.get(change.outpoint)
        spent = not isinstance(change.old_state, str) and change.old_state is not None
        if before is not None or not spent:
            assert change.old_state == before, f"was {before}, told as {change.old_state}"
        self.known[change.outpoint] = change.new_state
        self.log.append(word)

    def hinted(self, word: TransactionStatus) -> None:
        """Never of a coin that has not been told, and never a coin by itself."""
        assert self.listens and self.is_answered
        self.hints += 1
        for each in word.outputs if word.status == "final" else ():
            assert Outpoint(word.txid, each.vout) in self.known, "final before its coin"

    def check(self, node: Node, at_rest: bool) -> None:
        """What was told since the last snapshot is what the log holds, from there to where it was told."""
        truth = [entry for entry in node.store.transitions(self.began, 1_000_000) if self.wants(entry)]
        told = [(word.cursor.position, word.notification.outpoint, word.notification.new_state) for word in self.log]
        real = [(entry.position, entry.outpoint, to_wire(entry.new_state)) for entry in truth]
        assert told == (real if at_rest else real[: len(told)]), f"told {told}, is {real}"
        steps = [step_of(word) for word in self.log]
        together = [step for step, _ in groupby(steps)]
        assert len(together) == len(set(steps)), f"a transaction's changes are told apart: {together}"
        for outpoint, state in self.known.items() if at_rest else ():
            coin = node.store.coin(outpoint)
            assert coin is not None and to_wire(coin.state) == state

    def drop(self, node: Node, chance: random.Random) -> None:
        """The connection is lost, and with it some of what was on its way."""
        if self.reader is None:
            return
        self.receive(node, chance.randrange(len(self.reader.told) + 1))
        if self.reader is not None:
            node.handler.connection_lost(self.reader)
        self.reader = None


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.node = Node(WALLETS, 6)
        owners = [address(wallet) for wallet in self.node.wallets]
        coins = [str(outpoint) for outpoint, _ in self.node.genesis.coins()]
        self.watchers = [
            Watcher(self.chance.sample(owners, self.chance.randrange(0, 3)), self.chance.sample(coins, 2), number < 2)
            for number in range(4)
        ]
        self.paid = 0

    def pay(self) -> None:
        node, chance = self.node, self.chance
        payer = chance.randrange(WALLETS)
        mine = address(node.wallets[payer])
        coins, _ = node.store.address_coins(mine, None, 100, spent=False)
        picked = coins[: chance.choice((1, 2))]
        spends = [(outpoint, coin.output.amount, node.wallets[payer]) for outpoint, coin in picked]
        if sum(amount for _, amount, _ in spends) < 2 * COIN:
            return
        self.paid += 1
        to = address(node.wallets[chance.randrange(WALLETS)])
        tx = pay(node.genesis, spends, [(to, COIN)], timestamp=self.paid)
        sender = chance.choice([each.reader for each in self.watchers if each.reader is not None] or [Reader()])
        if sender in [each.reader for each in self.watchers] and chance.random() < 0.8:
            sender = Reader()
        node.handler.handle_message(sender, messages.TransactionBroadcast(id=9, tx=tx))

    def step(self, what: str) -> None:
        node, chance = self.node, self.chance
        watcher = chance.choice(self.watchers)
        match what:
            case "pay":
                self.pay()
            case "block":
                node.make_block()
            case "drop":
                watcher.drop(node, chance)
            case "connect":
                if watcher.reader is None and (watcher.addresses or watcher.outpoints):
                    watcher.connect(node, lease=chance.random() < 0.7, holds=chance.random() < 0.7)
            case "receive":
                watcher.receive(node)
            case "deaf":
                if watcher.reader is not None:
                    watcher.reader.reads = not watcher.reader.reads
                    watcher.reader.backlog = 0
            case "turn":
                node.clock.advance(chance.choice((0, 0, limits.FEED_PAUSE)))
            case "wait":
                node.clock.advance(chance.choice((1, 16, 80)))
            case "hold":
                node.release()
                node.hold()
            case "release":
                node.release()
            case "cut":
                for each in self.watchers:
                    each.drop(node, chance)
                node.start()

    def come_to_rest(self) -> None:
        node = self.node
        node.release()
        for _ in range(3):
            for watcher in self.watchers:
                if watcher.reader is not None and watcher.reader.closed:
                    watcher.drop(node, self.chance)
                if watcher.reader is None:
                    watcher.connect(node, lease=True)
                watcher.reader.reads, watcher.reader.backlog = True, 0  # type: ignore[union-attr]
            for _ in range(400):
                node.clock.advance(limits.FEED_PAUSE / 10)
                for watcher in self.watchers:
                    watcher.receive(node)
                head = node.view.position()
                if all(watcher.cursor is not None and watcher.cursor.position == head for watcher in self.watchers):
                    break
        for watcher in self.watchers:
            watcher.check(node, True)


OPERATIONS = st.sampled_from(
    ["pay"] * 6 + ["receive"] * 4 + ["turn"] * 4 + ["connect"] * 3 + ["drop"] * 2 + ["block", "deaf", "wait", "cut"]
    + ["hold", "release", "release"]
)


class MissingNothing(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(limits, "REPLAY_PAGE", 8)
        self.patch(limits, "REPLAY_PAGES", 3)
        self.patch(limits, "REPLAY_TURN", 3)
        self.patch(limits, "REPLAY", 60)
        self.patch(limits, "FEED_QUEUE", 8_000)
        self.patch(limits, "LEASE_LEAST", 10.0)

    # Fewer operations are another world, so what is found does not shrink: it would only take minutes.
    @settings(max_examples=80, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(st.integers(0, 2**32), st.lists(OPERATIONS, min_size=20, max_size=120))
    def test_every_log_is_the_nodes(self, seed: int, operations: list[str]) -> None:
        """Random commits, subscribes, drops, resumes, cuts: each transition once, in order, or an explicit reset."""
        world = World(seed)
        for operation in operations:
            world.step(operation)
        world.come_to_rest()

    def test_the_rare_situations_come_up(self) -> None:
        """A run that never replays, never resets and never cuts a commit proves nothing: all of them happen here."""
        chance = random.Random(5)
        replays = resets = cuts = ends = hints = 0
        for seed in range(12):
            world = World(seed)
            for _ in range(150):
                operation = chance.choice(OPERATIONS.elements)  # type: ignore[attr-defined]
                cuts += operation == "cut" and bool(world.node._held)
                world.step(operation)
            world.come_to_rest()
            replays += sum(watcher.replays for watcher in world.watchers)
            resets += sum(len(watcher.resets) for watcher in world.watchers)
            ends += sum(watcher.expired for watcher in world.watchers)
            hints += sum(watcher.hints for watcher in world.watchers)
        happened = {"replays": replays, "resets": resets, "cut commits": cuts, "ended leases": ends, "hints": hints}
        self.assertGreater(min(happened.values()), 3, happened)
