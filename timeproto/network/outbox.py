"""What one connection has to write, in order: given to the transport while that takes more, else kept.

Through the transport's own buffer a frame costs two changes of epoll and a turn of the reactor, 20 µs; given to the
kernel it costs the system call, 7. And what waits for that turn waits for a step of the node, if one is due before it.
So a frame goes to the kernel at once, unless something goes before it there. Under TLS it takes the longer way. The
answers to what was read in one piece are gathered, and go in one.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.tcp import Connection

from timeproto.network.fanout import Shared

GATHERED = 64 * 1024
"""Bytes of answers beyond which nothing more is gathered."""


class Outbox:
    """Frames in the order they came, whether they are written at once, later, or in their turn."""

    __slots__ = ("_gathers", "_is_closed", "_is_due", "_is_plain", "_kept", "_transport", "paused", "size", "squeezes")

    def __init__(self) -> None:
        self._kept: deque[bytes] = deque()
        self._transport: Any = None
        self._is_plain = False
        self.paused = False
        """True while the transport has enough: it says when it has not (:meth:`resume`)."""
        self._gathers = False
        self._is_due = False
        self._is_closed = False
        self.squeezes = False
        """True if the other end takes compressed frames."""
        self.size = 0
        """Bytes that are kept."""

    def open(self, transport: Any) -> None:
        self._transport = transport
        self._is_plain = isinstance(transport, Connection) and not transport.TLS

    def write(self, frame: bytes) -> None:
        """Writes ``frame`` behind what is kept; keeps it while the transport has enough, or while it gathers."""
        if self.paused or self._gathers:
            self._keep(frame)
            if self.size > GATHERED and not self.paused:
                self._write_kept()
        else:
            if self._kept:
                self._write_kept()
            self._put(frame)

    def gather(self) -> None:
        """Keeps what is written until :meth:`release`, as far as it is little."""
        self._gathers = True

    def release(self) -> None:
        """Writes what was gathered, and from now on each frame when it comes."""
        self._gathers = False
        if self._kept and not self.paused:
            self._write_kept()

    def hold(self, *shared: Shared) -> bool:
        """Keeps what goes to many until :meth:`flush`, before whatever comes later; True if no flush was due yet."""
        if self._is_closed:
            return False
        frames = [each.squeezed for each in shared] if self.squeezes else [each.frame for each in shared]
        self._kept.extend(frames)
        self.size += sum(map(len, frames))
        was_due, self._is_due = self._is_due, True
        return not was_due

    def flush(self) -> None:
        """Writes what is kept, in one piece, unless the transport has enough: then it goes when that asks for more."""
        self._is_due = False
        if self._kept and not self.paused:
            self._write_kept()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        while self._kept and not self.paused:
            frame = self._kept.popleft()
            self.size -= len(frame)
            self._transport.write(frame)

    def finish(self) -> None:
        """Gives all that is kept to the transport, however much that has, and holds nothing more: it closes next."""
        if self._kept:
            self._write_kept()
        self.close()

    def close(self) -> None:
        """What is kept is given up, and nothing more is held."""
        self._is_closed = True
        self._clear()

    def _clear(self) -> None:
        self._kept.clear()
        self.size = 0

    def _keep(self, frame: bytes) -> None:
        self._kept.append(frame)
        self.size += len(frame)

    def _write_kept(self) -> None:
        data = self._kept[0] if len(self._kept) == 1 else b"".join(self._kept)
        self._clear()
        self._put(data)

    def _put(self, data: bytes) -> None:
        """To the kernel at once, or behind what the transport has."""
        transport = self._transport
        goes_first = self._is_plain and transport.connected and not (transport.dataBuffer or transport._tempDataBuffer)
        if goes_first:
            try:
                took = transport.socket.send(data)
            except OSError:
                took = 0  # it is full, or lost: the transport finds out which
            if took == len(data):
                return
            data = data[took:]
        transport.write(data)
