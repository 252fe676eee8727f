"""Runs a command's coroutine on the reactor and gives back its exit status."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure


def when_interrupted(reactor: Any) -> Deferred[None]:
    """Fires on SIGINT or SIGTERM, instead of what they do by themselves: who has processes to stop does it in order."""
    interrupted: Deferred[None] = Deferred()

    def handle(*_: Any) -> None:
        if not interrupted.called:
            reactor.callFromThread(interrupted.callback, None)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return interrupted


def run_until_done(main: Callable[[Any], Awaitable[int]]) -> int:
    """Starts the global reactor for ``main(reactor)``; what it raises is raised here, when everything has stopped."""
    from twisted.internet import reactor

    outcome: list[int | Failure] = []

    def done(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    async def begin() -> int:
        return await main(reactor)

    def start() -> None:
        ensureDeferred(begin()).addBoth(done)

    reactor.callWhenRunning(start)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    assert isinstance(result, int)
    return result
