"""The pace of the steps: what waits, for how long, and what makes it so."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.pace import LONGEST, QUICK, Pace


class Pacing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pace = Pace(self.clock)

    def step(self, seconds: float, times: int = 1) -> None:
        for _ in range(times):
            self.pace.begin()
            self.clock.advance(seconds)
            self.pace.end()

    def test_where_steps_are_quick_nothing_waits(self) -> None:
        """But for what can be read already: a payment on an idle machine is final as fast as it can be."""
        self.step(0.9 * QUICK, 1_000)
        self.assertEqual(self.pace.wait, 0)
        called: list[bool] = []
        self.pace.gather(lambda: called.append(True))
        self.assertEqual(called, [])
        self.clock.advance(0)
        self.assertEqual(called, [True])

    def test_the_longer_steps_take_the_longer_is_gathered(self) -> None:
        """So that fewer of them do the same work; with a bound, for somebody waits for it."""
        waits = []
        for seconds in (QUICK + 0.002, QUICK + 0.006, 1.0):
            self.step(seconds, 100)
            waits.append(self.pace.wait)
        self.assertEqual(waits, sorted(waits))
        self.assertGreater(waits[0], 0)
        self.assertEqual(waits[-1], LONGEST)
        self.step(0.001, 100)
        self.assertEqual(self.pace.wait, 0)

    def test_one_long_step_says_little(self) -> None:
        """A block is a step too, and comes between quick ones."""
        self.step(0.001, 100)
        self.step(60.0)
        self.assertLess(self.pace.wait, LONGEST / 3)
        self.step(0.001, 20)
        self.assertEqual(self.pace.wait, 0)

    def test_an_end_without_a_beginning_is_nothing(self) -> None:
        """A step that failed has none, and none is counted twice."""
        self.step(1.0)
        before = self.pace.wait
        self.clock.advance(9)
        self.pace.end()
        self.assertEqual(self.pace.wait, before)
