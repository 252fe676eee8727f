"""Values that are kept apart from their rows: missed if they are lost, and gone once they are worth nothing."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from rocksdict import WriteBatch
from twisted.trial.unittest import SynchronousTestCase

from tests.test_storage.harness import DamageCase, open_rows, reopen, spread
from tests.test_storage.payments import change_sets
from timeproto.errors import StorageError
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
        self.patch(rows, "ONCE_OPEN", {"ttl": "0"})  # merged by hand
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
