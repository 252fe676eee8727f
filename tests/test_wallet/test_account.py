"""Money in an account: what is picked, reserved, sent again and restored."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.accounts import AccountCase
from tests.test_wallet.purses import PurseCase
from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.transaction import TxOutput
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import promises
from timeproto.wallet.account import Account
from timeproto.wallet.client import WalletClient
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wallet.purse import MemoryPurse
from timeproto.wire import messages


class Accounts(AccountCase):
    """Selection, reservation, restore."""

    def test_a_hundred_sends_at_once_pick_no_coin_twice(self) -> None:
        """As many as there are coins go through; the others are told what is free (failure 11)."""
        account, purse = self.account()
        total = account.balance().total
        self.assertEqual(total, 36 * COIN)
        to = address(self.world.node.wallets[0])
        payments, poor = [], 0
        for _ in range(100):
            try:
                payments.append(account.send(to, COIN))
            except InsufficientFunds:
                poor += 1
            self.assertEqual(account.balance().total, total)
        self.world.run(0.5)
        self.assertEqual((len(payments), poor), (4, 96))
        spent = [outpoint for payment in payments for outpoint in payment.tx.outpoints]
        self.assertEqual(len(spent), len(set(spent)))
        self.assertTrue(all(payment.proof is not None for payment in payments))
        self.world.run(0.5)
        fees = sum(payment.tx.fee for payment in payments)
        self.assertEqual(account.balance().total, total - 4 * COIN - fees)
        self.assertEqual(purse.pending, [])

    def test_an_account_whose_wallet_was_closed_promises_nothing(self) -> None:
        """What is asked of it fails with ``ConnectionGone``, and no payment waits in the purse for the next life."""
        account, purse = self.account()
        self.outcome(account.opened())
        shared: list[str] = []
        self.patch(purse, "share", lambda *txids: shared.extend(txids))
        theirs = pay(self.world.node.genesis, [(account.book.free()[0].outpoint, 9 * COIN, self.mine)], [])
        to = address(self.world.node.wallets[0])
        account.client.stopService()
        self.world.run(0.2)
        self.assertRaises(ConnectionGone, account.send, to, COIN)
        for asked in (account.opened(), account.open(), account.cancel(theirs)):
            self.failureResultOf(ensureDeferred(asked), ConnectionGone)
        self.assertEqual((purse.pending, shared, account.balance().pending), ([], [], 0))

    def test_an_account_that_is_not_opened_in_time(self) -> None:
        """Of many who wait for it each is told, nobody that there is nothing; opened later it has all its coins."""
        client = self.world.client()
        account = Account(MemoryPurse(self.PHRASE), client, now=lambda: 1)
        opening = [ensureDeferred(account.opened()) for _ in range(3)]
        client.stopService()
        self.world.run(0.2)
        for each in opening:
            self.failureResultOf(each, ConnectionGone)
        self.failureResultOf(ensureDeferred(account.open()), ConnectionGone)
        client.startService()
        self.world.run(3)
        again = ensureDeferred(account.opened())
        self.world.run(0.5)
        self.successResultOf(again)
        self.assertEqual(account.balance().total, 36 * COIN)

    def test_an_account_that_no_node_takes(self) -> None:
        """All who open it at once are told why it is not open, and none that there is nothing in it."""
        account = Account(MemoryPurse(self.PHRASE), self.world.client(), now=lambda: 1)
        self.patch(limits, "FILTERS_CONNECTION", 0)
        ways = (account.open, account.open, account.opened, account.opened)
        opening = [ensureDeferred(way()) for way in ways]
        self.world.run(0.5)
        for each in opening:
            self.assertIs(self.failureResultOf(each, Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertFalse(account.is_open)

    def test_an_address_that_is_made_while_the_wallet_is_closed(self) -> None:
        """It is watched once the wallet is started again."""
        account, _ = self.account()
        account.client.stopService()
        self.world.run(0.2)
        fresh = account.new_address()
        account.client.startService()
        self.world.run(3)
        before = account.balance().available
        payment = account.send(fresh, COIN)
        self.world.run(0.5)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(account.balance().available, before - payment.tx.fee)

    def started_again(self) -> tuple[Account, Any, int]:
        """An open account whose client was stopped and started, where no node is; and what was paid to it meanwhile,
        at an address that was made then."""
        client = WalletClient(
            self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=MemoryPurse(self.PHRASE)
        )
        client.startService()
        self.outcome(client.balance())
        client.stopService()
        self.world.run(0.2)
        payer = self.world.node.wallets[0]
        owned = [o for o, out in self.world.node.genesis.coins() if out.address == address(payer)]
        fresh = client.account.new_address()
        self.world.node.integration.process_transaction(
            pay(self.world.node.genesis, [(owned[0], 10 * COIN, payer)], [(fresh, 9 * COIN)])
        )
        self.world.refuses = True
        client.startService()
        self.world.run(1)
        return client.account, client, 9 * COIN

    def test_a_balance_that_is_asked_for_before_a_node_is_there(self) -> None:
        """Of an account that was open it waits for the node too, and has what was paid to it meanwhile."""
        _, client, paid = self.started_again()
        balance = client.balance()
        self.world.run(1)
        self.assertNoResult(balance)
        self.world.refuses = False
        self.world.run(5)
        self.assertEqual(self.successResultOf(balance).total, 36 * COIN + paid)

    def test_a_payment_of_more_than_was_there_before(self) -> None:
        """Nobody is told that his funds do not suffice before all of them were read."""
        _, client, paid = self.started_again()
        sending = client.send(address(self.world.node.wallets[0]), 36 * COIN + paid // 2)
        self.world.refuses = False
        self.world.run(5)
        self.assertIsNotNone(self.successResultOf(sending).proof)

    def test_a_balance_that_the_node_does_not_stay_for(self) -> None:
        """It left before it had told of a new address: that is said, and no balance without it."""
        account, client, paid = self.started_again()
        self.world.refuses = False
        self.world.run(5)
        self.world.bend = lambda message: None if message["type"] == "UTXOSubscribed" else message
        account.new_address()
        asked = client.balance(), ensureDeferred(account.open())
        self.world.run(0.2)
        self.world.bend = lambda message: message
        self.world.cut()
        for each in asked:
            self.failureResultOf(each, ConnectionGone)
        self.world.run(3)
        again = client.balance()
        self.world.run(0.2)
        self.assertEqual(self.successResultOf(again).total, 36 * COIN + paid)

    def test_an_account_that_is_opened_again(self) -> None:
        """It looks what is new, and takes its undecided payment for none that another process sends."""
        account, purse = self.account()
        kept_back = ("TransactionAccepted", "UTXOStateNotification", "FinalityProofs")
        self.world.bend = lambda message: None if message["type"] in kept_back else message
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)
        before = account.balance()
        looks: list[int] = []
        self.patch(purse, "look", lambda: looks.append(1))
        again = ensureDeferred(account.open())
        self.world.run(0.2)
        self.successResultOf(again)
        self.assertTrue(looks)
        self.assertEqual((account._promises._others, account.balance()), ({}, before))
        self.world.bend = lambda message: message
        self.world.cut()
        self.world.run(3)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(purse.pending, [])

    def test_a_refused_payment_lets_go_of_its_coins(self) -> None:
        """Reserved while it is undecided, and no longer once a node refused it."""
        account, purse = self.account()
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        for coin in account.book.free():  # another device with the same keys was faster, and we were not told
            elsewhere = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=7)
            self.world.node.integration.process_transaction(elsewhere)
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.assertGreater(account.balance().pending, 0)
        self.world.run(0.3)
        refusal = self.failureResultOf(payment.when_final(), Refusal).value
        self.assertIs(refusal.code, ErrorCode.DOUBLE_SPEND)
        self.assertEqual((account.balance().pending, purse.pending), (0, []))

    def test_a_wallet_that_dies_sends_the_same_again(self) -> None:
        """The payment was written down before it left; the next life finishes it, and no other."""
        account, purse = self.account()
        self.world.bend = lambda message: None
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)
        self.assertEqual([tx.txid for tx in purse.pending], [payment.txid])
        account.client.stopService()
        self.failureResultOf(payment.when_final(), ConnectionGone)
        self.world.run(0.5)
        self.world.bend = lambda message: message
        again, _ = self.account(purse)
        self.world.run(1)
        self.assertEqual(purse.pending, [])
        self.assertEqual(again.balance().total, 36 * COIN - COIN - payment.tx.fee)

    def test_a_payment_that_may_be_locked_is_not_given_up(self) -> None:
        """Accepted once, a later refusal by a node that is behind frees nothing: it is sent again until it is final."""
        account, purse = self.account()
        self.world.node.hold()
        payment = account.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(0.2)
        self.world.cut()  # nobody knows whether it was locked
        answers = ["unknown_input", "double_spend", "unknown_input"]

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if answers and message["type"] == "UTXOStateNotification":
                return None  # a node that is behind does not know of the payment's end either
            if answers and message["type"] == "TransactionAccepted":
                return {"type": "Error", "id": message["id"], "code": answers.pop(0), "message": "no"}
            return message

        self.world.bend = bend
        self.world.node.release()
        self.world.run(0.6)
        self.assertIsNone(payment.error)
        self.assertEqual([tx.txid for tx in purse.pending], [payment.txid])
        self.world.run(20)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(purse.pending, [])

    def test_a_rival_that_is_proven_ends_it(self) -> None:
        """The double spend that is final elsewhere ends a payment of an earlier life, with the proof of the rival."""
        account, _ = self.account()
        coin = account.book.free()[0]
        lost = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=8)
        self.world.node.integration.process_transaction(
            pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=9)
        )
        payment = account.client.submit(lost, again=True)
        self.world.run(1)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.DOUBLE_SPEND)

    def test_a_rival_told_and_proven_ends_it_and_words_do_not(self) -> None:
        """Another device spends our coin while ours is on its way: over with the rival's proof, not without it."""
        account, _ = self.account()
        coin = account.book.free()[0]
        rival = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=9)
        lost = pay(self.world.node.genesis, [(coin.outpoint, coin.amount, self.mine)], [], timestamp=8)
        self.world.bend = lambda message: None if message["type"] == "Error" else message
        payment = account.client.submit(lost, again=True)
        client = account.client
        words = messages.UTXOStateNotification(
            notification=messages.StateChange(
                coin.outpoint, None, to_wire(SpentFinalized(rival.txid, 1, 1)), 1, key(1).public_hex
            ),
            cursor=messages.Cursor(key(1).public_hex, 1),
            output=TxOutput(coin.amount, coin.address),
        )
        client._notified(words)
        self.world.run(0.2)
        self.assertIsNone(payment.error)
        self.assertGreater(client.belief.lies, 0)

    def test_spent_coins_do_not_come_back(self) -> None:
        """A node that is behind shows a coin as Unspent that this wallet has proven spent."""
        account, _ = self.account()
        coin = account.book.free()[0]
        account.book.spent(coin.outpoint)
        account.book.add(coin)
        self.assertNotIn(coin.outpoint, account.book)

    def test_restore_finds_what_was_used(self) -> None:
        """By gap limit, spent addresses included, and the indices below."""
        from timeproto.wallet import hd

        seventh = hd.derive(self.PHRASE, index=7)
        node = self.world.node
        giver = node.wallets[0]
        owned = [o for o, out in node.genesis.coins() if out.address == address(giver)]
        node.integration.process_transaction(
            pay(node.genesis, [(owned[0], 10 * COIN, giver)], [(address(seventh), 2 * COIN)])
        )
        purse = MemoryPurse(self.PHRASE)
        purse.receive_index = 0
        account = Account(purse, self.world.client(), now=lambda: 0)
        self.assertEqual(self.outcome_of_many(account.restore()), 2)
        self.assertEqual((purse.receive_index, purse.change_index), (8, 0))
        self.outcome(account.open())
        self.assertEqual(account.balance().total, 38 * COIN)

    def outcome_of_many(self, coroutine: Any) -> Any:
        waiting = ensureDeferred(coroutine)
        self.world.run(3)
        return self.successResultOf(waiting)

    def test_a_client_with_a_purse_has_money(self) -> None:
        """``send`` and ``balance`` by themselves: connected, opened and proven before they answer."""
        purse = MemoryPurse(self.PHRASE)
        client = WalletClient(self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=purse)
        client.startService()
        balance, sending = client.balance(), client.send(address(self.world.node.wallets[0]), COIN)
        self.world.run(2)
        self.assertEqual(self.successResultOf(balance).total, 36 * COIN)
        payment = self.successResultOf(sending)
        self.world.run(0.5)
        final = client.wait_final(payment.txid)
        self.world.run(0.1)
        self.assertEqual(self.successResultOf(final).txid, payment.txid)
        later = client.balance()
        self.world.run(0.5)
        self.assertEqual(self.successResultOf(later).total, 35 * COIN - payment.tx.fee)
        poor = client.send(address(self.world.node.wallets[0]), 10**15)
        self.world.run(0.1)
        self.failureResultOf(poor, InsufficientFunds)

    def test_a_client_without_a_purse_has_none(self) -> None:
        """It says so, and goes on watching."""
        client = self.world.client()
        self.failureResultOf(client.balance(), ConfigurationError)

    def test_a_claim_is_no_money(self) -> None:
        """A coin the node cannot prove never enters the balance."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "UTXOSubscribed":
                for state in message["states"]:
                    state["output"]["amount"] += 1
            return message

        self.world.bend = bend
        account, _ = self.account()
        self.assertEqual(account.balance().total, 0)


class EarlierLives(PurseCase):
    """Payments that became final while nobody looked."""

    def setUp(self) -> None:
        super().setUp()
        client = self.opened()
        self.world.bend = lambda message: None
        for _ in range(4):
            client.account.send(self.shop, COIN).when_final().addErrback(lambda failure: None)
        self.world.run(0.2)
        client.stopService()
        self.world.run(0.2)
        self.purse: Any = client.account._purse
        self.assertEqual(len(self.purse.pending), 4)

    def later(self) -> WalletClient:
        """The next life, which has begun to read its balance."""
        client = WalletClient(self.world.clock, self.world.node.genesis, [], rotation=self.world, purse=self.purse)
        self.addCleanup(client.stopService)
        client.startService()
        return client

    def test_they_are_asked_after_at_once(self) -> None:
        """So that a node that is slow with each answer costs the time of one; no more than a few at a time."""
        self.patch(promises, "AT_A_TIME", 3)
        held: list[Any] = []
        self.world.bend = lambda message: held.append(message) if message["type"] == "FinalityProofs" else message
        asked = self.asked("GetFinalityProof")
        client = self.later()
        balance = client.balance()
        self.world.run(0.5)
        self.assertEqual((len(asked), len(held)), (3, 3))
        self.world.bend = lambda message: message
        self.world.say(held[0])
        self.world.run(0)
        self.assertEqual(len(asked), 4)
        self.assertNoResult(balance)
        for each in held[1:]:
            self.world.say(each)
        self.world.run(0.5)
        self.assertEqual((self.successResultOf(balance).total // COIN, self.purse.pending), (31, []))

    def test_a_node_that_lies_about_them(self) -> None:
        """It is left before it is given anything; the next proves what became of them."""
        self.world.size = 2

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "FinalityProofs":
                message["proofs"][0]["votes"][0]["signature"] = "00" * 64
            return message

        self.world.bend = bend
        sent, before = self.asked("TransactionBroadcast"), self.world.connections
        client = self.later()
        opening = ensureDeferred(client.account.opened())
        self.world.run(0)
        self.successResultOf(opening)
        self.assertEqual((sent, len(self.purse.pending)), ([], 4))
        self.world.bend = lambda message: message
        self.world.run(5)
        self.assertEqual((self.world.connections - before, self.purse.pending), (2, []))

    def test_a_wallet_that_is_closed_meanwhile(self) -> None:
        """It is not open, and has taken up nothing."""
        self.world.bend = lambda message: None if message["type"] == "FinalityProofs" else message
        client = self.later()
        opening = ensureDeferred(client.account.opened())
        self.world.run(0.5)
        client.stopService()
        self.world.run(0.5)
        self.failureResultOf(opening, ConnectionGone)
        self.assertEqual((client.account.is_open, len(self.purse.pending)), (False, 4))
