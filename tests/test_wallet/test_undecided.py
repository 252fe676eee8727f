"""The payments of an outbox that are not decided."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from tests.cluster import COIN, address, pay
from timeproto.wallet.payment import Payment
from timeproto.wallet.undecided import Undecided


class Payments(SynchronousTestCase):
    """Two for one coin, and one for that and another."""

    def setUp(self) -> None:
        node = Node(wallets=1, coins=2)
        self.genesis, self.owner = node.genesis, node.wallets[0]
        self.coins = [coin for coin, _ in node.genesis.coins()]
        self.to = address(self.owner), COIN
        spent = [self.coins[:1], self.coins[:1], self.coins]
        self.payments = []
        for number, coins in enumerate(spent):
            inputs = [(coin, 10 * COIN, self.owner) for coin in coins]
            self.payments.append(Payment(pay(self.genesis, inputs, [self.to], timestamp=number), 0.0))
        self.undecided = Undecided()
        for payment in self.payments:
            self.undecided.add(payment)

    def test_by_coin(self) -> None:
        """All that want it, until they are taken out."""
        self.assertEqual(self.undecided.spending(self.coins[0]), self.payments)
        self.assertEqual(self.undecided.spending(self.coins[1]), self.payments[2:])
        self.undecided.remove(self.payments[2])
        self.assertEqual(self.undecided.spending(self.coins[0]), self.payments[:2])
        self.assertEqual(self.undecided.spending(self.coins[1]), [])

    def test_taken_out(self) -> None:
        """Once; another one of the same transaction is none of it."""
        same = Payment(self.payments[0].tx, 1.0)
        self.assertFalse(self.undecided.remove(same))
        self.assertIs(self.undecided.get(same.txid), self.payments[0])
        self.assertTrue(self.undecided.remove(self.payments[0]))
        self.assertFalse(self.undecided.remove(self.payments[0]))
        self.assertIsNone(self.undecided.get(same.txid))

    def test_a_coin_that_is_named_twice(self) -> None:
        """No node takes such a payment, and until one says so it is as any other."""
        twice = Payment(pay(self.genesis, [(self.coins[1], 10 * COIN, self.owner)] * 2, [self.to]), 0.0)
        self.undecided.add(twice)
        self.assertEqual(self.undecided.spending(self.coins[1]), [self.payments[2], twice])
        self.assertTrue(self.undecided.remove(twice))
        self.assertEqual(self.undecided.spending(self.coins[1]), self.payments[2:])

    def test_it_changes_while_somebody_goes_through(self) -> None:
        """Whoever began sees all that there were."""
        seen = []
        for payment in self.undecided:
            seen.append(payment)
            for each in self.payments:
                self.undecided.remove(each)
        self.assertEqual(seen, self.payments)
        self.assertEqual(list(self.undecided), [])

    def test_all_at_once(self) -> None:
        """What is taken out is given, and nothing is left of it."""
        self.assertEqual(self.undecided.clear(), self.payments)
        self.assertEqual(list(self.undecided), [])
        self.assertEqual(self.undecided.spending(self.coins[0]), [])
