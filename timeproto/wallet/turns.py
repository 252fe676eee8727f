"""Conversations with nodes: one after the other, each once at a time, or all at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.python.failure import Failure

T = TypeVar("T")


class Turns:
    """``turns(work)`` awaits ``work()`` once all that was given before has ended; fires as it ends.

    A loop, and not a lock that each hands on to the next from within its own end (Twisted's ``DeferredLock``): when a
    connection is lost all that wait for it fail in one turn, and a hundred of them would nest too deeply for Python.
    """

    def __init__(self) -> None:
        self._line: deque[tuple[Callable[[], Coroutine[Any, Any, None]], Deferred[None]]] = deque()
        self._at_work = False

    def __call__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._line.append((work, done))
        if not self._at_work:
            self._at_work = True
            ensureDeferred(self._work())
        return done

    async def _work(self) -> None:
        while self._line:
            work, done = self._line.popleft()
            try:
                await work()
            except Exception:
                done.errback(Failure())
            else:
                done.callback(None)
        self._at_work = False


class Once:
    """``once(key, work)`` has ``run`` take the coroutine ``work()``, unless one of the same key has not ended yet: who
    asks again and again must not ask more often than there is an answer."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._run = run
        self._keys: set[Hashable] = set()

    def __call__(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if key not in self._keys:
            self._keys.add(key)
            self._run(self._do(key, work))

    async def _do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        finally:
            self._keys.discard(key)


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each gives, in their order, when all have ended; the first failure among them is raised then. Called off, it
    calls all of them off."""
    begun = [Deferred.fromCoroutine(work) for work in works]
    ends: list[tuple[bool, Any]] = await DeferredList(begun, consumeErrors=True)
    for succeeded, result in ends:
        if not succeeded:
            result.raiseException()
    return [result for _, result in ends]
