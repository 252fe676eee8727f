"""A great many coins, made quickly: what the store then holds is what a founding of all of them would have left."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import stock
from timeproto.consensus.chain import first_tip
from timeproto.consensus.replica import Replica
from timeproto.consensus.utxo_state_manager import founding_changes
from timeproto.devnet.layout import lay_out
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import read_key
from timeproto.model.utxo_state import UNSPENT
from timeproto.storage.rocks import open_store

COINS = 50


class Stock(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(stock, "CHUNK", 20)
        self.layout = lay_out(Path(self.mktemp()), 2, 24_900, coins_per_wallet=3)
        self.shares: list[float] = []
        stock.fill(self.layout, COINS, self.shares.append)

    def test_every_node_has_them(self) -> None:
        """All coins, those of the genesis too, in a store of its own, on which a replica runs."""
        genesis = self.layout.genesis
        everything = [*genesis.coins(), *(pair for chunk in stock.coins(COINS, genesis.params) for pair in chunk)]
        tip = first_tip(genesis)
        expected = founding_changes(everything, tip).summary
        digests = set()
        for node in self.layout.nodes:
            key = read_key(node.folder / "node.key")
            store = open_store(node.folder / "store", genesis.hash, key.public_hex)
            try:
                self.assertEqual(store.summary(), expected)
                for outpoint, output in everything:
                    coin = store.coin(outpoint)
                    assert coin is not None
                    self.assertEqual((coin.output, coin.state), (output, UNSPENT))
                digests.add(Replica(store, genesis, key).state_digest())
            finally:
                store.close()
        self.assertEqual(len(digests), 1)

    def test_a_store_is_somebodys(self) -> None:
        """The copy belongs to the other node, and to no third."""
        one, other = self.layout.nodes
        with self.assertRaises(ConfigurationError):
            open_store(other.folder / "store", self.layout.genesis.hash, read_key(one.folder / "node.key").public_hex)

    def test_progress(self) -> None:
        """It is told after each commit."""
        self.assertEqual(len(self.shares), 3)
        self.assertGreaterEqual(self.shares[-1], 1.0)

    def test_only_once(self) -> None:
        """A store that was founded is nobody's to fill."""
        self.assertRaises(ValueError, stock.fill, self.layout, COINS, self.shares.append)
