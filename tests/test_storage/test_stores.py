"""One set of promises, kept by the store in memory and the one on disk alike."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import WriteBatch
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address
from tests.test_storage.payments import (
    ADDRESSES,
    BATCH,
    GENESIS,
    NODES,
    OUTPOINTS,
    OWNER,
    TXIDS,
    WALLETS,
    any_changes,
    any_evidence,
    any_record,
    change_sets,
    everything,
    final,
    output_of,
    pages_of,
)
from timeproto.consensus.replica import found
from timeproto.errors import StorageError
from timeproto.model.ledger import Changes, Coin, OwnVotes, Summary, Tally, TransactionRecord
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, SpentPending
from timeproto.storage import packed, schema
from timeproto.storage.memory import MemoryStore, is_spent
from timeproto.storage.rocks import RocksStore, open_store

NOTHING = Summary(0, 0, 0, 0, 0, {})
SPENT = SpentFinalized(TXIDS[0], 5, 3)


def index_of(coins: dict[Outpoint, Coin], owner: str) -> list[Outpoint]:
    """What the address index must say, made from nothing but the coins."""
    owned = [(is_spent(coin.state), outpoint) for outpoint, coin in coins.items() if coin.output.address == owner]
    return [outpoint for _, outpoint in sorted(owned)]


def blocks_kept(disk: RocksStore) -> set[int]:
    """The numbers of the blocks on disk."""
    return {schema.number_of(key[1:]) for key, _ in disk._rows.scan(b"d")}


def blocks_named(disk: RocksStore) -> set[int]:
    """The numbers of those that were decided, or that what was signed last names."""
    decided = {schema.read_decided(raw).block for _, raw in disk._rows.scan(b"k")}
    return decided.union(*(schema.read_signed(raw).blocks for _, raw in disk._rows.scan(schema.SIGN_STATE)))


class StoreCases:
    """What every store promises; ``make`` gives a new one, ``reopen`` the same after a restart."""

    def make(self) -> Any:
        raise AssertionError("each case makes its own")

    def reopen(self, store: Any) -> Any:
        return store

    def coins_of(self, owner: str, count: int) -> list[Outpoint]:
        """Outpoints whose coins belong to ``owner``, in order."""
        found = sorted(outpoint for outpoint in OUTPOINTS if output_of(outpoint).address == owner)
        self.assertGreaterEqual(len(found), count)
        return found[:count]

    def put(self, store: Any, state: Any, *outpoints: Outpoint) -> None:
        store.commit(Changes(NOTHING, coins={each: Coin(output_of(each), state) for each in outpoints}))

    def test_a_new_store_holds_nothing(self) -> None:
        """Every question has an empty answer."""
        store = self.make()
        self.assertIsNone(store.summary())
        self.assertIsNone(store.coin(Outpoint("00" * 32, 0)))
        self.assertIsNone(store.transaction("00" * 32))
        self.assertIsNone(store.own_votes("00" * 32))
        self.assertIsNone(store.batch(0))
        self.assertEqual(list(store.pending()), [])
        self.assertEqual(store.finalized(0, 5), [])
        self.assertEqual(store.transitions(0, 5), [])
        self.assertEqual(store.evidence(5), [])
        self.assertEqual(store.caught_up(), {})
        self.assertEqual(store.address_coins("TIME0x", None, 5, spent=True), ([], False))
        self.assertEqual(store.address_coins("TIME0x", OUTPOINTS[0], 5, spent=False), ([], False))

    def test_what_was_committed_is_there_after_a_restart(self) -> None:
        """Every record of every table, in its order."""
        store = self.make()
        change_sets(1, 12, store)
        before = everything(store)
        self.assertEqual(everything(self.reopen(store)), before)
        self.assertEqual(before["summary"].finalized, 11)

    def test_lists_are_read_in_pages(self) -> None:
        """Final txids by index, transitions by position: any start, any length, past the end nothing."""
        store = self.make()
        change_sets(2, 10, store)
        store = self.reopen(store)
        finals, log = store.finalized(0, 10_000), store.transitions(0, 10_000)
        self.assertEqual([each.position for each in log], list(range(1, len(log) + 1)))
        self.assertEqual((len(log), len(finals)), (store.summary().position, store.summary().finalized))
        for start in (0, 1, 4, len(finals) - 1, len(finals), 2**40):
            for length in (1, 3, 10_000):
                self.assertEqual(store.finalized(start, length), finals[start : start + length])
                self.assertEqual(store.transitions(start, length), log[start : start + length])

    def test_a_log_begins_where_it_is_told_to(self) -> None:
        """Before the first payment and after it, over a restart; who asks from before gets it from its beginning."""
        store, first = self.make(), 1_764_000_000_000_000
        store.commit(found(store, GENESIS, first))
        store = self.reopen(store)
        self.assertEqual((store.summary().position, store.transitions(0, 5)), (first, []))
        change_sets(2, 3, store)
        store = self.reopen(store)
        log = store.transitions(0, 10_000)
        self.assertEqual([each.position for each in log], list(range(first + 1, store.summary().position + 1)))
        for after, expected in ((first - 1, log), (first, log), (first + 2, log[2:]), (log[-1].position, [])):
            self.assertEqual(store.transitions(after, 10_000), expected)
            self.assertEqual(store.transitions(after, 2), expected[:2])

    def test_pages_are_whole_and_without_repeats(self) -> None:
        """Whatever the page size, the same coins in the same order; the unspent first."""
        store = self.make()
        change_sets(2, 12, store)
        for wallet in WALLETS:
            every = pages_of(store, address(wallet), 1_000, True)
            self.assertGreater(len(every), 10)
            for size in (1, 2, 7, len(every) - 1, len(every)):
                self.assertEqual(pages_of(store, address(wallet), size, True), every)
            spent = [is_spent(coin.state) for _, coin in every]
            self.assertEqual(spent, sorted(spent))
            self.assertEqual([each for each in every if not is_spent(each[1].state)],
                             pages_of(store, address(wallet), 3, False))

    def test_more_is_told_only_if_there_is_more(self) -> None:
        """A page that happens to end with the last coin says so."""
        store = self.make()
        coins = self.coins_of(ADDRESSES[0], 4)
        self.put(store, UNSPENT, *coins[:3])
        self.put(store, SPENT, coins[3])
        for spent, count in ((False, 3), (True, 4)):
            for size in (1, count - 1, count, count + 1):
                page, more = store.address_coins(ADDRESSES[0], None, size, spent=spent)
                self.assertEqual((len(page), more), (min(size, count), size < count))

    def test_a_coin_spent_between_two_pages_hides_no_other(self) -> None:
        """Of the coins that can be spent, those after the last one received come, whatever became of that one."""
        store = self.make()
        coins = self.coins_of(ADDRESSES[0], 4)
        self.put(store, UNSPENT, *coins)
        page, more = store.address_coins(ADDRESSES[0], None, 2, spent=False)
        self.assertEqual(([outpoint for outpoint, _ in page], more), (coins[:2], True))
        self.put(store, SPENT, coins[1])
        page, more = store.address_coins(ADDRESSES[0], coins[1], 2, spent=False)
        self.assertEqual(([outpoint for outpoint, _ in page], more), (coins[2:], False))

    def test_a_page_after_a_coin_that_is_not_there(self) -> None:
        """An outpoint that never was here, or is another's, is only a place in the order."""
        store = self.make()
        mine, other = self.coins_of(ADDRESSES[0], 4), self.coins_of(ADDRESSES[1], 1)[0]
        self.put(store, UNSPENT, *mine[:2])
        self.put(store, SPENT, other, mine[2])
        for after in (other, mine[3], Outpoint("55" * 32, 7)):
            page, _ = store.address_coins(ADDRESSES[0], after, 10, spent=False)
            self.assertEqual([outpoint for outpoint, _ in page], [each for each in mine[:2] if each > after])

    def test_addresses_do_not_run_into_each_other(self) -> None:
        """One that begins with another is another."""
        store = self.make()
        self.put(store, UNSPENT, *OUTPOINTS)
        for owner in ADDRESSES:
            self.assertEqual([outpoint for outpoint, _ in pages_of(store, owner, 2, True)],
                             sorted(each for each in OUTPOINTS if output_of(each).address == owner))

    def test_the_address_index_is_a_function_of_the_coins(self) -> None:
        """Rebuilt from the coins it is the same (failure 8 of the original)."""
        store = self.make()
        made = change_sets(3, 20, store)
        coins = {outpoint: store.coin(outpoint) for changes in made for outpoint in changes.coins}
        for wallet in WALLETS:
            page, _ = store.address_coins(address(wallet), None, 10_000, spent=True)
            self.assertEqual([outpoint for outpoint, _ in page], index_of(coins, address(wallet)))
            self.assertEqual(page, [(outpoint, coins[outpoint]) for outpoint, _ in page])

    def test_a_coin_moves_through_the_index(self) -> None:
        """There and back: each state puts it where it belongs, once."""
        store = self.make()
        coin, other = self.coins_of(ADDRESSES[0], 2)
        self.put(store, UNSPENT, coin, other)
        held = (Locked(TXIDS[0], 1), SpentPending(TXIDS[0], 3, 4, 1))
        for state in (*held, UNSPENT, *held, UNSPENT, SPENT, SPENT, UNSPENT, SPENT):
            self.put(store, state, coin)
            live = [other] if state is SPENT else [coin, other]
            for spent, wanted in ((False, live), (True, [*live, *({coin, other} - set(live))])):
                page, more = store.address_coins(ADDRESSES[0], None, 10, spent=spent)
                self.assertEqual(([outpoint for outpoint, _ in page], more), (wanted, False))

    def test_pending_keeps_its_order_and_lets_go_of_what_is_final(self) -> None:
        """In order of first commit, whatever is committed again in between and after a restart."""
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
        done = final(fresh[1].tx)
        store.commit(Changes(summary, transactions={done.tx.txid: done}))
        store.commit(Changes(summary, transactions={fresh[2].tx.txid: fresh[2]}))
        store = self.reopen(store)
        self.assertEqual(list(store.pending()), [fresh[3], fresh[4], fresh[2]])
        self.assertEqual(store.transaction(done.tx.txid), done)

    def test_lists_are_read_from_anywhere_in_their_rows(self) -> None:
        """Transitions and finals share rows; where a page begins and ends is nobody's concern."""
        self.patch(packed, "ROW", 3)
        memory, store = MemoryStore(), self.make()
        for changes in change_sets(6, 8, memory):
            store.commit(changes)
        summary = store.summary()
        assert summary is not None
        self.assertGreater(min(summary.position, summary.finalized), 6)
        for since in range(summary.position + 2):
            for limit in (0, 1, 2, 3, 4, 7, 1_000):
                self.assertEqual(store.transitions(since, limit), memory.transitions(since, limit))
                self.assertEqual(store.finalized(since, limit), memory.finalized(since, limit))

    def test_no_state_loses_a_number(self) -> None:
        """Each with numbers of its own, which all differ; what is no state, or half a digest, cannot be read."""
        txid, output = TXIDS[1], output_of(OUTPOINTS[0])
        for state in (UNSPENT, Locked(txid, 1), SpentPending(txid, 2, 3, 4), SPENT, Confirmed(txid, 5, 6)):
            coin = Coin(output, state)
            self.assertEqual(packed.read_coin(packed.pack_coin(coin)), coin)
        for kind, name, third in ((5, 32, 0), (-1, 32, 0), (2, 31, 0), (0, 32, 0), (0, 0, 0), (1, 32, 0), (3, 32, 1)):
            value = msgspec.msgpack.encode([1, "TIME0a", [kind, bytes(name), 1, 2, third]])
            with self.assertRaisesRegex(StorageError, "coin that cannot be read"):
                packed.read_coin(value)

    def test_what_was_never_pending_is_not(self) -> None:
        """A transaction first heard of with its proof."""
        store = self.make()
        done = any_record(random.Random(1), TXIDS[1], MemoryStore())
        store.commit(Changes(NOTHING, transactions={TXIDS[1]: done}))
        self.assertEqual((list(store.pending()), store.transaction(TXIDS[1])), ([], done))

    def test_sums_beyond_two_to_the_sixty_fourth(self) -> None:
        """Amounts of spent coins add up for ever."""
        store = self.make()
        summary = Summary(0, 0, 0, 4, 2**256 - 1, {"SpentFinalized": Tally(2**40, 2**80), "Unspent": Tally()})
        store.commit(Changes(summary))
        self.assertEqual(self.reopen(store).summary(), summary)

    def test_later_words_replace_earlier_ones(self) -> None:
        """Own votes, batches and catch-up positions hold the last value."""
        store = self.make()
        summary = change_sets(5, 2, store)[-1].summary
        voted, node = "aa" * 32, NODES[1]
        store.commit(Changes(summary, own_votes={voted: OwnVotes(1)}, caught_up={node: 5}, batches={0: BATCH}))
        store.commit(Changes(summary, own_votes={voted: OwnVotes(1, 2)}, caught_up={node: 2**64 - 1}))
        store = self.reopen(store)
        self.assertEqual((store.own_votes(voted), store.caught_up()), (OwnVotes(1, 2), {node: 2**64 - 1}))
        self.assertEqual(store.batch(0), BATCH)

    def test_the_same_again_changes_nothing(self) -> None:
        """What overwrites with the same value leaves every answer as it was, the index included."""
        store = self.make()
        made = change_sets(6, 8, store)
        before = everything(store)
        for changes in made:
            latest = {outpoint: store.coin(outpoint) for outpoint in changes.coins}
            records = {txid: store.transaction(txid) for txid in changes.transactions}
            votes = {txid: store.own_votes(txid) for txid in changes.own_votes}
            again = Changes(made[-1].summary, latest, records, votes, batches=changes.batches)
            store.commit(again)
        self.assertEqual(everything(self.reopen(store)), before)

    def test_evidence_is_kept_in_order(self) -> None:
        """Also when it comes in two commits with a restart between them; ``limit`` cuts the end."""
        store = self.make()
        chance = random.Random(3)
        pieces = [any_evidence(chance) for _ in range(5)]
        store.commit(Changes(NOTHING, evidence=pieces[:2]))
        store = self.reopen(store)
        store.commit(Changes(NOTHING, evidence=pieces[2:]))
        store = self.reopen(store)
        self.assertEqual((store.evidence(100), store.evidence(3)), (pieces, pieces[:3]))


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

    def test_a_closed_store_answers_nothing(self) -> None:
        """A StorageError for every question: no answer that could be taken for true."""
        store = self.make()
        coin = next(iter(change_sets(6, 2, store)[-1].coins))
        store.close()
        for question in (
            store.summary,
            lambda: store.coin(coin),
            lambda: store.transaction(TXIDS[0]),
            lambda: store.own_votes(TXIDS[0]),
            lambda: store.batch(0),
            lambda: list(store.pending()),
            lambda: store.finalized(0, 1),
            lambda: store.transitions(0, 1),
            lambda: store.evidence(1),
            store.caught_up,
            lambda: store.address_coins(address(WALLETS[0]), None, 1, spent=False),
        ):
            with self.assertRaisesRegex(StorageError, "closed"):
                question()

    def test_what_is_final_leaves_nothing_in_the_table_of_what_is_not(self) -> None:
        """It would else grow for ever."""
        store = self.make()
        change_sets(6, 8, store)
        self.assertEqual([*store._rows.scan(b"p")], [])

    def test_files_are_the_owners_alone(self) -> None:
        """The directory that is made lets nobody else in."""
        self.make()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o700)

    @settings(max_examples=12)
    @given(st.integers(0, 2**32), st.integers(2, 12))
    def test_both_stores_give_the_same_answers(self, seed: int, count: int) -> None:
        """The change sets of a replica, the same everything, also after a restart."""
        memory, disk = MemoryStore(), self.make()
        for changes in change_sets(seed, count, memory, blocks=seed % 2 == 0):
            disk.commit(changes)
        self.assertEqual(everything(disk), everything(memory))
        disk = self.reopen(disk)
        self.assertEqual(everything(disk), everything(memory))
        disk.close()

    def test_a_row_that_is_missing_or_short_is_missed(self) -> None:
        """Within a list too: nobody is told a history with a hole, or twice."""
        self.patch(packed, "ROW", 3)
        store = self.make()
        change_sets(6, 8, store)
        for prefix, read in ((b"l", store.transitions), (b"f", store.finalized)):
            rows = list(store._rows.scan(prefix))
            (key, value), last = rows[1], schema.number_of(rows[0][0][1:])
            short = value[32:] if prefix == b"f" else packed.pack_transitions(store.transitions(last, 3)[1:])
            for other in (None, short, b"" if prefix == b"f" else b"\x90"):
                batch = WriteBatch(raw_mode=True)
                batch.delete(key) if other is None else batch.put(key, other)
                store._rows.write(batch)
                self.assertEqual(len(read(0, last)), last)
                with self.assertRaisesRegex(StorageError, "damaged"):
                    read(0, 1_000)
                batch = WriteBatch(raw_mode=True)
                batch.put(key, value)
                store._rows.write(batch)
            read(0, 1_000)

    @settings(max_examples=40)
    @given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=8))
    def test_any_changes_give_the_same_answers(self, seed: int, restarts: list[bool]) -> None:
        """Any states in any order, odd addresses, extreme numbers, short rows: after each commit, with restarts too."""
        self.patch(packed, "ROW", 2)
        chance = random.Random(seed)
        memory, disk = MemoryStore(), self.make()
        for restart in restarts:
            changes = any_changes(chance, memory)
            memory.commit(changes)
            disk.commit(changes)
            if restart:
                disk = self.reopen(disk)
            answers = everything(disk)
            self.assertEqual(answers, everything(memory))
            self.assertEqual(blocks_kept(disk), blocks_named(disk))
            coins = {outpoint: coin for outpoint, coin in answers["coins"].items() if coin is not None}
            for owner in ADDRESSES:
                found = [outpoint for outpoint, _ in answers["addresses"][owner, True]]
                self.assertEqual(found, index_of(coins, owner))
        disk.close()
