"""Nodes that are full of undecided payments, and wallets whose payment waits there."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster, key, make_genesis
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus.effects import Cancel, Submit
from timeproto.model.transaction import Transaction
from timeproto.model.vote import sign_batch
from timeproto.params import COIN
from timeproto.storage.rocks import open_store
from timeproto.wire import messages


class Brought(SynchronousTestCase):
    """What wallets may bring in that the other masternodes do not know: as much as has room at every one of them."""

    def taken(self, cluster: Cluster, payments: list[Transaction]) -> list[Transaction]:
        """Those that masternodes took, each as many as there are payments for one."""
        each = len(payments) // len(cluster.nodes)
        tickets = [cluster.submit(tx, at // each) for at, tx in enumerate(payments)]
        return [
            tx
            for tx, ticket in zip(payments, tickets, strict=True)
            if isinstance(cluster.answer(ticket), messages.TransactionAccepted)
        ]

    def test_each_full_of_what_the_others_do_not_know(self) -> None:
        """Thirteen that do not reach each other, and may not have noticed: once they do, all becomes final."""
        n = 13
        self.patch(limits, "IN_FLIGHT_PEER", 3 * n)
        for is_noticed in (True, False):
            cluster = Cluster(n, 1, wallets=1, coins=5 * n)
            cluster.pass_time(3_000)
            if is_noticed:
                cluster.partition(*[[each] for each in range(n)])
            else:
                cluster.lose = 1.0
            taken = self.taken(cluster, [cluster.payment(0, coin, 0) for coin in range(5 * n)])
            self.assertEqual(len(taken), 3 * n)
            cluster.lose = 0.0
            if is_noticed:
                cluster.heal()
            cluster.pass_time(20_000)
            self.assertEqual([tx.txid for tx in taken if not all(cluster.final(tx.txid))], [])

    def setUp(self) -> None:
        self.alone = Alone(4, coins=12)
        self.payments = [self.alone.pay([coin]) for coin in self.alone.coins()]

    def answers(self, *payments: Transaction) -> list[str | None]:
        return [self.alone.answer(self.alone.submit(tx)) for tx in payments]

    def abort(self, voter: int, *payments: Transaction) -> None:
        """``voter`` wants them to end."""
        genesis, owner = self.alone.genesis, self.alone.keys[voter]
        txids = sorted(tx.txid for tx in payments)
        self.alone.hear(sign_batch(owner, genesis.hash, genesis.masternode_set.hash, 0, abort=txids), voter)

    def test_wallets_are_told(self) -> None:
        """By how many, or by how many bytes; those that f + 1 others have locked are not counted, nor what is final."""
        size = len(self.payments[0].canonical) + len(self.payments[0].signature)
        for name, bound, limit, value in (
            ("IN_FLIGHT_PEER", 8, "brought", 2),
            ("IN_FLIGHT_PEER_BYTES", 4 * 2 * size, "brought_bytes", 2 * size),
        ):
            patched = self.patch(limits, name, bound)
            self.assertEqual(self.answers(*self.payments[:2]), ["accepted", "accepted"])
            ticket = self.alone.submit(self.payments[2])
            self.assertEqual(self.alone.answer(ticket), "busy")
            details = self.alone.node.replies[ticket].details
            self.assertEqual((details["limit"], details["value"]), (limit, value))
            patched.restore()
        self.patch(limits, "IN_FLIGHT_PEER", 8)
        self.alone.vote(1, lock=[self.payments[0]])
        self.assertEqual(self.answers(self.payments[2]), ["busy"])
        self.alone.vote(2, lock=[self.payments[0]])
        self.assertEqual(self.answers(*self.payments[2:4]), ["accepted", "busy"])
        self.alone.finish(self.payments[1])
        self.assertEqual(self.answers(*self.payments[3:5]), ["accepted", "busy"])

    def test_what_is_contested_is_counted_too(self) -> None:
        """A block decides about it, if others have room for it: until f + 1 have locked it, or want it to end."""
        self.patch(limits, "IN_FLIGHT_PEER", 8)
        rivals = [self.alone.pay([coin], amount=COIN // 2) for coin in self.alone.coins()[:2]]
        self.assertEqual(self.answers(*self.payments[:3]), ["accepted", "accepted", "busy"])
        self.alone.show(*rivals)
        self.assertEqual(self.answers(self.payments[2]), ["busy"])
        self.abort(1, *self.payments[:2])
        self.alone.vote(2, lock=[self.payments[0]])
        self.assertEqual(self.answers(*self.payments[2:4]), ["accepted", "busy"])
        self.abort(2, self.payments[1])
        self.assertEqual(self.answers(*self.payments[3:5]), ["accepted", "busy"])

    def test_what_f_and_one_want_to_end_is_let_in(self) -> None:
        """Somebody honest has it, and a block can only end what masternodes know."""
        self.patch(limits, "IN_FLIGHT_PEER", 4)
        self.alone.show(*self.payments[:5])
        self.assertFalse(self.alone.voted(self.payments[4])[0])
        self.abort(1, self.payments[4])
        self.alone.vote(2, lock=[self.payments[4]])
        self.alone.show(self.payments[4])
        self.assertTrue(self.alone.voted(self.payments[4])[0])

    def test_paid_and_cancelled_again_and_again(self) -> None:
        """While no masternode reaches another: what is to end takes room as well, and all of it ends later."""
        n = 13
        self.patch(limits, "IN_FLIGHT_PEER", 2 * n)
        cluster = Cluster(n, 1, wallets=1, coins=6 * n)
        cluster.pass_time(3_000)
        cluster.lose = 1.0
        payments = [cluster.payment(0, coin, 0) for coin in range(6 * n)]
        owner, taken = cluster.wallets[0], []
        for at, tx in enumerate(payments):
            ticket = cluster.submit(tx, at // 6)
            if isinstance(cluster.answer(ticket), messages.TransactionAccepted):
                taken.append(tx)
                wish = messages.TransactionCancel(txid=tx.txid, key=owner.public_hex, signature="0" * 128)
                signature = owner.sign(wish.message(cluster.genesis.hash)).hex()
                wish = messages.TransactionCancel(txid=tx.txid, key=owner.public_hex, signature=signature)
                cluster.act(cluster.nodes[at // 6], [Cancel(wish, object())])
        self.assertEqual(len(taken), 2 * n)
        cluster.lose = 0.0
        cluster.pass_time(40_000)
        left = [node.replica.payments.seen_count for node in cluster.nodes]
        self.assertEqual(left, [0] * n)

    def test_what_is_from_before_a_restart_is(self) -> None:
        """It may have been wallets'; the others say so if it was theirs."""
        self.patch(limits, "IN_FLIGHT_PEER", 8)
        self.alone.show(*self.payments[:2])
        self.alone.start()
        self.assertEqual(self.answers(self.payments[2]), ["busy"])
        for voter in (1, 2):
            self.alone.vote(voter, lock=self.payments[:2])
        self.assertEqual(self.answers(*self.payments[2:5]), ["accepted", "accepted", "busy"])

    def test_nothing_is_left_of_it(self) -> None:
        """When all is final, refused, or shared."""
        self.answers(*self.payments[:3])
        self.alone.finish(*self.payments[:2])
        self.alone.vote(1, lock=[self.payments[2]])
        self.alone.vote(2, lock=[self.payments[2]])
        payments = self.alone.replica.payments
        self.assertEqual((payments._brought, payments._brought_bytes), ({}, 0))

    def test_locked_again(self) -> None:
        """It is counted once."""
        tx = self.payments[0]
        self.answers(tx)
        payments = self.alone.replica.payments
        payment = payments.get(tx.txid)
        assert payment is not None
        payments.is_brought(payment)
        self.assertEqual((payments._brought, payments._brought_bytes), ({tx.txid: payment.size}, payment.size))


class Restarts(SynchronousTestCase):
    def test_batches_are_kept_once(self) -> None:
        """After a restart payments share the batch that they were voted for in, as they did before."""
        genesis, path = make_genesis(4, [key(1_000), key(1_001)], 20), Path(self.mktemp())
        store = open_store(path, genesis.hash, key(1).public_hex)
        alone = Alone(4, coins=20, store=store)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        alone.act(*[Submit(tx, number) for number, tx in enumerate(payments)])
        store.close()
        alone.store = open_store(path, genesis.hash, key(1).public_hex)
        self.addCleanup(alone.store.close)
        alone.start()
        kept = [batch for payment in alone.replica.payments for batch in payment.votes.batches()]
        self.assertEqual(len(kept), len(payments))
        self.assertEqual(len({id(batch) for batch in kept}), 1)


class Waiting(SynchronousTestCase):
    """A wallet's payment whose parent is not final here."""

    def setUp(self) -> None:
        self.alone = Alone(4)
        self.parent = self.alone.pay(self.alone.coins()[:1])
        self.child = self.alone.pay([self.alone.change_of(self.parent)])

    def test_the_node_halts_meanwhile(self) -> None:
        """When the parent is final its wallet is told that this node does not vote."""
        ticket = self.alone.submit(self.child)
        self.alone.replica.halt("x")
        self.alone.finish(self.parent)
        self.alone.show(self.parent)
        self.assertEqual(self.alone.answer(ticket), "not_voting")

    def test_the_node_halts_and_the_others_make_it_final(self) -> None:
        """Its votes came before its parent: then that is what its wallet is told."""
        ticket = self.alone.submit(self.child)
        self.alone.replica.halt("x")
        for kind in ("lock", "commit"):
            for voter in (1, 2, 3):
                self.alone.vote(voter, **{kind: [self.child]})
        self.alone.finish(self.parent)
        self.alone.show(self.parent)
        self.assertEqual(self.alone.answer(ticket), "accepted")

    def test_somebody_spoke_of_it_long_before(self) -> None:
        """It waits as long as any other: from when it came."""
        self.alone.vote(3, lock=[self.child])
        self.alone.tick(7)
        ticket = self.alone.submit(self.child)
        self.alone.tick()
        self.assertIsNone(self.alone.answer(ticket))
        self.assertIsNotNone(self.alone.replica.payments.get(self.child.txid))
        self.alone.tick(7)
        self.assertEqual(self.alone.answer(ticket), "unknown_input")
