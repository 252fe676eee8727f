"""Clients that are stopped, and started again, in the middle of anything: nobody waits in vain, no money is missed."""

from __future__ import annotations

import random
from types import NoneType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure

from tests.cluster import COIN, address, pay
from tests.test_wallet.accounts import TOTAL, AccountCase
from tests.test_wallet.ear import Ear, Resuming
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal, StorageError
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.coins import Balance, InsufficientFunds
from timeproto.wallet.purse import MemoryPurse
from timeproto.wallet.watch import Watch
from timeproto.wallet.watching import Watches

STORIES = 150
FEE = 10_000


class StoppedCase(Resuming, AccountCase):
    """A client with a purse, and one masternode."""

    def client(self) -> WalletClient:
        """One that was never started."""
        client = WalletClient(
            self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=MemoryPurse(self.PHRASE)
        )
        self.addCleanup(client.stopService)
        return client

    def opened(self) -> WalletClient:
        client = self.client()
        client.startService()
        self.assertEqual(self.balance(client), TOTAL)
        return client

    def balance(self, client: WalletClient, seconds: float = 5) -> int:
        balance = client.balance()
        self.world.run(seconds)
        return self.successResultOf(balance).total

    def give(self, to: str, number: int = 0) -> None:
        """9 TIME, final."""
        genesis, giver = self.world.node.genesis, self.world.node.wallets[0]
        owned = [at for at, output in genesis.coins() if output.address == address(giver)][number]
        self.world.node.integration.process_transaction(
            pay(genesis, [(owned, 10 * COIN, giver)], [(to, 9 * COIN)])
        )

    def spend(self) -> None:
        """Another process with these keys pays a coin away."""
        coins, _ = self.world.node.view.address_coins(address(self.mine), None, 1, spent=False)
        self.world.node.integration.process_transaction(
            pay(self.world.node.genesis, [(coins[0][0], 9 * COIN, self.mine)], [(self.shop, 9 * COIN - FEE)])
        )

    @property
    def connected(self) -> int:
        """Connections that the node has."""
        return sum(server.is_open for server in self.world._servers)


class Stopped(StoppedCase):
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

    def test_what_is_asked_for_in_vain(self) -> None:
        """Refused for good, though nobody waited for that: it is no balance of nothing, and asked for anew."""
        client = self.client()
        client.startService()
        self.world.run(2)
        self.refuse(address(self.mine), ErrorCode.OVER_LIMIT)
        opening = ensureDeferred(client.account.open())
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.world.run(1)
        balance = client.balance()
        self.world.run(1)
        self.failureResultOf(balance, Refusal)
        self.refused.clear()
        self.assertEqual(self.balance(client), TOTAL)

    def test_a_new_address_that_no_node_watches(self) -> None:
        """What is there is no balance without it, nor too little to pay with; once a node watches it all is well."""
        client = self.opened()
        self.refuse(client.account._own.at(0, 1), ErrorCode.OVER_LIMIT)
        self.give(client.account.new_address())
        self.world.run(0.5)
        shop = address(self.world.node.wallets[0])
        for asked in (client.balance(), client.send(shop, 40 * COIN), ensureDeferred(client.account.open())):
            self.world.run(1)
            self.assertIs(self.failureResultOf(asked, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertEqual(client.account.balance().total, TOTAL)
        sending = client.send(shop, COIN)  # of what it has it can pay
        self.world.run(1)
        payment = self.successResultOf(sending)
        self.assertIsNotNone(payment.proof)
        spent = COIN + payment.tx.fee
        self.refused.clear()
        self.assertEqual(self.balance(client), TOTAL + 9 * COIN - spent)

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

    def test_half_of_the_coins_read_before_it_was_refused(self) -> None:
        """The same where no node would watch the other half."""
        client = self.client()
        client.startService()
        self.world.run(2)
        self.patch(limits, "FILTER", 1)
        addresses = [client.account.new_address() for _ in range(5)]
        self.refuse(max(addresses), ErrorCode.OVER_LIMIT)
        balance = client.balance()
        self.world.run(1)
        self.failureResultOf(balance, Refusal)
        self.assertEqual(client.account.balance().total, TOTAL)
        self.spend()
        self.refused.clear()
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)

    def test_an_address_that_comes_while_everything_is_shown_anew(self) -> None:
        """Somebody else watches it already, and so the node shows it: this wallet was not shown its coins by that."""
        client = self.opened()
        fresh = client.account._own.at(0, 1)
        self.give(fresh)
        self.outcome(client.watch(lambda change: None, addresses=[fresh]))
        client.watches._place.lose()
        self.world.refuses = True
        self.world.cut()
        self.give(address(self.mine), 1)  # it takes a question to believe that
        made: list[str] = []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "TransactionInfo" and not made:
                made.append(client.account.new_address())
            return message

        self.world.bend, self.world.refuses = bend, False
        self.world.run(5)
        self.assertEqual(made, [fresh])
        self.assertEqual(self.balance(client), TOTAL + 2 * 9 * COIN)

    def test_a_node_with_room_for_some_new_addresses(self) -> None:
        """It is asked for all of them at each look, and takes none; it serves the others, and so does one with less."""
        client = self.opened()
        self.patch(limits, "FILTERS_CONNECTION", 14)
        for _ in range(40):
            client.account._purse.reserve_receive_index()
        asked = self.asked("UTXOSubscribe")
        balance = client.balance()
        self.world.run(2)
        self.failureResultOf(balance, Refusal)
        self.assertEqual(len(client.account._watching.begun), 1)
        self.assertLess(len(asked), 4)
        self.patch(limits, "FILTERS_CONNECTION", 10)
        self.away(lambda: None)
        sending = client.send(self.shop, COIN)
        self.world.run(2)
        spent = COIN + self.successResultOf(sending).tx.fee
        self.patch(limits, "FILTERS_CONNECTION", 20_000)
        self.assertEqual(self.balance(client), TOTAL - spent)

    def test_a_new_address_that_the_next_node_has_no_room_for(self) -> None:
        """Made while no node is there, it keeps no connection from standing."""
        client = self.opened()
        self.refuse(client.account._own.at(0, 1), ErrorCode.BUSY)
        self.away(client.account.new_address)
        self.assertEqual((client.is_current, self.world.connections), (True, 2))

    def test_coins_that_are_being_checked(self) -> None:
        """They are not asked for a second time by whoever wants to know the balance meanwhile."""
        client = self.opened()
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        asked = self.asked("UTXOSubscribe")
        self.give(client.account.new_address())
        balances = [client.balance() for _ in range(3)]
        self.world.run(1)
        self.assertEqual(len(asked), 1)
        self.world.cut()
        for each in balances:
            self.failureResultOf(each, ConnectionGone)

    def test_a_wallet_that_is_paid_faster_than_it_can_check(self) -> None:
        """A new address, and whatever else is to be watched, does not wait until it has checked everything."""
        client = self.opened()
        late = ("TransactionInfo", "FinalityProofs")

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] not in late or message.pop("late", None):
                return message
            self.world.clock.callLater(0.6, self.world.say, {**message, "late": True})
            return None

        self.world.bend = bend
        for number in range(4):
            self.give(address(self.mine), number)
            self.world.run(0.5)
        self.assertIsNotNone(client.watches._at_work)
        fresh = client.account.new_address()
        watching = client.watch(lambda change: None, addresses=[self.shop])
        self.world.run(0.1)
        self.assertIsNotNone(client.watches._at_work)
        self.successResultOf(watching)
        self.assertNotIn(fresh, client.account._watching.untaken)
        self.world.run(10)
        self.assertEqual(self.balance(client), TOTAL + 4 * 9 * COIN)

    def test_an_open_account_without_a_node(self) -> None:
        """Opened again it says so, whatever it knew before."""
        client = self.opened()
        self.world.refuses = True
        self.world.cut()
        self.failureResultOf(ensureDeferred(client.account.open()), ConnectionGone)
        self.assertEqual(client.account.balance().total, TOTAL)

    def test_what_is_written_of_a_refusal(self) -> None:
        """A line, however often it is refused; and one more when it is refused after it was taken."""
        lines: list[str] = []
        self.patch(Watches, "log", Logger(observer=lambda event: lines.append(str(formatEvent(event)))))
        client = self.opened()
        for number in (1, 2):
            self.refuse(client.account._own.at(0, number), ErrorCode.BUSY)
            client.account.new_address()
            for _ in range(4):
                client.balance().addErrback(lambda failure: failure.trap(Refusal))
                self.world.run(1)
            self.assertEqual(len(lines), number, lines)
            self.refused.clear()
            self.assertEqual(self.balance(client), TOTAL)

    def test_too_little_while_an_address_is_not_read_yet(self) -> None:
        """Another process made it in the middle of a payment: that is not said to be too little."""
        client = self.opened()
        purse, made = client.account._purse, []

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed" and not made:
                made.append(purse.reserve_receive_index())
                self.give(client.account._own.at(0, 1))
            return message

        self.world.bend = bend
        client.watch(lambda change: None, addresses=[address(self.world.node.wallets[1])])
        sending = client.send(self.shop, 40 * COIN)
        self.world.run(1)
        self.failureResultOf(sending, ConnectionGone)
        again = client.send(self.shop, 40 * COIN)
        self.world.run(1)
        self.assertIsNotNone(self.successResultOf(again).proof)

    def test_somebody_else_s_watch_that_is_refused(self) -> None:
        """It may be asked for again in a while, and no balance waits for that, or asks for it."""
        client = self.opened()
        theirs = address(self.world.node.wallets[1])
        self.refuse(theirs, ErrorCode.OVER_LIMIT, retry_after_ms=5_000)
        client.watch(lambda change: None, addresses=[theirs]).addErrback(lambda failure: None)
        self.world.run(2 * limits.IDLE)
        asked = self.asked("UTXOSubscribe")
        for _ in range(20):
            self.assertEqual(self.balance(client, 0.1), TOTAL)
        self.assertEqual(asked, [])

    def test_balances_that_are_called_off(self) -> None:
        """However many there were while a node let its answer be waited for, one at most still asks for them."""
        client = self.opened()
        for number in (1, 2):
            self.refuse(client.account._own.at(0, number), ErrorCode.OVER_LIMIT, retry_after_ms=5_000)
            fresh = client.account.new_address()
        self.give(fresh)
        asked = self.asked("UTXOSubscribe")
        for _ in range(50):
            balance = client.balance()
            self.world.run(0.1)
            balance.cancel()
            self.failureResultOf(balance, CancelledError)
        self.assertLess(len(client.watches._in_turn._line), 3)
        balance = client.balance()
        self.world.run(2 * limits.IDLE + 5)  # for the one before it, and for itself
        self.failureResultOf(balance, Refusal)
        asked.clear()
        self.refused.clear()
        self.assertEqual(self.balance(client, 6), TOTAL + 9 * COIN)
        self.assertLess(len(asked), 5)

    def test_many_new_addresses_that_a_node_has_no_room_for(self) -> None:
        """They are asked for together."""
        client = self.opened()
        for number in range(1, 21):
            self.refuse(client.account._own.at(0, number), ErrorCode.BUSY)
        for _ in range(20):
            client.account.new_address()
        self.world.run(1)
        asked = self.asked("UTXOSubscribe")
        balance = client.balance()
        self.world.run(1)
        self.assertIs(self.failureResultOf(balance, Refusal).value.code, ErrorCode.BUSY)
        self.assertEqual(len(asked), 1)

    def test_coins_that_could_not_be_believed_to_their_end(self) -> None:
        """A node that announces more coins than it shows is asked again, though there is no other."""
        client = self.client()
        client.startService()
        self.world.run(2)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] in ("UTXOSubscribed", "AddressUTXOs"):
                return {**message, "more": True, "states" if "states" in message else "coins": []}
            return message

        self.world.bend = bend
        balance = client.balance()
        self.world.run(1)
        self.failureResultOf(balance, ConnectionGone)
        self.world.bend = lambda message: message
        self.assertEqual(self.balance(client), TOTAL)

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

    def test_a_new_address_that_a_node_has_no_room_for(self) -> None:
        """Asked again, the same node has room for it now."""
        client = self.opened()
        self.refuse(client.account._own.at(0, 1), ErrorCode.BUSY)
        self.give(client.account.new_address())
        self.world.run(0.5)
        balance = client.balance()
        self.world.run(1)
        self.assertIs(self.failureResultOf(balance, Refusal).value.code, ErrorCode.BUSY)
        self.refused.clear()
        self.assertEqual(self.balance(client), TOTAL + 9 * COIN)

    def test_an_account_that_a_node_had_no_room_for(self) -> None:
        """Opened again, it is open."""
        client = self.client()
        self.refuse(address(self.mine), ErrorCode.BUSY)
        client.startService()
        opening = client.balance()
        self.world.run(5)
        self.failureResultOf(opening, Refusal)
        self.refused.clear()
        self.assertEqual(self.balance(client), TOTAL)

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

    def test_an_address_that_is_made_before_the_account_is_open(self) -> None:
        """It is watched once, like the others."""
        client = self.client()
        client.startService()
        self.give(client.account.new_address())
        self.assertEqual(self.balance(client), TOTAL + 9 * COIN)
        self.assertEqual(len(client.watches._watches), 1)

    def test_whoever_waits_no_more(self) -> None:
        """Called off, it is forgotten: one who asks for the balance with a timeout leaves nothing behind."""
        client = self.opened()
        self.world.refuses = True
        self.world.cut()
        for _ in range(5):
            balance = client.balance()
            balance.cancel()
            self.failureResultOf(balance, CancelledError)
        self.assertFalse(client._waiters._waiting)

    def test_one_who_calls_off_another(self) -> None:
        """As soon as it is told that the client is connected."""
        client = self.client()
        first, second = client.when_connected(), client.when_connected()
        first.addCallback(lambda _: second.cancel())
        client.startService()
        self.world.run(2)
        self.failureResultOf(second, CancelledError)
        self.assertEqual((self.connected, self.world.connections), (1, 1))

    def test_too_little_is_too_little(self) -> None:
        """Once all was read, that is what is said."""
        client = self.opened()
        sending = client.send(address(self.world.node.wallets[0]), 40 * COIN)
        self.world.run(0.5)
        self.failureResultOf(sending, InsufficientFunds)


OPERATIONS = (
    ["start", "stop", "again", "balance", "open", "send", "fresh", "give", "take", "wait", "wait"] * 2
    + ["cut", "away", "back", "busy", "over", "room", "mute", "mute", "call off", "watch", "connected"]
)


class Whatever(StoppedCase):
    """Anything, in any order, also from within what the client calls."""

    def test_no_balance_is_wrong_and_nobody_waits_in_vain(self) -> None:
        """Whatever is told is what there is, or that it could not be read; and in the end there is all of it."""
        told = {"balance": 0, "poor": 0, "gone": 0, "refused": 0}
        for seed in range(STORIES):
            self.setUp()
            self.patch(limits, "FILTER", 2 if seed % 2 else 1_000)
            self.seed, self.chance = seed, random.Random(seed)
            self.story(told)
        self.assertGreater(min(told.values()), 5, told)

    def story(self, told: dict[str, int]) -> None:
        self.is_over = self.runs = False
        self.truths, self.known, self.given, self.taken = [TOTAL], 0, 0, 0
        self.asked: list[Deferred[Any]] = []
        self.answers: list[tuple[set[int], Any]] = []
        client = self.client()
        for _ in range(self.chance.randrange(10, 40)):
            self.step(client, self.chance.choice(OPERATIONS))
        self.is_over, self.world.bend, self.world.refuses = True, lambda message: message, False
        self.refused.clear()
        if not self.runs:
            client.startService()
        self.world.run(1)
        self.world.cut()
        self.world.run(8)
        self.assertEqual((self.balance(client), self.connected), (self.truths[-1], 1), self.seed)
        self.assertEqual(len(self.answers), len(self.asked), self.seed)
        for truths, answer in self.answers:
            self.judge(truths, answer, told)

    def judge(self, truths: set[int], answer: Any, told: dict[str, int]) -> None:
        """``truths``: what there was from the last time on that the wallet could hear of it, up to the answer."""
        result = answer.value if isinstance(answer, Failure) else answer
        if isinstance(result, Balance | InsufficientFunds):
            total = result.total if isinstance(result, Balance) else result.available
            self.assertIn(total, truths, self.seed)
        kinds = {"balance": Balance, "poor": InsufficientFunds, "gone": ConnectionGone, "refused": Refusal}
        for name, kind in kinds.items():
            told[name] += isinstance(result, kind)
        self.assertIsInstance(result, (*kinds.values(), CancelledError, NoneType, Watch), self.seed)

    def step(self, client: WalletClient, what: str) -> None:
        world, chance = self.world, self.chance
        match what:
            case "start" if not self.runs:
                self.runs = True
                client.startService()
            case "stop" if self.runs:
                self.runs = False
                client.stopService()
            case "again" if self.runs:
                self.step(client, "stop")
                self.step(client, "start")
            case "balance":
                self.ask(client, client.balance())
            case "open":
                self.ask(client, ensureDeferred(client.account.open()))
            case "send":
                self.ask(client, client.send(address(world.node.wallets[0]), 10**15))
            case "connected":
                self.ask(client, client.when_connected())
            case "watch":
                then = self.some_time(client)
                self.ask(client, client.watch(then, addresses=[address(self.mine)], on_reset=then))
            case "fresh":
                client.account.new_address()
            case "give" if self.given < 4:
                self.give(client.account.new_address(), self.given)
                self.given += 1
                self.truths.append(self.truths[-1] + 9 * COIN)
            case "take" if self.taken < 4:
                self.taken += 1
                self.truths.append(self.truths[-1] - 9 * COIN)
                self.spend()
            case "wait":
                world.run(chance.choice((0, 0.2, 0.5, 3)))
                self.known = len(self.truths) - 1
            case "cut":
                world.cut()
            case "away":
                world.refuses = True
                world.cut()
            case "back":
                world.refuses = False
            case "busy" | "over":
                known = client.account.addresses
                mine = chance.choice([*known, client.account._own.at(0, len(known))])
                self.refuse(mine, ErrorCode.BUSY if what == "busy" else ErrorCode.OVER_LIMIT)
            case "room":
                self.refused.clear()
            case "mute":
                self.mute(chance.randrange(3))
            case "call off" if self.asked:
                chance.choice(self.asked).cancel()

    def ask(self, client: WalletClient, asked: Deferred[Any]) -> None:
        self.asked.append(asked)
        then, since = self.some_time(client), self.known

        def answered(result: Any) -> None:
            self.answers.append((set(self.truths[since:]), result))
            then(result)

        asked.addBoth(answered)

    def some_time(self, client: WalletClient) -> Any:
        """A callback that now and then does something itself."""
        what = self.chance.choice(["stop", "start", "again", "fresh", "call off", *[None] * 10])

        def then(_: Any) -> None:
            if what is not None and not self.is_over:
                self.step(client, what)

        return then
