"""What a node asks of its process, so that its work costs the machine less."""

from __future__ import annotations

import gc
import os
from contextlib import suppress


def await_turns() -> None:
    """Who is woken waits for its turn, and does not push another program off the processor in the middle of its work:
    each change costs both of them what they had in its caches. Nothing where an operator chose otherwise, or where the
    system knows no such choice or allows none."""
    if hasattr(os, "SCHED_BATCH") and hasattr(os, "sched_setscheduler"):
        with suppress(OSError):
            if os.sched_getscheduler(0) == os.SCHED_OTHER:
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def spare_the_collector() -> None:
    """What a node holds it holds for long, in few cycles: look less often for garbage, and never at what is there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 5, 50)  # ten milliseconds for some thousands of payments, or connections that come and go
