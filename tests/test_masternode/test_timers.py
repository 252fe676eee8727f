"""The timers of the agreement: each once, at its time, and none after the end."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.timers import Timers


class Running(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.timers = Timers(self.clock)
        self.rung: list[str] = []

    def start(self, milliseconds: int, name: str) -> None:
        self.timers.start(milliseconds, lambda: self.rung.append(name))

    def test_each_rings_once_at_its_time(self) -> None:
        """Not before, and never again, in the order in which they run out."""
        self.start(2_000, "late")
        self.start(500, "soon")
        self.clock.advance(0.499)
        self.assertEqual(self.rung, [])
        self.clock.advance(0.001)
        self.assertEqual(self.rung, ["soon"])
        self.clock.pump([1] * 10)
        self.assertEqual(self.rung, ["soon", "late"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_none_at_all_is_still_not_now(self) -> None:
        """A timer of no time rings in the reactor's next turn, never inside the step that asked for it."""
        self.start(0, "at once")
        self.assertEqual(self.rung, [])
        self.clock.advance(0)
        self.assertEqual(self.rung, ["at once"])

    def test_stop_forgets_all_that_have_not_rung(self) -> None:
        """After it nothing rings, nothing stays with the reactor, and stopping again is nothing."""
        self.start(100, "rung")
        self.start(200, "never")
        self.start(300, "never")
        self.clock.advance(0.1)
        self.timers.stop()
        self.timers.stop()
        self.clock.advance(10)
        self.assertEqual((self.rung, self.clock.getDelayedCalls()), (["rung"], []))

    def test_one_that_starts_another(self) -> None:
        """A step that a timer led to may ask for the next; stopping forgets that one."""

        def again() -> None:
            self.rung.append("again")
            self.timers.start(1_000, again)

        self.timers.start(1_000, again)
        self.clock.pump([1, 1, 1])
        self.timers.stop()
        self.clock.pump([1, 1, 1])
        self.assertEqual((self.rung, self.clock.getDelayedCalls()), (["again"] * 3, []))

    def test_one_that_stops_all(self) -> None:
        """The node may end in a step that a timer led to."""
        self.start(2_000, "never")
        self.timers.start(1_000, self.timers.stop)
        self.clock.advance(5)
        self.assertEqual((self.rung, self.clock.getDelayedCalls()), ([], []))
