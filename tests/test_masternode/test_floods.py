"""What one masternode that floods can do to what others say."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node as AloneNode
from tests.cluster import address, key, pay
from timeproto import limits
from timeproto.consensus.effects import Heard, Submit
from timeproto.masternode.inbox import weight
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.wire import messages


class FloodTests(SynchronousTestCase):
    def test_the_flood_of_one_masternode_leaves_room_for_the_words_of_another(self) -> None:
        """The inbox is one queue: a liar's 13,000 small requests, sent while one commit runs, fill it for everybody."""
        node = AloneNode()
        node.hold()
        node.integration.tick()
        node.integration.process_transaction(
            pay(node.genesis, [(*_coins(node)[0], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        )
        node.integration.process_transaction(  # waits behind the commit of the first
            pay(node.genesis, [(*_coins(node)[1], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        )
        for _ in range(limits.INBOX // 8 + 500):
            node.integration.handle_network_message(messages.GetVotes(), key(2).public_hex)
        before = node.integration.counters.dropped
        node.integration.handle_network_message(messages.GetBlocks(since=0), key(3).public_hex)
        self.assertEqual(before, node.integration.counters.dropped)

    def test_a_flood_of_the_largest_payments_fills_the_room_sooner(self) -> None:
        """What waits is bounded by what it holds in memory: a thousand inputs count as 63 payments, from anybody."""
        node = AloneNode()
        small = pay(node.genesis, [(*_coins(node)[0], node.wallets[0])], [(address(node.wallets[1]), COIN)])
        large = msgspec.structs.replace(small, inputs=small.inputs * limits.INPUTS)
        for tx, heavy in ((small, 1), (large, 63)):
            self.assertEqual(weight(Submit(tx, None)), heavy)
            self.assertEqual(weight(Heard(messages.TransactionBroadcast(tx=tx), "")), heavy)
            page = messages.Transactions(transactions=(tx, small))
            self.assertEqual(weight(Heard(page, "")), 2 + heavy)


def _coins(node: AloneNode) -> list[tuple[Outpoint, int]]:
    owner = address(node.wallets[0])
    return [(outpoint, output.amount) for outpoint, output in node.genesis.coins() if output.address == owner]
