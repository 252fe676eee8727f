"""Payments beyond finality: the block in their history, an end that was there before, and whose wish counts."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail

from tests.cluster import COIN, address, key, pay
from tests.test_wallet import verdicts
from tests.test_wallet.test_ends import Ends
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.transaction import Transaction
from timeproto.wallet import belief
from timeproto.wallet.belief import Aborted
from timeproto.wallet.client import WalletClient
from timeproto.wallet.payment import Payment
from timeproto.wallet.purse import MemoryPurse

PHRASE = "abandon " * 11 + "about"


class Fate(Ends):
    def rich(self, coins: int = 1) -> WalletClient:
        """A client with a purse that holds coins of 9 TIME."""
        purse = self.purse = MemoryPurse(PHRASE)
        client = WalletClient(self.world.clock, self.genesis, [], rotation=self.world, purse=purse)
        client.startService()
        self.world.run(2)
        owner = self.node.wallets[0]
        owned = [at for at, output in self.genesis.coins() if output.address == address(owner)]
        for number in range(coins):
            tx = pay(self.genesis, [(owned[number], 10 * COIN, owner)], [(client.account.addresses[0], 9 * COIN)])
            self.node.integration.process_transaction(tx)
        reading = client.balance()
        self.world.run(1)
        self.assertEqual(self.successResultOf(reading).available, coins * 9 * COIN)
        return client

    def sent(self, client: WalletClient, amount: int = COIN) -> Payment:
        sending = client.send(address(self.node.wallets[1]), amount)
        self.world.run(1)
        payment: Payment = self.successResultOf(sending)
        return payment

    def ended_by(self, tx: Transaction, rival: Transaction) -> None:
        """The node shows a block with ``rival`` in it, and that this has ended ``tx``."""
        infos = verdicts.beaten(self.genesis, tx, rival)
        real = self.node.view.transaction
        self.patch(self.node.view, "transaction", lambda txid: infos.get(txid) or real(txid))


class Histories(Fate):
    def test_a_wallet_that_watches_hears_of_the_block(self) -> None:
        """Nobody asked for it: the last step is Confirmed, with the height, once."""
        client = self.rich()
        payment = self.sent(client)
        self.successResultOf(payment.when_final())
        self.assertIsNone(payment.height)
        height = self.node.make_block()
        self.world.run(1)
        last = payment.history[-1]
        self.assertEqual((last.state, last.height, payment.height), ("Confirmed", height, height))
        self.assertEqual([step.state for step in payment.history].count("Confirmed"), 1)
        self.assertGreaterEqual(last.ms, payment.history[-2].ms)

    def test_whoever_waits_sees_it_in_the_history_too(self) -> None:
        """Without a watch the block is asked for; the listener of steps is told before the Deferred fires."""
        client = self.world.client()
        payment = client.submit(self.payment())
        steps: list[Any] = []
        payment.on_step(steps.append)
        confirmed = client.wait_confirmed(payment.txid)
        self.world.run(1)
        height = self.node.make_block()
        self.world.run(3)
        self.assertEqual(self.successResultOf(confirmed), height)
        self.assertEqual((steps[-1].state, steps[-1].height), ("Confirmed", height))

    def test_a_false_place_leaves_no_trace(self) -> None:
        """The history ends with SpentFinalized, and the liar is noticed."""
        client = self.rich()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message.get("inclusion"):
                message["inclusion"]["header"]["height"] += 1
            return message

        payment = self.sent(client)
        self.world.bend = bend
        self.node.make_block()
        self.world.run(1)
        self.assertEqual((payment.history[-1].state, payment.height), ("SpentFinalized", None))
        self.assertGreater(client.belief.lies, 0)

    def test_one_place_is_checked_once(self) -> None:
        """However many coins it concerns, and whoever hears of it: a block's signatures cost time."""
        checked: list[InclusionProof] = []
        check = belief.check_inclusion
        self.patch(
            belief, "check_inclusion", lambda place, *rest: (checked.append(place), check(place, *rest))[1]
        )
        client = self.rich(coins=3)
        payment = self.sent(client, 25 * COIN)
        self.assertEqual(len(payment.tx.inputs), 3)
        self.node.make_block()
        self.world.run(1)
        self.assertIsNotNone(payment.height)
        self.assertTrue(checked)
        self.assertEqual(len(checked), len(set(checked)))


class Ended(Fate):
    def test_waiting_for_the_block_of_what_is_aborted(self) -> None:
        """A wait that cannot end well ends with the proof why, though the client never sent the transaction."""
        client = self.world.client()
        tx = self.payment()
        self.shows(self.aborted(tx))
        waiting = client.wait_confirmed(tx.txid)
        self.world.run(1)
        self.assertEqual(self.failureResultOf(waiting, Aborted).value.height, 1)

    def test_another_transaction_in_its_place(self) -> None:
        """An aborted one is shown for ours: a lie, and the wait goes on."""
        client = self.world.client()
        tx, other = self.payment(), self.payment(1)
        info = self.aborted(other)
        self.patch(self.node.view, "transaction", lambda txid: info)
        waiting = client.wait_confirmed(tx.txid)
        self.world.run(1)
        self.assertNoResult(waiting)
        self.assertGreater(client.belief.lies, 0)
        waiting.addErrback(lambda failure: None)

    def test_sent_after_its_end(self) -> None:
        """The node's no is replaced by the proven end; without a proof the no ends nothing."""
        client = self.world.client()
        tx = self.payment()
        ended = Refusal(ErrorCode.ABORTED, "block 1 aborted it", txid=tx.txid, height=1)
        self.patch(self.node.integration, "process_transaction", lambda tx: _refused(ended))
        final = client.submit(tx).when_final()
        self.world.run(3)
        self.assertNoResult(final)
        self.shows(self.aborted(tx))
        self.world.run(5)
        self.assertEqual(self.failureResultOf(final, Aborted).value.height, 1)

    def test_what_the_rival_took_does_not_come_back(self) -> None:
        """Of two coins in the ended payment the rival has spent one: the other is available again, at once."""
        client = self.rich(coins=2)
        self.undecided()
        payment = self.sent(client, 12 * COIN)
        taken, left = payment.tx.outpoints
        rival = pay(
            self.genesis, [(taken, 9 * COIN, client.account.key_in(payment.tx))], [(address(key(7)), 8 * COIN)]
        )
        self.ended_by(payment.tx, rival)
        final = payment.when_final()
        self.world.run(5)
        end = self.failureResultOf(final, Aborted).value
        self.assertEqual((end.rival, end.spent), (rival.txid, frozenset({taken})))
        self.assertEqual([coin.outpoint for coin in client.account.book.free()], [left])
        self.assertEqual(self.purse.pending, [])


class Wishes(Fate):
    def test_by_txid(self) -> None:
        """A payment of this client, one that only the purse knows, one that only the node knows."""
        client = self.rich()
        self.undecided()
        payment = self.sent(client)
        self.shows(self.aborted(payment.tx))
        ending = client.cancel(payment.txid)
        self.world.run(3)
        self.assertEqual(self.successResultOf(ending).details["txid"], payment.txid)
        again = client.cancel(payment.txid)
        self.world.run(3)
        self.assertEqual(self.successResultOf(again).height, 1)

    def test_from_the_purse(self) -> None:
        """The node has never heard of it; the wallet file has."""
        client = self.rich()
        tx = self.payment(1)
        self.purse.add_pending(tx)
        self.undecided()
        ending = client.cancel(tx.txid, self.node.wallets[0])
        self.world.run(1)
        self.assertNoResult(ending)
        self.shows(self.aborted(tx))
        self.world.run(5)
        self.assertEqual(self.successResultOf(ending).height, 1)

    def test_what_nobody_knows(self) -> None:
        """There is nothing to end."""
        ending = self.world.client().cancel("ab" * 32, key(5))
        self.world.run(1)
        self.assertEqual(self.failureResultOf(ending, Refusal).value.code, ErrorCode.NOT_FOUND)

    def test_somebody_elses(self) -> None:
        """A key that owns no coin of it is refused here, and the node hears nothing."""
        heard: list[Any] = []
        self.patch(self.node.view, "cancel", heard.append)
        ending = self.world.client().cancel(self.payment(), key(5))
        self.world.run(3)
        self.assertEqual(self.failureResultOf(ending, Refusal).value.code, ErrorCode.NOT_OWNER)
        self.assertEqual(heard, [])

    def test_over_a_reconnect(self) -> None:
        """The next connection hears the wish at once, and not only when it is repeated in time."""
        heard: list[Any] = []
        self.undecided()
        accept = self.node.view.cancel
        self.patch(self.node.view, "cancel", lambda each: (heard.append(each), accept(each))[1])
        client = self.world.client()
        ending = client.cancel(self.payment(), self.node.wallets[0])
        self.world.run(0.1)
        heard.clear()
        connections = self.world.connections
        self.world.cut()
        self.world.run(0.6)  # the client says everything again each two seconds: at 4
        self.assertLess(self.world.clock.seconds(), 4)
        self.assertEqual((self.world.connections, len(heard)), (connections + 1, 1))
        ending.addErrback(lambda failure: None)


def _refused(why: Refusal) -> Any:
    return fail(why)
