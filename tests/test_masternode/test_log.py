"""What a node writes down, and what not."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.service import keep_to_level


class Levels(SynchronousTestCase):
    def written(self, level: str) -> list[str]:
        events: list[dict[str, Any]] = []
        publisher = LogPublisher(events.append)
        keep_to_level(publisher, level)
        log = Logger(observer=publisher)
        for say in (log.debug, log.info, log.warn, log.error):
            say("a word")
        return [event["log_level"].name for event in events]

    def test_nothing_below_the_level_is_written(self) -> None:
        """At the default level too: a line for each payment of a busy node fills a disk."""
        self.assertEqual(self.written("debug"), ["debug", "info", "warn", "error"])
        self.assertEqual(self.written("info"), ["info", "warn", "error"])
        self.assertEqual(self.written("warn"), ["warn", "error"])
