"""What an account has read, and what not: no balance is of less, and a node that refuses is asked again, not often."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.logger import Logger, formatEvent

from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import PurseCase
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import reading
from timeproto.wallet.belief import Lie
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wallet.watching import Watches


class Shown(PurseCase):
    """What a node that lies can show of an address: no more than an honest one shows."""

    def show(self, *invented: tuple[str, Any, str], more: bool = False) -> None:
        """The liar's pages: (txid, state, address) of each coin."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if self.world.connections > 1:
                return message
            if message["type"] == "UTXOSubscribed":
                return message | {"states": [], "more": True}
            if message["type"] == "AddressUTXOs":
                coins = [
                    {"outpoint": {"txid": txid, "vout": 0}, "state": state, "output": {"amount": COIN, "address": to}}
                    for txid, state, to in invented
                ]
                return message | {"coins": coins, "more": more}
            return message

        self.world.bend = bend

    def test_an_invented_coin_a_page(self) -> None:
        """For ever, if it were not left for the next node at the first: a page that is not the last is full."""
        self.world.size = 2
        self.show(("ab" * 32, "Unspent", address(self.mine)), more=True)
        asked = self.asked("GetAddressUTXOs")
        client = self.client()
        client.startService()
        balance = client.balance()
        self.world.run(5)
        self.failureResultOf(balance, ConnectionGone)
        self.assertEqual((self.balance(client), self.world.connections, len(asked)), (TOTAL, 2, 1))

    def test_full_pages_of_invented_coins(self) -> None:
        """Of each page that is not the last one coin is checked; and so before an address is said to have too many."""
        invented = [(f"{number:064x}", "Unspent", address(self.mine)) for number in (1, 2)]
        for coins, more in ((1_000, True), (1, False)):
            self.setUp()
            self.world.size = 2
            self.patch(reading, "PAGE", 2)
            self.patch(reading, "COINS", coins)
            self.show(*invented, more=more)
            asked = self.asked("GetAddressUTXOs")
            client = self.client()
            client.startService()
            client.balance().addErrback(lambda failure: failure.trap(ConnectionGone))
            self.world.run(5)
            self.assertEqual((self.balance(client), self.world.connections, len(asked)), (TOTAL, 2, 1))

    def test_coins_that_nobody_asked_for(self) -> None:
        """Of somebody else, spent, out of order: none of it is in an honest node's page."""
        spent = {"SpentFinalized": {"txid": "ab" * 32, "finalized_at": 1, "votes": 1}}
        client, mine = self.client(), address(self.mine)
        client.startService()
        self.world.run(1)
        for coins in (
            [("aa" * 32, "Unspent", self.shop)],
            [("aa" * 32, spent, mine)],
            [("bb" * 32, "Unspent", mine), ("aa" * 32, "Unspent", mine)],
            [("aa" * 32, "Unspent", mine), ("aa" * 32, "Unspent", mine)],
        ):
            self.show(*coins)
            asking = ensureDeferred(client.address_coins(mine))
            self.world.run(1)
            self.failureResultOf(asking, Lie)

    def test_an_honest_node_s_pages_with_what_is_spent(self) -> None:
        """That is read last, and so is what is spent in between; nothing is passed over."""
        self.patch(reading, "PAGE", 1)
        client, mine = self.client(), address(self.mine)
        client.startService()
        self.world.run(1)
        coins = [at for at, _ in self.world.node.store.address_coins(mine, None, 10, spent=True)[0]]
        pages: list[int] = []
        self.at: tuple[int, ...] = ()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs":
                pages.append(len(pages))
                if len(pages) in self.at:
                    self.spend()
            return message

        self.world.bend = bend
        for spends in ((), (2, 3), (1,)):
            pages.clear()
            self.at = spends
            asking = ensureDeferred(client.address_coins(mine, spent=True))
            self.world.run(1)
            shown = self.successResultOf(asking)
            self.assertEqual([coin.outpoint for coin in shown if coin.outpoint not in coins], [])
            self.assertEqual(len(shown), len(coins))


class Reading(PurseCase):
    """What is told of coins that were, or were not, read."""

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
        self.assertNoResult(client.watches.settled())
        fresh = client.account.new_address()
        watching = client.watch(lambda change: None, addresses=[self.shop])
        self.world.run(0.1)
        self.assertNoResult(client.watches.settled())
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

    def test_too_little_is_too_little(self) -> None:
        """Once all was read, that is what is said."""
        client = self.opened()
        sending = client.send(address(self.world.node.wallets[0]), 40 * COIN)
        self.world.run(0.5)
        self.failureResultOf(sending, InsufficientFunds)
