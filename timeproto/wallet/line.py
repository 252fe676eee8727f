"""What a node tells, worked off in the order in which it came: to check it may mean to ask, and the order must stay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from timeproto.wire.messages import TransactionStatus, UTXOStateNotification

Work = Callable[[], Coroutine[Any, Any, None]]

BEHIND, BEHIND_BYTES = 10_000, 100_000_000
"""How much may wait to be checked, and how many bytes of JSON that is, about (in memory it is twice that): a node that
tells more, and faster than it answers, is left."""


class Line:
    """A loop and no chain, since a thousand coins of one payment are checked in one turn."""

    def __init__(self, do: Callable[[Work], Coroutine[Any, Any, None]]) -> None:
        """``do(work)`` awaits ``work()``, and lets nothing of it be raised."""
        self._do = do
        self._line: deque[tuple[Work, int]] = deque()
        self._size = 0
        self._is_at_work = False
        self._came = self._done = 0
        self._settling: deque[tuple[int, Deferred[None]]] = deque()

    def __len__(self) -> int:
        """How much waits."""
        return len(self._line)

    @property
    def is_full(self) -> bool:
        return len(self._line) >= BEHIND or self._size >= BEHIND_BYTES

    def append(self, work: Work, size: int = 0) -> None:
        """``size``: the bytes that it holds."""
        self._came += 1
        self._size += size
        self._line.append((work, size))
        if not self._is_at_work:
            self._is_at_work = True
            ensureDeferred(self._work())

    def clear(self) -> None:
        """Nothing is left to do of what waits."""
        self._done += len(self._line)
        self._size = 0
        self._line.clear()

    def settled(self) -> Deferred[None]:
        """Fires when all that has come so far is done: what comes after it is not waited for, or who is told all the
        time would wait for ever."""
        if self._done == self._came:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._settling.append((self._came, waiting))
        return waiting

    async def _work(self) -> None:
        while self._line:
            work, size = self._line.popleft()
            self._size -= size
            await self._do(work)
            self._done += 1
            while self._settling and self._settling[0][0] <= self._done:
                _, waiting = self._settling.popleft()
                waiting.callback(None)  # to one that was called off it is nothing
        self._is_at_work = False


def size_of(message: UTXOStateNotification | TransactionStatus) -> int:
    """The bytes of its JSON, about, as far as that can be long: proofs, and outputs."""
    if isinstance(message, TransactionStatus):
        return 300 + 100 * len(message.outputs)
    votes = () if message.proof is None else message.proof.votes
    size = 800 + sum(300 + 67 * len(vote.path) for vote in votes)
    if message.inclusion is not None:
        size += 800 + 230 * len(message.inclusion.commit.signatures) + 67 * len(message.inclusion.path)
    return size
