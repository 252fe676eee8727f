"""``python -m timeproto.bench.asker``: one wallet that asks a node about coins, in a process of its own.

Beside the load it would wait for that: to sign the payments of one takes a quarter of a second. Commands (see
bench.helper): the first line says whom to ask for what, and is answered when the connection stands; ``ask`` asks for so
many ``seconds``, and tells how long each answer took.
"""

from __future__ import annotations

import json
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from timeproto import limits
from timeproto.bench import stock
from timeproto.bench.frames import PONG, cut, frame, is_ping
from timeproto.bench.helper import say
from timeproto.errors import ConfigurationError
from timeproto.wire import codec, messages

IN_FRAME = min(limits.QUERY, (limits.FRAME_WALLET - 200) // 70)
"""Outpoints as text that fit a wallet's frame."""
PREPARED = 200
"""Questions of each size that are encoded before the clock starts, and asked in turn."""
SPACING = 0.02
"""Seconds from one question to the next …"""
SPACING_OF_ONE = 0.00018
"""… and so many more for each item of the first: a long one does not delay the next, and for what all of them cost a
node does not hold a wallet back."""
READ = 1 << 16


def pause_after(size: int) -> float:
    return SPACING + SPACING_OF_ONE * size


@attrs.define
class Question:
    """``left``: how many of its items are not answered yet."""

    size: int
    due: float
    left: int


class Asker:
    """One connection that asks at fixed times, whatever became of the questions before."""

    def __init__(
        self,
        connection: Any,
        coins: int,
        batches: tuple[int, ...],
        *,
        seconds: Callable[[], float] = time.perf_counter,
        is_readable: Callable[[Any, float], bool] | None = None,
    ) -> None:
        """``connection``: a socket, or what has its ``recv`` and ``sendall``; ``is_readable`` waits for it, so many
        seconds at most."""
        self._connection = connection
        self._seconds = seconds
        self._is_readable = is_readable or _is_readable
        self._buffer = b""
        self._open: deque[Question] = deque()
        self._times: dict[int, list[float]] = {}
        chance = random.Random(5)  # noqa: S311  (which coins are asked for is no secret)
        self._questions = {size: [self._question(chance, coins, size) for _ in range(PREPARED)] for size in batches}

    @staticmethod
    def _question(chance: random.Random, coins: int, size: int) -> bytes:
        """One frame, or as many as a wallet needs to ask for so much: they are sent together."""
        wanted = [str(stock.outpoint(chance.randrange(coins))) for _ in range(size)]
        parts = (tuple(wanted[first : first + IN_FRAME]) for first in range(0, size, IN_FRAME))
        return b"".join(frame(codec.encode(messages.UTXOStateQuery(id=1, outpoints=part))) for part in parts)

    def ask(self, seconds: float) -> dict[int, list[float]]:
        """Milliseconds from when a question had to be asked to the last byte of its answer, by size.

        :class:`ConfigurationError` if the node does not know a coin, or does not answer."""
        self._times = {size: [] for size in self._questions}
        began = self._seconds()
        for after, size, words in self._schedule(seconds):
            due = began + after
            while (left := due - self._seconds()) > 0:
                self._hear(left)
            self._open.append(Question(size, due, size))
            self._connection.sendall(words)
        deadline = self._seconds() + limits.REQUEST_TIME
        while self._open:
            if (left := deadline - self._seconds()) <= 0:
                raise ConfigurationError(f"a node did not answer within {limits.REQUEST_TIME:g} s")
            self._hear(left)
        return self._times

    def _schedule(self, seconds: float) -> Iterator[tuple[float, int, bytes]]:
        """When, how much and what to ask; each size in turn, and at least once."""
        after, round_of_all = 0.0, sum(map(pause_after, self._questions))
        for at in range(max(1, round(seconds / round_of_all))):
            for size, questions in self._questions.items():
                yield after, size, questions[at % PREPARED]
                after += pause_after(size)

    def _hear(self, patience: float) -> None:
        """Whatever comes next, if it comes within ``patience`` seconds."""
        if not self._is_readable(self._connection, patience):
            return
        data = self._connection.recv(READ)
        if not data:
            raise ConfigurationError("a node closed the connection")
        payloads, self._buffer = cut(self._buffer + data)
        for payload in payloads:
            self._take(payload)

    def _take(self, payload: bytes) -> None:
        if is_ping(payload):
            self._connection.sendall(PONG)
            return
        known = payload.count(b'"status":"known"')
        if not known or not self._open:
            raise ConfigurationError(f"a node does not know the coins it was asked for: {payload[:200]!r}")
        question = self._open[0]  # a node answers a connection in order
        question.left -= known
        if question.left <= 0:
            self._open.popleft()
            self._times[question.size].append(1000 * (self._seconds() - question.due))


def _is_readable(connection: Any, patience: float) -> bool:
    readable, _, _ = select.select([connection], [], [], patience)
    return bool(readable)


def main() -> None:
    told = json.loads(sys.stdin.readline())
    with socket.create_connection((told["host"], told["port"]), limits.REQUEST_TIME) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asker = Asker(connection, told["coins"], tuple(told["batches"]))
        say({})
        for line in sys.stdin:
            times = asker.ask(json.loads(line)["seconds"])
            say({str(size): took for size, took in times.items()})


if __name__ == "__main__":
    main()
