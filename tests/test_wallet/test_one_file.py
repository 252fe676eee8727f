"""One wallet file: two processes with it, and a disk that does not take what is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, ensureDeferred, fail

from tests.cluster import COIN, address, pay
from tests.test_wallet.accounts import TOTAL, MoneyCase
from timeproto.errors import ConfigurationError, ErrorCode, Refusal, StorageError
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import builder
from timeproto.wallet.account import Account
from timeproto.wallet.coins import InsufficientFunds
from timeproto.wallet.keystore import WalletFile
from timeproto.wallet.payment import ASK_AGAIN
from timeproto.wallet.promises import LEFT_ALONE
from timeproto.wallet.purse import CoinsTaken, MemoryPurse


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
            self.assertLessEqual({theirs, ours}, account._watching.begun)

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

    def test_cancelled_by_one_and_refused_to_another(self) -> None:
        """Whoever cancels a payment sends it: from then on a no to the other process ends nothing."""
        take = self.refuse(ErrorCode.BUSY)
        payment = self.send(self.there, COIN, 0.1)
        cancelling = Deferred.fromCoroutine(self.here.cancel(payment.tx))
        cancelling.addErrback(lambda failure: None)
        self.world.run(0.1)
        self.assertEqual(self.again(self.purse)._document.shared, (payment.txid,))
        take()
        again = self.refuse()
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNone(payment.error)
        again()
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)

    def test_one_that_is_not_in_the_file_is_cancelled(self) -> None:
        """It is sent, and so it is added: its coins are not picked for the next payment."""
        take = self.refuse()
        refused = self.send(self.here, COIN)
        self.assertEqual(self.purse.pending, ())
        take()
        busy = self.refuse(ErrorCode.BUSY)
        Deferred.fromCoroutine(self.here.cancel(refused.tx)).addErrback(lambda failure: None)
        self.world.run(0.5)
        self.assertEqual(self.again(self.purse).pending, (refused.tx,))
        payment = self.send(self.here, COIN, 0.1)
        self.assertTrue(set(payment.tx.outpoints).isdisjoint(refused.tx.outpoints))
        busy()
        self.world.run(3 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(self.purse.pending, ())

    def test_the_same_payment_of_two_takes_nobodys_out(self) -> None:
        """Who comes second chooses other coins, and leaves the first one's where it is."""
        self.patch(self.there, "look", lambda: None)
        amount = 9 * COIN - builder.fee_for(1, 1, self.world.node.genesis.params)
        one = self.here.send(self.shop, amount)
        two = self.there.send(self.shop, amount)
        pending = self.again(self.purse).pending
        self.assertEqual({tx.txid for tx in pending}, {one.txid, two.txid})

    def test_a_balance_has_the_newest_addresses(self) -> None:
        """What another process did since the file was opened is read before anything is told."""
        purse = self.again(self.purse)
        self.assertIsNotNone(self.send(self.there, COIN).proof)
        late, _ = self.account(purse)
        self.assertEqual(late.balance(), self.there.balance())

    def test_many_that_a_node_does_not_take_now(self) -> None:
        """A wallet with several undecided payments opens all the same, with one write for all of them."""
        self.refuse(ErrorCode.BUSY)
        for _ in range(3):
            self.send(self.here, COIN, 0)
        self.here.client.stopService()
        purse, writes = self.again(self.purse), []
        save = purse._save
        self.patch(purse, "_save", lambda document: writes.append(document) or save(document))
        late, _ = self.account(purse)
        self.assertTrue(late.is_open)
        self.assertEqual((len(writes), len(purse._document.shared)), (1, 3))

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

    def test_tries_on_a_disk_with_room_for_all_but_the_payment(self) -> None:
        """However many there are, a restore from the phrase finds where the change of the next one is."""
        file = type(self.purse)
        put, room = file._put, self.purse.path.stat().st_size

        def no_more_than(most: int) -> None:
            def full(wallet: Any, document: Any, text: bytes, is_new: bool) -> None:
                if len(text) > most:
                    raise OSError(errno.ENOSPC, "No space left on device")
                put(wallet, document, text, is_new)

            self.patch(file, "_put", full)

        for spare in (50, 2):  # with room for what is given back, or without
            no_more_than(room + spare)
            for _ in range(25):
                self.assertRaises(StorageError, self.opened.send, self.shop, COIN)
        self.patch(file, "_put", put)
        self.send(self.opened, TOTAL - COIN)
        restored = Account(MemoryPurse(self.PHRASE, receive_index=0), self.world.client(), now=lambda: 0)
        self.outcome(restored.restore())
        self.outcome(restored.open())
        self.assertEqual(restored.balance(), self.opened.balance())
        self.assertGreater(restored.balance().total, 0)

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

    def test_written_in_spite_of_what_the_disk_said(self) -> None:
        """Neither sent by this process, however long the disk is full, nor by the next."""
        sync, write = os.fsync, self.purse._save

        def fsync(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.EIO, "Input/output error")
            sync(descriptor)

        add = self.purse.add_pending

        def add_pending(tx: Any) -> None:
            with mock.patch.object(os, "fsync", fsync):
                try:
                    add(tx)
                finally:
                    self.purse._save = full  # type: ignore[method-assign]

        def full(document: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(self.purse, "add_pending", add_pending)
        self.assertRaises(StorageError, self.opened.send, self.shop, COIN)
        self.world.run(2 * LEFT_ALONE)
        self.assertEqual(self.opened.balance().pending, 9 * COIN)
        self.purse._save = write  # type: ignore[method-assign]
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual((self.opened.balance().available, self.again(self.purse).pending), (TOTAL, ()))

    def test_another_wallet_in_its_place(self) -> None:
        """It is never overwritten: neither with another password, nor with another phrase, however often it is seen."""
        genesis = self.world.node.genesis
        for phrase, password in ((self.PHRASE, "another"), ("zoo " * 11 + "wrong", "pw")):
            other = WalletFile.create(Path(self.mktemp()), phrase, password, genesis, opslimit=1, memlimit=8_192)
            mine = self.file()
            other.path.rename(mine.path)
            before = mine.path.read_bytes()
            for _ in range(3):
                self.assertRaises(ConfigurationError, mine.look)
                self.assertRaises(ConfigurationError, mine.reserve_receive_index)
            self.assertEqual(mine.path.read_bytes(), before)

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
