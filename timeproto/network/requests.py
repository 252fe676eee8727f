"""Requests that await their reply, on one connection. All that are left fail together, once, when it goes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.wire.messages import Reply


class ConnectionGone(Exception):
    """They went away before they answered: nobody knows whether they did what was asked. (A refusal is a
    :class:`~timeproto.errors.Refusal`: they said no.)"""


class NotProven(ConnectionGone):
    """They were there, and went away or were sent away before they had proven to be a masternode."""


SAID = 200
"""Characters of what the other end says that are repeated."""


def quoted(refusal: Refusal) -> str:
    """What the other end says, as text for one line: with its escapes no longer than ``SAID``, and some more."""
    said = repr(refusal.message)
    return f"{refusal.code.value}, {said if len(said) <= SAID else said[:SAID] + '…'}"


class Requests:
    """The table of one connection. Ids count from 1."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._next = 1
        self._waiting: dict[int, tuple[Deferred[Any], IDelayedCall, type[Reply]]] = {}
        self._gone: ConnectionGone | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, answer: type[Reply]) -> tuple[int, Deferred[Any]]:
        """A new id, and the Deferred of its reply, of the type ``answer``. Fails with ``timeout`` after
        ``limits.REQUEST_TIME``, and with ``busy`` at once if too many wait already."""
        if self._gone is not None:
            raise self._gone
        if len(self._waiting) >= limits.REQUESTS:
            raise Refusal(ErrorCode.BUSY, "too many requests of this connection wait for their reply")
        number, self._next = self._next, self._next + 1

        def cancelled(_: Deferred[Any]) -> None:
            self._forget(number)

        reply: Deferred[Any] = Deferred(cancelled)
        late = self._clock.callLater(limits.REQUEST_TIME, self._time_out, number)
        self._waiting[number] = reply, late, answer
        return number, reply

    def answer(self, number: int | None, outcome: Any) -> bool:
        """Fires the request's Deferred with a reply or a :class:`Refusal`; False if nobody waits for it.

        Raises :class:`Refusal` ``bad_field``, upon which the connection closes, for what answers something else."""
        waiting = None if number is None else self._waiting.get(number)
        if waiting is not None and not isinstance(outcome, (waiting[2], Exception)):
            why = f"a {type(outcome).__name__} is no answer where a {waiting[2].__name__} is"
            raise Refusal(ErrorCode.BAD_FIELD, why)
        reply = None if number is None else self._forget(number)
        if reply is None:
            return False
        if isinstance(outcome, Exception):
            reply.errback(outcome)
        else:
            reply.callback(outcome)
        return True

    def fail_all(self, gone: ConnectionGone) -> None:
        self._gone = gone
        for number in list(self._waiting):
            self.answer(number, gone)

    def _forget(self, number: int) -> Deferred[Any] | None:
        entry = self._waiting.pop(number, None)
        if entry is None:
            return None
        reply, late, _ = entry
        if late.active():
            late.cancel()
        return reply

    def _time_out(self, number: int) -> None:
        self.answer(number, Refusal(ErrorCode.TIMEOUT, f"no reply within {limits.REQUEST_TIME:g} s"))
