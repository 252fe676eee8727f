"""The timers of the agreement: each once, at its time, and none after the end."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode import tap
from timeproto.masternode.timers import Timers, keep_steady


class OnTheWall(ReactorBase):
    """A reactor as Twisted makes it, that goes by the wall clock, and which the test can set."""

    wall = 1_700_000_000.0

    def installWaker(self) -> None:
        pass

    def seconds(self) -> float:
        return self.wall


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

    def test_one_that_rang_leaves_nothing_for_the_collector(self) -> None:
        """It is in no ring: what it called goes with the last who holds it."""
        self.addCleanup(gc.enable)
        gc.disable()
        clock, rung = self.clock, self.rung

        class Then:
            def __call__(self) -> None:
                rung.append("gone")

        then = Then()
        kept = weakref.ref(then)
        self.timers.start(0, then)
        del then
        clock.advance(0)
        self.assertEqual((self.rung, kept()), (["gone"], None))

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


class Steady(SynchronousTestCase):
    def test_a_clock_that_is_set_back_keeps_nothing_waiting(self) -> None:
        """What was to be after a moment is after a moment, whatever the clock on the wall shows by then."""
        reactor: Any = OnTheWall()
        steady = [100.0]
        self.patch(time, "monotonic", lambda: steady[0])
        keep_steady(reactor)
        rung: list[str] = []
        Timers(reactor).start(50, lambda: rung.append("rung"))
        reactor.wall -= 3_600
        steady[0] += 0.04
        reactor.runUntilCurrent()
        self.assertEqual(rung, [])
        steady[0] += 0.02
        reactor.runUntilCurrent()
        self.assertEqual(rung, ["rung"])

    def test_a_node_goes_by_it(self) -> None:
        """From before anything of it is scheduled."""
        steadied: list[Any] = []
        self.patch(tap, "keep_steady", steadied.append)
        self.patch(sys, "setswitchinterval", lambda seconds: None)
        options = tap.Options()
        options.parseOptions(["--datadir", self.mktemp()])
        node: Any = tap.makeService(options)
        self.assertEqual(steadied, [node._reactor])
