"""Many who wait for one thing: each is told once, and all are told the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from timeproto.network.requests import ConnectionGone

T = TypeVar("T")


class Waiters:
    """Those who wait for one wallet client to be connected. It can be closed and opened again: meanwhile none waits."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], None] = {}
        self.is_closed = False
        self.life = 0
        """How many times it was closed: what was begun before is over."""

    def wait(self, *, is_there: bool) -> Deferred[None]:
        """Fires when :meth:`tell` says so, at once if a connection ``is_there``; fails with :class:`ConnectionGone` as
        soon as the client is closed."""
        if self.is_closed:
            return fail(_closed())
        if is_there:
            return succeed(None)
        waiting: Deferred[None] = Deferred(lambda cancelled: self._waiting.pop(cancelled, None))
        self._waiting[waiting] = None
        return waiting

    def tell(self) -> None:
        """The client is connected; whoever hears it first may close it."""
        life = self.life
        for each in self._take():
            if self.life != life:
                refuse(each, _closed())
            elif not each.called:
                each.callback(None)

    def close(self) -> None:
        """From here on nobody waits: see :meth:`dismiss`."""
        self.is_closed = True
        self.life += 1

    def dismiss(self) -> list[Callable[[], None]]:
        """What tells all who wait that it was closed."""
        return [partial(refuse, each, _closed()) for each in self._take()]

    def open(self) -> None:
        self.is_closed = False

    def require_open(self) -> None:
        """:class:`ConnectionGone` if the client was closed."""
        if self.is_closed:
            raise _closed()

    def _take(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, {}
        return list(waiting)


def refuse(waiting: Deferred[Any], why: Exception) -> None:
    """It fails, unless whoever waited called it off."""
    if not waiting.called:
        waiting.errback(why)


def _closed() -> ConnectionGone:
    return ConnectionGone("the wallet was closed")


@attrs.frozen
class _Told:
    """A failure that somebody was told, kept for the next who waits."""

    why: Failure


def after(done: Deferred[T]) -> Deferred[None]:
    """Another Deferred that ends when and as ``done`` does: many may wait for one, and all are told the same."""
    waiting: Deferred[None] = Deferred()

    def pass_on(result: Any) -> Any:
        told = _Told(result) if isinstance(result, Failure) else result
        if isinstance(told, _Told):
            waiting.errback(told.why)
        else:
            waiting.callback(None)
        return told

    done.addBoth(pass_on)
    return waiting
