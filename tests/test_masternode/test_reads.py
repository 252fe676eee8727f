"""Questions at the boundary between commits: in their order, a slice in a turn, and none lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.masternode.reads import Reads
from timeproto.masternode.timers import Timers


class Slices(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.is_boundary = True
        self.turns: list[int] = []
        self.asked: list[int] = []
        self.reads = Reads(Timers(self.clock), lambda: self.is_boundary, self.go_on)

    def go_on(self) -> None:
        self.turns.append(len(self.asked))
        self.reads.ask()

    def question(self, number: int, seconds: float = 0.0) -> Callable[[], int]:
        """One that takes its time; the clock's calls that are due meanwhile wait, as the reactor's do."""

        def ask() -> int:
            self.asked.append(number)
            self.clock.rightNow += seconds
            return number

        return ask

    def add(self, *seconds: float) -> list[Deferred[int]]:
        return [self.reads.add(self.question(number, each)) for number, each in enumerate(seconds)]

    def test_quick_ones_in_a_row(self) -> None:
        """All that take no time to speak of are answered at once, in their order, and nothing is left behind."""
        answers = self.add(*[0.0] * 500)
        self.reads.ask()
        self.assertEqual([self.successResultOf(each) for each in answers], list(range(500)))
        self.assertEqual((len(self.reads), self.clock.getDelayedCalls()), (0, []))

    def test_slow_ones_a_slice_at_a_time(self) -> None:
        """After ``limits.READ_TIME`` the rest waits for the reactor's next turn, and the one after that."""
        self.add(*[limits.READ_TIME / 2] * 5)
        self.reads.ask()
        self.reads.ask()
        self.assertEqual(self.asked, [0, 1])
        self.clock.advance(0)  # which goes round as often as there is something to do
        self.assertEqual(self.turns, [2, 4])
        self.assertEqual(self.asked, [0, 1, 2, 3, 4])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_new_turn_is_a_new_slice(self) -> None:
        """Those who asked in an earlier turn cost the ones of this turn nothing, and nobody is called for nothing."""
        for _ in range(5):
            (answer,) = self.add(limits.READ_TIME)
            self.reads.ask()
            self.assertEqual(self.successResultOf(answer), 0)
            self.clock.advance(0)
        self.assertEqual(self.turns, [])

    def test_only_at_a_boundary(self) -> None:
        """Not while a commit is under way, even if it was a question that began one."""

        def begin() -> None:
            self.is_boundary = False

        self.reads.add(begin)
        (late,) = self.add(0.0)
        self.reads.ask()
        self.assertNoResult(late)
        self.is_boundary = True
        self.reads.ask()
        self.assertEqual(self.successResultOf(late), 0)

    def test_a_question_that_asks(self) -> None:
        """Inside a question another one can be asked: it comes after it, and in its order."""
        inner: list[Any] = []

        def outer() -> None:
            inner.extend(self.add(0.0, 0.0))
            self.reads.ask()
            self.assertEqual(self.asked, [])

        self.reads.add(outer)
        self.reads.ask()
        self.assertEqual([self.successResultOf(each) for each in inner], [0, 1])

    def test_one_that_fails_and_one_that_is_gone(self) -> None:
        """Neither keeps the next from being asked, in whatever way it failed: libraries can panic."""

        class Panic(BaseException): ...

        def panic() -> None:
            raise Panic

        failed, broken = self.reads.add(lambda: 1 // 0), self.reads.add(panic)
        gone, good = self.add(0.0, 0.0)
        gone.addErrback(lambda _: None)
        gone.cancel()
        self.reads.ask()
        self.failureResultOf(failed, ZeroDivisionError)
        self.failureResultOf(broken, Panic)
        self.assertEqual((self.asked, self.successResultOf(good)), ([1], 1))

    def test_refused(self) -> None:
        """Whatever waits is told why it will never be answered."""
        self.is_boundary = False
        answers = self.add(0.0, 0.0)
        self.reads.ask()
        self.reads.refuse(Refusal(ErrorCode.GOING_AWAY, "the end"))
        self.assertEqual([self.failureResultOf(each, Refusal).value.code for each in answers], ["going_away"] * 2)
        self.assertEqual(len(self.reads), 0)
