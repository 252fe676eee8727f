"""The least of a wallet's connection: frames out, frames in.

A whole wallet client would cost the machine as much as the nodes that are measured. This one sends frames made
before, looks at bytes before it decodes them, and decodes with the strict codec only what it must believe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol

from timeproto.bench.frames import cut, frame, is_ping
from timeproto.network.requests import ConnectionGone
from timeproto.wire import codec, messages

_FIRST_QUESTION = 2**40
"""Ids of questions, apart from those of payments."""


class Line(Protocol):
    """Calls ``hear(payload)`` with every frame but pings, which it answers, and replies to :meth:`ask`."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._buffer = b""
        self._asked: dict[int, Deferred[Any]] = {}
        self._next = _FIRST_QUESTION
        self.gone = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)

    def send(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def ask(self, request: Any) -> Deferred[Any]:
        """The reply to a request; fails with :class:`Refusal` or :class:`ConnectionGone`."""
        number, self._next = self._next, self._next + 1
        reply = self._asked[number] = Deferred()
        if self.gone:
            self._fail()
        else:
            self.send(frame(codec.encode(msgspec.structs.replace(request, id=number))))
        return reply

    def dataReceived(self, data: bytes) -> None:
        payloads, self._buffer = cut(self._buffer + data if self._buffer else data)
        for payload in payloads:
            if is_ping(payload):
                ping = codec.decode(payload)
                self.send(frame(codec.encode(messages.Pong(id=ping.id))))  # type: ignore[union-attr]
            elif not (self._asked and b'"id":' in payload[:64] and self._answered(payload)):
                self._hear(payload)

    def _answered(self, payload: bytes) -> bool:
        """True if the payload is the reply to a question."""
        message = codec.decode(payload)
        reply = self._asked.pop(getattr(message, "id", None) or 0, None)
        if reply is None:
            return False
        if isinstance(message, messages.Error):
            reply.errback(message.refusal())
        else:
            reply.callback(message)
        return True

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True
        self._fail()

    def _fail(self) -> None:
        asked, self._asked = self._asked, {}
        for each in asked.values():
            each.errback(ConnectionGone("the node closed the connection"))
