"""What a node writes down, and what not."""

from __future__ import annotations

from typing import Any

from twisted.application.internet import ClientService
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

    def test_attempts_to_connect_are_told_by_the_dialler(self) -> None:
        """Twisted's line for each of them is written by who debugs: it names neither the address nor the reason."""
        for level, written in (("debug", 2), ("info", 1), ("warn", 1)):
            events: list[dict[str, Any]] = []
            publisher = LogPublisher(events.append)
            keep_to_level(publisher, level)
            log = Logger(ClientService._log.namespace, observer=publisher)
            log.info("Scheduling retry")
            log.warn("a word")
            self.assertEqual(len(events), written)

    def test_nothing_below_the_level_is_written(self) -> None:
        """At the default level too: a line for each payment of a busy node fills a disk."""
        self.assertEqual(self.written("debug"), ["debug", "info", "warn", "error"])
        self.assertEqual(self.written("info"), ["info", "warn", "error"])
        self.assertEqual(self.written("warn"), ["warn", "error"])
