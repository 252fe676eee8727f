"""What a node tells is heard by all who watch it, whoever else asks for it; and whoever tells it has proven its key."""

from __future__ import annotations

import itertools
import json
from typing import Any

from tests.cluster import COIN, address, key, pay
from tests.examples import replace
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.ear import Ear
from tests.test_wallet.purses import PurseCase
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.wallet import line, reading
from timeproto.wallet.client import WalletClient
from timeproto.wallet.line import size_of
from timeproto.wallet.resuming import ANEW
from timeproto.wallet.watch import Watch
from timeproto.wire import codec
from timeproto.wire.messages import CoinState


class Hearing(PurseCase):
    def watch(self, client: WalletClient, whose: str, **more: Any) -> tuple[Watch, Ear]:
        ear = Ear()
        asking = client.watch(ear.heard.append, addresses=[whose], on_reset=ear.heard.append, **more)
        self.world.run(0.5)
        return self.successResultOf(asking), ear

    def with_coins(self) -> None:
        """Somebody has a lot to give."""
        self.world = World(wallets=2, coins=20)
        self.fund(self.mine, 4)

    def one_coin_a_page(self) -> None:
        self.patch(limits, "QUERY", 2)
        self.patch(reading, "PAGE", 1)
        coins = self.world.node.view.address_coins

        def one(whose: str, after: Any, limit: int, **more: Any) -> Any:
            return coins(whose, after, min(limit, 1), **more)

        self.patch(self.world.node.view, "address_coins", one)

    # -- pages ---------------------------------------------------------------------------------------

    def test_a_page_that_was_never_told(self) -> None:
        """What somebody else was to be shown, and was not, the others hear: where it came, and after a reconnect."""
        self.one_coin_a_page()
        for number in range(3):  # wherever the new coin stands among the others
            client = self.client()
            client.startService()
            before = self.balance(client)
            given: list[int] = []

            def bend(message: dict[str, Any], number: int = number, given: list[int] = given) -> dict[str, Any] | None:
                if message["type"] == "AddressUTXOs" and not given:
                    given.append(number)
                    self.give(address(self.mine), number)
                return None if message["type"] == "TransactionInfo" else message

            self.world.bend = bend
            asking = client.watch(lambda change: None, addresses=[address(self.mine)])
            self.world.run(1)
            self.successResultOf(asking).stop()
            self.world.bend = lambda message: message
            self.world.cut()
            self.world.run(5)
            self.assertEqual(self.balance(client), before + 9 * COIN)
            client.stopService()
            self.world.run(1)

    def test_a_page_that_another_watch_is_shown(self) -> None:
        """Whoever watched before hears every step that was taken meanwhile, as if nobody else had asked."""
        self.one_coin_a_page()
        client = self.opened()
        _, first = self.watch(client, self.shop)
        genesis, giver = self.world.node.genesis, self.world.node.wallets[0]
        owned = next(at for at, output in genesis.coins() if output.address == address(giver))
        tx = pay(genesis, [(owned, 10 * COIN, giver)], [(address(self.mine), 9 * COIN)])
        change = str(tx.output_outpoint(1))
        first.take()
        paid: list[int] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed" and not paid:
                paid.append(1)  # after the new subscription began, before its coins are read
                self.world.node.view.submit(tx)
            return message

        self.world.bend = bend
        _, second = self.watch(client, self.shop)
        self.world.run(1)
        states = ["Unspent", "Locked", "SpentPending", "SpentFinalized"]
        steps = [(str(owned), old, new) for old, new in itertools.pairwise(states)]
        self.assertEqual(first.take(), [*steps, (change, None, "Unspent")])
        shown = second.take()
        self.assertEqual(shown.count((change, None, "Unspent")), 1)
        self.assertEqual([coin for coin, _, _ in shown].count(change), 1)

    def test_what_was_spent_before_it_is_shown(self) -> None:
        """Whoever knew the coin hears of it with whatever names it; and of what has not changed nobody does."""
        client = self.world.client()
        watch, _ = self.watch(client, self.shop)
        outpoint, state = next(iter(watch.told.items()))
        spent = SpentFinalized("aa" * 32, 0, 1)
        coin = CoinState(outpoint=outpoint, state=to_wire(spent), output=TxOutput(10 * COIN, self.shop))
        for items in ({self.shop}, {outpoint}):
            self.assertTrue(watch.is_news(coin, spent, items))
            self.assertFalse(watch.is_news(coin, state, items))
        self.assertFalse(watch.is_news(coin, spent, {address(self.mine)}))
        other = replace(coin, outpoint=Outpoint("bb" * 32, 0))
        self.assertEqual([watch.is_news(other, spent, {each}) for each in (self.shop, other.outpoint)], [False, True])

    def test_what_is_shown_further_on(self) -> None:
        """Changes up to there are no news to whom it is shown; they are to whom they are told, and after a reset."""
        client = self.world.client()
        watch, ear = self.watch(client, self.shop)
        outpoint, state = next(iter(watch.told.items()))
        output = TxOutput(10 * COIN, self.shop)
        coin = CoinState(outpoint=outpoint, state=to_wire(state), output=output)
        ear.take()
        watch.show_page(coin, state, {self.shop}, None, later=9)
        self.assertTrue(watch.waits_for(outpoint, output, 9))
        watch.reset("")
        self.assertEqual(watch.stale, set(watch.told))
        watch.show_page(coin, state, {self.shop}, None, later=9)
        watch.begun.add(self.shop)
        self.assertEqual([watch.waits_for(outpoint, output, at) for at in (9, 10)], [False, True])
        self.assertNotIn(outpoint, watch.stale)
        watch.show_page(coin, SpentFinalized("aa" * 32, 0, 1), {self.shop}, None, later=None)
        self.assertEqual(ear.take(), [""])  # what was not looked into is not shown
        watch.reset("")
        watch.begun.add(self.shop)
        self.assertTrue(watch.waits_for(outpoint, output, 1))

    def test_what_is_shown_further_on_and_not_looked_into(self) -> None:
        """A coin that was never told, said to be spent: nobody asks for a proof of it, and nothing is kept of it."""
        watch, _ = self.watch(self.world.client(), self.shop)
        spent = SpentFinalized("aa" * 32, 0, 1)
        invented = Outpoint("bb" * 32, 0)
        coin = CoinState(outpoint=invented, state=to_wire(spent), output=TxOutput(10 * COIN, self.shop))
        watch.reset("")
        watch.show_page(coin, spent, {self.shop}, None, later=9)
        self.assertEqual(watch.ahead, {})

    def test_an_address_with_too_many_coins(self) -> None:
        """It is not watched, and costs neither the connection nor what else was asked for with it."""
        self.patch(limits, "QUERY", 2)
        self.patch(reading, "PAGE", 2)
        self.patch(reading, "COINS", 1)
        coins = self.world.node.view.address_coins

        def two(whose: str, after: Any, limit: int, **more: Any) -> Any:
            return coins(whose, after, min(limit, 2), **more)

        self.patch(self.world.node.view, "address_coins", two)
        client = self.client()
        client.startService()
        self.world.run(1)
        ear, other = Ear(), address(key(77))
        self.give(other)
        asking = client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[0]), other])
        self.world.run(60)
        watch = self.successResultOf(asking)
        self.assertEqual((self.world.connections, watch.begun, len(ear.take())), (1, {other}, 1))
        self.assertIn("too many coins", str(watch.refusal))
        self.give(address(self.mine), 1)  # it changes a coin of the one that is not watched
        self.world.run(1)
        self.assertEqual(ear.take(), [])
        self.give(other, 2)
        self.world.run(1)
        self.assertEqual(len(ear.take()), 1)

    # -- who comes and goes --------------------------------------------------------------------------

    def test_watches_that_come_and_go(self) -> None:
        """What was watched once takes no room: a node that has none left is asked anew, without a change unheard."""
        self.with_coins()
        client = self.opened()
        self.patch(limits, "FILTERS_CONNECTION", 6)
        _, ear = self.watch(client, self.shop)
        ear.take()
        for number in range(12):
            asking = client.watch(lambda change: None, addresses=[address(key(5_000 + number))])
            self.world.run(5)
            self.successResultOf(asking).stop()
            self.give(self.shop, number)
            self.world.run(1)
            self.assertEqual(ear.take()[-1][1:], (None, "Unspent"))
        self.assertEqual(self.balance(client), TOTAL)
        self.assertLess(self.world.connections, 6)

    def test_more_than_there_is_room_for(self) -> None:
        """Where nothing is watched that is not wanted, no room is no room, and the connection stands."""
        client = self.opened()
        self.patch(limits, "FILTERS_CONNECTION", len(client.account.addresses))
        connections = self.world.connections
        asking = client.watch(lambda change: None, addresses=[address(key(5_000))])
        self.world.run(5)
        self.assertIs(self.failureResultOf(asking, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertEqual((self.world.connections, self.balance(client)), (connections, TOTAL))

    def test_one_that_is_stopped_by_another(self) -> None:
        """From there on it is told nothing: not of a reset, nor of a change that is being told."""
        client = self.world.client()
        told: list[str] = []
        watches: list[Watch] = []
        for name in "ab":

            def tell(_: object, name: str = name) -> None:
                told.append(name)
                if len(watches) == 2:
                    watches[1].stop()

            asking = client.watch(tell, addresses=[address(self.mine)], on_reset=tell)
            self.world.run(0.5)
            watches.append(self.successResultOf(asking))
        told.clear()
        client.watches._place.lose()
        self.world.cut()
        self.world.run(3)
        self.assertEqual(set(told), {"a"})

    # -- how long ------------------------------------------------------------------------------------

    def test_a_balance_of_one_who_is_paid_all_the_time(self) -> None:
        """It waits for what had been heard when it was asked for, and not for what is heard after that."""
        self.with_coins()
        client = self.opened()

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] != "TransactionInfo" or message.pop("late", None):
                return message
            self.world.clock.callLater(0.6, self.world.say, {**message, "late": True})
            return None

        self.world.bend = bend
        for number in range(3):
            self.give(address(self.mine), number)
            self.world.run(0.5)
        balance = client.balance()
        for number in range(3, 8):
            self.give(address(self.mine), number)
            self.world.run(0.5)
        self.assertGreaterEqual(self.successResultOf(balance).total, TOTAL + 3 * 9 * COIN)
        self.world.run(10)
        self.assertEqual(self.balance(client), TOTAL + 8 * 9 * COIN)

    def test_a_node_that_says_how_far_it_is_and_nothing_else(self) -> None:
        """While something is checked its watermarks wait too, as many as anything may."""
        self.patch(line, "BEHIND", 100)
        client = self.opened()
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        self.give(address(self.mine))
        self.world.run(0.2)
        at = client.watches._place._reached
        mark = {"type": "UTXOWatermark", "cursor": {"node": at.node, "position": at.position}, "height": 0}
        for _ in range(1_000):
            self.world.say(mark)
        self.world.run(0.2)
        self.assertEqual(len(client.watches._line), 100)
        self.world.bend = lambda message: message
        self.world.cut()
        self.world.run(5)
        self.assertEqual(self.balance(client), TOTAL + 9 * COIN)

    def test_proofs_of_a_large_network_told_and_told(self) -> None:
        """What waits to be checked is bounded in bytes too: who tells more is left, and what waited is given up."""
        self.patch(line, "BEHIND_BYTES", 1_000_000)
        client = self.opened()
        heard: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            heard.extend([message] * (message["type"] == "UTXOStateNotification"))
            return None if message["type"] in ("UTXOStateNotification", "TransactionInfo") else message

        self.world.bend = bend
        self.give(address(self.mine))
        self.world.run(0.2)
        told = next(message for message in heard if "proof" in message)
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        self.world.say(told)  # and it is not checked before the transaction comes
        vote = told["proof"]["votes"][0] | {"path": ["ab" * 32] * 14}
        told["proof"]["votes"] = [vote] * 256
        at, waiting = told["cursor"]["position"], client.watches._line
        for number in range(1, 3):
            self.world.say(told | {"cursor": told["cursor"] | {"position": at + number}})
        self.world.run(0.1)
        self.assertTrue(client.watches.is_checked)
        size = size_of(codec.decode(json.dumps(told).encode()))
        self.assertEqual(waiting._size, len(waiting) * size)
        self.assertLess(abs(size / len(json.dumps(told)) - 1), 0.1)
        self.assertEqual(self.world.connections, 1)
        for number in range(3, 6):
            self.world.say(told | {"cursor": told["cursor"] | {"position": at + number}})
        self.world.bend = lambda message: message
        self.world.run(1)
        self.assertEqual(self.world.connections, 2)
        self.world.run(5)
        self.assertEqual((self.balance(client), waiting._size), (TOTAL + 9 * COIN, 0))

    def test_what_the_only_node_could_not_prove(self) -> None:
        """It is asked for once more in a while: a balance does not lack for ever what was missing for a moment."""
        failed: list[str] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo" and not failed:
                failed.append("once")
                return {"type": "Error", "id": message["id"], "code": "not_found", "message": "not now"}
            return message

        self.world.bend = bend
        client = self.client()
        client.startService()
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)
        self.world.run(ANEW + 5)
        self.assertEqual((self.balance(client), self.world.connections), (TOTAL, 2))
        self.world.run(2 * ANEW)
        self.assertEqual(self.world.connections, 2)

    # -- who tells it --------------------------------------------------------------------------------

    def test_one_who_has_proven_nothing(self) -> None:
        """Whatever it tells is not heard: neither how far it is, nor a change again, nor of a payment on its way."""
        client = self.opened()
        ear = Ear()
        self.outcome(client.watch(ear.heard.append, addresses=[address(self.mine)], on_reset=ear.heard.append))
        told: list[dict[str, Any]] = []
        self.world.bend = lambda message: (told.append(message), message)[1]
        self.give(address(self.mine))
        self.world.run(1)
        ear.take()
        change = next(each for each in told if each["type"] == "UTXOStateNotification")
        place = client.cursor
        cursor = {"node": place.node, "position": place.position + 5}
        hint = {"txid": "aa" * 32, "status": "seen", "outputs": [{"vout": 0, "output": change["output"]}]}
        for word in (
            {"type": "UTXOWatermark", "cursor": cursor, "height": 0},
            {**change, "type": "UTXOStateNotification"},
            {"type": "UTXOSubscriptionNotice", "subscriber_id": "wallet", "event": "expired", "cursor": cursor},
            {"type": "TransactionStatus", **hint},
        ):
            self.world.bend = lambda message, word=word: message if message == word else None
            self.world.cut()
            self.world.run(1)
            self.assertIsNone(client.connection)
            connections = self.world.connections
            self.world.say(word)
            self.world.bend = lambda message: message
            self.world.run(0.1)
            self.assertEqual((client._protocol, client.cursor), (None, place))
            self.world.run(10)
            self.assertEqual(ear.take(), [])
            place = client.cursor
            self.assertGreater(self.world.connections, connections)
        self.give(address(self.mine), 1)
        self.world.run(1)
        self.assertEqual(self.balance(client), TOTAL + 2 * 9 * COIN)
        self.assertEqual(len(ear.take()), 1)
