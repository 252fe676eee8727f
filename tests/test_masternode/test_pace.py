"""The pace of the steps: what waits, for how long, and what makes it so."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.pace import LONGEST, LOOK, SHORTEST, TAKEN, WORTH, Pace
from timeproto.masternode.usage import Usage


class Pacing(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.usage: Usage | None = Usage(0.0, 1.0)
        self.asked = 0
        self.pace = Pace(self.clock, self.meter)

    def meter(self) -> Usage | None:
        self.asked += 1
        return self.usage

    def look(self, taken: float, times: int = 1, own: float = 1.0) -> list[float]:
        """So many looks at a machine of which so much is taken; the waits after each."""
        self.usage = Usage(taken, own)
        waits = []
        for _ in range(times):
            self.clock.advance(LOOK)
            self.pace.gather(lambda: None)
            waits.append(self.pace.wait)
        return waits

    def test_while_there_is_time_to_spare_nothing_waits(self) -> None:
        """But for what can be read already."""
        self.look(TAKEN - 0.01, 100)
        self.assertEqual(self.pace.wait, 0)
        self.clock.advance(1)
        called: list[bool] = []
        self.pace.gather(lambda: called.append(True))
        self.assertEqual(called, [])
        self.clock.advance(0)
        self.assertEqual(called, [True])

    def test_on_a_busy_machine_more_and_more_gathers(self) -> None:
        """So that fewer steps do the same work; with a bound, for somebody waits for it. Then less and less again."""
        waits = self.look(1.0, 100)
        self.assertEqual(waits, sorted(waits))
        self.assertGreater(waits[0], SHORTEST)
        self.assertEqual(waits[-1], LONGEST)
        waits = self.look(0.5 * TAKEN, 100)
        self.assertEqual(waits, sorted(waits, reverse=True))
        self.assertEqual(waits[-1], 0)

    def test_a_load_out_of_nothing_is_met_in_seconds(self) -> None:
        """From nothing to what waits longest, on a machine that has no time left."""
        self.look(0.1, 100)
        self.assertEqual(self.look(1.0, round(3 / LOOK))[-1], LONGEST)

    def test_where_just_enough_is_taken_the_wait_stays(self) -> None:
        """It is where it should be."""
        self.look(1.0, 3)
        self.assertEqual(len(set(self.look(TAKEN, 50))), 1)

    def test_who_does_little_does_not_wait(self) -> None:
        """It would save next to nothing: the machine is filled by others."""
        self.look(1.0, 100, own=0.01)
        self.assertAlmostEqual(self.pace.wait, 0.01 * WORTH)
        self.assertLess(self.pace.wait, LONGEST)

    def test_it_looks_now_and_then(self) -> None:
        """Not for every message."""
        for _ in range(1_000):
            self.clock.advance(LOOK / 100)
            self.pace.gather(lambda: None)
        self.assertIn(self.asked, range(9, 11))

    def test_a_clock_that_is_set_back_stops_no_look(self) -> None:
        """It is the computer's, and the next look would be an hour away."""
        self.look(1.0, 100)
        self.clock.rightNow -= 3_600
        self.assertEqual(self.look(0.1, 100)[-1], 0)

    def test_where_the_system_does_not_tell_nothing_waits(self) -> None:
        """Nor where it tells no more."""
        self.look(1.0, 100)
        self.usage = None
        self.clock.advance(LOOK)
        self.pace.gather(lambda: None)
        self.assertEqual(self.pace.wait, 0)
