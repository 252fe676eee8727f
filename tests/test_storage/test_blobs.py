"""Values that are kept apart from their rows: missed if lost, gone once worth nothing; and what merges write again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from rocksdict import Options, WriteBatch
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.test_storage.harness import DamageCase, open_rows, reopen, spread
from tests.test_storage.payments import change_sets
from timeproto.errors import StorageError
from timeproto.model.keys import SigningKey
from timeproto.storage import rows, schema
from timeproto.storage.memory import MemoryStore


class Lost(DamageCase):
    """Half of the change sets in tables and blobs."""

    def setUp(self) -> None:
        self.lie(change_sets(8, 12, MemoryStore(), blocks=True), sorted_first=6)

    def refused(self, change: Callable[[Path], None]) -> None:
        copy = Path(self.mktemp())
        shutil.copytree(self.cold, copy)
        change(copy)
        for _ in range(2):  # nor is it mended on the way
            with self.assertRaisesRegex(StorageError, "damaged: of its blob files one is missing, or a part of one"):
                reopen(copy)

    def test_a_lost_blob_file_is_missed_at_once(self) -> None:
        """Before anything is asked that it holds: a node that starts has all that it promised (P-16)."""
        for path in self.cold.glob("*.blob"):
            self.refused(lambda copy, lost=path: (copy / lost.name).unlink())  # type: ignore[misc]

    def test_a_blob_file_cut_anywhere_is_missed_at_once(self) -> None:
        """By one byte, by its end, or empty."""
        path = self.file("*.blob")
        for at in spread(path.stat().st_size, 12):
            self.refused(lambda copy, at=at: os.truncate(copy / path.name, at))  # type: ignore[misc]

    def test_what_is_listed_no_more_is_not_missed(self) -> None:
        """A blob file that a crash left behind half written changes nothing, and is tidied away."""
        copy = Path(self.mktemp())
        shutil.copytree(self.cold, copy)
        (copy / "000999.blob").write_bytes(b"half")
        reopen(copy).close()
        self.assertFalse((copy / "000999.blob").exists())


class Overwritten(SynchronousTestCase):
    def test_what_was_overwritten_does_not_pile_up(self) -> None:
        """A large row, new in each write buffer, beside one that stays: as many files go as come, and it stays."""
        options = rows.make_options

        def by_hand(buffer: int) -> Options:
            made = options(buffer)
            made.set_disable_auto_compactions(True)
            return made

        self.patch(rows, "make_options", by_hand)
        path = Path(self.mktemp())
        found = open_rows(path)
        chance = random.Random(3)
        merges, large, kept, most = 25, 20_000, [], 0
        for _ in range(merges):
            for _ in range(rows.RUNS):
                kept.append((b"t" + chance.randbytes(32), chance.randbytes(rows.LARGE)))
                batch = WriteBatch(raw_mode=True)
                batch.put(schema.SIGN_STATE, chance.randbytes(large))
                batch.put(*kept[-1])
                found.write(batch)
                found._db.flush()
            found._db.compact_range(None, None)
            held = sum(blob.stat().st_size for blob in path.glob("*.blob"))
            most = max(most, held - sum(len(value) for _, value in kept))
        bound = (rows.RUNS + 1) / rows.OLDEST_BLOBS * large
        self.assertLess(most, 1.1 * bound)
        self.assertLess(bound, 0.5 * merges * rows.RUNS * large)  # so that it can fail
        found.close()
        found = open_rows(path)
        self.assertEqual([*found.scan(b"t")], sorted(kept))
        found.close()


class Merging(SynchronousTestCase):
    """By RocksDB's own choice, in its threads."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.rows = open_rows(self.path)
        self.addCleanup(self.rows.close)
        self.chance = random.Random(4)

    def write(self, count: int) -> None:
        """One more sorted run, of ``count`` rows."""
        batch = WriteBatch(raw_mode=True)
        for _ in range(count):
            batch.put(b"c" + self.chance.randbytes(36), self.chance.randbytes(75))
        self.rows.write(batch)
        self.rows._db.flush()

    def tables(self) -> set[str]:
        return {table.name for table in self.path.glob("*.sst")}

    def until(self, is_so: Callable[[], bool]) -> None:
        """RocksDB's threads have their time: a minute at most, on a machine that leaves them any."""
        deadline = time.monotonic() + 60
        while not is_so() and time.monotonic() < deadline:
            time.sleep(0.005)
        self.assertTrue(is_so())

    def test_a_merge_leaves_what_is_much_larger_alone(self) -> None:
        """Or each would cost the more the more there is: runs of like size become one, and few are left."""
        self.write(20_000)
        large = self.tables()
        for _ in range(5 * rows.RUNS):
            self.write(100)
        self.until(lambda: len(self.tables()) < rows.RUNS + rows.MERGED)
        self.assertEqual(self.tables() & large, large)

    def test_nothing_is_merged_for_its_age(self) -> None:
        """Masternodes that were started on one day would all merge everything on one day."""
        written = max(self.path.glob("OPTIONS-*")).read_text()
        self.assertIn("  periodic_compaction_seconds=0\n", written)
        self.assertIn("  ttl=0\n", written)

    def test_merging_stands_back(self) -> None:
        """Its threads are nice to all others, and they alone: what is written out has to be, or no more is taken."""
        if not os.path.exists("/proc/self/task"):
            raise SkipTest("the system does not tell how nice a thread is")
        for _ in range(2 * rows.RUNS):
            self.write(100)
        self.until(lambda: 19 in self.niceness("rocksdb:low"))  # of each from its first merge on
        self.assertEqual(self.niceness("rocksdb:high"), {os.getpriority(os.PRIO_PROCESS, 0)})

    @staticmethod
    def niceness(name: str) -> set[int]:
        """Of all threads of that name."""
        found = set()
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):  # it has ended
                if (thread / "comm").read_text().strip() == name:
                    found.add(os.getpriority(os.PRIO_PROCESS, int(thread.name)))
        return found


class Buffers(SynchronousTestCase):
    def test_masternodes_do_not_merge_at_once(self) -> None:
        """Their write buffers differ, by their keys; one's is the same at each start."""
        keys = [SigningKey(bytes([number]) * 32).public_hex for number in range(7)]
        sizes = [rows.write_buffer(key) for key in keys]
        self.assertEqual(len({*sizes}), 7)
        self.assertEqual(sizes, [rows.write_buffer(key) for key in keys])
        self.assertTrue(all(size in rows.WRITE_BUFFERS for size in sizes))
