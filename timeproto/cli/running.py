"""Runs a command's coroutine on the reactor and gives back its exit status."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.python.failure import Failure


def when_interrupted(reactor: Any) -> Deferred[None]:
    """Fires on SIGINT or SIGTERM, instead of what they do by themselves: who has processes to stop does it in order."""
    interrupted: Deferred[None] = Deferred()

    def handle(*_: Any) -> None:
        reactor.callFromThread(fire)

    def fire() -> None:
        if not interrupted.called:
            interrupted.callback(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return interrupted


def run_until_done(main: Callable[[Any], Awaitable[int]]) -> int:
    """Starts the global reactor for ``main(reactor)``; what it raises is raised here, when everything has stopped.

    Ctrl-C calls ``main`` off, which tidies up, and is :class:`KeyboardInterrupt` whatever that comes to; a second one
    waits for nothing. ``main`` may see to it itself by :func:`when_interrupted`.
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
