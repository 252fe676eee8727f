"""How a node says that something is wrong with it: a disk almost full, no quorum (faults O-16, O-18)."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from timeproto import limits
from timeproto.masternode.condition import Condition
from timeproto.network.budget import Budgets
from timeproto.web.metrics import Metrics
from timeproto.web.view import Figures


class Disk(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.free = 2 * limits.DISK_LOW
        self.broken = False
        self.budgets = Budgets(self.clock)
        self.condition = Condition(self.clock, Path("."), self.offload, self.budgets)
        self.lines: list[str] = []
        log = SimpleNamespace(**{level: lambda text, level=level, **_: self.lines.append(level)
                                 for level in ("warn", "info")})
        self.patch(Condition, "log", log)
        self.condition.startService()

    def offload(self, work: Any, *arguments: Any) -> Any:
        if self.broken:
            return fail(OSError(5, "gone"))
        found = list(os.statvfs(*arguments))
        found[1], found[4] = 4_096, self.free // 4_096  # f_frsize, f_bavail
        return maybeDeferred(os.statvfs_result, found)

    def look(self) -> bool:
        self.clock.advance(limits.DISK_LOOK)
        return self.condition.is_disk_low

    def test_almost_full_is_said_once_each_time(self) -> None:
        """One warning when it becomes so, one line when it has room again, however often it is looked at."""
        self.assertEqual([self.look(), self.look()], [False, False])
        self.free = limits.DISK_LOW - 4_096
        self.assertEqual([self.look(), self.look(), self.lines], [True, True, ["warn"]])
        self.free = limits.DISK_LOW
        self.assertEqual([self.look(), self.look(), self.lines], [False, False, ["warn", "info"]])
        self.condition.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_numbers(self) -> None:
        """The room on the disk, and what wallets ask, for Prometheus."""
        self.budgets.refused, self.budgets.sent_away, self.budgets.pace.speed = 3, 2, 0.25
        figures = self.condition.figures()
        self.assertEqual(figures.gauges, {"wallets_pace": 0.25, "disk_free_bytes": float(self.free)})
        self.assertEqual(figures.counters, {"requests_over_limit": 3, "connections_sent_away": 2})

    def test_a_disk_that_cannot_be_asked(self) -> None:
        """Is the store's affair: no number, no warning, and it is looked at again."""
        self.broken = True
        self.assertFalse(self.look())
        self.assertNotIn("disk_free_bytes", self.condition.figures().gauges)
        self.broken, self.free = False, 0
        self.assertTrue(self.look())
        self.assertEqual(self.flushLoggedErrors(), [])


class Told(SynchronousTestCase):
    def test_what_is_wrong_is_in_the_answer_and_the_numbers(self) -> None:
        """Nothing while all is well; then each reason by its name, for programs and for monitors."""
        node = Node()
        node.integration.tick()
        well = node.view.info()
        self.assertEqual(well.degraded, ())

        class Full:
            is_disk_low = True

            def figures(self) -> Any:
                return Figures(gauges={"disk_free_bytes": 1.0})

        self.patch(node.view, "_condition", Full())
        self.patch(node.genesis.masternode_set, "quorum", 2)
        info = node.view.info()
        self.assertEqual(info.degraded, ("quorum", "disk"))
        text, _ = Metrics().render(info, node.view.figures())
        self.assertIn(b'timeproto_degraded{reason="quorum"} 1.0', text)
        self.assertIn(b'timeproto_degraded{reason="voting"} 0.0', text)
        self.assertIn(b"timeproto_disk_free_bytes 1.0", text)
