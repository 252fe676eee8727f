"""The pace of the steps: what waits, for how long, and what makes it so."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.pace import CROWDED, GATHER, LEAST, LONGEST, QUICK, Pace


class Pacing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.processor = Clock(), Clock()
        self.pace = Pace(self.clock, self.processor.seconds)

    def work(self, takes: float, crowd: float) -> None:
        """So many seconds pass, and ``crowd`` threads want the processor, of which this is one."""
        self.processor.advance(takes / crowd)
        self.clock.advance(takes)

    def step(self, takes: float, times: int = 1, crowd: float = 1.0) -> None:
        for _ in range(times):
            self.pace.during(self.work, takes, crowd)

    def test_where_steps_are_quick_nothing_waits(self) -> None:
        """But for what can be read already, however full the machine is: there is nothing to save."""
        self.step(0.9 * QUICK, 1_000, crowd=9)
        self.assertEqual(self.pace.wait, 0)
        called: list[bool] = []
        self.pace.gather(lambda: called.append(True))
        self.assertEqual(called, [])
        self.clock.advance(0)
        self.assertEqual(called, [True])

    def test_where_the_processor_is_free_next_to_nothing_waits(self) -> None:
        """However long the steps are: who is busy all the time gathers as it is."""
        self.step(0.05, 1_000, crowd=0.9 * CROWDED)
        self.assertEqual(self.pace.wait, LEAST)

    def test_in_a_crowd_more_is_gathered_until_there_is_none(self) -> None:
        """Longer and longer, so that fewer steps do the same work; with a bound, for somebody waits for it."""
        waits = []
        for _ in range(150):
            self.step(0.05, crowd=1.1 * CROWDED)
            waits.append(self.pace.wait)
        self.assertEqual(waits, sorted(waits))
        self.assertAlmostEqual(waits[-1], LONGEST, 4)
        self.step(0.05, 100)
        self.assertEqual(self.pace.wait, LEAST)

    def test_no_longer_than_steps_are_worth(self) -> None:
        """In a crowd too: what a step takes beyond what is quick, some times over."""
        for beyond in (0.0002, 0.002):
            self.step(QUICK + beyond, 200, crowd=1.1 * CROWDED)
            self.assertAlmostEqual(self.pace.wait, GATHER * beyond, 6)

    def test_one_long_step_says_little(self) -> None:
        """A block is a step too, and comes between quick ones."""
        self.step(0.0005, 100, crowd=2 * CROWDED)
        self.step(60.0, crowd=2 * CROWDED)
        self.assertLess(self.pace.wait, LONGEST / 3)
        self.step(0.0005, 20, crowd=2 * CROWDED)
        self.assertEqual(self.pace.wait, 0)

    def test_a_step_is_handed_through(self) -> None:
        """With what it is given, what it returns and what it raises; one that fails counts for nothing."""
        self.assertEqual(self.pace.during(max, 3, 5), 5)

        def failing() -> None:
            self.work(9, 9)
            raise ValueError("no")

        for _ in range(99):
            self.assertRaises(ValueError, self.pace.during, failing)
        self.assertEqual(self.pace.wait, 0)
