"""Many sockets that only listen: the receiving half of every contestant in ``bench notify``, the same for all, and the
honest wallets of ``bench hostile``.

Blocking system calls and one epoll, no reactor: what is measured is who tells, so whoever hears must cost little. It
runs beside the teller, on another core if there is one.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from collections.abc import Callable

from timeproto.errors import ConfigurationError

AT_ONCE = 40
"""Connections begun before their answers are awaited: fewer than a listener lets wait (50)."""
PATIENCE = 60.0
_BIND_ADDRESS_NO_PORT = 24
"""Linux: the port is chosen when the other end is known. Else each connection takes longer than the one before."""


class Crowd:
    """``size`` connections to ``port`` on this machine, with TLS if there is a ``context`` for it."""

    def __init__(self, port: int, size: int, context: ssl.SSLContext | None = None) -> None:
        """:class:`ConfigurationError` where there is no epoll."""
        if not hasattr(select, "epoll"):
            raise ConfigurationError("a crowd needs epoll, and so Linux")
        self._port = port
        self._size = size
        self._context = context
        self.sockets: list[socket.socket] = []
        self.epoll = select.epoll()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.sockets:
            each.close()
        self.epoll.close()

    def gather(
        self, greeting: Callable[[int], bytes], answered: Callable[[bytes], bool], show: Callable[[float], None]
    ) -> None:
        """Connects everyone, sends ``greeting(i)``, and returns when ``answered(what came)`` is true of each.

        :class:`ConfigurationError` if that does not happen."""
        for first in range(0, self._size, AT_ONCE):
            some = [self._connect() for _ in range(min(AT_ONCE, self._size - first))]
            for number, each in enumerate(some, first):
                words = greeting(number)
                if words:
                    each.sendall(words)
            for each in some:
                heard = b""
                while not answered(heard):
                    more = each.recv(1 << 16)
                    if not more:
                        raise ConfigurationError(f"a subscriber was turned away: {heard[-300:]!r}")
                    heard += more
            self.sockets += some
            show(len(self.sockets) / self._size)
        for each in self.sockets:
            each.setblocking(False)
            self.epoll.register(each.fileno(), select.EPOLLIN)

    def _connect(self) -> socket.socket:
        # A connection is known by both ends' addresses: other source addresses leave room for the next contestant.
        source = f"127.0.0.{2 + len(self.sockets) // 5_000}"
        try:
            each = socket.socket()
            each.settimeout(PATIENCE)
            each.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            each.bind((source, 0))
            each.connect(("127.0.0.1", self._port))
        except OSError as error:
            full = error.errno == errno.EMFILE
            why = "this process may not open so many files (ulimit -n)" if full else str(error)
            raise ConfigurationError(f"a subscriber cannot connect: {why}") from None
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return each if self._context is None else self._context.wrap_socket(each)

    def await_bytes(self, expected: int | None = None) -> float:
        """When (:func:`time.monotonic`) the last of ``expected`` bytes a connection had come to all of them.

        None for one frame of our protocol, the same for all: its first bytes tell how long it is."""
        heard = {each.fileno(): 0 for each in self.sockets}
        missing = len(heard)
        by_number = {each.fileno(): each for each in self.sockets}
        deadline = time.monotonic() + PATIENCE
        last = time.monotonic()
        while missing:
            for number, _ in self.epoll.poll(1.0, 1_000):
                data = by_number[number].recv(1 << 16)
                if not data:
                    raise ConfigurationError("a subscriber was cut off")
                if expected is None:
                    expected = 4 + int.from_bytes(data[:4], "big")
                heard[number] += len(data)
                if heard[number] == expected:
                    missing -= 1
                elif heard[number] > expected:
                    raise ConfigurationError("a subscriber was told more than it should have been")
            last = time.monotonic()
            if last > deadline:
                raise ConfigurationError(f"{missing} of {self._size} subscribers were not told in {PATIENCE:g} s")
        return last
