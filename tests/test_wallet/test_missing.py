"""Coins that a node keeps to itself: another is asked what it shows of them, and the first is left."""

from __future__ import annotations

from typing import Any
from unittest import mock

import msgspec
from twisted.internet.defer import Deferred

from tests.alone_node import Node
from tests.cluster import COIN, address
from tests.test_wallet.second_nodes import Case
from tests.test_wallet.world import Elsewhere
from timeproto.wallet import client as client_module
from timeproto.wallet import second as second_module
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.missing import PAGES
from timeproto.wallet.payment import OVERDUE
from timeproto.wallet.second import GRACE, LOOK, UNREACHED
from timeproto.wire import messages

SOON = OVERDUE + 3 * ASK_AGAIN


class Coins(Case):
    """What another one shows of what is watched."""

    def look(self) -> None:
        self.world.run(LOOK + ASK_AGAIN)

    def grace(self) -> None:
        self.world.run(GRACE + ASK_AGAIN)

    def test_nothing_is_kept_back(self) -> None:
        """It is asked now and then, over a connection that does not stay, and the first is kept."""
        _, ear = self.watching(0, 1)
        self.pay(0, 1)
        self.world.run(5)
        ear.take()
        self.world.run(5 * LOOK)
        self.assertEqual((self.world.connections, self.asked_elsewhere()), (1, 5))
        self.assertEqual((ear.take(), self.warned), ([], []))
        self.assertEqual([server.is_open for server in self.world.elsewhere.servers], [False] * 5)

    def test_nothing_is_watched(self) -> None:
        """Then nobody is asked for anything."""
        self.world.client()
        self.world.run(3 * LOOK)
        self.assertIsNone(self.world.elsewhere)

    def test_a_coin_that_is_not_told(self) -> None:
        """The first node is left, and the coin told by the next, proven."""
        self.keep_all_back()
        _, ear = self.watching(1)
        ear.take()
        self.pay(0)
        self.look()
        self.assertEqual((ear.take(), self.world.connections), ([], 1))
        self.grace()
        self.assertEqual(self.world.connections, 2)
        self.assertEqual(ear.take(), ["unchecked", (f"{self.payment(0).txid}:0", None, "Unspent")])
        why = f"the coin {self.payment(0).txid}:0 is Unspent, and it has told nothing of it"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])

    def test_a_coin_that_was_spent(self) -> None:
        """The same of a coin that is gone, by outpoint and by address."""
        self.keep_all_back()
        client = self.world.client()
        named: list[Any] = []
        self.outcome(client.watch(named.append, outpoints=[self.coin()]))
        ear = self.watch(client, 0)
        ear.take()
        self.pay(0)
        self.look()
        self.grace()
        self.assertIn((str(self.coin()), "Unspent", "SpentFinalized"), ear.take())
        self.assertEqual([type(change.new_state).__name__ for change in named], ["Unspent", "SpentFinalized"])

    def test_a_block_that_is_not_told(self) -> None:
        """A coin that is final as far as was told, and long in a block."""
        self.keep_back("never")
        _, ear = self.watching(0)
        self.pay(0)
        self.world.run(1)
        self.keep_all_back()
        self.world.node.make_block()
        ear.take()
        self.look()
        self.grace()
        self.assertIn((str(self.coin()), "SpentFinalized", "Confirmed"), ear.take())

    def test_what_is_told_a_little_later(self) -> None:
        """A node may take its time: what comes before the end of the grace is told as ever, by the first."""
        held: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if self.world.connections == 1 and message["type"] in ("UTXOStateNotification", "UTXOWatermark"):
                held.append(message)
                return None
            return message

        self.world.bend = bend
        _, ear = self.watching(1)
        ear.take()
        self.pay(0)
        self.look()
        self.world.bend = lambda message: message
        for message in held:
            self.world.say(message)
        self.grace()
        self.assertEqual((self.world.connections, self.warned), (1, []))
        self.assertEqual(ear.take(), [(f"{self.payment(0).txid}:0", None, "Unspent")])

    def test_a_coin_said_to_be_locked(self) -> None:
        """Nobody can prove a lock. If the first says so for two looks, and two others do not, it is left."""
        other, third = self.other_node(), Elsewhere(self.world, Node())
        third.address = "127.0.0.1:3"
        self.keep_back("never")
        _, ear = self.watching(0)
        ear.take()

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            told = message.get("notification", {}).get("new_state", {})
            return message if message["type"] != "UTXOStateNotification" or "Locked" in told else None

        self.world.bend = bend
        self.pay(0)
        self.look()
        self.grace()
        self.assertEqual((ear.take(), self.world.connections), ([(str(self.coin()), "Unspent", "Locked")], 1))
        self.world.run(2 * LOOK)
        self.assertEqual((self.world.connections, other.connections), (1, 3))
        self.world.another = lambda: third
        self.world.run(LOOK + GRACE)
        self.assertEqual(self.world.connections, 2)
        why = f"the coin {self.coin()} is Unspent, and it has told that it is Locked"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])

    def test_a_coin_that_is_locked_here_and_there(self) -> None:
        """By a payment without a quorum: nothing is kept back."""
        self.without_a_quorum()
        self.watching(0)
        self.pay(0)
        self.world.run(5 * LOOK)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_a_coin_that_is_moved_about(self) -> None:
        """It is spent, and the first says again and again that it is locked: that makes up for nothing."""
        self.keep_all_back()
        _, ear = self.watching(0)
        self.pay(0)
        self.world.run(1)
        self.world.bend = lambda message: message
        ear.take()
        for number in range(20):
            self.tell(1_000 + number, {"Locked": {"txid": f"{number:064x}", "locked_at": 1}})
            self.world.run(20)
        self.assertEqual(self.world.connections, 2)
        self.assertEqual([new for _, _, new in ear.take()[-2:]], ["SpentFinalized", "Unspent"][::-1])

    def test_a_line_that_never_ends(self) -> None:
        """The first tells what takes it long to prove, one after another: it is not waited for until that is over."""
        self.patch(second_module, "SETTLE", 20.0)
        self.keep_all_back()
        client, _ = self.watching(1)
        self.pay(0)
        self.world.run(LOOK + GRACE - ASK_AGAIN)
        waiting: Deferred[None] = Deferred()
        client.watches._line.append(lambda: _wait_for(waiting))
        self.world.run(20)
        self.assertEqual(self.world.connections, 1)
        self.world.run(4 * ASK_AGAIN)
        self.assertIn("takes too long to check", self.warned[-1])
        waiting.callback(None)
        self.world.run(5)
        self.assertEqual(self.world.connections, 2)

    def test_a_coin_named_that_was_never_told(self) -> None:
        """Spent before it could be seen: whoever names a coin is to be told that, too."""
        self.keep_all_back()
        kept, heard = self.world.bend, []
        first = self.world.connections + 1

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOSubscribed" and self.world.connections == first:
                message["states"] = []
            return kept(message)

        self.world.bend = bend
        client = self.world.client()
        self.pay(0)
        self.outcome(client.watch(heard.append, outpoints=[self.coin()]))
        self.look()
        self.grace()
        self.assertEqual([type(change.new_state).__name__ for change in heard], ["SpentFinalized"])
        self.world.run(3 * LOOK)
        self.assertEqual(self.world.connections, 2)

    def test_an_accomplice(self) -> None:
        """Every other time one is asked that shows nothing, or leads astray: it keeps the honest one from nothing."""
        astray = {"outpoint": {"txid": "ff" * 32, "vout": 2**32 - 1}, "state": "Unspent"}
        astray["output"] = {"amount": COIN, "address": address(self.world.node.wallets[2])}
        for shown in ({"states": []}, {"states": [], "more": True, "coins": [astray]}):
            self.setUp()
            self.patch(second_module, "LOOK", 10.0)
            self.patch(second_module, "GRACE", 2.0)
            self.keep_all_back()
            self.watching(1, 2)
            accomplice, other = (Elsewhere(self.world, self.world.node) for _ in range(2))
            accomplice.bend = lambda message, shown=shown: message | {
                name: value for name, value in shown.items() if name in message
            }
            self.taking_turns(accomplice, other)
            self.pay(0)
            with mock.patch("timeproto.limits.FILTER", 1), mock.patch("timeproto.wallet.missing.PAGES", 1):
                self.world.run(500)  # by then it is a chance of one to a million that the other was shown nothing
            self.assertEqual(self.world.connections, 2)

    def test_a_coin_that_is_locked_where_others_do_not_vote(self) -> None:
        """They would not have locked it, whatever they heard: that it is free there says nothing."""
        self.without_a_quorum()
        places = []
        for number in (2, 3):
            place = Elsewhere(self.world, Node(masternodes=4))
            place.node.replica.halt("tired")
            place.address = f"127.0.0.1:{number}"
            places.append(place)
        self.taking_turns(*places)
        self.watching(0)
        self.pay(0)
        self.world.run(4 * LOOK)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_a_second_node_that_shows_what_it_cannot_prove(self) -> None:
        """It is the one that lies, and the first is kept."""
        self.world.another().bend = self.more_coins
        self.watching(1)
        self.look()
        self.grace()
        self.assertEqual(self.world.connections, 1)
        self.assertEqual([text.partition(" lies: ")[0] for text in self.warned], ["the node at 127.0.0.1:2"])

    def more_coins(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["type"] == "UTXOSubscribed":
            output = {"amount": COIN, "address": address(self.world.node.wallets[1])}
            coin = {"outpoint": {"txid": "ab" * 32, "vout": 0}, "state": "Unspent", "output": output}
            message["states"] = [*message["states"], coin]
        return message

    def test_a_second_node_that_is_behind(self) -> None:
        """It shows a coin that was spent so long ago that the watch has forgotten it: the first proves that."""
        self.patch(client_module.Watch, "differs", lambda watch, outpoint, state: outpoint not in watch.told)
        other = self.other_node()
        self.pay(0)
        self.watching(0)
        self.look()
        self.assertEqual(other.connections, 1)
        self.grace()
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_a_coin_spent_by_the_word_of_the_first(self) -> None:
        """It says, asked outright, that the coin is spent, and cannot prove it: it is left all the same."""
        self.keep_all_back()
        _, ear = self.watching(1)
        self.pay(0)
        kept = self.world.bend

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateResponse" and self.world.connections == 1:
                spent = {"SpentFinalized": {"txid": "ab" * 32, "finalized_at": 1, "votes": 1}}
                message["states"] = [each | {"state": spent} for each in message["states"]]
            return kept(message)

        self.world.bend = bend
        ear.take()
        self.look()
        self.grace()
        self.assertEqual(self.world.connections, 2)
        self.assertIn((f"{self.payment(0).txid}:0", None, "Unspent"), ear.take())

    def test_a_second_node_that_is_not_there(self) -> None:
        """It is asked again in time, and that is all."""
        self.world.another().refuses = True
        self.watching(1)
        self.world.run(3 * LOOK + 3 * ASK_AGAIN)
        self.assertLess(self.asked_elsewhere(), 3 * LOOK / UNREACHED * 2)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_a_second_node_that_does_not_answer(self) -> None:
        """It is given up, and asked again in time."""
        self.world.another().bend = lambda message: None if message["type"] == "UTXOSubscribed" else message
        self.watching(1)
        self.world.run(3 * LOOK)
        self.assertGreater(self.asked_elsewhere(), 1)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_another_connection_by_then(self) -> None:
        """What the last one had not told is nothing against the one that came after it."""
        self.keep_all_back()
        self.watching(1)
        self.pay(0)
        self.look()
        self.world.cut()
        self.world.run(3)
        self.assertEqual(self.world.connections, 2)
        self.grace()
        self.assertEqual((self.world.connections, self.warned), (2, []))

    def test_a_watch_that_was_stopped(self) -> None:
        """Nothing is missing of what nobody watches."""
        self.keep_all_back()
        client = self.world.client()
        watch = self.outcome(client.watch(lambda change: None, addresses=[address(self.world.node.wallets[1])]))
        self.pay(0)
        self.look()
        watch.stop()
        self.grace()
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_with_one_node(self) -> None:
        """There is nobody else to ask."""
        self.world.size = 1
        self.keep_all_back()
        client, _ = self.watching(1)
        client.submit(self.payment())
        self.world.run(2 * LOOK)
        self.assertIsNone(self.world.elsewhere)

    def test_a_client_that_is_stopped_meanwhile(self) -> None:
        """Stopped while another node is asked: it has stopped when that connection is gone too."""
        self.world.another().bend = lambda message: None if message["type"] == "UTXOSubscribed" else message
        client, _ = self.watching(1)
        self.world.run(LOOK + 1)
        self.assertTrue(self.world.elsewhere.servers[0].is_open)
        stopping = client.stopService()
        self.assertNoResult(stopping)
        self.world.run(0.2)
        self.successResultOf(stopping)
        self.assertFalse(self.world.elsewhere.servers[0].is_open)
        client.startService()
        self.world.run(2 * LOOK)
        self.assertGreater(self.asked_elsewhere(), 1)


class Pages(Case):
    """A wallet of any size is looked through, some of it at a time."""

    def looks(self, count: int) -> list[set[str]]:
        """What is found missing by each of so many looks, by an eye that was told nothing."""
        client = self.world.client()
        wallets = self.world.node.wallets
        watch = client.watches.add(
            lambda change: None, [address(each) for each in wallets], [self.coin()], lambda reason: None
        )
        watch.begun.update(watch.items)
        found = []
        for _ in range(count):
            missing = self.outcome(client.watches.comparison.look(client.belief, "a node"))
            found.append({str(each.coin.outpoint) for each in missing})
        return found

    def every(self) -> set[str]:
        return {str(outpoint) for outpoint, _ in self.world.node.genesis.coins()}

    def test_in_one_page(self) -> None:
        """All there is, in each look."""
        self.assertEqual(self.looks(2), [self.every()] * 2)

    def test_items_in_turn(self) -> None:
        """Two items a look: after two looks all were seen, and then it begins anew, in an order that is another."""
        with mock.patch("timeproto.limits.FILTER", 2), mock.patch("timeproto.wallet.missing.PAGES", 1):
            found = self.looks(40)
        for first, second in zip(found[::2], found[1::2], strict=True):
            self.assertEqual(first | second, self.every())
        self.assertGreater(len({frozenset(each) for each in found[::2]}), 1)

    def test_addresses_of_many_coins(self) -> None:
        """Where not all fits one answer they are paged through, a page after the other, and over several looks."""
        self.world.bend = lambda message: (
            message | ({"states": [], "more": True} if message["type"] == "UTXOSubscribed" else {})
        )
        pages: list[Any] = self.asked("GetAddressUTXOs")
        handle = self.world.node.handler.handle_message

        def handle_short(client: Any, message: Any) -> None:
            short = isinstance(message, messages.GetAddressUTXOs)
            handle(client, msgspec.structs.replace(message, limit=1) if short else message)

        self.patch(self.world.node.handler, "handle_message", handle_short)
        found = self.looks(40)
        self.assertEqual(set().union(*found), self.every())
        self.assertLessEqual(len(pages), 40 * PAGES)

    def test_told_coins_in_turn(self) -> None:
        """What was told is asked after in pages too."""
        client, _ = self.watching(0)
        self.keep_back("UTXOStateNotification", connections=9)
        for number in range(4):
            self.pay(number)
        with mock.patch("timeproto.limits.QUERY", 1), mock.patch("timeproto.wallet.missing.PAGES", 1):
            looks = [self.outcome(client.watches.comparison.look(client.belief, "a node")) for _ in range(4)]
        found = [{str(each.coin.outpoint) for each in missing} for missing in looks]
        spent = {str(self.coin(number)) for number in range(4)}
        self.assertEqual([len(each & spent) for each in found], [1, 1, 1, 1])
        self.assertEqual(set().union(*found) & spent, spent)


async def _wait_for(waiting: Deferred[None]) -> None:
    await waiting
