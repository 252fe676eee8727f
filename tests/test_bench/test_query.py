"""Questions at fixed times: a slow answer is late for itself and delays no other question."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import query
from timeproto.bench.query import Asker, pause_after
from timeproto.errors import ConfigurationError

KNOWN = b'{"status":"known"}'


class Asking(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.patch(query.time, "perf_counter", self.clock.seconds)
        self.patch(query, "PREPARED", 2)
        self.asker = Asker(self.clock, 1_000, (1, 3))
        self.sent: list[float] = []
        self.patch(self.asker._line, "send", lambda data: self.sent.append(self.clock.seconds()))
        self.cycle = pause_after(1) + pause_after(3)
        self.failed: list[Any] = []
        self.times: list[Any] = []
        asking = ensureDeferred(self.asker.ask(3 * self.cycle))
        asking.addCallbacks(self.times.append, self.failed.append)

    def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds * 1_000)):
            self.clock.advance(0.001)

    def hear(self, items: int) -> None:
        self.asker._line._hear(KNOWN * items)

    def test_nobody_answers_and_it_asks_on(self) -> None:
        """Each question leaves in its time; each answer counts from when its question had to leave."""
        self.run_for(1.0)
        self.assertEqual(len(self.sent), 6)
        wanted = [at * self.cycle + more for at in range(3) for more in (0, pause_after(1))]
        self.assertTrue(all(0 <= left - due < 0.002 for left, due in zip(self.sent, wanted, strict=True)))
        for items in (1, 3, 1, 2, 1, 1, 3):  # one answer comes in two frames
            self.hear(items)
        (times,) = self.times
        self.assertEqual({size: len(each) for size, each in times.items()}, {1: 3, 3: 3})
        expected = [1000 * (1.0 - at * self.cycle) for at in range(3)]
        self.assertTrue(all(abs(a - b) < 1 for a, b in zip(times[1], expected, strict=True)))

    def test_a_node_that_does_not_know(self) -> None:
        """What is measured would not be what it says."""
        self.run_for(0.01)
        self.asker._line._hear(b'{"status":"unknown"}')
        self.run_for(1.0)
        self.assertEqual(self.times, [])
        self.assertTrue(self.failed[0].check(ConfigurationError))

    def test_a_node_that_is_silent(self) -> None:
        """It is waited for, but not for ever."""
        self.run_for(30.0)
        self.assertTrue(self.failed[0].check(ConfigurationError))
