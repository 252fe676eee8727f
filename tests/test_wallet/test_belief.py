"""What a wallet remembers of what was proven to it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from tests.cluster import COIN, address, pay
from timeproto.model.transaction import Transaction
from timeproto.wallet import belief as belief_module
from timeproto.wallet.belief import Belief


class Remembered(SynchronousTestCase):
    """Transactions that were proven final."""

    def setUp(self) -> None:
        self.node = Node(wallets=1, coins=8)
        self.belief = Belief(self.node.genesis, lambda question: Deferred())

    def payments(self, outputs: int = 1) -> list[Transaction]:
        """Each of one input, which counts as six, and one output more for what returns."""
        owner = self.node.wallets[0]
        coins = [coin for coin, _ in self.node.genesis.coins()]
        to = [(address(owner), COIN)] * outputs
        return [pay(self.node.genesis, [(coin, 10 * COIN, owner)], to) for coin in coins]

    def remembered(self, payments: list[Transaction]) -> list[int]:
        for tx in payments:
            self.belief.remember(tx)
        return [number for number, tx in enumerate(payments) if self.belief.proven(tx.txid) is not None]

    def test_the_newest(self) -> None:
        """Not more than a number of them."""
        self.patch(belief_module, "REMEMBERED", 3)
        self.assertEqual(self.remembered(self.payments()), [5, 6, 7])

    def test_large_ones(self) -> None:
        """Not more than so many inputs and outputs in all: the oldest go until there is room."""
        self.patch(belief_module, "PARTS", 8 * 8)
        small = self.payments()
        self.assertEqual(self.remembered(small), list(range(8)))
        self.assertEqual(self.remembered(small + self.payments(8)[:1]), [2, 3, 4, 5, 6, 7, 8])

    def test_the_same_again(self) -> None:
        """It takes no more room than once."""
        self.patch(belief_module, "PARTS", 8 * 8)
        self.assertEqual(self.remembered(self.payments()[:1] * 30 + self.payments()), list(range(38)))

    def test_one_that_is_larger_than_all(self) -> None:
        """It is not remembered, nor is anything else by then: the next ones are."""
        self.patch(belief_module, "PARTS", 14)
        small = self.payments()
        self.assertEqual(self.remembered(small[:2] + self.payments(8)[:1]), [])
        self.assertEqual(self.remembered(small[2:5]), [2])

    def test_what_another_node_proves(self) -> None:
        """It is one memory, and one bound."""
        self.patch(belief_module, "REMEMBERED", 3)
        payments = self.payments()
        other = self.belief.of(lambda question: Deferred())
        for number, tx in enumerate(payments):
            (other if number % 2 else self.belief).remember(tx)
        for each in (self.belief, other):
            self.assertEqual([number for number, tx in enumerate(payments) if each.proven(tx.txid)], [5, 6, 7])
