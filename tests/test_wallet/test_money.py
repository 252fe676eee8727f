"""No money is lost, frozen or counted twice: by refusals, full disks, other processes, false words or an own bug."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred, fail

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.accounts import TOTAL, MoneyCase
from tests.test_wallet.world import World
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import TxOutput
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.wallet import addresses
from timeproto.wallet.account import Account
from timeproto.wallet.payment import ASK_AGAIN
from timeproto.wallet.promises import LEFT_ALONE
from timeproto.wallet.purse import MemoryPurse
from timeproto.wire import messages


class Change(MoneyCase):
    """Where it goes, and that it is found again."""

    def test_refused_payments_leave_no_gap(self) -> None:
        """A restore looks twenty addresses ahead: those of payments that were refused are used again."""
        for purse in (MemoryPurse(self.PHRASE), self.file()):
            account, _ = self.account(purse)
            before = purse.change_index
            take = self.refuse()
            for _ in range(30):
                self.assertIsNotNone(self.send(account, seconds=0.2).error)
            take()
            self.assertIsNotNone(self.send(account).proof)
            self.assertEqual(purse.change_index, before + 1)
            found = MemoryPurse(self.PHRASE, receive_index=0)
            restored = Account(found, self.world.client(), now=lambda: 0)
            self.outcome(restored.restore())
            self.outcome(restored.open())
            self.assertEqual(restored.balance(), account.balance())

    def test_refused_by_one_process_and_used_by_the_next(self) -> None:
        """What was given back is kept in the file."""
        file = self.file()
        for _ in range(3):
            account, _ = self.account(self.again(file))
            take = self.refuse()
            self.send(account)
            take()
            account.client.stopService()
        self.assertEqual(self.again(file).change_index, 1)

    def test_an_amount_that_is_none(self) -> None:
        """Refused before an address or a coin is taken for it."""
        account, purse = self.account()
        for amount in (1e8, True, "5", None):
            self.assertRaises(TypeError, account.send, self.shop, amount)
        self.assertEqual((purse.change_index, account.balance().available), (0, TOTAL))

    def test_no_more_addresses_than_a_node_watches(self) -> None:
        """From so many on an empty one is used again, never one with a coin or a payment on its way."""
        self.patch(addresses, "MOST_CHANGE", 3)
        account, purse = self.account()
        for _ in range(6):
            payment = self.send(account, 2 * COIN)
            self.assertIsNotNone(payment.proof)
        self.assertLessEqual(purse.change_index, 4)
        at = [coin.address for coin in account.book.free()]
        change = [each for each in at if each != address(self.mine)]
        self.assertEqual(len(change), len(set(change)))
        again, _ = self.account(MemoryPurse(self.PHRASE, change_index=9))
        self.assertEqual(account.balance(), again.balance())

    def test_too_many_to_be_paid_at(self) -> None:
        """The last that a node would watch is the last that is handed out: a wallet beyond it could not be opened."""
        self.patch(addresses, "MOST_CHANGE", 2)
        self.patch(addresses, "MOST", 5)
        account, _ = self.account()
        account.new_address()
        account.new_address()
        error = self.assertRaises(Refusal, account.new_address)
        self.assertEqual((error.code, error.details["value"]), (ErrorCode.OVER_LIMIT, 5))

    def test_many_at_once_leave_no_gap(self) -> None:
        """Of many payments on their way all may be refused but the last: its change is where a restore looks."""
        self.world = World(wallets=2, coins=40)
        self.fund(self.mine, 30)
        account, _ = self.account()
        take = self.refuse(ErrorCode.BUSY)
        payments = [self.send(account, seconds=0) for _ in range(25)]
        take()
        view, takes = self.world.node.view, self.world.node.view.submit
        full = Refusal(ErrorCode.OVER_LIMIT, "no", limit="x", value=1)
        view.submit = lambda tx: takes(tx) if tx.txid == payments[-1].txid else fail(full)
        self.world.run(3 * ASK_AGAIN)
        view.submit = takes
        self.assertEqual([each.proof is not None for each in payments], [False] * 24 + [True])
        restored = Account(MemoryPurse(self.PHRASE, receive_index=0), self.world.client(), now=lambda: 0)
        self.outcome(restored.restore())
        self.outcome(restored.open())
        self.assertEqual(restored.balance(), account.balance())


class Words(MoneyCase):
    """What a node says, and is not so."""

    def test_a_rule_that_it_does_not_break(self) -> None:
        """Sent, not answered, and then refused by a false word: it may be final by then, and its coins stay its own."""
        account, purse = self.account()
        self.world.bend = lambda message: None
        payment = account.send(self.shop, COIN)
        self.world.run(0.2)
        for code in ("fee_too_low", "bad_signature", "value_mismatch", "not_owner", "dust"):

            def bend(message: dict[str, Any], code: str = code) -> dict[str, Any] | None:
                if message["type"] == "TransactionAccepted":
                    return {"type": "Error", "id": message["id"], "code": code, "message": "no"}
                return None if message["type"] in ("UTXOStateNotification", "FinalityProofs") else message

            self.world.bend = bend
            self.world.cut()
            self.world.run(3)
            self.assertIsNone(payment.error, code)
            self.assertEqual([tx.txid for tx in purse.pending], [payment.txid])
        self.world.bend = lambda message: message
        self.world.run(4 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)

    def test_a_rule_that_it_breaks(self) -> None:
        """It is seen here as well as there, also where the coins tell: such a payment is not carried along for ever."""
        account, _ = self.account()
        coin = account.book.free()[0]
        spends = [(coin.outpoint, coin.amount, self.mine)]
        genesis = self.world.node.genesis
        theirs = [(coin.outpoint, coin.amount, self.world.node.wallets[0])]
        for number, (bad, code) in enumerate((
            (pay(genesis, spends, [(self.shop, COIN)], fee=1), ErrorCode.FEE_TOO_LOW),
            (pay(genesis, theirs, [(self.shop, COIN)]), ErrorCode.NOT_OWNER),
        )):  # fmt: skip
            self.world.bend = lambda message: None
            payment = account.client.submit(bad)
            self.world.run(0.2)
            self.world.bend = lambda message: message
            self.world.cut()
            self.world.run(3)
            self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, code, number)

    def test_an_input_and_its_change_are_not_both_counted(self) -> None:
        """A node that hides that a coin is spent has proven it all the same, by the change of it that it shows."""
        account, _ = self.account()
        coin = account.book.free()[0]

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            is_hidden = message["type"] == "UTXOStateNotification" and message["notification"]["old_state"] is not None
            return None if is_hidden else message

        self.world.bend = bend
        spends = [(coin.outpoint, coin.amount, self.mine)]
        tx = pay(self.world.node.genesis, spends, [(address(self.mine), 8 * COIN)])
        self.world.node.integration.process_transaction(tx)  # by another device with the same keys
        self.world.run(2)
        self.assertEqual(account.balance().total, TOTAL - tx.fee)

    def test_a_spent_coin_is_not_called_what_it_was_not(self) -> None:
        """That it is spent is proven, and what it was and whose is as well, or nothing of it is told."""
        client, told = self.world.client(), []
        mine = address(self.mine)
        self.outcome(client.watch(told.append, addresses=[mine]))
        told.clear()
        node, giver = self.world.node, self.world.node.wallets[0]
        coin = next(o for o, out in node.genesis.coins() if out.address == address(giver))
        tx = pay(node.genesis, [(coin, 10 * COIN, giver)], [(self.shop, COIN)])
        node.integration.process_transaction(tx)
        self.world.run(0.5)
        cursor = client.cursor
        assert cursor is not None
        client._notified(
            messages.UTXOStateNotification(
                notification=messages.StateChange(
                    coin, None, to_wire(SpentFinalized(tx.txid, 1, 1)), 1, key(1).public_hex
                ),
                cursor=messages.Cursor(cursor.node, cursor.position + 100),
                output=TxOutput(1_000_000 * COIN, mine),
                proof=node.view.transaction(tx.txid).proof,
            )
        )
        self.world.run(0.5)
        self.assertEqual(told, [])
        self.assertEqual(client.belief.lies, 1)


    def test_an_input_that_is_shown_after_its_change(self) -> None:
        """That it is spent was proven before it was heard of."""
        account, _ = self.account()
        coin = account.book.free()[0]
        spends = [(coin.outpoint, coin.amount, self.mine)]
        tx = pay(self.world.node.genesis, spends, [(address(self.mine), 8 * COIN)])
        self.world.node.integration.process_transaction(tx)
        self.world.run(1)
        account.book.add(coin)
        self.assertEqual(account.balance().total, TOTAL - tx.fee)

    def test_a_no_while_another_answer_is_awaited(self) -> None:
        """Asked at a second connection the node says no, and at the first it has said nothing yet: it may say yes."""
        account, _ = self.account()
        view, takes = self.world.node.view, self.world.node.view.submit
        asked: list[Any] = []

        def submit(tx: Any) -> Any:
            asked.append(tx)
            if len(asked) == 2:
                slow: Deferred[Any] = Deferred()
                self.world.clock.callLater(2 * ASK_AGAIN, lambda: takes(tx).chainDeferred(slow))
                return slow
            refusal = Refusal(ErrorCode.BUSY if len(asked) == 1 else ErrorCode.OVER_LIMIT, "no", limit="x", value=1)
            return fail(refusal)

        view.submit = submit
        payment = self.send(account, seconds=6 * ASK_AGAIN)
        self.assertIsNone(payment.error)
        view.submit = takes
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)


class OwnBugs(MoneyCase):
    """The program around it fails."""

    def test_stopped_and_started_again(self) -> None:
        """A payment that was on its way goes on in the end."""
        account, purse = self.account(self.file())
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(account, seconds=0.1)
        account.client.stopService()
        self.world.run(1)
        take()
        account.client.startService()
        self.world.run(LEFT_ALONE + 3 * ASK_AGAIN)
        self.assertEqual((purse.pending, account.balance().total), ((), TOTAL - COIN - payment.tx.fee))

    def test_a_file_that_others_may_read_for_a_moment(self) -> None:
        """What could not be written then is written later."""
        account, purse = self.account(self.file())
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(account, seconds=0.1)
        purse.path.chmod(0o644)
        os.utime(purse.path)
        take()
        again = self.refuse()
        self.world.run(2 * ASK_AGAIN)
        purse.path.chmod(0o600)
        again()
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        self.assertEqual((purse.pending, account.balance().pending), ((), 0))

    def test_what_is_given_back_is_given_once(self) -> None:
        """By whoever takes the payment out of the file, and not again by the next who hears that it is over."""
        for purse in (MemoryPurse(self.PHRASE), self.file()):
            first, second = self.examples()
            purse.reserve_change_index()
            purse.add_pending(first)
            purse.remove_pending(first.txid, 0)
            self.assertEqual(purse.take_spare_change(), 0)
            purse.remove_pending(first.txid, 0)
            self.assertIsNone(purse.take_spare_change())
            purse.add_pending(second)
            self.assertTrue(purse.share(second.txid))
            self.assertFalse(purse.take_back(second.txid, 0))
            self.assertEqual([tx.txid for tx in purse.pending], [second.txid])
            purse.remove_pending(second.txid)
            self.assertFalse(purse.share(second.txid))
            purse.add_pending(first)
            self.assertTrue(purse.take_back(first.txid, 0))
            self.assertEqual((list(purse.pending), purse.take_spare_change()), ([], 0))

    def examples(self) -> tuple[Any, Any]:
        account, _ = self.account()
        coins = account.book.free()
        genesis = self.world.node.genesis
        return tuple(pay(genesis, [(each.outpoint, each.amount, self.mine)], [(self.shop, COIN)]) for each in coins[:2])

    def test_a_listener_that_raises(self) -> None:
        """The payment ends as it would, and the purse knows."""
        account, purse = self.account()
        payment = account.send(self.shop, COIN)

        def listener(step: Any) -> None:
            raise RuntimeError("the application's own bug")

        payment.on_step(listener)
        self.world.run(1)
        self.successResultOf(payment.when_final())
        self.assertEqual(purse.pending, [])
        self.assertTrue(self.flushLoggedErrors(RuntimeError))

    def test_a_listener_for_addresses_that_raises(self) -> None:
        """Each new address is told all the same, and the payment whose change goes to one is handed out and ends."""
        account, purse = self.account()
        told: list[str] = []

        def listener(address: str) -> None:
            told.append(address)
            raise RuntimeError("the application's own bug")

        account.on_address = listener
        purse.reserve_receive_index()
        purse.reserve_receive_index()  # by another process
        payment = account.send(self.shop, COIN)
        self.world.run(1)
        self.successResultOf(payment.when_final())
        self.assertEqual(told, account.addresses[1:])
        self.assertEqual((len(told), purse.pending), (3, []))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

    def test_an_end_that_is_told_late_frees_nothing_of_another(self) -> None:
        """Coins go back to be paid once, by the payment that holds them."""
        account, _ = self.account()
        first = account.book.select_and_reserve(COIN, lambda ins, outs: 1000, 1000)
        outpoints = [coin.outpoint for coin in first.coins]
        account.book.reserve(outpoints, "second")
        account.book.release(outpoints, "first")
        account.book.release(outpoints)
        self.assertEqual(account.balance().pending, 9 * COIN)
        account.book.release(outpoints, "second")
        self.assertEqual(account.balance().pending, 0)
