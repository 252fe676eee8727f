"""What comes back of a torn log: whole change sets, and none without those before it."""

from __future__ import annotations

from rocksdict import Options

from tests.test_storage.harness import DamageCase, spread
from tests.test_storage.payments import NODES, change_sets
from timeproto.model.ledger import Changes, Summary
from timeproto.storage import rocks, rows
from timeproto.storage.memory import MemoryStore


class SmallLog(DamageCase):
    """Three short change sets in the log."""

    def test_torn_at_every_byte(self) -> None:
        """No offset at which half a change set comes back (P-15)."""
        nothing = Summary(0, 0, 0, 0, 0, {})
        self.lie([Changes(nothing, caught_up={NODES[0]: at, NODES[at]: at}) for at in (0, 1, 2)])
        log = self.file("*.log")
        size = log.stat().st_size
        kept = [self.cut(log, at) for at in range(size + 1)]
        self.assertNotIn(None, kept)
        self.assertEqual(kept, sorted(kept))
        self.assertEqual({*kept[:-1], kept[-1]}, {0, 1, 2, 3})


class TwoLogs(DamageCase):
    """A newer log was begun while the older one was not yet sorted into a table: both are needed."""

    def setUp(self) -> None:
        options = rows.make_options

        def unsorted(buffer: int) -> Options:
            few = options(64 * 1024)
            few.set_min_write_buffer_number_to_merge(3)
            few.set_max_write_buffer_number(4)
            return few

        self.patch(rows, "make_options", unsorted)
        self.lie(change_sets(9, 20, MemoryStore()))
        self.patch(rows, "make_options", options)
        self.logs = sorted(self.cold.glob("*.log"))

    def test_both_are_read(self) -> None:
        """Nothing is missing as it lies."""
        self.assertGreater(len(self.logs), 1)
        self.assertEqual(self.recovered(lambda copy: None), 20)

    def test_an_older_log_that_lost_its_end_is_a_hole(self) -> None:
        """RocksDB opens such a store in any mode, with the middle missing; we count, and refuse."""
        older = self.logs[0]
        size = older.stat().st_size
        for at in spread(size - 1, 15):
            self.assertIsNone(self.cut(older, at))
        self.assertIsNone(self.lose(older))

    def test_a_newer_log_that_lost_its_end_is_a_torn_one(self) -> None:
        """A prefix."""
        newer = self.logs[-1]
        kept = [self.cut(newer, at) for at in spread(newer.stat().st_size, 15)]
        self.assertNotIn(None, kept)
        self.assertGreater(len(set(kept)), 2)

    def test_more_commits_are_counted_than_the_logs_hold(self) -> None:
        """The relation behind the number: the smallest commit there is takes at least 256 bytes of a log."""
        self.lie([Changes(self.made[-1].summary)] * 100)
        (log,) = self.cold.glob("*.log")
        self.assertGreater(log.stat().st_size / 100, 256)
        self.assertGreater(rocks.COMMITS_KEPT * 256, 2 * (max(rows.WRITE_BUFFERS) + rows.MIB))
