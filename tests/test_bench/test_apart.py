"""The network in virtual time: nobody is faster than the links, the disks and the code allow."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench.apart import COMMIT_MS, LINK_MS, Apart


class VirtualTime(SynchronousTestCase):
    def test_the_way_of_a_payment(self) -> None:
        """To the others, their lock votes, their commit votes: three links, three commits."""
        network = Apart(4, 6)
        network.pay_apart(6)
        self.assertEqual((len(network.here), len(network.everywhere)), (6, 6))
        self.assertGreater(min(network.here), 3 * (LINK_MS + COMMIT_MS))
        self.assertGreaterEqual(max(network.everywhere), max(network.here))

    def test_more_than_once(self) -> None:
        """Each call pays with new coins; at the end all nodes have all payments and one digest."""
        network = Apart(4, 5)
        network.pay_apart(2)
        network.pay_apart(3)
        self.assertEqual({node.replica.final_count for node in network.nodes}, {5})
        self.assertEqual(len({node.replica.state_digest() for node in network.nodes}), 1)

    def test_one_alone(self) -> None:
        """It waits for its disk and for nobody."""
        network = Apart(1, 1)
        network.pay_apart(1)
        self.assertGreater(network.here[0], COMMIT_MS)
        self.assertEqual(network.here, network.everywhere)
