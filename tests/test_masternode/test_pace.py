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
            self.pace.during(self.clock.advance, seconds)

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
        self.assertAlmostEqual(waits[-1], LONGEST, 3)
        self.assertLessEqual(waits[-1], LONGEST)
        self.step(0.0005, 100)
        self.assertEqual(self.pace.wait, 0)

    def test_one_long_step_says_little(self) -> None:
        """A block is a step too, and comes between quick ones."""
        self.step(0.0005, 100)
        self.step(60.0)
        self.assertLess(self.pace.wait, LONGEST / 3)
        self.step(0.0005, 20)
        self.assertEqual(self.pace.wait, 0)

    def test_a_step_is_handed_through(self) -> None:
        """With what it is given, what it returns and what it raises; one that fails counts for nothing."""
        self.assertEqual(self.pace.during(max, 3, 5), 5)

        def failing() -> None:
            self.clock.advance(9)
            raise ValueError("no")

        for _ in range(9):
            self.assertRaises(ValueError, self.pace.during, failing)
        self.assertEqual(self.pace.wait, 0)
