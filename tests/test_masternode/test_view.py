"""What a node shows of transactions that blocks ended, with what proves it."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import NoPeers
from tests.cluster import COIN, Cluster, address, pay
from tests.test_network.listening import Listening
from tests.test_network.test_cursors import Reader
from timeproto.masternode.view import GLANCE, ReplicaView
from timeproto.model.block import check_inclusion, transaction_leaf, verdict_leaf
from timeproto.network import costs
from timeproto.network.budget import Budgets
from timeproto.wire import messages


def view(cluster: Cluster, number: int = 0) -> ReplicaView:
    node = cluster.nodes[number]
    nobody: Any = None
    return ReplicaView(
        replica=node.replica, ledger=node.store, integration=nobody, genesis=cluster.genesis, node_key=node.key,
        surroundings=NoPeers(), uptime=lambda: 1.0,
    )


class Ended(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = Cluster(4, 1)
        self.cluster.settle(3)

    def check(self, info: messages.TransactionInfo | None, leaf: bytes) -> messages.TransactionInfo:
        assert info is not None and info.inclusion is not None
        genesis = self.cluster.genesis
        check_inclusion(info.inclusion, leaf, genesis.masternode_set, genesis.hash)
        self.assertEqual(info.inclusion.header.height, info.height)
        return info

    def test_an_aborted_transaction_shows_its_verdict(self) -> None:
        """Two rivals half and half: both pending, then both aborted, each with the verdict's place in the block."""
        cluster = self.cluster
        rivals = [cluster.payment(0, 1, to) for to in (1, 2)]
        for number in range(4):
            cluster.submit(rivals[number // 2], number)
        cluster.run()
        for tx in rivals:
            info = view(cluster).transaction(tx.txid)
            assert info is not None
            self.assertEqual(info.status, "pending")
        cluster.pass_time(12_000)
        for tx in rivals:
            info = self.check(view(cluster).transaction(tx.txid), verdict_leaf("abort", tx.txid))
            self.assertEqual((info.status, info.conflicting_txid, info.proof), ("aborted", None, None))

    def test_a_loser_shows_the_rival_that_the_block_contains(self) -> None:
        """One masternode locked the two coins of the loser; the winner of one of them ends it with its block."""
        cluster = self.cluster
        coins = cluster.coins_of(0)
        loser = pay(cluster.genesis, coins[:2], [(address(cluster.wallets[1]), COIN)])
        winner = pay(cluster.genesis, coins[:1], [(address(cluster.wallets[2]), COIN)])
        cluster.partition([0], [1, 2, 3])
        cluster.submit(loser, 0)
        cluster.submit(winner, 1)
        cluster.run()
        cluster.heal()
        cluster.pass_time(8_000)
        info = self.check(view(cluster).transaction(loser.txid), transaction_leaf(winner.txid))
        self.assertEqual((info.status, info.conflicting_txid), ("aborted", winner.txid))
        self.assertEqual([cluster.nodes[0].store.coin(coin[0]).state for coin in coins[1:2]], [  # type: ignore[union-attr]
            cluster.nodes[1].store.coin(coins[1][0]).state  # type: ignore[union-attr]
        ])


class Work(SynchronousTestCase):
    """What anybody may ask and costs more than it shows."""

    def test_a_block_that_is_read_again_is_paid_for(self) -> None:
        """By whoever asks for a place in it, also if the answer is that there is none; not while it is at hand."""
        self.patch(costs, "of_block", lambda block: 7)
        net = Listening()
        tx = net.payment(0, 0, 1)
        net.submit(tx, 0)
        net.settle()
        net.pass_time(8_000)
        reader = Reader()
        reader.account = account = Budgets(net.clock).open("127.0.0.1")  # type: ignore[attr-defined]
        for kind in (messages.GetTransaction, messages.GetTrace, messages.GetFinalityProof):
            net.view._blocks.clear()
            before = account.spent
            net.ask(kind(id=1, txid=tx.txid), reader)
            net.ask(kind(id=2, txid=tx.txid), reader)
            self.assertEqual(account.spent - before, 7, kind)

    def test_all_wallets_are_counted_now_and_then(self) -> None:
        """Not for each that asks how the node is: there may be thousands of either."""
        counted: list[int] = []
        now = [1.0]

        class Surroundings(NoPeers):
            def wallet_count(self) -> int:
                counted.append(1)
                return len(counted)

        net = Listening()
        node = net.nodes[0]
        view = ReplicaView(
            replica=node.replica, ledger=node.store, integration=net.integration,  # type: ignore[arg-type]
            genesis=net.genesis, node_key=node.key, surroundings=Surroundings(), uptime=lambda: now[0],
        )  # fmt: skip
        self.assertEqual([view.info().wallets for _ in range(3)], [1, 1, 1])
        now[0] += GLANCE
        self.assertEqual(view.info().wallets, 2)
