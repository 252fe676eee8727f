"""What RocksDB's merges write again, when, and who waits for them."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from rocksdict import WriteBatch
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.test_storage.harness import open_rows
from timeproto.errors import StorageError
from timeproto.model.keys import SigningKey
from timeproto.storage import rows


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
        opened, now = (path.read_text() for path in sorted(self.path.glob("OPTIONS-*"))[-2:])
        self.assertIn("  disable_auto_compactions=true\n", opened)  # nor between the opening and this word about it
        for line in ("periodic_compaction_seconds=0", "ttl=0", "disable_auto_compactions=false"):
            self.assertIn(f"  {line}\n", now)

    def test_a_store_that_cannot_be_set_up_is_let_go_of(self) -> None:
        """It is no other process that has it then."""
        path = Path(self.mktemp())
        patch, failed = self.patch(rows, "ONCE_OPEN", {"nonsense": "0"}), None
        try:
            open_rows(path)
        except StorageError as error:
            failed = error  # with all that its frames hold
        patch.restore()
        open_rows(path).close()
        self.assertIn("cannot be opened", str(failed))

    def test_merging_stands_back(self) -> None:
        """Its threads are nice to all others, and they alone: what is written out has to be, or no more is taken."""
        if not os.path.exists("/proc/self/task") or os.getpriority(os.PRIO_PROCESS, 0) == 19:
            raise SkipTest("the system does not tell how nice a thread is, or all are")
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
