"""No money is lost, frozen or counted twice: by refusals, full disks, other processes, false words or an own bug."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.accounts import AccountCase
from tests.test_wallet.world import World
from timeproto.errors import ConfigurationError, ErrorCode, Refusal, StorageError
from timeproto.model.transaction import TxOutput
from timeproto.model.utxo_state import SpentFinalized, to_wire
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import addresses, builder
from timeproto.wallet.account import LEFT_ALONE, Account
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wallet.keystore import WalletFile
from timeproto.wallet.outbox import ASK_AGAIN
from timeproto.wallet.purse import CoinsTaken, MemoryPurse
from timeproto.wire import messages

TOTAL = 36 * COIN


class MoneyCase(AccountCase):
    def file(self) -> WalletFile:
        folder = Path(self.mktemp())
        folder.mkdir()
        made = self.world.node.genesis
        return WalletFile.create(folder / "w.json", self.PHRASE, "pw", made, receive=1, opslimit=1, memlimit=8_192)

    def again(self, file: WalletFile) -> WalletFile:
        """What another process, or the next one, finds."""
        return WalletFile.open(file.path, "pw")

    def refuse(self, code: ErrorCode = ErrorCode.OVER_LIMIT) -> Any:
        """The node takes no payment until the function that is returned is called."""
        view = self.world.node.view
        takes = view.submit
        view.submit = lambda tx: fail(Refusal(code, "no", limit="x", value=1))

        def take() -> None:
            view.submit = takes

        return take

    def send(self, account: Account, amount: int = COIN, seconds: float = 1) -> Any:
        payment = account.send(self.shop, amount)
        payment.when_final().addErrback(lambda failure: None)
        self.world.run(seconds)
        return payment


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


class TwoProcesses(MoneyCase):
    """One wallet file, two programs."""

    def setUp(self) -> None:
        super().setUp()
        self.purse = self.file()
        self.here, _ = self.account(self.purse)
        self.there, _ = self.account(self.again(self.purse))

    def test_no_coin_is_chosen_twice(self) -> None:
        """Both pay at once: each takes what the other has left, and both become final."""
        one, two = self.here.send(self.shop, COIN), self.there.send(self.shop, 2 * COIN)
        self.assertTrue(set(one.tx.outpoints).isdisjoint(two.tx.outpoints))
        self.world.run(1)
        self.assertTrue(one.proof and two.proof)
        self.world.run(1)
        self.assertEqual(self.here.balance().total, self.there.balance().total)
        self.assertEqual(self.purse.pending, ())

    def test_chosen_between_the_look_and_the_file(self) -> None:
        """The file has the last word, under its lock: who comes second chooses again."""
        self.patch(self.there, "look", lambda: None)
        one, two = self.here.send(self.shop, COIN), self.there.send(self.shop, COIN)
        self.assertTrue(set(one.tx.outpoints).isdisjoint(two.tx.outpoints))
        self.assertEqual(self.purse.change_index, 1)
        self.assertRaises(CoinsTaken, self.again(self.purse).add_pending, self.rival_of(one.tx))

    def rival_of(self, tx: Any) -> Any:
        return pay(self.world.node.genesis, [(tx.outpoints[0], 9 * COIN, self.mine)], [(self.shop, COIN)], timestamp=9)

    def test_what_the_other_was_refused_is_free_again(self) -> None:
        """Its coins are kept only as long as its payment is in the file."""
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(self.there, 35 * COIN)
        self.assertRaises(InsufficientFunds, self.here.send, self.shop, 35 * COIN)
        self.assertEqual(self.here.balance().pending, TOTAL)
        take()
        self.refuse()()
        self.world.node.view.submit = lambda tx: fail(Refusal(ErrorCode.OVER_LIMIT, "no", limit="x", value=1))
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(payment.error)
        take()
        self.assertIsNotNone(self.send(self.here, 35 * COIN).proof)

    def test_a_coin_that_comes_after_the_payment_with_it(self) -> None:
        """What another process is spending is not chosen, whenever this one hears of the coin."""
        self.assertIsNotNone(self.send(self.there, 35 * COIN, 0.3).proof)
        take = self.refuse(ErrorCode.BUSY)
        self.send(self.there, COIN // 2, 0.1)
        self.world.run(2 * ASK_AGAIN)
        self.assertRaises(InsufficientFunds, self.here.send, self.shop, COIN // 3)
        take()

    def test_the_same_payment_in_the_same_second(self) -> None:
        """Two wishes are two payments, though all of one would be the same as of the other."""
        self.patch(self.there, "look", lambda: None)
        amount = 9 * COIN - builder.fee_for(1, 1, self.world.node.genesis.params)
        one, two = self.here.send(self.shop, amount), self.there.send(self.shop, amount)
        self.assertNotEqual(one.txid, two.txid)

    def test_addresses_that_both_hand_out(self) -> None:
        """Each is watched by both, whoever asked for one first."""
        theirs, ours = self.there.new_address(), self.here.new_address()
        self.world.run(2 * ASK_AGAIN)
        for account in (self.here, self.there):
            self.assertLessEqual({theirs, ours}, account._watched)

    def test_the_other_dies(self) -> None:
        """Its payment is sent by this one after a while, and not left with its coins for ever."""
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(self.there, 35 * COIN, 0.1)
        self.there.client.stopService()
        take()
        self.world.run(LEFT_ALONE / 2)
        self.assertEqual(self.here.balance().pending, TOTAL)
        self.world.run(LEFT_ALONE)
        self.assertEqual(self.here.balance().total, TOTAL - 35 * COIN - payment.tx.fee)
        self.assertEqual(self.purse.pending, ())

    def test_refused_to_one_and_sent_by_another(self) -> None:
        """A node's no is no end of a payment that a second process has taken up: it may be final by that one's hand."""
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(self.here, COIN, 0.1)
        third, _ = self.account(self.again(self.purse))  # which takes up what it finds
        take()
        self.world.node.view.submit, takes = (
            lambda tx: fail(Refusal(ErrorCode.OVER_LIMIT, "no", limit="x", value=1)),
            self.world.node.view.submit,
        )
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNone(payment.error)
        self.assertEqual(self.here.balance().pending, 9 * COIN)
        self.world.node.view.submit = takes
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(self.here.balance(), third.balance())

    def test_opened_in_pieces(self) -> None:
        """A connection that is lost while it reads keeps no coin of a payment that ends meanwhile."""
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(self.here, COIN, 0.1)
        client = self.world.client()
        third = Account(self.again(self.purse), client, now=lambda: 0)

        async def gone(txid: str) -> None:
            raise ConnectionGone("the node went away")

        fetch, client.fetch_proof = client.fetch_proof, gone  # type: ignore[method-assign,assignment]
        opening = ensureDeferred(third.open())
        self.world.run(1)
        self.failureResultOf(opening, ConnectionGone)
        client.fetch_proof = fetch  # type: ignore[method-assign]
        take()
        self.refuse()
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(payment.error)
        self.outcome(third.open())
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(third.balance().available, TOTAL)

    def test_what_the_other_makes_is_counted(self) -> None:
        """Its addresses and its change are this wallet's too, as soon as it looks."""
        self.send(self.there, COIN)
        fresh = self.there.new_address()
        self.world.run(2 * ASK_AGAIN)
        node, giver = self.world.node, self.world.node.wallets[0]
        coin = next(o for o, out in node.genesis.coins() if out.address == address(giver))
        node.integration.process_transaction(pay(node.genesis, [(coin, 10 * COIN, giver)], [(fresh, 9 * COIN)]))
        self.world.run(1)
        self.assertGreater(self.here.balance().total, 43 * COIN)
        self.assertEqual(self.here.balance(), self.there.balance())


class Disks(MoneyCase):
    """A disk that does not take it."""

    def setUp(self) -> None:
        super().setUp()
        self.purse = self.file()
        self.opened, _ = self.account(self.purse)

    def no_folders(self) -> Any:
        """Folders cannot be synced until the function that is returned is called."""
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.EIO, "Input/output error")
            sync(descriptor)

        os.fsync = fsync  # type: ignore[assignment]

        def mend() -> None:
            os.fsync = sync

        self.addCleanup(mend)
        return mend

    def test_a_payment_that_could_not_be_written_is_never_made(self) -> None:
        """Whether or not the file has it by then: it is taken out again, and no later start sends it."""
        add = self.purse.add_pending

        def add_pending(tx: Any) -> None:
            mend = self.no_folders()
            try:
                add(tx)
            finally:
                mend()

        self.patch(self.purse, "add_pending", add_pending)
        self.assertRaises(StorageError, self.opened.send, self.shop, COIN)
        self.assertEqual(self.opened.balance().available, TOTAL)
        self.assertEqual((self.purse.pending, self.again(self.purse).pending), ((), ()))
        self.opened.client.stopService()
        again, _ = self.account(self.again(self.purse))
        self.world.run(2)
        self.assertEqual(again.balance().available, TOTAL)

    def fill(self) -> Any:
        """Nothing is taken out of the file until the function that is returned is called."""
        kept = {name: getattr(self.purse, name) for name in ("take_back", "remove_pending")}

        def full(txid: str, *spare: int) -> None:
            raise StorageError("the disk is full")

        for name in kept:
            setattr(self.purse, name, full)

        def mend() -> None:
            for name, method in kept.items():
                setattr(self.purse, name, method)

        return mend

    def test_a_refusal_that_could_not_be_written(self) -> None:
        """It is none, then: at the next start the payment would be sent again, so it goes on, and is not paid twice."""
        take, mend = self.refuse(), self.fill()
        payment = self.send(self.opened)
        self.assertIsNone(payment.error)
        take()
        mend()
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(self.again(self.purse).pending, ())

    def test_a_proven_end_that_could_not_be_written(self) -> None:
        """Its other coins are kept until it is, and are free then."""
        take, mend = self.refuse(ErrorCode.BUSY), self.fill()
        payment = self.send(self.opened, 20 * COIN)
        take()
        spends = [(payment.tx.outpoints[0], 9 * COIN, self.mine)]
        rival = pay(self.world.node.genesis, spends, [(address(self.mine), COIN)], timestamp=9)
        self.world.node.integration.process_transaction(rival)
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.error)
        self.assertEqual(self.opened.balance().pending, 18 * COIN)
        mend()
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(self.opened.balance().pending, 0)
        self.assertEqual(self.again(self.purse).pending, ())

    def test_a_wallet_that_could_not_be_made(self) -> None:
        """Nobody has seen its phrase, so there is none."""
        path = Path(self.mktemp())
        self.no_folders()
        made = path, self.PHRASE, "pw", self.world.node.genesis
        error = self.assertRaises(StorageError, WalletFile.create, *made, opslimit=1, memlimit=8_192)
        self.assertIn("cannot be written", str(error))
        self.assertFalse(path.exists())

    def test_a_link_stays_one(self) -> None:
        """What is written goes to the file that the link leads to."""
        link = Path(self.mktemp())
        link.symlink_to(self.purse.path.absolute())
        WalletFile.open(link, "pw").reserve_receive_index()
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.again(self.purse).receive_index, 2)

    def test_a_phrase_has_one_spelling(self) -> None:
        """A line break too many, or a capital, is no other wallet; a word that is none is refused."""
        self.assertEqual(MemoryPurse(f" {self.PHRASE.upper()}\n").phrase, self.PHRASE)
        self.assertRaises(ConfigurationError, MemoryPurse, self.PHRASE.replace("about", "abuot"))
        file = WalletFile.create(
            Path(self.mktemp()), f"{self.PHRASE}\n", "pw", self.world.node.genesis, opslimit=1, memlimit=8_192
        )
        self.assertEqual(self.again(file).phrase, self.PHRASE)


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
