"""Stories of clients that are stopped and started while anything happens: whatever is told of money is true."""

from __future__ import annotations

import random
from types import NoneType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure

from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import PurseCase
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.client import WalletClient
from timeproto.wallet.coins import Balance, InsufficientFunds
from timeproto.wallet.watch import Watch

STORIES = 150

OPERATIONS = (
    ["start", "stop", "again", "balance", "open", "send", "fresh", "give", "take", "wait", "wait"] * 2
    + ["cut", "away", "back", "busy", "over", "room", "mute", "mute", "call off", "watch", "connected"]
)


class Whatever(PurseCase):
    """Anything, in any order, also from within what the client calls."""

    def test_no_balance_is_wrong_and_nobody_waits_in_vain(self) -> None:
        """Whatever is told is what there is, or that it could not be read; and in the end there is all of it."""
        told = {"balance": 0, "poor": 0, "gone": 0, "refused": 0}
        for seed in range(STORIES):
            self.setUp()
            self.patch(limits, "FILTER", 2 if seed % 2 else 1_000)
            self.seed, self.chance = seed, random.Random(seed)
            self.story(told)
        self.assertGreater(min(told.values()), 5, told)

    def story(self, told: dict[str, int]) -> None:
        self.is_over = self.runs = False
        self.truths, self.known, self.given, self.taken = [TOTAL], 0, 0, 0
        self.asked: list[Deferred[Any]] = []
        self.answers: list[tuple[set[int], Any]] = []
        client = self.client()
        for _ in range(self.chance.randrange(10, 40)):
            self.step(client, self.chance.choice(OPERATIONS))
        self.is_over, self.world.bend, self.world.refuses = True, lambda message: message, False
        self.refused.clear()
        if not self.runs:
            client.startService()
        self.world.run(1)
        self.world.cut()
        self.world.run(8)
        self.assertEqual((self.balance(client), self.connected), (self.truths[-1], 1), self.seed)
        self.assertEqual(len(self.answers), len(self.asked), self.seed)
        for truths, answer in self.answers:
            self.judge(truths, answer, told)

    def judge(self, truths: set[int], answer: Any, told: dict[str, int]) -> None:
        """``truths``: what there was from the last time on that the wallet could hear of it, up to the answer."""
        result = answer.value if isinstance(answer, Failure) else answer
        if isinstance(result, Balance | InsufficientFunds):
            total = result.total if isinstance(result, Balance) else result.available
            self.assertIn(total, truths, self.seed)
        kinds = {"balance": Balance, "poor": InsufficientFunds, "gone": ConnectionGone, "refused": Refusal}
        for name, kind in kinds.items():
            told[name] += isinstance(result, kind)
        self.assertIsInstance(result, (*kinds.values(), CancelledError, NoneType, Watch), self.seed)

    def step(self, client: WalletClient, what: str) -> None:
        world, chance = self.world, self.chance
        match what:
            case "start" if not self.runs:
                self.runs = True
                client.startService()
            case "stop" if self.runs:
                self.runs = False
                client.stopService()
            case "again" if self.runs:
                self.step(client, "stop")
                self.step(client, "start")
            case "balance":
                self.ask(client, client.balance())
            case "open":
                self.ask(client, ensureDeferred(client.account.open()))
            case "send":
                self.ask(client, client.send(address(world.node.wallets[0]), 10**15))
            case "connected":
                self.ask(client, client.when_connected())
            case "watch":
                then = self.some_time(client)
                self.ask(client, client.watch(then, addresses=[address(self.mine)], on_reset=then))
            case "fresh":
                client.account.new_address()
            case "give" if self.given < 4:
                self.give(client.account.new_address(), self.given)
                self.given += 1
                self.truths.append(self.truths[-1] + 9 * COIN)
            case "take" if self.taken < 4:
                self.taken += 1
                self.truths.append(self.truths[-1] - 9 * COIN)
                self.spend()
            case "wait":
                world.run(chance.choice((0, 0.2, 0.5, 3)))
                self.known = len(self.truths) - 1
            case "cut":
                world.cut()
            case "away":
                world.refuses = True
                world.cut()
            case "back":
                world.refuses = False
            case "busy" | "over":
                known = client.account.addresses
                mine = chance.choice([*known, client.account._own.at(0, len(known))])
                self.refuse(mine, ErrorCode.BUSY if what == "busy" else ErrorCode.OVER_LIMIT)
            case "room":
                self.refused.clear()
            case "mute":
                self.mute(chance.randrange(3))
            case "call off" if self.asked:
                chance.choice(self.asked).cancel()

    def ask(self, client: WalletClient, asked: Deferred[Any]) -> None:
        self.asked.append(asked)
        then, since = self.some_time(client), self.known

        def answered(result: Any) -> None:
            self.answers.append((set(self.truths[since:]), result))
            then(result)

        asked.addBoth(answered)

    def some_time(self, client: WalletClient) -> Any:
        """A callback that now and then does something itself."""
        what = self.chance.choice(["stop", "start", "again", "fresh", "call off", *[None] * 10])

        def then(_: Any) -> None:
            if what is not None and not self.is_over:
                self.step(client, what)

        return then
