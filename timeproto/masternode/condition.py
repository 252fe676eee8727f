"""How the node is besides what it decides: the room on its disk, and what wallets ask of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.network.budget import Budgets
from timeproto.web.view import Figures


class Condition(Service):
    """Looks at the disk of the data directory now and then, and warns before it is full.

    On a full disk nothing can be promised any more: the node stops (exit status 3) with what it promised kept.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, folder: Path, offload: Callable[..., Deferred[Any]], budgets: Budgets
    ) -> None:
        """``offload`` runs what may block in a thread: a disk that hangs must not hang the reactor."""
        self._folder = folder
        self._offload = offload
        self._budgets = budgets
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor
        self.disk_free: int | None = None
        """Bytes that this process may still write there, as of the last look."""

    def startService(self) -> None:
        super().startService()
        self._looking.start(limits.DISK_LOOK, now=True).addErrback(
            lambda failure: self.log.failure("the disk is not looked at any more", failure=failure)
        )

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def look(self) -> Deferred[None]:
        """Fires when the disk has been looked at."""

        def looked(found: os.statvfs_result) -> None:
            was_low, self.disk_free = self.is_disk_low, found.f_bavail * found.f_frsize
            free = self.disk_free // 2**20
            if self.is_disk_low and not was_low:
                self.log.warn("the disk of {folder} is almost full: {free} MiB are left", folder=str(self._folder),
                              free=free)
            elif was_low and not self.is_disk_low:
                self.log.info("the disk of {folder} has room again: {free} MiB", folder=str(self._folder), free=free)

        def failed(failure: Failure) -> None:
            failure.trap(OSError)  # the store finds out what that means for it
            self.disk_free = None

        return self._offload(os.statvfs, self._folder).addCallbacks(looked, failed)

    @property
    def is_disk_low(self) -> bool:
        return self.disk_free is not None and self.disk_free < limits.DISK_LOW

    def figures(self) -> Figures:
        """For monitors."""
        gauges = {"wallets_pace": self._budgets.pace.speed}
        if self.disk_free is not None:
            gauges["disk_free_bytes"] = float(self.disk_free)
        counters = {"requests_over_limit": self._budgets.refused, "connections_sent_away": self._budgets.sent_away}
        return Figures(gauges=gauges, counters=counters)
