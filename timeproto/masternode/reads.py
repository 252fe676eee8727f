"""Questions about what this node holds, asked at the boundary between two commits: a slice of them at a time.

A thousand of them may wait there, of wallets that ask on and on. So not all are asked in a row: after a slice
(``limits.READ_TIME``) what waits for a step has its turn, and everything else the reactor has to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from timeproto import limits
from timeproto.errors import Refusal
from timeproto.masternode.timers import Timers

T = TypeVar("T")


class Reads:
    """First come, first asked."""

    def __init__(self, timers: Timers, is_boundary: Callable[[], bool], go_on: Callable[[], None]) -> None:
        """``go_on`` is called in a later turn of the reactor, if a slice was not enough: it is to :meth:`ask` again."""
        self._timers = timers
        self._is_boundary = is_boundary
        self._go_on = go_on
        self._waiting: deque[tuple[Callable[[], Any], Deferred[Any]]] = deque()
        self._spent = 0.0
        self._is_asking = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, question: Callable[[], T]) -> Deferred[T]:
        """Fires with what ``question()`` returns, or fails with what it raises."""
        answer: Deferred[T] = Deferred()
        self._waiting.append((question, answer))
        return answer

    def ask(self) -> None:
        """Asks what waits, until that has taken a slice of this turn of the reactor."""
        if self._is_asking:
            return  # inside a question: the next comes when it is answered
        self._is_asking = True
        try:
            while self._waiting and self._spent < limits.READ_TIME and self._is_boundary():
                self._ask_one()
        finally:
            self._is_asking = False

    def _ask_one(self) -> None:
        question, answer = self._waiting.popleft()
        if answer.called:
            return  # who asked has gone
        began = self._timers.seconds()
        try:
            found = question()
        except BaseException as error:  # a panic in a library is no Exception, and who asked must be told of it
            answer.errback(error)
        else:
            answer.callback(found)
        took = self._timers.seconds() - began
        if took > 0:
            if not self._spent:
                self._timers.start(0, self._turn)
            self._spent += took

    def _turn(self) -> None:
        """The reactor has been round."""
        self._spent = 0.0
        if self._waiting:
            self._go_on()

    def refuse(self, refusal: Refusal) -> None:
        """Whatever waits fails with ``refusal``."""
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            if not answer.called:
                answer.errback(refusal)
