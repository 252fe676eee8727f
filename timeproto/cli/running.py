"""Runs a command's coroutine on the reactor and gives back its exit status."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure


class Interruption:
    """SIGINT or SIGTERM, instead of what they do by themselves: who has processes to stop does it in order."""

    def __init__(self, reactor: Any) -> None:
        self.has_come = False
        """True from the signal on: the reactor may find that a process has ended of it before it calls ``when``."""
        self.when: Deferred[None] = Deferred()
        """Fires soon after."""
        self._reactor = reactor
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._come)

    def _come(self, *_: Any) -> None:
        if not self.has_come:
            self.has_come = True
            self._reactor.callFromThread(self.when.callback, None)


def run_until_done(main: Callable[[Any], Awaitable[int]]) -> int:
    """Starts the global reactor for ``main(reactor)``; what it raises is raised here, when everything has stopped.

    Ctrl-C calls ``main`` off, which tidies up, and is :class:`KeyboardInterrupt` whatever that comes to; a second one
    waits for nothing. ``main`` may see to it itself by an :class:`Interruption`.
    """
    from twisted.internet import reactor

    outcome: list[int | Failure] = []
    running: list[Deferred[int]] = []
    interrupted = False

    def done(result: Any) -> None:
        outcome.append(result)
        end()

    async def begin() -> int:
        return await main(reactor)

    def interrupt(*_: Any) -> None:
        nonlocal interrupted
        again, interrupted = interrupted, True
        reactor.callFromThread(end if again else call_off)  # type: ignore[attr-defined]

    def call_off() -> None:
        running[0].cancel()

    def end() -> None:
        with suppress(ReactorNotRunning):
            reactor.stop()

    def start() -> None:
        signal.signal(signal.SIGINT, interrupt)
        running.append(ensureDeferred(begin()))
        running[0].addBoth(done)

    reactor.callWhenRunning(start)
    reactor.run()
    if interrupted or not outcome:
        raise KeyboardInterrupt
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    assert isinstance(result, int)
    return result
