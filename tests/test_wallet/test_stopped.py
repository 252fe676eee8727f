"""Clients that are stopped, and started again, in the middle of anything: nobody waits in vain, no money is missed."""

from __future__ import annotations

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.ear import Ear
from tests.test_wallet.purses import PurseCase
from timeproto import limits
from timeproto.errors import StorageError
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.client import ASK_AGAIN, WalletClient


class Stopped(PurseCase):
    """One moment after another."""

    def again(self, client: WalletClient) -> Any:
        """A callback that stops the client and starts it, once."""
        done: list[bool] = []

        def again(_: Any) -> None:
            if not done:
                done.append(True)
                client.stopService()
                client.startService()

        return again

    def test_by_whoever_is_told_that_it_is_connected(self) -> None:
        """Started again at once it connects again, and those who waited beside are told the truth."""
        client = self.client()
        first, second = client.when_connected(), client.when_connected()
        first.addCallback(self.again(client))
        client.startService()
        self.world.run(5)
        self.failureResultOf(second, ConnectionGone)
        self.assertIsNotNone(client.connection)
        self.assertEqual((self.connected, self.balance(client)), (1, TOTAL))

    def test_for_good_by_whoever_is_told_that_it_is_connected(self) -> None:
        """Its connection goes, and a later start has one."""
        client = self.client()
        stopping: list[Deferred[None]] = []
        client.when_connected().addCallback(lambda _: stopping.append(client.stopService()))
        client.startService()
        self.world.run(5)
        self.successResultOf(stopping[0])
        self.assertEqual(self.connected, 0)
        client.startService()
        self.assertEqual((self.balance(client), self.connected), (TOTAL, 1))

    def test_started_twice(self) -> None:
        """By whoever made it, and by the application that it was given to: that is once, and one stop ends it."""
        client, application = self.client(), MultiService()
        client.startService()
        application.startService()
        client.setServiceParent(application)
        self.assertEqual((self.balance(client), self.connected), (TOTAL, 1))
        stopping = application.stopService()
        self.world.run(1)
        self.successResultOf(stopping)
        self.assertEqual(self.connected, 0)

    def test_by_a_watch_that_begins_anew(self) -> None:
        """In the middle of a connection that is being taken up."""
        for then in (lambda client: self.again(client), lambda client: lambda reason: client.stopService() and None):
            client = self.client()
            client.startService()
            watch = client.watch(lambda change: None, addresses=[address(self.mine)], on_reset=then(client))
            self.world.run(2)
            self.successResultOf(watch)
            client.watches._place.lose()
            self.world.cut()
            self.world.run(5)
            self.assertEqual(self.connected, 0 if client.is_stopped else 1)
            if client.is_stopped:
                client.startService()
            self.assertEqual((self.balance(client), self.connected), (TOTAL, 1))
            client.stopService()
            self.world.run(1)

    def test_by_whoever_is_told_that_it_is_stopped(self) -> None:
        """Started in the midst of its own stop it connects again."""
        client = self.client()
        client.when_connected().addErrback(lambda failure: client.startService())
        self.world.refuses = True
        client.startService()
        client.stopService()
        self.world.refuses = False
        self.assertEqual(self.balance(client), TOTAL)

    def test_after_an_opening_that_was_called_off(self) -> None:
        """Whoever called it off has no part in what others wait for, then or later."""
        for others in (0, 1):
            client = self.client()
            client.startService()
            self.world.run(2)
            self.mute()
            opening, *waiting = (ensureDeferred(client.account.open()) for _ in range(1 + others))
            self.world.run(0.2)
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            for each in waiting:
                self.assertNoResult(each)
            client.stopService()
            self.world.run(0.5)
            for each in waiting:
                self.failureResultOf(each, ConnectionGone)
            client.startService()
            self.assertEqual(self.balance(client), TOTAL)

    def test_half_of_the_coins_read_before_it_was_stopped(self) -> None:
        """Of a coin that was read then, and spent elsewhere meanwhile, nothing is left when it is started again."""
        client = self.client()
        client.startService()
        self.world.run(2)
        self.patch(limits, "FILTER", 4)
        for _ in range(5):
            client.account.new_address()
        self.mute(after=1)
        balance = client.balance()
        self.world.run(0.5)
        self.assertEqual(client.account.balance().total, TOTAL)
        client.stopService()
        self.world.run(0.5)
        self.failureResultOf(balance, ConnectionGone)
        self.spend()
        client.startService()
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)

    def test_what_is_asked_for_by_whoever_is_told(self) -> None:
        """Started again by somebody who hears of the stop, all that is asked for then is of the new life."""
        client = self.opened()
        self.patch(self.world.node.view, "submit", lambda tx: Deferred())
        sending = client.send(self.shop, COIN)
        self.world.run(0.5)
        payment = self.successResultOf(sending)
        asked: dict[str, Any] = {}

        def start(failure: Any) -> None:
            client.startService()
            asked["connected"] = client.when_connected()
            asked["watch"] = client.watch(lambda change: None, addresses=[address(self.mine)])
            asked["balance"] = client.balance()
            asked["confirmed"] = client.wait_confirmed("00" * 32)

        payment.when_final().addErrback(start)
        client.stopService()
        self.world.run(5)
        confirmed = asked.pop("confirmed")
        self.assertNoResult(confirmed)
        confirmed.cancel()
        self.failureResultOf(confirmed, CancelledError)
        for each in asked.values():
            self.successResultOf(each)

    def test_a_payment_of_its_own(self) -> None:
        """Undecided when the client is stopped, it is sent again when that is started, and not after a while."""
        client = self.opened()
        takes = self.world.node.view.submit
        self.world.node.view.submit = lambda tx: Deferred()
        sending = client.send(self.shop, COIN)
        self.world.run(0.5)
        payment = self.successResultOf(sending)
        client.stopService()
        self.failureResultOf(payment.when_final(), ConnectionGone)
        shared: list[str] = []
        with_others = client.account._purse.share
        self.patch(client.account._purse, "share", lambda *txids: (shared.extend(txids), with_others(*txids))[1])
        client.account.look()
        self.assertEqual(shared, [])
        self.world.node.view.submit = takes
        self.world.run(0.5)
        client.startService()
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(client.account.pending, [])
        self.assertEqual(self.balance(client), TOTAL - COIN - payment.tx.fee)

    def test_whoever_waits_no_more_for_a_block(self) -> None:
        """It is asked after for nobody."""
        client = self.opened()
        txid = "00" * 32
        first, second = client.wait_confirmed(txid), client.wait_confirmed(txid)
        asked = self.asked("GetTransaction")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.world.run(0.5)
        asked.clear()
        self.world.run(3 * ASK_AGAIN)
        self.assertGreater(len(asked), 1)
        for end in (second.cancel, lambda: self.restart(client, client.wait_confirmed(txid))):
            end()
            self.world.run(1)
            asked.clear()
            self.world.run(3 * ASK_AGAIN)
            self.assertEqual(asked, [])
        self.failureResultOf(second, CancelledError)

    def restart(self, client: WalletClient, waiting: Deferred[int]) -> None:
        client.stopService()
        self.failureResultOf(waiting, ConnectionGone)
        self.world.run(0.5)
        client.startService()

    def test_one_who_waits_for_a_block_calls_off_another(self) -> None:
        """As soon as it is told of it."""
        client = self.opened()
        sending = client.send(self.shop, COIN)
        self.world.run(0.5)
        payment = self.successResultOf(sending)
        first, second = client.wait_confirmed(payment.txid), client.wait_confirmed(payment.txid)
        first.addCallback(lambda height: (second.cancel(), height)[1])
        self.world.node.make_block()
        self.world.run(3 * ASK_AGAIN)
        self.assertEqual(self.successResultOf(first), 1)
        self.failureResultOf(second, CancelledError)

    def test_a_purse_that_cannot_be_read(self) -> None:
        """Its disk has a fault; an address that was made while the client was stopped is watched all the same."""
        client = self.opened()
        client.stopService()
        self.world.run(0.5)
        self.give(client.account.new_address())

        def look() -> None:
            raise StorageError("the disk has a fault")

        self.patch(client.account._purse, "look", look)
        client.startService()
        self.assertEqual(self.balance(client), TOTAL + 9 * COIN)

    def test_a_watch_that_was_asked_for(self) -> None:
        """Stopped and started at once: it failed, so it is not watched, and asked for again it is told once."""
        client = self.client()
        client.startService()
        self.world.run(2)
        self.mute()
        ear = Ear()
        watch = client.watch(ear.heard.append, addresses=[address(self.mine)])
        self.world.run(0.2)
        client.stopService()
        client.startService()
        self.world.run(3)
        self.failureResultOf(watch, ConnectionGone)
        self.assertEqual(ear.take(), [])
        self.outcome(client.watch(ear.heard.append, addresses=[address(self.mine)]))
        self.world.run(0.5)
        self.assertEqual(len(ear.take()), 4)

    def test_one_who_calls_off_another(self) -> None:
        """As soon as it is told that the client is connected."""
        client = self.client()
        first, second = client.when_connected(), client.when_connected()
        first.addCallback(lambda _: second.cancel())
        client.startService()
        self.world.run(2)
        self.failureResultOf(second, CancelledError)
        self.assertEqual((self.connected, self.world.connections), (1, 1))
