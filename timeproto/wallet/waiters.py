"""Whoever waits for a wallet client to be connected is told once: that it is, or that it was closed."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed

from timeproto.network.requests import ConnectionGone


class Waiters:
    """The Deferreds of one client. It can be closed and opened again, and meanwhile nobody waits."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []
        self._is_closed = False

    def wait(self, *, is_there: bool) -> Deferred[None]:
        """Fires when :meth:`tell` says so, at once if a connection ``is_there``; fails with :class:`ConnectionGone` as
        soon as the client is closed."""
        if self._is_closed:
            return fail(_closed())
        if is_there:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def tell(self) -> None:
        """The client is connected."""
        for each in self._take():
            each.callback(None)

    def close(self) -> None:
        self._is_closed = True
        for each in self._take():
            each.errback(_closed())

    def open(self) -> None:
        self._is_closed = False

    def require_open(self) -> None:
        """:class:`ConnectionGone` if the client was closed."""
        if self._is_closed:
            raise _closed()

    def _take(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, []
        return waiting


def _closed() -> ConnectionGone:
    return ConnectionGone("the wallet was closed")
