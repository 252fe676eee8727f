"""What the system says of its processors, and what it says where it says nothing."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.usage import STAT, Meter, Usage


class Metering(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.own = Clock(), Clock()
        self.stat = Path(self.mktemp())
        self.tell()
        self.meter = Meter(self.clock, self.own.seconds, self.stat)

    def tell(self, *, user: int = 0, nice: int = 0, idle: int = 0, iowait: int = 0, steal: int = 0) -> None:
        """The clock ticks since the machine started, as proc(5) orders them; the guests' are the user's again."""
        self.stat.write_text(f"cpu  {user} {nice} 7 {idle} {iowait} 0 0 {steal} {user} 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")

    def test_what_was_taken_since_the_last_look(self) -> None:
        """Not since the machine started; and of this process in processors, of which it may have more than one."""
        self.clock.advance(2)
        self.own.advance(3)
        self.tell(user=300, idle=100)
        self.assertEqual(self.meter(), Usage(taken=0.75, own=1.5))
        self.clock.advance(1)
        self.tell(user=320, idle=180)
        self.assertEqual(self.meter(), Usage(taken=0.2, own=0))

    def test_who_stands_back_is_not_counted(self) -> None:
        """Nice processes, and waiting for a disk; but what the host keeps for itself is gone."""
        self.clock.advance(1)
        self.tell(user=10, nice=20, idle=30, iowait=10, steal=30)
        self.assertEqual(self.meter(), Usage(taken=0.4, own=0))

    def test_what_cannot_be_says_nothing(self) -> None:
        """No time has passed, or a counter went back; what comes after that is told as ever."""
        self.assertIsNone(self.meter())
        self.clock.advance(1)
        self.tell(user=1_000, idle=1_000)
        self.assertEqual(self.meter(), Usage(taken=0.5, own=0))
        for back in ({"user": 500, "idle": 1_100}, {"user": 1_100, "idle": 100}, {"user": 1_100, "idle": 100}):
            self.clock.advance(1)
            self.tell(**back)
            self.assertIsNone(self.meter())
        self.clock.advance(1)
        self.tell(user=1_150, idle=150)
        self.assertEqual(self.meter(), Usage(taken=0.5, own=0))
        self.clock.rightNow -= 3_600
        self.assertIsNone(self.meter())

    def test_a_system_that_does_not_tell(self) -> None:
        """Neither at first nor later, whatever stands in the file; and when it tells again, from then on."""
        self.assertIsNone(Meter(self.clock, self.own.seconds, Path(self.mktemp()))())
        for text in ("", "cpu", "cpu  1 2 three 4 5 6 7 8\n"):
            self.stat.write_text(text)
            self.assertIsNone(self.meter())
        self.tell()
        self.assertIsNone(self.meter())
        self.clock.advance(1)
        self.tell(user=100)
        self.assertEqual(self.meter(), Usage(taken=1, own=0))

    def test_this_machine(self) -> None:
        """Linux tells, of a time that was long enough."""
        if not STAT.exists():
            self.skipTest("not Linux")
        meter = Meter(Clock())
        self.assertIsNone(meter())  # by that clock no time has passed
