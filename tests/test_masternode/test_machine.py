"""What a node asks of its process, and does without where it is refused."""

from __future__ import annotations

import gc
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.machine import await_turns, spare_the_collector


class Turns(SynchronousTestCase):
    def test_a_system_that_allows_no_other_turn(self) -> None:
        """A sandbox may forbid to ask, or to change it, and not every system knows the question: the node runs on."""
        def refuse(*_: Any) -> None:
            raise PermissionError("not here")

        for name in ("sched_getscheduler", "sched_setscheduler"):
            if hasattr(os, name):
                patched = self.patch(os, name, refuse)
                await_turns()
                patched.restore()
        if hasattr(os, "sched_setscheduler"):
            before = os.sched_setscheduler
            del os.sched_setscheduler
            self.addCleanup(setattr, os, "sched_setscheduler", before)
            await_turns()


class Collector(SynchronousTestCase):
    def test_it_looks_less_often(self) -> None:
        """And at nothing that is there already."""
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.unfreeze)
        spare_the_collector()
        self.assertGreater(gc.get_threshold()[0], 10_000)
        self.assertGreater(gc.get_freeze_count(), 0)
