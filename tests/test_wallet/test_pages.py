"""Coins that are shown page by page while they are spent, and while others ask for the same ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.ear import Ear
from tests.test_wallet.purses import FEE, PurseCase
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.errors import ErrorCode
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import reading, resuming, watching
from timeproto.wallet.client import WalletClient
from timeproto.wallet.watch import Change, Watch
from timeproto.wallet.watching import REFUSED


class PageCase(PurseCase):
    def setUp(self) -> None:
        super().setUp()
        self.world = World(wallets=2, coins=8)
        self.fund(self.mine, 4)

    def read_in_pages(self, most: int) -> None:
        """A reply shows ``most`` coins of an address."""
        self.patch(limits, "QUERY", 2)
        self.patch(reading, "PAGE", most)
        coins = self.world.node.view.address_coins

        def some(whose: str, after: Any, limit: int, **more: Any) -> Any:
            return coins(whose, after, min(limit, most), **more)

        self.patch(self.world.node.view, "address_coins", some)

    def gift(self, to: str, number: int) -> Transaction:
        genesis, giver = self.world.node.genesis, self.world.node.wallets[0]
        owned = [at for at, output in genesis.coins() if output.address == address(giver)][number]
        return pay(genesis, [(owned, 10 * COIN, giver)], [(to, 9 * COIN)])

    def spend_coin(self, outpoint: Outpoint, owner: Any) -> None:
        tx = pay(self.world.node.genesis, [(outpoint, 9 * COIN, owner)], [(self.shop, 9 * COIN - FEE)])
        self.world.node.integration.process_transaction(tx)

    def coins(self, whose: str) -> list[Outpoint]:
        return [at for at, _ in self.world.node.store.address_coins(whose, None, 500, spent=False)[0]]

    def before(self, request: str, nth: int, do: Callable[[], None]) -> None:
        """``do()`` right before the node hears the nth request of that type."""
        handle, heard = self.world.node.handler.handle_message, [0]

        def count(client: Any, message: Any) -> None:
            if type(message).__name__ == request:
                heard[0] += 1
                if heard[0] == nth:
                    do()
            handle(client, message)

        self.patch(self.world.node.handler, "handle_message", count)

    def begin_anew(self, client: WalletClient) -> None:
        client.watches._place.lose()
        self.world.cut()
        self.world.run(5)
        self.assertTrue(client.is_current)


class Pages(PageCase):
    def test_an_outpoint_asked_for_while_its_address_is_read(self) -> None:
        """It does not exist yet, and its address' later page shows it: both are told that it has come, each once."""
        self.read_in_pages(1)
        client, mine = self.world.client(), address(self.mine)
        first = str(min(self.coins(mine)))
        tx = next(tx for tx in (self.gift(mine, number) for number in range(8)) if str(tx.output_outpoint(0)) > first)
        self.before("GetAddressUTXOs", 2, lambda: self.world.node.view.submit(tx))
        ears = [Ear(), Ear()]
        whole = client.watch(ears[0].heard.append, addresses=[mine])
        named = client.watch(ears[1].heard.append, outpoints=[tx.output_outpoint(0)])
        self.world.run(2)
        self.successResultOf(whole)
        self.successResultOf(named)
        come = (str(tx.output_outpoint(0)), None, "Unspent")
        self.assertEqual(([each for each in ears[0].take() if each[0] == come[0]], ears[1].take()), ([come], [come]))

    def test_what_is_shown_further_on_is_forgotten_again(self) -> None:
        """Once the changes up to there have come, whatever the log was in which something was shown before."""
        self.read_in_pages(1)
        client, mine = self.world.client(), address(self.mine)
        first = str(min(self.coins(mine)))
        gifts = [tx for tx in (self.gift(mine, number) for number in range(8)) if str(tx.output_outpoint(0)) > first]
        client.watches._ahead_until = 1_000_000  # in the log of a node that was left for this one
        client.watches._begin_anew("another_node")
        self.before("GetAddressUTXOs", 2, lambda: self.world.node.view.submit(gifts[0]))
        skipped: list[int] = []
        asking = client.watch(lambda change: skipped.append(len(watch.ahead)), addresses=[mine])
        (watch,) = client.watches._watches
        self.world.run(2)
        self.successResultOf(asking)
        self.assertGreater(max(skipped), 0)
        self.world.node.view.submit(gifts[1])
        self.world.run(1)
        self.assertEqual(watch.ahead, {})

    def test_an_address_that_becomes_the_account_s_while_another_watch_reads_it(self) -> None:
        """What was spent since that page was read is not taken from it: the account reads its own."""
        client = self.opened()
        fresh = client.account._own.at(0, 1)
        for number in range(3):
            self.give(fresh, number)
        self.read_in_pages(1)

        def make_it_ours() -> None:
            self.assertEqual(client.account.new_address(), fresh)
            self.spend_coin(min(self.coins(fresh)), client.account._own.keys[fresh])

        self.before("GetAddressUTXOs", 2, make_it_ours)
        self.outcome(client.watch(lambda change: None, addresses=[fresh]))
        self.world.run(3)
        self.assertEqual(self.balance(client), TOTAL + 2 * 9 * COIN)

    def test_a_coin_that_is_spent_between_the_pages_of_a_reset(self) -> None:
        """Shown to who named it, and gone from the page of its address: the account asks what became of it."""
        client = self.opened()
        coin = self.coins(address(self.mine))[0]
        ear = Ear()
        self.outcome(client.watch(ear.heard.append, outpoints=[coin]))
        self.world.run(0.5)
        self.patch(limits, "FILTER", 1)  # outpoints come before addresses
        self.before("UTXOSubscribe", 2, lambda: self.spend_coin(coin, self.mine))
        self.begin_anew(client)
        self.assertEqual(ear.take()[-1], (str(coin), "SpentPending", "SpentFinalized"))
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)


class TooMany(PageCase):
    """Addresses with more coins than are read."""

    def setUp(self) -> None:
        super().setUp()
        self.read_in_pages(2)

    def test_for_another_watch_of_it(self) -> None:
        """Who hears of it already goes on hearing, is refused nothing and asks for nothing again, nor after a reset."""
        client = self.opened()
        self.patch(reading, "COINS", 1)
        watch = self.outcome(client.watch(lambda change: None, addresses=[address(self.mine)]))
        self.world.run(1)
        self.assertIn("too many coins", str(watch.refusal))
        watch.stop()
        asked = self.asked("GetAddressUTXOs")
        mine = client.account._watching
        self.assertEqual((self.balance(client), self.balance(client)), (TOTAL, TOTAL))
        self.assertEqual((mine.untaken, mine.refusal, asked), (set(), None, []))
        self.patch(reading, "COINS", 200_000)
        self.before("UTXOSubscribe", 1, self.spend)
        self.begin_anew(client)
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)

    def test_of_all_addresses_together(self) -> None:
        """Only so many are held at once: what is over is read as soon as the others were told."""
        for number in range(4):
            self.world.node.integration.process_transaction(self.gift(address(key(70)), number))
        self.patch(reading, "COINS", 6)
        client, both = self.world.client(), {address(self.mine), address(key(70))}
        ear = Ear()
        held: list[int] = []
        shown_by = watching.shown_by

        async def note(*arguments: Any) -> Any:
            coins, unread = await shown_by(*arguments)
            held.append(len(coins))
            return coins, unread

        self.patch(watching, "shown_by", note)
        watch = self.outcome(client.watch(ear.heard.append, addresses=both))
        self.world.run(1)
        self.assertEqual((watch.begun, len(ear.take()), self.world.connections), (both, 8, 1))
        self.assertEqual((watch.refusal, len(held)), (None, 2))

    def test_for_a_while_after_a_reset(self) -> None:
        """Somebody pays until it can be read: what was spent meanwhile is in no balance."""
        client = self.opened()
        self.patch(reading, "COINS", 1)
        self.patch(limits, "FILTER", 2)
        self.begin_anew(client)
        self.assertEqual(client.account._watching.begun, set())
        for _ in range(2):
            self.spend()
        self.world.run(3)
        self.patch(reading, "COINS", 200_000)
        self.assertEqual(self.balance(client), TOTAL - 2 * 9 * COIN)

    def test_for_a_while_and_then_nobody_says_what_became_of_its_coins(self) -> None:
        """As long as that is not known there is no balance: what was told before is not what there is."""
        client = self.opened()
        self.patch(reading, "COINS", 1)
        self.patch(limits, "FILTER", 2)
        self.begin_anew(client)
        for _ in range(2):
            self.spend()
        self.world.run(3)
        self.patch(reading, "COINS", 200_000)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] != "UTXOStateResponse":
                return message
            return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}

        self.world.bend = bend
        balance = client.balance()
        self.world.run(3)
        self.failureResultOf(balance, ConnectionGone)
        self.world.bend = lambda message: message
        self.world.run(5)
        self.assertEqual(self.balance(client), TOTAL - 2 * 9 * COIN)

    def test_and_a_coin_of_it_that_somebody_names(self) -> None:
        """Its own watch hears of it; who waits for the address is told nothing that it would hear no more of."""
        self.patch(reading, "COINS", 1)
        coin = self.coins(address(self.mine))[0]
        client = self.world.client()
        self.world.refuses = True
        self.world.cut()
        ears = [Ear(), Ear()]
        whole = client.watch(ears[0].heard.append, addresses=[address(self.mine)])
        named = client.watch(ears[1].heard.append, outpoints=[coin])
        self.world.refuses = False
        self.world.run(3)
        self.successResultOf(named)
        watch = self.successResultOf(whole)
        self.assertEqual((watch.begun, ears[0].take()), (set(), []))
        self.spend_coin(coin, self.mine)
        self.world.run(1)
        self.assertEqual(ears[1].take()[-1][-1], "SpentFinalized")
        self.patch(reading, "COINS", 200_000)
        self.world.run(REFUSED + 5)  # it is asked for again, on the same connection
        self.assertNotIn(str(coin), [each[0] for each in ears[0].take()])
        self.assertEqual((watch.begun, self.world.connections), ({address(self.mine)}, 2))


class Stale(PageCase):
    """An address that cannot be read for a while after a reset, of which a coin is spent: when it can, that is told."""

    def setUp(self) -> None:
        super().setUp()
        self.read_in_pages(2)
        self.client = self.world.client()
        self.ear = Ear()
        asking = self.client.watch(self.ear.heard.append, addresses=[address(self.mine)])
        self.world.run(1)
        self.watched = self.successResultOf(asking)
        self.coin = self.coins(address(self.mine))[0]

    def reset(self) -> None:
        self.patch(reading, "COINS", 1)
        self.begin_anew(self.client)
        self.assertEqual(self.watched.begun, set())

    def spend_it(self) -> None:
        self.spend_coin(self.coin, self.mine)
        self.world.run(3)
        self.ear.take()
        self.patch(reading, "COINS", 200_000)

    def assert_told(self, *told: tuple[str, str]) -> None:
        self.world.run(2 * REFUSED + 100)
        self.assertEqual((self.watched.begun, self.watched.stale), ({address(self.mine)}, set()))
        self.assertEqual(self.ear.take(), [(str(self.coin), *each) for each in told])

    def test_cut_before_it_is_told(self) -> None:
        """The connection goes when it is asked for, or when the spender is: the next asks again, without a reset."""
        for request in ("UTXOStateQuery", "GetTransaction"):
            self.setUp()
            self.reset()
            self.spend_it()
            self.before(request, 1, lambda: [each.abort() for each in self.world._servers if each.is_open])
            self.assert_told(("Unspent", "SpentFinalized"))

    def test_busy_when_it_is_asked(self) -> None:
        """The node cannot say: it is asked again."""
        self.reset()
        self.spend_it()
        busy: list[str] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] != "UTXOStateResponse" or busy:
                return message
            busy.append("once")
            return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}

        self.world.bend = bend
        self.assert_told(("Unspent", "SpentFinalized"))
        self.assertEqual(busy, ["once"])

    def test_beside_what_is_refused(self) -> None:
        """Taken with a page that was not, which is asked for again and again: it does not wait for that."""
        self.patch(limits, "FILTER", 1)
        other = max(address(wallet) for wallet in self.world.node.wallets)
        self.assertLess(address(self.mine), other)
        self.reset()
        self.spend_it()
        self.refuse(other, ErrorCode.BUSY)
        self.client.watches.extend(self.client.connection, self.watched, [other])
        self.assert_told(("Unspent", "SpentFinalized"))

    def test_confirmed_before_it_can_be_read(self) -> None:
        """Told that it is spent when it was asked for, it is told its block too."""
        self.before("UTXOSubscribe", 1, lambda: self.spend_coin(self.coin, self.mine))
        self.reset()
        self.assertEqual(self.ear.take()[-1], (str(self.coin), "Unspent", "SpentFinalized"))
        self.world.node.make_block()
        self.world.run(3)
        self.patch(reading, "COINS", 200_000)
        self.assert_told(("SpentFinalized", "Confirmed"))


STORIES = 150
STEPS = ["watch", "watch", "more", "stop", "move", "move", "cut", "away", "anew", *["meanwhile"] * 4]
MEANWHILE = ["cut", "anew", "move", "move", "move", "watch", "more", "stop"]
SHOWN = ("AddressUTXOs", "UTXOSubscribed", "TransactionInfo", "UTXOStateResponse", "UTXOStateNotification")
RANK = [None, "Unspent", "Locked", "SpentPending", "SpentFinalized", "Confirmed"]


class Whatever(PageCase):
    """Watches that overlap, in pages of a coin or two, while coins move and connections go."""

    def test_every_watch_ends_with_the_truth(self) -> None:
        """No coin is told spent that is not, or unspent that is; none goes back, none is told twice, none left out."""
        self.patch(limits, "QUERY", 2)
        for seed in range(STORIES):
            size = 2 if seed % 2 else 1_000

            def pages(items: Any, size: int = size) -> list[list[Any]]:
                every = sorted(items, key=str)
                return [every[start : start + size] for start in range(0, len(every), size)]

            self.patch(resuming, "pages", pages)
            self.patch(watching, "pages", pages)
            self.tell(seed)

    def tell(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World(wallets=2, coins=8)
        self.owners = [*self.world.node.wallets, key(70), key(71)]
        coins, most = self.world.node.view.address_coins, self.chance.choice([1, 2, 2, 500])
        self.patch(reading, "PAGE", most)
        self.world.node.view.address_coins = lambda whose, after, limit, **more: coins(
            whose, after, min(limit, most), **more
        )
        self.watchers: list[tuple[Any, list[Any]]] = []
        self.meanwhile: list[str] = []
        self.lost = 0
        self.world.bend = self.bend
        client = self.world.client()
        for _ in range(self.chance.randrange(8, 36)):
            self.step(client, self.chance.choice(STEPS))
            if self.chance.random() < 0.4:
                self.world.run(self.chance.choice([0, 0.1, 0.5, 1]))
        self.meanwhile.clear()
        self.world.run(8)
        self.move()
        self.world.run(3)
        connections = self.world.connections
        for asking, heard in self.watchers:
            watch = self.successResultOf(asking)
            if not watch.is_stopped:
                self.judge(watch, heard, f"story {seed}, {watch.items}")
        self.world.run(5)
        self.assertEqual(self.world.connections, connections, seed)
        client.stopService()
        self.world.run(0.3)

    def bend(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if self.world.connections == self.lost:
            return None
        if self.meanwhile and message["type"] in SHOWN and self.chance.random() < 0.4:
            what = self.meanwhile.pop()
            clock = self.world.node.clock if what == "move" else self.world.clock  # a coin moves between two messages
            clock.callLater(0, self.step, None, what)
            if what == "cut":
                self.lost = self.world.connections
                return None
        return message

    def step(self, client: WalletClient | None, what: str) -> None:
        """``client``: None while a message is on its way."""
        self.of = client or self.of
        chance, live = self.chance, [each for each in map(self.taken, self.watchers) if each is not None]
        match what:
            case "watch":
                addresses = [address(each) for each in chance.sample(self.owners, chance.choice([0, 1, 1, 2]))]
                known = [coin for owner in self.owners for coin in self.coins(address(owner))]
                heard: list[Any] = []
                outpoints = chance.sample(known, chance.choice([0, 0, 1, 2]))
                watching = self.of.watch(heard.append, addresses=addresses, outpoints=outpoints)
                self.watchers.append((watching, heard))
            case "more" if live:
                watch, fresh = chance.choice(live), address(chance.choice(self.owners))
                if fresh not in watch.addresses:
                    self.of.watches.extend(self.of.connection, watch, [fresh])
            case "stop" if len(live) > 1:
                chance.choice(live).stop()
            case "move":
                self.move()
            case "meanwhile":
                self.meanwhile.append(chance.choice(MEANWHILE))
            case "anew" | "cut" | "away":
                if what == "anew":
                    self.of.watches._place.lose()
                for server in self.world._servers:
                    if server.is_open:
                        server.abort()
                if what == "away":
                    self.move()

    def taken(self, watcher: tuple[Any, list[Any]]) -> Watch | None:
        asking, _ = watcher
        return asking.result if asking.called and not asking.result.is_stopped else None

    def move(self) -> None:
        """Somebody pays somebody, and himself."""
        owner = self.chance.choice(self.owners)
        coins, _ = self.world.node.store.address_coins(address(owner), None, 500, spent=False)
        if coins:
            outpoint, coin = self.chance.choice(coins)
            half = coin.output.amount // 2
            to = [address(self.chance.choice(self.owners)) for _ in range(2)]
            outputs = [(to[0], half - FEE), (to[1], coin.output.amount - half)]
            tx = pay(self.world.node.genesis, [(outpoint, coin.output.amount, owner)], outputs)
            self.world.node.integration.process_transaction(tx)

    def judge(self, watch: Watch, heard: list[Any], story: str) -> None:
        self.assertEqual((watch.begun, watch.stale), (watch.items, set()), story)
        told: dict[Outpoint, str] = {}
        for change in heard:
            assert isinstance(change, Change)
            new, before = kind(change.new_state), told.get(change.outpoint)
            if before is not None:
                self.assertEqual((change.old_state and kind(change.old_state)), before, story)
            self.assertGreater(RANK.index(new), RANK.index(before), story)
            told[change.outpoint] = new
        owned = {coin: address(owner) for owner in self.owners for coin in self.coins(address(owner))}
        free = {coin for coin, owner in owned.items() if owner in watch.addresses or coin in watch.outpoints}
        self.assertEqual({coin for coin, state in told.items() if state == "Unspent"}, free, story)
        self.assertLessEqual(set(told.values()), {"Unspent", "SpentFinalized"}, story)
        self.assertLessEqual(watch.outpoints, told.keys(), story)
