"""What a node asks of its process: that its work costs the machine less, and how it ends."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn


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


def say(sentence: str) -> None:
    """A line on standard error, if it can be written."""
    if sys.__stderr__ is not None:  # twistd has turned sys.stderr into a log
        with suppress(OSError, ValueError):  # it may lie on the disk that is full, or its reader may have gone
            sys.__stderr__.write(sentence + "\n")
            sys.__stderr__.flush()


def exit_with(status: int) -> NoReturn:
    """Ends the process at once."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
