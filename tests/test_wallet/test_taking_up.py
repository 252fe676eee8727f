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
from timeproto.wallet.waiters import after
from timeproto.wallet.watch import Change
from timeproto.wallet.watching import REFUSED


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
        self.assertNoResult(watch)
        self.assertFalse(client.is_current)
        self.world.run(1)
        self.successResultOf(watch)
        self.assertTrue(client.is_current)
        self.assertEqual((first.take(), len(ear.take())), ([], 4))

    def test_one_that_comes_before_the_coins_of_another_are_checked(self) -> None:
        """What that one was shown counts for those that were there when the node showed it: this one is refused."""
        client, first = self.watching(2)
        belief, gate = client.watches._belief, Deferred[None]()
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
        self.assertNoResult(watch)
        gate.callback(None)
        self.world.run(0.2)
        helper.stop()
        self.assertEqual(ear.take(), [])  # nothing of it has begun, so nothing can end unheard
        client.watches._place.lose()
        self.refused.clear()
        self.away(lambda: None)
        self.assertEqual(len(ear.take()), 8)
        self.pay(0)
        self.world.run(0.5)
        self.assertEqual((ear.take()[:3], client.is_current), (self.steps()[:3], True))
        self.assertEqual(len(first.take()), 5)  # its coins, and a reset

    def test_an_account_opened_as_soon_as_a_node_is_there(self) -> None:
        """The first was too slow; the next has not been asked yet when it says that it is there: that is awaited."""
        client, account = self.account_that_waited()
        again = client.when_connected().addCallback(lambda _: ensureDeferred(account.open()))
        self.world.run(5)
        self.successResultOf(again)
        self.assertEqual(account.balance().total, COIN)

    def account_that_waited(self) -> tuple[WalletClient, Account]:
        """The node did not answer it in time, and was left."""
        client = self.world.client()
        account = self.account_with_money(client)
        self.mute()
        opening = ensureDeferred(account.open())
        self.world.run(limits.REQUEST_TIME + 0.1)
        self.failureResultOf(opening, ConnectionGone)
        return client, account

    def test_an_account_that_the_node_is_too_slow_to_take(self) -> None:
        """It has no balance until its coins have been read: not one of nothing."""
        _, account = self.account_that_waited()
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
        """It waits; payments and the other watch do not suffer, and the next connection asks for it again."""
        client, first = self.watching(0)
        first.take()
        room = self.world.node.handler._subscriptions._require_room
        self.fill()
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.world.node.wallets[1])])
        payment = client.submit(self.payment())
        self.world.run(20)
        self.assertNoResult(watch)
        self.assertIsNotNone(payment.proof)
        self.assertEqual((first.take(), self.world.connections, client.is_current), (self.steps(), 1, True))
        self.world.node.handler._subscriptions._require_room = room
        self.away(lambda: self.pay(1))
        self.successResultOf(watch)
        self.assertEqual((first.take(), len(ear.take()), client.is_current), (self.steps(1), 6, True))

    def test_one_that_the_node_has_room_for_later(self) -> None:
        """It is asked again in a while, on the same connection; and not if nobody waits for it any more."""
        client, _ = self.watching(0)
        self.refuse(1, ErrorCode.BUSY)
        ears = [Ear(), Ear()]
        theirs = [address(self.world.node.wallets[1])]
        waiting, cancelled = (client.watch(ear.heard.append, addresses=theirs) for ear in ears)
        self.world.run(1)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        asked = self.asked("UTXOSubscribe")
        self.world.run(REFUSED + ASK_AGAIN)
        self.assertNoResult(waiting)
        self.assertEqual([len(request.addresses) for request in asked], [1, 1])  # all that is refused, and it alone
        self.refused.clear()
        self.world.run(REFUSED + ASK_AGAIN)
        self.successResultOf(waiting).stop()
        self.assertEqual(([len(ear.take()) for ear in ears], self.world.connections), ([4, 0], 1))
        self.world.run(2 * REFUSED)
        self.assertEqual([len(request.addresses) for request in asked if request.addresses], [1, 1, 1])

    def test_what_an_account_is_refused_for_good(self) -> None:
        """Nobody waits for it, so it is noted: whoever asks for a balance is told why there is none."""
        client = self.world.client()
        kept = self.outcome(client.watch(lambda change: None, addresses=[address(self.wallet)]))
        self.patch(limits, "FILTERS_CONNECTION", 1)
        self.world.refuses = True
        self.world.cut()
        client.watches.extend(client.connection, kept, [address(self.world.node.wallets[1])])
        self.world.refuses = False
        self.world.run(3)
        self.assertIs(kept.refusal.code, ErrorCode.OVER_LIMIT)
        self.assertTrue(client.is_current)

    def test_one_that_no_node_has_room_for(self) -> None:
        """Connection after connection it is refused, and the other watch hears all; with room it is taken up."""
        client, first = self.watching(0)
        first.take()
        self.refuse(1, ErrorCode.BUSY)
        ear = Ear()
        theirs = [address(self.world.node.wallets[1])]
        watch = client.watch(ear.heard.append, addresses=theirs, on_reset=ear.heard.append)
        self.world.run(0.2)
        for number in range(3):
            self.away(lambda number=number: self.pay(number))
            self.assertEqual((first.take(), ear.take(), client.is_current), (self.steps(number), [], True))
            self.assertNoResult(watch)
        self.refused.clear()
        self.away(lambda: None)
        self.successResultOf(watch)
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
        self.assertNoResult(watch)
        client.watches._place.lose()  # the next connection begins anew
        self.away(lambda: None)
        self.assertEqual(len(ear.take()), 4)  # what the helper asked for
        helper.stop()
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        client.watches._place.lose()
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
        watches = []
        for ear, wanted in zip(ears, (addresses, addresses[:1]), strict=True):
            watches.append(client.watch(ear.heard.append, addresses=wanted, on_reset=ear.heard.append))
            self.world.run(0.2)
            self.assertNoResult(watches[-1])
        del self.refused[addresses[0]]
        self.away(lambda: None)
        self.assertNoResult(watches[0])
        self.successResultOf(watches[1])
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
        again = ensureDeferred(account.open())
        self.world.run(0.2)
        self.assertIs(self.failureResultOf(again, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertFalse(account.is_open)
        self.refused.clear()
        self.away(lambda: None)
        self.successResultOf(ensureDeferred(account.open()))
        self.assertEqual(account.balance().total, COIN)

    def test_many_that_wait_when_the_connection_is_lost(self) -> None:
        """However many there are, the next connection takes all of them up."""
        client = self.world.client()
        self.mute()
        ears = [Ear() for _ in range(500)]
        mine = [address(self.world.node.wallets[0])]
        watches = [client.watch(ear.heard.append, addresses=mine, on_reset=ear.heard.append) for ear in ears]
        self.world.run(0.2)
        self.away(lambda: None)
        for watch in watches:
            self.successResultOf(watch)
        self.assertEqual({len(ear.take()) for ear in ears}, {4})

    def test_an_account_that_the_node_has_no_room_for(self) -> None:
        """However often it is opened, it is not open: its coins have not been read."""
        account = Account(MemoryPurse("abandon " * 11 + "about"), self.world.client(), now=lambda: 0)
        self.fill()
        for _ in range(3):
            opening = ensureDeferred(account.open())
            self.world.run(0.2)
            self.assertIs(self.failureResultOf(opening, Refusal).value.code, ErrorCode.BUSY)
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
        self.assertNoResult(refused)
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
