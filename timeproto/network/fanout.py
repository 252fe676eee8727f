"""One message for many connections: its frame is made once, and written to some of them at a time.

Ten thousand system calls take a tenth of a second. Between slices of ``limits.FAN_OUT`` connections, or of so many that
``limits.FAN_OUT_BYTES`` are written, the reactor does what else there is to do. Whoever tells need not know that it
takes several turns: what is held for a connection goes before whatever it is sent later
(:class:`timeproto.network.outbox.Outbox`).
"""

from __future__ import annotations

import struct
from collections import deque
from functools import cached_property
from typing import Any, Protocol

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.wire import compression

_LENGTH = struct.Struct("!I")


def frame_of(payload: bytes, *, squeezed: bool) -> bytes:
    """The payload behind its length, squeezed if that helps. Raises :class:`Refusal` for what no frame may hold."""
    if len(payload) > limits.FRAME_PEER:
        raise Refusal(
            ErrorCode.FRAME_TOO_LARGE,
            f"a frame of {len(payload)} bytes is too long to send",
            limit="frame_peer",
            value=limits.FRAME_PEER,
        )
    if squeezed:
        payload = compression.squeeze(payload)
    return _LENGTH.pack(len(payload)) + payload


class Shared:
    """An encoded message that many are sent: each form of its frame is made once."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.frame = frame_of(payload, squeezed=False)

    @cached_property
    def squeezed(self) -> bytes:
        return frame_of(self.payload, squeezed=True)


class Holder(Protocol):
    """Keeps what goes to many until its turn (:class:`timeproto.network.outbox.Outbox`)."""

    size: int

    def hold(self, *shared: Shared) -> bool: ...

    def flush(self) -> None: ...


class FanOut:
    """Whose turn it is to be written to, of those for whom something is held."""

    def __init__(self, clock: Any) -> None:
        """``clock``: an IReactorTime provider, or None: then nobody waits for a turn."""
        self._clock = clock
        self._due: deque[Holder] = deque()
        self._is_called = False

    def send(self, outbox: Holder, *shared: Shared) -> None:
        """To one of many, in its turn."""
        if not outbox.hold(*shared):
            return
        self._due.append(outbox)
        if self._clock is None:
            self._due.pop().flush()
        elif not self._is_called:
            self._is_called = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        room = limits.FAN_OUT_BYTES
        try:
            for _ in range(min(limits.FAN_OUT, len(self._due))):
                if room <= 0:
                    break
                outbox = self._due.popleft()
                room -= outbox.size
                outbox.flush()
        finally:
            self._is_called = bool(self._due)
            if self._is_called:
                self._clock.callLater(0, self._turn)
