"""Standard output that hears of what happens: when it takes nothing more, the command ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from timeproto.cli import terminal
from timeproto.errors import StorageError

T = TypeVar("T")

LOOK = 1.0
"""Seconds between two looks whether somebody still reads: there may be nothing to tell for hours."""


class Audience:
    """Whoever reads standard output.

    What a listener raises is logged by those that call it, and they go on: that nobody reads any more would be noticed
    by nobody. So a command prints in its listeners by :meth:`tell`, and waits by :meth:`wait`.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._left: Exception | None = None
        self._waiting: Deferred[Any] | None = None

    def tell(self, show: Callable[..., None], *told: Any, **how: Any) -> None:
        """Calls ``show``, unless nobody listens any more."""
        if self._left is not None:
            return
        try:
            show(*told, **how)
        except (BrokenPipeError, StorageError) as why:
            self._left = why
            # Not at once: whoever calls the listener is in the midst of noting what happened.
            self._reactor.callLater(0, self._end)

    def _end(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _look(self) -> None:
        if self._left is None and terminal.reader_is_gone():
            terminal.let_go()
            self._left = BrokenPipeError()
            self._reactor.callLater(0, self._end)

    async def wait(self, waiting: Deferred[T]) -> T:
        """What ``waiting`` brings; raises why nobody listens as soon as nobody does."""
        self._waiting = waiting
        if self._left is not None:
            waiting.cancel()
        looking = LoopingCall(self._look)
        looking.clock = self._reactor
        looking.start(LOOK, now=False)
        try:
            result = await waiting
        except CancelledError:
            if self._left is None:
                raise
        finally:
            looking.stop()
        if self._left is not None:
            raise self._left
        return result
