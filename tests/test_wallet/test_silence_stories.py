"""Stories of nodes that keep things back, each in its own way: a wallet with two to ask gets to know all of it."""

from __future__ import annotations

import random
from typing import Any

from tests.cluster import COIN, address
from tests.test_wallet.ear import Ear
from tests.test_wallet.purses import PurseCase
from timeproto.model.utxo_state import Unspent, holder, kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import payment as payment_module
from timeproto.wallet import second as second_module
from timeproto.wallet.belief import Silence
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wire import messages

STORIES = 25

LOOK = 10.0

HABITS = (
    *("UTXOStateNotification", "UTXOWatermark", "FinalityProofs", "TransactionInfo", "UTXOStateResponse"),
    *("UTXOStateNotification", "AddressUTXOs", "takes and tells nobody", "shows less", "shows more"),
    "takes and tells nobody",
)
"""What a node that is not honest does: it keeps these messages back, or what the name says."""


class Habits:
    """What is said on one connection to a node with some of the ``HABITS``; with none it is honest."""

    def __init__(self, chance: random.Random) -> None:
        self.habits = chance.sample(HABITS, chance.choice((0, 0, 0, 1, 2, 3)))
        self._chance = chance

    def bend(self, message: dict[str, Any]) -> dict[str, Any] | None:
        kind = message["type"]
        if kind in self.habits and "id" not in message:
            return None
        if kind in self.habits:
            return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}
        coins = {"UTXOSubscribed": "states", "AddressUTXOs": "coins"}.get(kind)
        if coins and message[coins] and "shows less" in self.habits:
            message[coins] = self._chance.sample(message[coins], len(message[coins]) - 1)
        if coins and message[coins] and "shows more" in self.habits:
            more = dict(message[coins][-1], outpoint={"txid": "ab" * 32, "vout": 0}, state="Unspent")
            message[coins] = [*message[coins], more]
        return message

    def meet(self, server: Any) -> None:
        deliver = server._deliver

        def take(message: Any) -> None:
            if isinstance(message, messages.TransactionBroadcast) and "takes and tells nobody" in self.habits:
                server.send(messages.TransactionAccepted(id=message.id, txid=message.tx.txid))
            else:
                deliver(message)

        server._deliver = take


class Silences(PurseCase):
    """Some time, and all is told, spent and final."""

    def test_whatever_is_kept_back_is_told_in_the_end(self) -> None:
        """And who keeps nothing back is not left for it, whatever another one says."""
        self.patch(second_module, "LOOK", LOOK)
        self.patch(second_module, "GRACE", 4.0)
        self.patch(payment_module, "OVERDUE", 3.0)
        self.left = 0
        for seed in range(STORIES):
            self.setUp()
            self.seed, self.chance = seed, random.Random(seed)
            self.story()
        self.assertGreater(self.left, STORIES / 10)

    def story(self) -> None:
        world, chance = self.world, self.chance
        world.size, self.met = 2, {}
        opened = world.open

        def open(manager: Any, factory: Any, bend: Any) -> Any:
            habits = Habits(chance)
            server, client = opened(manager, factory, habits.bend)
            self.met[client] = habits
            habits.meet(server)
            return server, client

        world.open = open
        client = self.client()
        self.notice_who_is_left(client)
        client.startService()
        client.balance().addErrback(lambda failure: failure.trap(ConnectionGone))
        ear, payments = Ear(), []
        client.watch(ear.heard.append, addresses=[self.shop], on_reset=ear.heard.append)
        for number in range(chance.randrange(4, 12)):
            match chance.choice(("send", "send", "give", "take", "block", "cut", "wait")):
                case "send" if client.account.is_open:
                    try:
                        payments.append(client.account.send(self.shop, COIN))
                    except InsufficientFunds:
                        continue
                    payments[-1].when_final().addErrback(lambda failure: None)
                case "give" if number < 4:
                    self.give(client.account.addresses[0], number)
                case "take" if self.owned(client, address(self.mine)):
                    self.spend()
                case "block":
                    world.node.make_block()
                case "cut":
                    world.cut()
            world.run(chance.choice((0.5, 3, LOOK)))
        for _ in range(60):
            if self.is_settled(client, ear, payments):
                return
            world.run(LOOK)
        self.fail(f"story {self.seed}")

    def notice_who_is_left(self, client: Any) -> None:
        troubled, connect, self.own = client.troubled, self.world.connect, []

        def connected(factory: Any) -> Any:
            return connect(factory).addCallback(lambda protocol: self.own.append(protocol) or protocol)

        self.world.connect = connected

        def note(why: Exception) -> None:
            if isinstance(why, Silence):
                self.left += 1
                own = [self.met[each].habits for each in self.own]  # one that was left out once is not told by a resume
                self.assertTrue(any(own), f"{self.seed}: {why}")
            troubled(why)

        client.troubled = client.watches._on_trouble = note

    def owned(self, client: Any, *addresses: str) -> dict[Any, Any]:
        """The coins of the account, or of these, that are not spent."""
        view = self.world.node.view
        owners = addresses or client.account.addresses
        every = (view.address_coins(each, None, 1_000, spent=False)[0] for each in owners)
        return {outpoint: coin for coins in every for outpoint, coin in coins}

    def is_settled(self, client: Any, ear: Ear, payments: list[Any]) -> bool:
        truth = self.owned(client)
        balance = client.account.balance()
        total = sum(coin.output.amount for coin in truth.values())
        free = sum(coin.output.amount for coin in truth.values() if isinstance(coin.state, Unspent))
        told = {change.outpoint: change.new_state for change in ear.changes}
        shown = {outpoint: coin.state for outpoint, coin in self.owned(client, self.shop).items()}
        return (
            all(payment.is_over for payment in payments)
            and (balance.total, balance.available) == (total, free)
            and {at: (kind(state), holder(state)) for at, state in told.items() if at in shown}
            == {at: (kind(state), holder(state)) for at, state in shown.items()}
        )
