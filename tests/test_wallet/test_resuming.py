"""Subscriptions that go on: whatever happens, a watch hears each transition once, in order, or an explicit reset."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from unittest import mock

import attrs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.logs import Heard, judge
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.world import World
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.utxo_state import Confirmed, kind
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import client as client_module
from timeproto.wallet import watching
from timeproto.wallet.account import Account
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.purse import MemoryPurse
from timeproto.wallet.resuming import LEASE_MS, LONGEST, PATIENCE, Place
from timeproto.wallet.watch import Change, Watch
from timeproto.wire.messages import Cursor


class Ear:
    """What one watch was told: changes, and the reasons of resets."""

    def __init__(self) -> None:
        self.heard: Heard = []

    @property
    def changes(self) -> list[Change]:
        return [each for each in self.heard if isinstance(each, Change)]

    @property
    def resets(self) -> list[str]:
        return [each for each in self.heard if isinstance(each, str)]

    def take(self) -> list[Any]:
        """(outpoint, old state, new state) of each change, and the resets, in order; taken."""
        heard = [each if isinstance(each, str) else _short(each) for each in self.heard]
        self.heard.clear()
        return heard


def _short(change: Change) -> tuple[str, str | None, str]:
    old = None if change.old_state is None else kind(change.old_state)
    return str(change.outpoint), old, kind(change.new_state)


class Resuming(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(client_module, "back_off", lambda attempt: 0.3)
        self.requests: list[dict[str, Any]] = []
        self.refused: dict[str, ErrorCode] = {}

    def watching(self, *wallets: int, **more: Any) -> tuple[WalletClient, Ear]:
        client = self.world.client()
        return client, self.watch(client, *wallets, **more)

    def watch(self, client: WalletClient, *wallets: int, **more: Any) -> Ear:
        ear = Ear()
        addresses = [address(self.world.node.wallets[number]) for number in wallets]
        self.outcome(client.watch(ear.heard.append, on_reset=ear.heard.append, addresses=addresses, **more))
        self.world.run(0.2)
        return ear

    def away(self, meanwhile: Callable[[], None]) -> None:
        """What happens while the wallet is not there."""
        self.world.refuses = True
        self.world.cut()
        meanwhile()
        self.world.refuses = False
        self.world.run(3)

    def pay(self, *numbers: int, **more: Any) -> None:
        for number in numbers:
            self.world.node.integration.process_transaction(self.payment(number, **more))

    def asked(self, name: str) -> list[Any]:
        """Requests of this type that the node gets from now on."""
        found: list[Any] = []
        handle = self.world.node.handler.handle_message

        def note(client: Any, message: Any) -> None:
            if type(message).__name__ == name:
                found.append(message)
            handle(client, message)

        self.patch(self.world.node.handler, "handle_message", note)
        return found

    def steps(self, number: int = 0) -> list[Any]:
        """What there is to tell of a payment to somebody who watches the payer."""
        spent, change = str(self.coin(number)), f"{self.payment(number).txid}:1"
        return [
            (spent, "Unspent", "Locked"),
            (spent, "Locked", "SpentPending"),
            (spent, "SpentPending", "SpentFinalized"),
            (change, None, "Unspent"),
        ]


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


class Watchers(Resuming):
    """Several watches, which come and go."""

    def test_a_newcomer_costs_the_others_nothing(self) -> None:
        """It is shown what they were told long ago; they hear nothing twice."""
        client, first = self.watching(0)
        self.pay(0)
        self.world.run(0.5)
        first.take()
        second = self.watch(client, 0, outpoints=[self.coin()])
        self.assertEqual(first.take(), [])
        shown = second.take()
        self.assertEqual(len(shown), 5)
        self.assertIn((str(self.coin()), None, "SpentFinalized"), shown)
        self.pay(1)
        self.world.run(0.5)
        self.assertEqual((first.take(), second.take()), (self.steps(1), self.steps(1)))

    def test_one_that_comes_while_nobody_is_there(self) -> None:
        """On the next connection it is shown everything, though another one knows it all."""
        client, first = self.watching(0)
        first.take()
        second = Ear()
        self.away(
            lambda: self.successResultOf(
                client.watch(second.heard.append, addresses=[address(self.wallet)], on_reset=second.heard.append)
            )
        )
        self.assertEqual((first.take(), len(second.take())), ([], 4))
        self.away(lambda: self.pay(0))
        self.assertEqual((first.take(), second.take()), (self.steps(), self.steps()))

    def test_a_beginning_that_is_cut(self) -> None:
        """What a newcomer was not shown it is shown on the next connection, and nothing of it twice."""
        client = self.world.client()
        self.pay(0, to=2)
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.wallet)], on_reset=ear.heard.append)
        self.world.run(0.2)
        self.successResultOf(watch)
        self.assertEqual(ear.heard, [])  # one coin of it cannot be checked
        self.world.bend = lambda message: message
        self.away(lambda: self.pay(1, to=2))
        coins = [self.coin(2), self.coin(3), *(f"{self.payment(number, to=2).txid}:1" for number in (0, 1))]
        self.assertEqual(sorted(ear.take()), sorted((str(coin), None, "Unspent") for coin in coins))

    def test_one_that_the_node_is_too_slow_to_take(self) -> None:
        """Its request has no answer in time: the node is left, and the next connection is shown everything."""
        client, first = self.watching(0)
        first.take()
        self.mute()
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[1])])
        self.world.run(limits.REQUEST_TIME)
        self.failureResultOf(watch, ConnectionGone)
        self.assertFalse(client.is_current)
        self.world.run(1)
        self.assertTrue(client.is_current)
        self.assertEqual((first.take(), len(ear.take())), ([], 4))

    def test_an_account_that_the_node_is_too_slow_to_take(self) -> None:
        """It has no balance until its coins have been read: not one of nothing."""
        client = self.world.client()
        account = self.account_with_money(client)
        self.mute()
        opening = ensureDeferred(account.open())
        self.world.run(limits.REQUEST_TIME + 0.1)
        self.failureResultOf(opening, ConnectionGone)
        self.failureResultOf(ensureDeferred(account.open()), ConnectionGone)
        self.world.run(2 * ASK_AGAIN)
        self.successResultOf(ensureDeferred(account.open()))
        self.assertEqual(account.balance().total, COIN)

    def fill(self) -> None:
        """The node has no room for more."""

        def require_room(*_: Any) -> None:
            raise Refusal(ErrorCode.BUSY, "there is no room", retry_after_ms=10_000)

        self.patch(self.world.node.handler._subscriptions, "_require_room", require_room)

    def test_one_that_the_node_has_no_room_for(self) -> None:
        """The caller is told; payments and the other watch do not suffer, and the next connection asks for it again."""
        client, first = self.watching(0)
        first.take()
        room = self.world.node.handler._subscriptions._require_room
        self.fill()
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[1])])
        payment = client.submit(self.payment())
        self.world.run(20)
        self.assertIs(self.failureResultOf(watch, Refusal).value.code, ErrorCode.BUSY)
        self.assertIsNotNone(payment.proof)
        self.assertEqual((first.take(), self.world.connections, client.is_current), (self.steps(), 1, True))
        self.world.node.handler._subscriptions._require_room = room
        self.away(lambda: self.pay(1))
        self.assertEqual((first.take(), len(ear.take()), client.is_current), (self.steps(1), 6, True))

    def test_one_that_no_node_has_room_for(self) -> None:
        """Connection after connection it is refused, and the other watch hears all; with room it is taken up."""
        client, first = self.watching(0)
        first.take()
        self.refuse(1, ErrorCode.BUSY)
        ear = Ear()
        theirs = [address(self.world.node.wallets[1])]
        watch = client.watch(ear.heard.append, addresses=theirs, on_reset=ear.heard.append)
        self.world.run(0.2)
        self.failureResultOf(watch, Refusal)
        for number, code in enumerate((ErrorCode.BUSY, ErrorCode.OVER_LIMIT, ErrorCode.BUSY)):
            self.refuse(1, code)  # too many requests are over a limit too: that passes
            self.away(lambda number=number: self.pay(number))
            self.assertEqual((first.take(), ear.take(), client.is_current), (self.steps(number), [], True))
        self.refused.clear()
        self.away(lambda: None)
        self.assertEqual((first.take(), len(ear.take()), client.is_current), ([], 7, True))

    def test_one_of_two_that_no_node_has_room_for(self) -> None:
        """What a watch has begun is never held back by what it was refused, not even cut off while it is shown anew."""
        client = self.world.client()
        both = [address(self.world.node.wallets[number]) for number in (0, 1)]
        helper = self.outcome(client.watch(lambda change: None, addresses=both[:1]))
        self.world.run(0.2)
        self.refuse(1, ErrorCode.BUSY)
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=both, on_reset=ear.heard.append)
        self.world.run(0.2)
        self.failureResultOf(watch, Refusal)
        client._watches._place.lose()  # the next connection begins anew
        self.away(lambda: None)
        self.assertEqual(len(ear.take()), 4)  # what the helper asked for
        helper.stop()
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        client._watches._place.lose()
        self.away(lambda: self.pay(0))
        self.world.bend = lambda message: message
        self.away(lambda: None)
        ear.take()
        self.pay(1)
        self.world.run(1)
        self.assertEqual((ear.take(), client.is_current), (self.steps(1), True))

    def test_an_account_that_is_refused_again(self) -> None:
        """Whatever the reason of the second refusal, it is not open, and not of nothing, until its coins are read."""
        client = self.world.client()
        account = self.account_with_money(client)
        self.refuse(account.addresses[0], ErrorCode.BUSY)
        opening = ensureDeferred(account.open())
        self.world.run(0.2)
        self.failureResultOf(opening, Refusal)
        self.refuse(account.addresses[0], ErrorCode.OVER_LIMIT)
        self.away(lambda: None)
        self.failureResultOf(ensureDeferred(account.open()), ConnectionGone)
        self.assertFalse(account.is_open)
        self.refused.clear()
        self.away(lambda: None)
        self.successResultOf(ensureDeferred(account.open()))
        self.assertEqual(account.balance().total, COIN)

    def refuse(self, whom: int | str, code: ErrorCode) -> None:
        """The node refuses whoever wants to watch this address, with ``code``, until ``refused`` is cleared."""
        subscriptions = self.world.node.handler._subscriptions
        if not self.refused:
            room = subscriptions._require_room

            def require_room(feed: Any, subscription: Any, items: set[Any], taken: bool) -> None:
                for each in items & self.refused.keys():
                    raise Refusal(self.refused[each], "there is no room", limit="room")
                room(feed, subscription, items, taken)

            self.patch(subscriptions, "_require_room", require_room)
        self.refused[address(self.world.node.wallets[whom]) if isinstance(whom, int) else whom] = code

    def test_many_that_wait_when_the_connection_is_lost(self) -> None:
        """Each is told that it went away, however many there are, and the next connection takes all of them up."""
        client = self.world.client()
        self.mute()
        ears = [Ear() for _ in range(500)]
        mine = [address(self.world.node.wallets[0])]
        watches = [client.watch(ear.heard.append, addresses=mine, on_reset=ear.heard.append) for ear in ears]
        self.world.run(0.2)
        self.away(lambda: None)
        for watch in watches:
            self.failureResultOf(watch, ConnectionGone)
        self.assertEqual({len(ear.take()) for ear in ears}, {4})

    def test_an_account_that_the_node_has_no_room_for(self) -> None:
        """However often it is opened, it is not open: its coins have not been read."""
        account = Account(MemoryPurse("abandon " * 11 + "about"), self.world.client(), now=lambda: 0)
        self.fill()
        for error in (Refusal, ConnectionGone, ConnectionGone):
            opening = ensureDeferred(account.open())
            self.world.run(0.2)
            self.failureResultOf(opening, error)
            self.assertFalse(account.is_open)

    def test_an_account_opened_twice_at_once(self) -> None:
        """Neither has a balance before the coins are read."""
        account = self.account_with_money(self.world.client())
        both = [ensureDeferred(account.open()) for _ in range(2)]
        self.assertFalse(any(each.called for each in both))
        self.world.run(0.2)
        for each in both:
            self.successResultOf(each)
        self.assertEqual(account.balance().total, COIN)

    def test_an_account_beside_a_watch_without_room(self) -> None:
        """What the node refused somebody else says nothing about the account's own coins."""
        client = self.world.client()
        account = self.account_with_money(client)
        room = self.world.node.handler._subscriptions._require_room
        self.fill()
        refused = client.watch(print, addresses=[address(self.wallet)])
        self.world.run(0.2)
        self.failureResultOf(refused, Refusal)
        self.world.node.handler._subscriptions._require_room = room
        opening = ensureDeferred(account.open())
        self.world.run(0.2)
        self.successResultOf(opening)
        self.assertEqual(account.balance().total, COIN)

    def account_with_money(self, client: WalletClient) -> Account:
        account = Account(MemoryPurse("abandon " * 11 + "about"), client, now=lambda: 0)
        node = self.world.node
        node.integration.process_transaction(
            pay(node.genesis, [(self.coin(), 10 * COIN, self.wallet)], [(account.addresses[0], COIN)])
        )
        return account

    def mute(self) -> None:
        """The answer to the next subscription does not come."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] != "UTXOSubscribed":
                return message
            self.world.bend = lambda message: message
            return None

        self.world.bend = bend

    def test_what_nobody_watches_any_more_is_not_asked_for(self) -> None:
        """The node's filter would hold it: so the items are named anew."""
        client, kept = self.watching(0)
        ear = Ear()
        watch = self.outcome(client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[1])]))
        self.world.run(0.2)
        watch.stop()
        kept.take()
        asked = self.asked("UTXOSubscribe")
        self.away(lambda: self.pay(0))
        self.assertEqual(kept.take(), self.steps())
        (request,) = asked
        self.assertEqual((request.owner.filter, request.addresses), (None, (address(self.wallet),)))

    def test_a_watch_that_fails(self) -> None:
        """Its own fault: the others are told, and it is told again next time."""
        client = self.world.client()

        def fail(change: Change) -> None:
            raise RuntimeError("not ours")

        self.outcome(client.watch(fail, addresses=[address(self.wallet)]))
        ear = self.watch(client, 0)
        self.assertEqual(len(ear.take()), 4)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 8)

    def test_what_no_node_takes_is_not_asked_again(self) -> None:
        """Refused for good, and every later connection does without it."""
        client, ear = self.watching(0)
        ear.take()
        self.failureResultOf(client.watch(ear.heard.append, addresses=["TIME0nobody"]), Refusal)
        self.patch(limits, "FILTERS_CONNECTION", 1)
        refused = client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[1])])
        self.world.run(0.2)
        self.assertIs(self.failureResultOf(refused, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.away(lambda: self.pay(0))
        self.assertEqual(ear.take(), self.steps())
        self.assertTrue(client.is_current)

    def test_an_account_that_no_node_takes_has_no_balance(self) -> None:
        """Asked a second time it is refused a second time: unwatched addresses are not empty ones."""
        account = Account(MemoryPurse("abandon " * 11 + "about"), self.world.client(), now=lambda: 0)
        self.patch(limits, "FILTERS_CONNECTION", 0)
        for _ in range(2):
            opening = ensureDeferred(account.open())
            self.world.run(0.2)
            self.assertIs(self.failureResultOf(opening, Refusal).value.code, ErrorCode.OVER_LIMIT)
            self.assertFalse(account.is_open)

    def test_an_address_with_more_coins_than_one_reply_shows(self) -> None:
        """Read page by page while payments go on: each coin as it is, and then its changes from there."""
        self.patch(limits, "QUERY", 2)
        client = self.world.client()
        ear = Ear()
        paid: list[int] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed" and not paid:
                paid.append(0)
                self.pay(0)  # after the subscription began, before the coins are read
            return message

        self.world.bend = bend
        watch = client.watch(ear.heard.append, addresses=[address(self.wallet)], on_reset=ear.heard.append)
        self.world.run(0.5)
        self.successResultOf(watch)
        change = f"{self.payment().txid}:1"
        told = ear.take()
        self.assertEqual(sorted(outpoint for outpoint, _, _ in told).count(change), 1)
        self.assertEqual(told.count((change, None, "Unspent")), 1)
        self.away(lambda: self.pay(1))
        self.assertEqual(ear.take(), self.steps(1))


class Untrue(Resuming):
    """What a node says of its own log."""

    def test_another_nodes_place_means_nothing_here(self) -> None:
        """The first connection's cursors are of another node: the next one resets, and tells what has changed."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if "cursor" in message and self.world.connections == 1:
                message["cursor"]["node"] = key(2).public_hex
            return message

        self.world.bend = bend
        _, ear = self.watching(0)
        ear.take()
        self.away(lambda: self.pay(0))
        spent, change = str(self.coin()), f"{self.payment().txid}:1"
        self.assertEqual(
            ear.take(), ["another_node", (change, None, "Unspent"), (spent, "Unspent", "SpentFinalized")]
        )

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
        place = Place(None)
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

    def test_a_watch_remembers_ends_within_a_bound(self) -> None:
        """Confirmed coins are not told again, and the oldest is forgotten when there are too many."""
        world = World(coins=2)
        coins = list(world.node.genesis.coins())[:2]
        heard: list[Change] = []
        watch = Watch(frozenset(), frozenset(at for at, _ in coins), heard.append, str, None, str, lambda *_: None)
        with mock.patch("timeproto.wallet.watch.ENDED", 1):
            for outpoint, output in coins * 2:
                watch.show(outpoint, output, Confirmed("ab" * 32, 1, 1), True)
        self.assertEqual([change.outpoint for change in heard], [coins[0][0], coins[1][0], coins[0][0], coins[1][0]])
        watch.show(*coins[1], Confirmed("ab" * 32, 1, 1), True)
        self.assertEqual((len(heard), watch.told), (4, {}))


# -- whatever happens ------------------------------------------------------------------------------------


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
        known = len(self.client._watches._watches)
        self.client.watch(
            heard.append, addresses=addresses, outpoints=outpoints, on_reset=heard.append
        ).addErrback(lambda failure: failure.trap(ConnectionGone, Refusal))
        self.told.append(Told(self.client._watches._watches[known], heard))

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
        self.patch(watching, "BEHIND", 8)

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
