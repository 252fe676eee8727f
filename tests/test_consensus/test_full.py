"""Nodes that are full of undecided payments, and wallets whose payment waits there."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster, key, make_genesis
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus.effects import LinkDown, LinkUp, Submit
from timeproto.storage.rocks import open_store
from timeproto.wire import messages


class WithoutAQuorum(SynchronousTestCase):
    """What wallets may bring in where nothing can become final: as much as has room at every masternode."""

    def test_each_full_of_what_the_others_do_not_know(self) -> None:
        """Sixteen that cannot reach each other take payments until they are full: once they can, all become final."""
        n = 16
        self.patch(limits, "IN_FLIGHT_PEER", 3 * n)
        cluster = Cluster(n, 1, wallets=1, coins=4 * n)
        cluster.pass_time(3_000)
        cluster.partition(*[[each] for each in range(n)])
        payments = [cluster.payment(0, coin, 0) for coin in range(4 * n)]
        tickets = [cluster.submit(tx, at // 4) for at, tx in enumerate(payments)]
        taken = [
            tx
            for tx, ticket in zip(payments, tickets, strict=True)
            if isinstance(cluster.answer(ticket), messages.TransactionAccepted)
        ]
        self.assertEqual(len(taken), 3 * n)
        cluster.heal()
        cluster.pass_time(20_000)
        self.assertEqual([tx.txid for tx in taken if not all(cluster.final(tx.txid))], [])

    def test_wallets_are_told(self) -> None:
        """By how many, or by how many bytes; with one masternode more there is room as always."""
        alone = Alone(4, coins=12)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        size = len(payments[0].canonical) + len(payments[0].signature)
        for peer in (2, 3):
            alone.act(LinkDown(alone.keys[peer].public_hex))
        for name, bound, limit, value in (
            ("IN_FLIGHT_PEER", 8, "in_flight", 2),
            ("IN_FLIGHT_PEER_BYTES", 4 * 2 * size, "in_flight_bytes", 2 * size),
        ):
            patched = self.patch(limits, name, bound)
            for tx in payments[:2]:
                self.assertEqual(alone.answer(alone.submit(tx)), "accepted")
            ticket = alone.submit(payments[2])
            self.assertEqual(alone.answer(ticket), "busy")
            details = alone.node.replies[ticket].details
            self.assertEqual((details["limit"], details["value"]), (limit, value))
            patched.restore()
        alone.act(LinkUp(alone.keys[3].public_hex))
        self.patch(limits, "IN_FLIGHT_PEER", 8)
        self.assertEqual(alone.answer(alone.submit(payments[2])), "accepted")


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
