"""One set of promises, kept by the store in memory and the one on disk alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address
from tests.test_storage.payments import GENESIS, OWNER, WALLETS, change_sets
from timeproto.errors import StorageError
from timeproto.model.ledger import Changes, OwnVotes, Summary, Tally, TransactionRecord
from timeproto.model.transaction import Outpoint
from timeproto.storage.memory import MemoryStore, is_spent
from timeproto.storage.rocks import RocksStore, open_store


def everything(store: Any, txids: list[str]) -> dict[str, Any]:
    """All that can be asked of a store, as one value."""
    pages = {}
    for wallet in WALLETS:
        for spent in (False, True):
            for size in (1, 3, 1_000):
                coins: list[Any] = []
                more = True
                while more:
                    page, more = store.address_coins(
                        address(wallet), coins[-1][0] if coins else None, size, spent=spent
                    )
                    coins += page
                pages[address(wallet), spent, size] = coins
    return {
        "summary": store.summary(),
        "coins": {outpoint: store.coin(outpoint) for outpoint, _ in GENESIS.coins()},
        "transactions": {txid: store.transaction(txid) for txid in txids},
        "own votes": {txid: store.own_votes(txid) for txid in txids},
        "batches": [store.batch(number) for number in range(200)],
        "pending": list(store.pending()),
        "finalized": [store.finalized(since, 7) for since in range(0, 60, 5)],
        "transitions": [store.transitions(after, 11) for after in range(0, 400, 10)],
        "evidence": store.evidence(10),
        "caught up": store.caught_up(),
        "addresses": pages,
    }


class StoreCases:
    """What every store promises; ``make`` gives a new one, ``reopen`` the same after a restart."""

    def make(self) -> Any:
        raise AssertionError("each case makes its own")

    def reopen(self, store: Any) -> Any:
        return store

    def test_a_new_store_holds_nothing(self) -> None:
        """Every question has an empty answer."""
        store = self.make()
        self.assertIsNone(store.summary())
        self.assertIsNone(store.coin(Outpoint("00" * 32, 0)))
        self.assertIsNone(store.transaction("00" * 32))
        self.assertEqual(list(store.pending()), [])
        self.assertEqual(store.address_coins("TIME0x", None, 5, spent=True), ([], False))

    def test_what_was_committed_is_there_after_a_restart(self) -> None:
        """Every record of every table, in its order."""
        store = self.make()
        made = change_sets(1, 12, store)
        txids = [txid for changes in made for txid in changes.transactions]
        before = everything(store, txids)
        self.assertEqual(everything(self.reopen(store), txids), before)
        self.assertEqual(before["summary"].finalized, 11)

    def test_pages_are_whole_and_without_repeats(self) -> None:
        """Whatever the page size, the same coins in the same order; the unspent first."""
        store = self.make()
        change_sets(2, 12, store)
        for wallet in WALLETS:
            found = everything(store, [])["addresses"]
            small, large = found[address(wallet), True, 1], found[address(wallet), True, 1_000]
            self.assertEqual(small, large)
            spent = [is_spent(coin) for _, coin in large]
            self.assertEqual(spent, sorted(spent))
            self.assertEqual([pair for pair in large if not is_spent(pair[1])], found[address(wallet), False, 3])

    def test_the_address_index_is_a_function_of_the_coins(self) -> None:
        """Rebuilt from the coins it is the same (failure 8 of the original)."""
        store = self.make()
        made = change_sets(3, 20, store)
        coins = {outpoint: store.coin(outpoint) for changes in made for outpoint in changes.coins}
        for wallet in WALLETS:
            owned = sorted(
                (
                    (is_spent(coin), outpoint)
                    for outpoint, coin in coins.items()
                    if coin.output.address == address(wallet)
                ),
            )
            page, _ = store.address_coins(address(wallet), None, 10_000, spent=True)
            self.assertEqual([outpoint for outpoint, _ in page], [outpoint for _, outpoint in owned])

    def test_pending_keeps_its_order_and_lets_go_of_what_is_final(self) -> None:
        """In order of first commit, whatever is committed again in between."""
        store = self.make()
        made = change_sets(4, 6, store)
        records = [record for changes in made for record in changes.transactions.values()]
        summary = made[-1].summary
        fresh = [
            TransactionRecord(msgspec.structs.replace(record.tx, txid=f"{number:064x}"), "pending")
            for number, record in enumerate(records)
        ]
        for record in (fresh[3], fresh[1], fresh[4], fresh[3]):
            store.commit(Changes(summary, transactions={record.tx.txid: record}))
        store = self.reopen(store)
        self.assertEqual(list(store.pending()), [fresh[3], fresh[1], fresh[4]])
        done = TransactionRecord(fresh[1].tx, "final", records[0].proof)
        store.commit(Changes(summary, transactions={done.tx.txid: done}))
        self.assertEqual(list(store.pending()), [fresh[3], fresh[4]])

    def test_sums_beyond_two_to_the_sixty_fourth(self) -> None:
        """Amounts of spent coins add up for ever."""
        store = self.make()
        summary = Summary(1, 2, 3, 4, 2**255 + 1, {"SpentFinalized": Tally(2**40, 2**80)})
        store.commit(Changes(summary))
        self.assertEqual(self.reopen(store).summary(), summary)

    def test_later_words_replace_earlier_ones(self) -> None:
        """Own votes and catch-up positions hold the last value."""
        store = self.make()
        summary = change_sets(5, 2, store)[-1].summary
        store.commit(Changes(summary, own_votes={"aa" * 32: OwnVotes(1)}, caught_up={"bb" * 32: 5}))
        store.commit(Changes(summary, own_votes={"aa" * 32: OwnVotes(1, 2)}, caught_up={"bb" * 32: 9}))
        store = self.reopen(store)
        self.assertEqual((store.own_votes("aa" * 32), store.caught_up()), (OwnVotes(1, 2), {"bb" * 32: 9}))


class InMemory(StoreCases, SynchronousTestCase):
    """The store for tests and simulation."""

    def make(self) -> MemoryStore:
        return MemoryStore()


class OnDisk(StoreCases, SynchronousTestCase):
    """RocksDB."""

    def make(self) -> RocksStore:
        self.path = Path(self.mktemp())
        return self._open()

    def _open(self) -> RocksStore:
        store = open_store(self.path, GENESIS.hash, OWNER.public_hex)
        self.addCleanup(store.close)
        return store

    def reopen(self, store: RocksStore) -> RocksStore:
        store.close()
        return self._open()

    def test_a_closed_store_takes_nothing(self) -> None:
        """StorageError, and closing twice is nothing."""
        store = self.make()
        made = change_sets(6, 2, store)
        store.close()
        store.close()
        with self.assertRaises(StorageError):
            store.commit(made[-1])

    @settings(max_examples=15)
    @given(st.integers(0, 2**32), st.integers(2, 15))
    def test_both_stores_give_the_same_answers(self, seed: int, count: int) -> None:
        """The same change sets, the same everything, also after a restart."""
        memory, disk = MemoryStore(), self.make()
        made = change_sets(seed, count, memory)
        for changes in made:
            disk.commit(changes)
        txids = [txid for changes in made for txid in changes.transactions]
        self.assertEqual(everything(disk, txids), everything(memory, txids))
        disk = self.reopen(disk)
        self.assertEqual(everything(disk, txids), everything(memory, txids))
        disk.close()
