"""Random stories of a wallet, its watches, and a node to which everything happens: nothing is missed or told twice."""

from __future__ import annotations

import random
from typing import Any

import attrs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.logs import Heard, judge
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.errors import Refusal
from timeproto.model.utxo_state import kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import client as client_module
from timeproto.wallet import line
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.watch import Change, Watch


@attrs.define
class Told:
    watch: Watch
    heard: Heard


class Story:
    """A wallet, its watches, and a node to which everything happens."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        limits.QUERY = self.chance.choice((3, 1_000))
        self.world = World()
        self.client = self.world.client()
        self.told: list[Told] = []
        self.paid = self.restarts = 0
        self.step("watch")

    def pay(self) -> None:
        node, chance = self.world.node, self.chance
        owner = chance.choice(node.wallets)
        coins, _ = node.store.address_coins(address(owner), None, 100, spent=False)
        free = [(at, coin.output.amount, owner) for at, coin in coins if kind(coin.state) == "Unspent"]
        picked = free[: chance.choice((1, 1, 2))]
        if sum(amount for _, amount, _ in picked) < 2 * COIN:
            return
        self.paid += 1
        to = address(chance.choice(node.wallets))
        tx = pay(node.genesis, picked, [(to, COIN)], timestamp=self.paid)
        node.integration.process_transaction(tx).addErrback(lambda failure: failure.trap(Refusal))

    def add_watch(self) -> None:
        node, chance, heard = self.world.node, self.chance, []
        addresses = [address(each) for each in chance.sample(node.wallets, chance.randrange(0, 3))]
        outpoints = chance.sample([at for at, _ in node.genesis.coins()], chance.randrange(1, 4))
        known = len(self.client.watches._watches)
        self.client.watch(
            heard.append, addresses=addresses, outpoints=outpoints, on_reset=heard.append
        ).addErrback(lambda failure: failure.trap(ConnectionGone, Refusal))
        self.told.append(Told(self.client.watches._watches[known], heard))

    def step(self, what: str) -> None:
        world, chance = self.world, self.chance
        match what:
            case "pay":
                self.pay()
            case "block":
                world.node.make_block()
            case "move":
                world.run()
            case "wait":
                world.run(chance.choice((0.1, 0.5, 1)))
            case "long":
                world.run(limits.WATERMARK)
            case "cut":
                world.cut()
            case "refuse":
                world.refuses = not world.refuses
            case "watch":
                if len(self.told) < 6:
                    self.add_watch()
            case "hold":
                world.node.release()
                world.node.hold()
            case "release":
                world.node.release()
            case "restart":
                self.restarts += 1
                world.restart()
            case "deaf":
                world.bend = chance.choice((self.busy, self.silent, self.well))
            case "well":
                world.bend = self.well

    def well(self, message: dict[str, Any]) -> dict[str, Any] | None:
        return message

    def busy(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if message["type"] == "TransactionInfo":
            return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}
        return message

    def silent(self, message: dict[str, Any]) -> dict[str, Any] | None:
        return None if message["type"] == "TransactionInfo" else message

    def come_to_rest(self) -> None:
        world = self.world
        world.bend, world.refuses = self.well, False
        world.node.release()
        world.run(limits.REQUEST_TIME + 3 * ASK_AGAIN)
        assert self.client.is_current
        log = world.node.store.transitions(0, 1_000_000)
        for each in self.told:
            judge(each.heard, {key(1).public_hex: log}, each.watch, key(1).public_hex, in_pages=limits.QUERY < 10)


OPERATIONS = st.sampled_from(
    ["pay"] * 6 + ["move"] * 5 + ["wait"] * 3 + ["cut"] * 3 + ["watch"] * 2 + ["well", "deaf", "hold", "release"] * 2
    + ["block", "refuse", "restart", "long"]
)


class Whatever(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(client_module, "back_off", lambda attempt: 0.3)
        self.patch(limits, "REPLAY_PAGE", 8)
        self.patch(limits, "REPLAY_TURN", 3)
        self.patch(limits, "REPLAY", 40)
        self.patch(limits, "FILTER", 2)
        self.patch(limits, "QUERY", limits.QUERY)  # each story sets its own
        self.patch(line, "BEHIND", 8)

    # Fewer operations are another world, so what is found does not shrink: it would only take minutes.
    @settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(st.integers(0, 2**32), st.lists(OPERATIONS, min_size=20, max_size=80))
    def test_every_watch_hears_each_transition_once(self, seed: int, operations: list[str]) -> None:
        """Payments, blocks, cuts, power cuts, busy and silent nodes, newcomers: the log of each watch is the node's."""
        story = Story(seed)
        for operation in operations:
            story.step(operation)
        story.come_to_rest()

    def test_the_rare_situations_come_up(self) -> None:
        """A run without replays, resets, restarts and newcomers proves nothing: all of them happen here."""
        chance = random.Random(3)
        resets: list[str] = []
        restarts = live = shown = 0
        for seed in range(8):
            story = Story(seed)
            for _ in range(80):
                story.step(chance.choice(OPERATIONS.elements))  # type: ignore[attr-defined]
            story.come_to_rest()
            restarts += story.restarts
            for each in story.told:
                resets += [heard for heard in each.heard if isinstance(heard, str)]
                live += sum(isinstance(heard, Change) and heard.cursor is not None for heard in each.heard)
                shown += sum(isinstance(heard, Change) and heard.cursor is None for heard in each.heard)
        happened = {"resets": len(resets), "restarts": restarts, "live": live, "shown": shown}
        self.assertGreater(min(happened.values()), 3, happened)
