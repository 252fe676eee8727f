"""A thread that does one thing after another, for work that blocks: signature checks, commits.

Twisted's pool hands a job from one thread to another twice and costs a busy node more than the job itself; a queue
made in C and one ``callFromThread`` back cost a fifth of it.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_Job = tuple[Callable[..., Any], tuple[Any, ...], "Deferred[Any]"]


class Worker:
    """``worker(f, *args)`` runs ``f(*args)`` in the thread, in the order of the calls; fires in the reactor."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._jobs.put((work, arguments, done))
        return done

    def stop(self) -> None:
        """Ends the thread after the jobs it has; returns when it is gone."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, arguments, done = job
            try:
                result = work(*arguments)
            except BaseException:  # a panic in a library is no Exception, and who waits must be told of it
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, result)
