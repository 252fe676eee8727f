"""The thread that blocks in the reactor's stead: in order, and it outlives what it is given."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto.masternode.worker import Worker


class Panic(BaseException):
    """As a library that is not written in Python raises it: no Exception."""


class Turns:
    """A reactor of which the test takes each turn."""

    def __init__(self) -> None:
        self._due: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], *given: Any) -> None:
        self._due.put(lambda: call(*given))

    def turn(self) -> None:
        self._due.get(timeout=2)()


class Working(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Turns()
        self.worker = Worker(self.reactor, self.id())
        self.worker.start()
        self.addCleanup(self.worker.stop)

    def test_whatever_a_job_ends_by_is_told(self) -> None:
        """Also what is no Exception, and the next job is done: a commit that is never told of is a node that hangs."""

        def fail(error: BaseException) -> None:
            raise error

        for error in (ValueError("one"), Panic("called `Result::unwrap()` on an `Err` value"), SystemExit(3)):
            failed, done = self.worker(fail, error), self.worker(str, 7)
            self.reactor.turn()
            self.assertIs(self.failureResultOf(failed, type(error)).value, error)
            self.reactor.turn()
            self.assertEqual(self.successResultOf(done), "7")
