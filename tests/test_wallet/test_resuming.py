"""Subscriptions that go on: whatever happens, a watch hears each transition once, in order, or an explicit reset."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address, key
from tests.test_wallet.ear import Resuming
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.model.utxo_state import Confirmed
from timeproto.wallet import client as client_module
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.resuming import ANEW, LEASE_MS, LONGEST, PATIENCE, RENEWED, Place
from timeproto.wallet.watch import Change, Watch
from timeproto.wire.messages import Cursor


class OneNode(Resuming):
    """The same node again."""

    def test_it_goes_on_where_it_was(self) -> None:
        """No snapshot, no reset: the changes since, with their places in the log, and then live."""
        client, ear = self.watching(0)
        ear.take()
        asked = self.asked("UTXOSubscribe")
        self.away(lambda: self.pay(0))
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual(client.cursor, ear.changes[-1].cursor)
        self.assertEqual([change.cursor is None for change in ear.changes], [False] * 8)
        positions = [change.cursor.position for change in ear.changes if change.cursor is not None]
        self.assertEqual(positions, sorted(set(positions)))
        self.assertEqual(ear.take(), self.steps(0) + self.steps(1))
        (request,) = asked
        self.assertIsNotNone(request.since)
        self.assertIsNotNone(request.owner.filter)  # the node has kept it
        self.assertEqual((request.addresses, request.token), ((), None))

    def test_a_node_that_knows_tokens_only(self) -> None:
        """The same story; the lease is that of whoever has the token."""
        self.patch(client_module.WalletClientProtocol, "knows_owners", False)
        _, ear = self.watching(0)
        ear.take()
        asked = self.asked("UTXOSubscribe")
        self.away(lambda: self.pay(0))
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps(0) + self.steps(1))
        (request,) = asked
        self.assertIsNotNone(request.token)
        self.assertEqual((request.addresses, request.owner), ((), None))

    def test_a_node_that_has_forgotten_the_lease(self) -> None:
        """After a power cut the lease is gone, and the cursor is worth all it was."""
        _, ear = self.watching(0)
        ear.take()
        self.world.refuses = True
        self.world.cut()
        self.pay(0)
        self.world.restart()
        asked = self.asked("UTXOSubscribe")
        self.world.refuses = False
        self.world.run(3)
        self.assertEqual(ear.take(), self.steps())
        self.assertEqual([(each.owner.filter is None, len(each.addresses)) for each in asked], [(False, 0), (True, 1)])
        self.assertEqual({each.since for each in asked}, {asked[0].since})

    def test_more_items_than_one_request_may_name(self) -> None:
        """Without a lease the filter is named again page by page, and begins as a whole."""
        self.patch(limits, "FILTER", 2)
        client = self.world.client()
        ear = self.watch(client, 0, 1, 2, outpoints=[self.coin(0), self.coin(1)])
        self.assertEqual(len(ear.take()), 12)
        self.world.refuses = True
        self.world.cut()
        self.world.restart()
        self.pay(0)
        asked = self.asked("UTXOSubscribe")
        self.world.refuses = False
        self.world.run(3)
        self.assertEqual([each.hold for each in asked], [False, True, True, False])
        self.assertEqual([each.since is None for each in asked], [False, True, True, False])
        *spent, change = self.steps()
        self.assertEqual(ear.take(), [*spent, (f"{self.payment().txid}:0", None, "Unspent"), change])

    def test_an_idle_wallet_does_not_fall_behind(self) -> None:
        """Watermarks move its cursor: however much happened that is not its business, it resumes."""
        _, ear = self.watching(2)
        ear.take()
        self.patch(limits, "REPLAY", 6)
        self.pay(0, 1, 2)
        self.world.run(limits.WATERMARK + 1)
        self.away(lambda: self.pay(3, to=2))
        self.assertEqual(ear.take(), [(f"{self.payment(3, to=2).txid}:0", None, "Unspent")])

    def test_too_much_was_missed(self) -> None:
        """The node says so: a reset, and then what became of each coin, as one change of it."""
        _, ear = self.watching(0)
        ear.take()
        self.patch(limits, "REPLAY", 3)
        self.away(lambda: self.pay(0))
        spent, change = str(self.coin()), f"{self.payment().txid}:1"
        self.assertEqual(
            ear.take(), ["too_long", (change, None, "Unspent"), (spent, "Unspent", "SpentFinalized")]
        )
        self.away(lambda: None)
        self.assertEqual(ear.take(), [])
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps(1))

    def test_a_node_that_lost_its_log(self) -> None:
        """Set up anew, its log does not go so far; what is proven spent stays spent, whatever it shows."""
        _, ear = self.watching(0)
        self.pay(0)
        self.world.run(0.5)
        ear.take()
        self.world.refuses = True
        self.world.cut()
        self.world.node = type(self.world.node)()
        self.world.restart()
        self.world.refuses = False
        self.world.run(3)
        self.assertEqual(ear.take(), ["ahead"])
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps(1))
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual(ear.take(), [])  # all of this it has told before

    def test_the_lease_is_renewed(self) -> None:
        """A wallet that stays for hours is asked to go on, and does, on one connection."""
        _, ear = self.watching(0)
        ear.take()
        asked = self.asked("UTXOSubscribe")
        self.world.run(LEASE_MS / 1000 * 1.6)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps())
        self.assertEqual([(each.addresses, each.since, each.ttl_ms) for each in asked], [((), None, LEASE_MS)] * 2)
        self.assertEqual(self.world.connections, 1)

    def test_renewals_that_a_node_asks_for_again_and_again(self) -> None:
        """One at a time, and no more than a lease can need; that they fail is written once for each connection."""
        lines: list[str] = []
        self.patch(Place, "log", Logger(observer=lambda event: lines.append(str(formatEvent(event)))))
        client, _ = self.watching(0)
        asked = self.asked("UTXOSubscribe")

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] != "UTXOSubscribed":
                return message
            return {"type": "Error", "id": message["id"], "code": "busy", "message": "no"}

        for times in (1, 2):
            assert client.cursor is not None
            cursor = {"node": client.cursor.node, "position": client.cursor.position}
            notice = {"type": "UTXOSubscriptionNotice", "subscriber_id": "wallet", "event": "expiring", "in_ms": 1}
            self.world.bend = bend
            asked.clear()
            for _ in range(3):
                for _ in range(100):
                    self.world.say({**notice, "cursor": cursor})
                self.world.run(RENEWED + 0.2)
            self.assertEqual((len(asked), len(lines)), (3, times))
            self.world.bend = lambda message: message
            self.away(lambda: None)

    def test_a_lease_that_ends_all_the_same(self) -> None:
        """Its renewal is lost on the way: the node says that it is over, and the next connection misses nothing."""
        _, ear = self.watching(0)
        ear.take()
        self.world.bend = lambda message: None if message["type"] == "UTXOSubscriptionNotice" and message[
            "event"
        ] == "expiring" else message
        self.world.run(LEASE_MS / 1000 - 2)
        self.world.run(2)
        self.pay(0)
        self.world.run(3)
        self.assertEqual(ear.take(), self.steps())
        self.assertEqual(self.world.connections, 2)

    def test_a_replay_that_never_ends(self) -> None:
        """After a time without a word the node is left, and the next one is asked for everything."""
        client, ear = self.watching(0)
        ear.take()
        self.world.bend = lambda message: None if message["type"] == "UTXOWatermark" else message
        self.away(lambda: self.pay(0))
        self.assertEqual(ear.take(), self.steps())
        self.assertFalse(client.is_current)
        self.world.run(PATIENCE)
        self.assertEqual(ear.take(), ["unchecked"])
        self.assertTrue(client.is_current)

    def test_a_replay_that_goes_on_for_ever(self) -> None:
        """Word by word a node may keep a wallet waiting for a while, and then no longer."""
        client, ear = self.watching(0)
        ear.take()
        said: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateNotification":
                said.append(message)
            return None if message["type"] == "UTXOWatermark" and self.world.connections == 2 else message

        self.world.bend = bend
        self.away(lambda: self.pay(0))
        self.assertEqual(ear.take(), self.steps())
        for _ in range(int(LONGEST / PATIENCE) * 2):
            self.assertFalse(client.is_current)
            self.world.run(PATIENCE / 2)
            self.world.say(said[0])
        self.world.run(PATIENCE)
        self.assertEqual(ear.take(), ["unchecked"])
        self.assertTrue(client.is_current)

    def test_a_replay_that_is_cut(self) -> None:
        """It goes on after what was told of it."""
        self.patch(limits, "REPLAY_TURN", 1)
        self.patch(limits, "REPLAY_PAGE", 1)
        _, ear = self.watching(0)
        ear.take()
        told: list[int] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "UTXOStateNotification":
                told.append(message["cursor"]["position"])
                if self.world.connections < 4 and len(told) % 2 == 0:
                    self.world._servers[-1].abort()
            return message

        self.world.bend = bend
        self.away(lambda: self.pay(0))
        self.world.run(3)
        self.assertEqual(ear.take(), self.steps())
        self.assertEqual(self.world.connections, 4)
        self.assertGreater(len(told), len(set(told)))  # what was lost on the way came again


class Untrue(Resuming):
    """What a node says of its own log."""

    def test_a_node_that_speaks_in_the_name_of_another(self) -> None:
        """It is left, whatever it is that it says so: it would lead the wallet astray in the log of that one."""
        for what in ("UTXOSubscribed", "UTXOStateNotification", "UTXOWatermark", "UTXOSubscriptionNotice"):
            client, ear = self.watching(0)
            self.assertEqual(len(ear.take()), 4)
            known, place, connections = self.world.connections, client.cursor, []

            def bend(message: dict[str, Any], what: str = what, known: int = known) -> dict[str, Any]:
                if message["type"] == what and self.world.connections == known:
                    message["cursor"]["node"] = key(2).public_hex
                return message

            self.world.bend = bend
            told = {"cursor": {"node": place.node, "position": place.position + 100}}
            if what == "UTXOSubscribed":
                client.watch(connections.append, addresses=[address(self.world.node.wallets[1])])
            elif what == "UTXOStateNotification":
                self.pay(0)
            elif what == "UTXOWatermark":
                self.world.say({"type": what, "height": 1, **told})
            else:
                self.world.say({"type": what, "subscriber_id": "wallet", "event": "expiring", "in_ms": 1, **told})
            self.world.run(3)
            self.assertEqual((self.world.connections, client.is_current), (known + 1, True))
            self.assertEqual(client.cursor.node, place.node)
            client.stopService()
            self.world.run(1)

    def test_a_node_without_cursors(self) -> None:
        """It is asked for nothing that it does not know; after a reconnect it is a reset."""
        self.patch(client_module.WalletClientProtocol, "knows_cursors", False)
        asked = self.asked("UTXOSubscribe")
        _, ear = self.watching(0)
        ear.take()
        self.away(lambda: self.pay(0))
        spent, change = str(self.coin()), f"{self.payment().txid}:1"
        self.assertEqual(
            ear.take(), ["no_cursors", (change, None, "Unspent"), (spent, "Unspent", "SpentFinalized")]
        )
        self.assertFalse(any(each.knows_cursors for each in asked))

    def test_a_change_that_is_told_twice(self) -> None:
        """Once is told on; and since a node that repeats itself may leave out as well, its place is worth nothing."""
        _, ear = self.watching(0)
        ear.take()
        said: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOStateNotification":
                said.append(message)
            return message

        self.world.bend = bend
        self.pay(0)
        self.world.run(0.2)
        for message in list(said):
            self.world.say(message)
        self.world.run(0.2)
        self.assertEqual(ear.take(), self.steps())
        self.away(lambda: None)
        self.assertEqual(ear.take(), ["unchecked"])

    def test_a_lie_is_made_up_for(self) -> None:
        """A change without its proof is not told; on the next connection the coin's state is."""
        _, ear = self.watching(0)
        ear.take()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOStateNotification":
                message["output"]["amount"] += 1 if message["notification"]["old_state"] is None else 0
            return message

        self.world.bend = bend
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps()[:3])
        self.world.bend = lambda message: message
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps(1))
        self.away(lambda: None)
        self.assertEqual(ear.take(), ["unchecked", self.steps()[3]])

    def test_what_could_not_be_checked_comes_again(self) -> None:
        """A node too busy to be asked is left; the changes after the unchecked one wait for their turn too."""
        _, ear = self.watching(1)
        ear.take()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo" and self.world.connections <= 2:
                return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}
            return message

        self.world.bend = bend
        self.pay(0, 1)
        self.world.run(3 * ASK_AGAIN)
        self.assertEqual(
            ear.take(), [(f"{self.payment(number).txid}:0", None, "Unspent") for number in (0, 1)]
        )
        self.assertEqual(self.world.connections, 3)


class Places(SynchronousTestCase):
    """The place itself."""

    def test_it_moves_forward_only(self) -> None:
        """A word that leads back, or to another node, changes nothing."""
        place = Place(None)
        self.assertIsNone(place.cursor)
        place.reached(Cursor("aa" * 32, 5))
        for position, node in ((4, "aa"), (5, "aa"), (9, "bb")):
            self.assertFalse(place.is_after(Cursor(node * 32, position)))
            place.reached(Cursor(node * 32, position))
        self.assertEqual(place.cursor, Cursor("aa" * 32, 5))

    def test_what_is_lost_stays_lost_until_all_is_shown_anew(self) -> None:
        """Neither progress nor the end of a snapshot in which something was lost makes it whole."""
        place = Place(Clock())
        place.begin()
        place.reached(Cursor("aa" * 32, 5))
        self.assertIsNone(place.cursor)
        place.lose()
        place.whole()
        place.reached(Cursor("aa" * 32, 6))
        self.assertIsNone(place.cursor)
        place.begin()
        place.reached(Cursor("aa" * 32, 1))
        place.whole()
        self.assertEqual(place.cursor, Cursor("aa" * 32, 1))

    def test_how_long_something_may_be_missing(self) -> None:
        """From the first that was lost, whatever is lost after it; and not once all is shown anew."""
        clock = Clock()
        place = Place(clock)
        place.lose()
        clock.advance(ANEW - 1)
        place.lose()
        self.assertFalse(place.is_to_be_left)
        clock.advance(1)
        self.assertTrue(place.is_to_be_left)
        place.begin()
        self.assertFalse(place.is_to_be_left)

    def test_a_watch_remembers_ends_within_a_bound(self) -> None:
        """Confirmed coins are not told again, and the oldest is forgotten when there are too many."""
        world = World(coins=2)
        coins = list(world.node.genesis.coins())[:2]
        heard: list[Change] = []
        watch = Watch(frozenset([coins[0][1].address]), frozenset(), heard.append, str, None, str, lambda *_: None)
        with mock.patch("timeproto.wallet.watch.ENDED", 1):
            for outpoint, output in coins * 2:
                watch.show(outpoint, output, Confirmed("ab" * 32, 1, 1), True)
        self.assertEqual([change.outpoint for change in heard], [coins[0][0], coins[1][0], coins[0][0], coins[1][0]])
        watch.show(*coins[1], Confirmed("ab" * 32, 1, 1), True)
        self.assertEqual((len(heard), watch.told), (4, {}))
