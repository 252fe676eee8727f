"""Several watches and accounts on one subscription: taken up, refused, cut off, and let go of."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from tests.cluster import COIN, address, pay
from tests.test_wallet.ear import Ear, Resuming
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.account import Account
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.purse import MemoryPurse
from timeproto.wallet.watch import Change, Watch
from timeproto.wallet.watching import after


class Watchers(Resuming):
    """Several watches, which come and go."""

    def setUp(self) -> None:
        super().setUp()
        self.refused: dict[str, ErrorCode] = {}

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
        client._watches._place.lose()
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
        client._watches._place.lose()  # the next connection begins anew
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
        """The node that has no room for it is not left, its caller is told, and the next connection asks again."""
        client, first = self.watching(0)
        first.take()
        self.refuse(1, ErrorCode.BUSY)
        watch, second = self.come_while_away(client, 1)
        self.assertIs(self.failureResultOf(watch, Refusal).value.code, ErrorCode.BUSY)
        self.assertTrue(client.is_current)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual((first.take(), second.take()), (self.steps(), []))
        self.refused.clear()
        self.away(lambda: None)
        self.assertEqual((first.take(), len(second.take())), ([], 5))

    def test_one_too_many_whose_connection_is_lost(self) -> None:
        """Its caller was told that; that no node would take it keeps no connection from standing."""
        client, first = self.watching(0)
        first.take()
        self.mute()
        watch = client.watch(print, addresses=[address(self.world.node.wallets[1])])
        self.world.run(0.2)
        self.patch(limits, "FILTERS_CONNECTION", 1)
        self.away(lambda: self.pay(0))
        self.failureResultOf(watch, ConnectionGone)
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
        self.failureResultOf(watch, Refusal)
        self.assertEqual(len(ear.take()), 4)
        client._watches._place.lose()  # the next connection begins anew
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
        self.assertIs(self.failureResultOf(watch, Refusal).value.code, ErrorCode.OVER_LIMIT)
        theirs.clear()
        self.away(lambda: self.pay(0))
        self.assertEqual((first.take(), len(ear.take())), (self.steps(), 5))

    def test_one_that_is_taken_beside_one_that_is_not(self) -> None:
        """Each is told what became of it; and what is called off in between is not asked for."""
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
        refused.addErrback(lambda failure: (called_off.cancel(), failure)[1])
        asked = self.asked("UTXOSubscribe")
        self.world.refuses = False
        self.world.run(3)
        self.successResultOf(taken)
        self.failureResultOf(refused, Refusal)
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
        """The client is stopped: the caller is told; started again it takes the watch up."""
        client = self.world.client()
        ear = Ear()
        self.world.refuses = True
        self.world.cut()
        watch = client.watch(ear.heard.append, addresses=[address(self.wallet)])
        client.stopService()
        self.failureResultOf(watch, ConnectionGone)
        self.world.refuses = False
        client.startService()
        self.world.run(3)
        self.assertEqual(len(ear.take()), 4)

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

    def test_one_that_comes_before_the_coins_of_another_are_checked(self) -> None:
        """What that one was shown counts for those that were there when the node showed it: this one is refused."""
        client, first = self.watching(2)
        belief, gate = client._watches._belief, Deferred[None]()
        exists = belief.coin_exists

        async def later(*arguments: Any) -> None:
            await after(gate)
            await exists(*arguments)

        self.patch(belief, "coin_exists", later)
        theirs = [address(self.world.node.wallets[number]) for number in (0, 1)]
        helper = self.outcome(client.watch(lambda change: None, addresses=theirs[:1]))
        self.world.run(0.2)
        ear = Ear()
        self.refuse(1, ErrorCode.BUSY)
        watch = client.watch(ear.heard.append, addresses=theirs, on_reset=ear.heard.append)
        self.world.run(0.2)
        self.failureResultOf(watch, Refusal)
        gate.callback(None)
        self.world.run(0.2)
        helper.stop()
        self.assertEqual(ear.take(), [])  # nothing of it has begun, so nothing can end unheard
        client._watches._place.lose()
        self.refused.clear()
        self.away(lambda: None)
        self.assertEqual(len(ear.take()), 8)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual((ear.take()[:3], client.is_current), (self.steps()[:3], True))
        self.assertEqual(len(first.take()), 5)  # its coins, and a reset

    def test_an_account_opened_as_soon_as_a_node_is_there(self) -> None:
        """The first was too slow; the next has not been asked yet when it says that it is there: that is awaited."""
        client = self.world.client()
        account = self.account_with_money(client)
        self.mute()
        opening = ensureDeferred(account.open())
        self.world.run(limits.REQUEST_TIME + 0.1)
        self.failureResultOf(opening, ConnectionGone)
        again = client.when_connected().addCallback(lambda _: ensureDeferred(account.open()))
        self.world.run(5)
        self.successResultOf(again)
        self.assertEqual(account.balance().total, COIN)

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

    def test_two_that_share_what_is_refused(self) -> None:
        """What one of them is refused for the sake of something else, the other is given."""
        client = self.world.client()
        ears = [Ear(), Ear()]
        addresses = [address(self.world.node.wallets[number]) for number in (0, 1)]
        for number in (0, 1):
            self.refuse(number, ErrorCode.BUSY)
        for ear, wanted in zip(ears, (addresses, addresses[:1]), strict=True):
            watch = client.watch(ear.heard.append, addresses=wanted, on_reset=ear.heard.append)
            self.world.run(0.2)
            self.failureResultOf(watch, Refusal)
        del self.refused[addresses[0]]
        self.away(lambda: None)
        self.assertEqual([len(ear.take()) for ear in ears], [4, 4])
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual([ear.take() for ear in ears], [self.steps(), self.steps()])

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
