"""Watches that no node has taken yet: they wait for one, and nothing else depends on what becomes of them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.cluster import address
from tests.test_wallet.ear import Ear, Resuming
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.client import WalletClient
from timeproto.wallet.watch import Watch


class Waiting(Resuming):
    def test_one_that_comes_while_nobody_is_there(self) -> None:
        """It waits for a node, and is shown everything then, though another one knows it all."""
        client, first = self.watching(0)
        first.take()
        watch, second = self.come_while_away(client, 0)
        self.successResultOf(watch)
        self.assertEqual((first.take(), len(second.take())), ([], 4))
        self.away(lambda: self.pay(0))
        self.assertEqual((first.take(), second.take()), (self.steps(), self.steps()))

    def come_while_away(self, client: WalletClient, *wallets: int) -> tuple[Deferred[Watch], Ear]:
        """A watch begun where no node is there, which nobody has taken by then; and what it heard on the next one."""
        ear, waiting = Ear(), []
        wanted = [address(self.world.node.wallets[number]) for number in wallets]

        def watch() -> None:
            waiting.append(client.watch(ear.heard.append, addresses=wanted, on_reset=ear.heard.append))
            self.assertNoResult(waiting[0])

        self.away(watch)
        return waiting[0], ear

    def test_one_that_is_taken_with_another(self) -> None:
        """What it watches is asked for anew, for somebody else: then it has been taken too."""
        client, first = self.watching(0)
        client.watches._place.lose()
        watch, second = self.come_while_away(client, 0)
        self.successResultOf(watch)
        self.assertEqual((len(first.take()), len(second.take())), (5, 4))  # the first: and a reset

    def test_one_that_is_shown_with_another(self) -> None:
        """So much was missed that the node shows all there is: what it shows counts as taken, by whomever."""
        client = self.world.client()
        first = self.outcome(client.watch(lambda change: None, addresses=[address(self.wallet)]))
        self.world.run(0.2)
        self.patch(limits, "REPLAY", 3)
        ear = Ear()
        waiting: list[Any] = []

        def meanwhile() -> None:
            self.pay(0)
            waiting.append(client.watch(ear.heard.append, addresses=[address(self.wallet)]))

        self.away(meanwhile)
        self.successResultOf(waiting[0])
        self.assertEqual(len(ear.take()), 4)
        first.stop()
        self.refuse(0, ErrorCode.BUSY)
        client.watches._place.lose()  # the next connection begins anew
        self.away(lambda: None)
        self.assertFalse(client.is_current)  # who refuses what was taken is left

    def test_one_too_many_that_comes_while_nobody_is_there(self) -> None:
        """No node would take it, and every connection stands without it: it was asked for once, and its caller told."""
        client, first = self.watching(0)
        first.take()
        self.patch(limits, "FILTERS_CONNECTION", 1)
        asked = self.asked("UTXOSubscribe")
        watch, second = self.come_while_away(client, 1)
        self.assertIs(self.failureResultOf(watch, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertTrue(client.is_current)
        asked.clear()
        self.away(lambda: self.pay(0))
        self.assertEqual((first.take(), second.take(), client.is_current), (self.steps(), [], True))
        self.assertEqual([request.addresses for request in asked], [()])

    def test_one_without_room_that_comes_while_nobody_is_there(self) -> None:
        """The node that has no room for it is not left; it waits, and the next connection asks again."""
        client, first = self.watching(0)
        first.take()
        self.refuse(1, ErrorCode.BUSY)
        watch, second = self.come_while_away(client, 1)
        self.assertNoResult(watch)
        self.assertTrue(client.is_current)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual((first.take(), second.take()), (self.steps(), []))
        self.refused.clear()
        self.away(lambda: None)
        self.successResultOf(watch)
        self.assertEqual((first.take(), len(second.take())), ([], 5))

    def test_one_too_many_whose_connection_is_lost(self) -> None:
        """Its caller hears from the next that no node would take it, and that keeps no connection from standing."""
        client, first = self.watching(0)
        first.take()
        self.mute()
        watch = client.watch(print, addresses=[address(self.world.node.wallets[1])])
        self.world.run(0.2)
        self.patch(limits, "FILTERS_CONNECTION", 1)
        self.away(lambda: self.pay(0))
        self.assertIs(self.failureResultOf(watch, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertEqual((first.take(), client.is_current), (self.steps(), True))

    def test_what_was_taken_is_not_given_up(self) -> None:
        """Its coins could not be checked, and the next node refuses it: that is left, since nobody would be told."""
        client, first = self.watching(1)
        first.take()
        self.pay(0, to=2)
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        ear = Ear()
        theirs = [address(self.world.node.wallets[2])]
        watch = client.watch(ear.heard.append, addresses=theirs, on_reset=ear.heard.append)
        self.world.run(0.2)
        self.successResultOf(watch)
        self.assertEqual(ear.take(), [])
        self.world.bend = lambda message: message
        self.refuse(2, ErrorCode.BUSY)
        self.away(lambda: None)
        self.assertFalse(client.is_current)
        self.refused.clear()
        self.world.run(2)
        self.assertTrue(client.is_current)
        self.assertEqual(len(ear.take()), 5)

    def test_one_page_of_two_that_is_refused(self) -> None:
        """The other one was taken: a node that refuses that is left, and nothing that was told of is told no more."""
        self.patch(limits, "FILTER", 1)
        wallets = self.world.node.wallets
        first_page, second_page = sorted((0, 1), key=lambda number: address(wallets[number]))
        self.wallet = wallets[first_page]
        client, _ = self.watching(2)
        self.refuse(second_page, ErrorCode.BUSY)
        ear = Ear()
        both = [address(wallets[number]) for number in (0, 1)]
        watch = client.watch(ear.heard.append, addresses=both, on_reset=ear.heard.append)
        self.world.run(0.2)
        self.assertNoResult(watch)
        self.assertEqual(len(ear.take()), 4)
        client.watches._place.lose()  # the next connection begins anew
        self.refuse(first_page, ErrorCode.BUSY)
        self.away(lambda: self.pay(0, to=2))
        self.assertFalse(client.is_current)
        self.refused.clear()
        self.world.run(2)
        self.assertIn((str(self.coin()), "Unspent", "SpentFinalized"), ear.take())

    def test_one_whose_time_has_not_come(self) -> None:
        """Refused for what was asked before, it asks again later; the connection stands, and the watch is not lost."""
        client, first = self.watching(0)
        first.take()
        subscriptions = self.world.node.handler._subscriptions
        room = subscriptions._require_room
        theirs = {address(self.world.node.wallets[1])}

        def require_room(feed: Any, subscription: Any, items: set[Any], taken: bool) -> None:
            if items & theirs:
                raise Refusal(ErrorCode.OVER_LIMIT, "more than its share", limit="cost", retry_after_ms=1_000)
            room(feed, subscription, items, taken)

        self.patch(subscriptions, "_require_room", require_room)
        watch, ear = self.come_while_away(client, 1)
        self.assertTrue(client.is_current)
        self.assertNoResult(watch)
        self.world.run(limits.IDLE)
        self.assertNoResult(watch)
        theirs.clear()
        self.away(lambda: self.pay(0))
        self.successResultOf(watch)
        self.assertEqual((first.take(), len(ear.take())), (self.steps(), 5))

    def test_one_that_is_taken_beside_one_that_is_not(self) -> None:
        """The one is told and the other waits; and what is called off in between is not asked for."""
        self.patch(limits, "FILTER", 1)
        client, _ = self.watching(2)
        self.world.refuses = True
        self.world.cut()
        wallets = self.world.node.wallets
        early, late = sorted((0, 1), key=lambda number: address(wallets[number]))
        self.refuse(late, ErrorCode.BUSY)
        taken, refused, called_off = (
            client.watch(lambda change: None, addresses=[address(wallets[number])]) for number in (early, late, late)
        )
        taken.addCallback(lambda watch: (called_off.cancel(), watch)[1])
        asked = self.asked("UTXOSubscribe")
        self.world.refuses = False
        self.world.run(3)
        self.successResultOf(taken)
        self.assertNoResult(refused)
        self.failureResultOf(called_off, CancelledError)
        pages = [request.addresses for request in asked]
        self.assertEqual(pages.count((address(wallets[late]),)), 2)  # with the other one's, and alone
        self.assertTrue(client.is_current)

    def test_one_of_which_a_node_says_nothing(self) -> None:
        """Nodes are left for it, but each of them serves everything else until then."""
        client, first = self.watching(0)
        first.take()
        theirs = address(self.world.node.wallets[1])
        handle = self.world.node.handler.handle_message

        def deaf(sender: Any, message: Any) -> None:
            if theirs not in getattr(message, "addresses", ()):
                handle(sender, message)

        self.patch(self.world.node.handler, "handle_message", deaf)
        watch, ear = self.come_while_away(client, 1)
        payment = client.submit(self.payment())
        self.world.run(3 * limits.REQUEST_TIME)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(first.take(), self.steps())
        self.assertNoResult(watch)
        self.world.node.handler.handle_message = handle
        self.world.run(2 * limits.REQUEST_TIME)
        self.successResultOf(watch)
        self.assertEqual(len(ear.take()), 5)

    def test_one_that_waits_for_a_node_in_vain(self) -> None:
        """The client is stopped: the caller is told, and started again it watches what is asked for then, once."""
        client = self.world.client()
        ear = Ear()
        self.world.refuses = True
        self.world.cut()
        watch = client.watch(ear.heard.append, addresses=[address(self.wallet)])
        client.stopService()
        self.failureResultOf(watch, ConnectionGone)
        self.world.refuses = False
        self.is_told_once(client, ear)

    def is_told_once(self, client: WalletClient, ear: Ear) -> None:
        """Started again the client tells nothing, and asked again it tells each coin once."""
        self.world.run(0.2)
        client.startService()
        self.world.run(3)
        self.assertEqual(ear.take(), [])
        self.outcome(client.watch(ear.heard.append, addresses=[address(self.wallet)]))
        self.world.run(0.5)
        self.assertEqual(len(ear.take()), 4)

    def test_one_that_comes_to_a_client_that_was_stopped(self) -> None:
        """Its caller is told at once; whoever tries again when the client is started has it once."""
        client = self.world.client()
        client.stopService()
        ear = Ear()
        self.failureResultOf(client.watch(ear.heard.append, addresses=[address(self.wallet)]), ConnectionGone)
        self.is_told_once(client, ear)

    def test_one_that_was_asked_for_when_the_client_was_stopped(self) -> None:
        """Its answer never came: it is not watched either."""
        client = self.world.client()
        self.mute()
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.wallet)])
        self.world.run(0.2)
        client.stopService()
        self.world.run(0.2)
        self.failureResultOf(watch, ConnectionGone)
        self.is_told_once(client, ear)

    def test_a_client_that_is_stopped_and_started_at_once(self) -> None:
        """Whoever waits for a node then has the next one, and not the one that is being left."""
        client, ear = self.watching(0)
        ear.take()
        client.stopService()
        client.startService()
        connected = client.when_connected()
        self.assertNoResult(connected)
        self.assertIsNone(client.connection)
        self.world.run(3)
        self.successResultOf(connected)
        self.assertEqual(self.world.connections, 2)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual(ear.take(), self.steps())

    def test_who_stops_the_client_as_soon_as_it_is_connected(self) -> None:
        """All others who waited for it are told that it was stopped."""
        client = self.world.client()
        self.world.refuses = True
        self.world.cut()
        first, second = client.when_connected(), client.when_connected()
        first.addCallback(lambda _: client.stopService())
        self.world.refuses = False
        self.world.run(3)
        self.failureResultOf(second, ConnectionGone)

    def test_one_that_is_called_off(self) -> None:
        """Cancelled, whether a node was asked already or not, it watches nothing."""
        client, first = self.watching(0)
        first.take()
        ears = [Ear(), Ear()]
        self.mute()
        asked = client.watch(ears[0].heard.append, addresses=[address(self.wallet)])
        self.world.run(0.2)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.world.refuses = True
        self.world.cut()
        waits = client.watch(ears[1].heard.append, addresses=[address(self.wallet)])
        waits.cancel()
        self.failureResultOf(waits, CancelledError)
        self.away(lambda: self.pay(0))
        self.assertEqual((first.take(), client.is_current), (self.steps(), True))
        self.assertEqual([ear.take() for ear in ears], [[], []])
