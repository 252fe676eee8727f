"""The WebSocket bridge: the messages of protocol §7, one in each text message, with the same answers as over TCP.

Frames are read by wsproto, which does no I/O; the bounds are ours: the bytes of a message over all its fragments, their
number, frames a second, the time a message takes, silence, and what waits for a reader who does not read. No extension
is ever agreed to, so nothing is compressed.
"""

from __future__ import annotations

import binascii
import struct
from base64 import b64decode
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import generate_accept_token

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.budget import BUDGETS
from timeproto.web import bounds
from timeproto.web.channel import WebChannel
from timeproto.web.metrics import Metrics
from timeproto.web.refusals import HttpRefusal
from timeproto.web.routes import TAKEN, Ask
from timeproto.web.view import Greeter, Sink
from timeproto.wire import codec, messages
from timeproto.wire.messages import Role

_FINAL_TEXT = 0x81
_CLOSE_CODES = {
    ErrorCode.FRAME_TOO_LARGE: CloseReason.MESSAGE_TOO_BIG,
    ErrorCode.GOING_AWAY: CloseReason.GOING_AWAY,
    ErrorCode.INTERNAL: CloseReason.INTERNAL_ERROR,
}


def text_frame(payload: bytes) -> bytes:
    """One unmasked, unfragmented text frame: a server's, so that what goes to many is encoded once."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", _FINAL_TEXT, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", _FINAL_TEXT, 126, size) + payload
    return struct.pack("!BBQ", _FINAL_TEXT, 127, size) + payload


class Socket:
    """One WebSocket connection: a wallet's, as far as the sink is concerned (view.Client)."""

    log = Logger()

    def __init__(
        self,
        channel: WebChannel,
        *,
        clock: Any,
        sink: Sink,
        greeter: Greeter,
        metrics: Metrics,
        on_end: Callable[[Socket], None],
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._sink = sink
        self._greeter = greeter
        self._metrics = metrics
        self._on_end = on_end
        self._frames = Connection(ConnectionType.SERVER)
        self.account = channel.account
        self._held: Any = None
        self._is_indebted = False
        self._is_stuffed = False
        self._message = bytearray()
        self._fragments = 0
        self._began: float | None = None
        self._heard: float = clock.seconds()
        self._pinged = False
        self._paused = False
        self._closing = False
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0

    def __repr__(self) -> str:
        return f"<Socket {self._channel.host}>"

    @property
    def challenge(self) -> str | None:
        """The nonce that the other end was given in a handshake; None if there was none."""
        return self._greeter.challenge

    # -- in ------------------------------------------------------------------------------------------

    def bytes_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard, self._pinged = self._clock.seconds(), False
        self._frames.receive_data(data)
        if self._held is None and not self._is_stuffed:
            self._take()

    def _take(self) -> bool:
        """Hands on every frame that is here, at most as fast as a wallet may send; True if there was one."""
        taken = 0
        for taken, event in enumerate(self._frames.events(), 1):
            self.account.spend(1, counts=1)
            self._handle(event)
            if self._closing:
                break
            wait = self.account.hold
            # Whoever does not read its answers is not read either, until it does.
            self._is_stuffed = self._paused and self._waiting_bytes > limits.ANSWERS_QUEUE
            if wait > 0 or taken == limits.FRAMES_IN_A_ROW:
                self._held = self._clock.callLater(wait, self._go_on)
                self._is_indebted = wait > 0
            if self._held is not None or self._is_stuffed:
                self._channel.transport.pauseProducing()
                break
        if self._began is not None:
            self._channel.moved()
        return taken > 0

    def _go_on(self) -> None:
        was_indebted = self._is_indebted
        self._held, self._is_indebted = None, False
        found = not (self._closing or self._is_stuffed) and self._take()
        if was_indebted and not self._closing:
            try:
                self.account.went_on(more=found)
            except Refusal as refusal:
                self.close(refusal)
        if self._held is None and not (self._closing or self._is_stuffed):
            self._channel.transport.resumeProducing()

    def _handle(self, event: Event) -> None:
        match event:
            case TextMessage():
                self._gather(event)
            case BytesMessage():
                self._close(CloseReason.UNSUPPORTED_DATA, "messages are text")
            case Ping():
                self._write(self._frames.send(event.response()))
            case Pong():
                pass
            case CloseConnection() if self._frames.state is ConnectionState.REMOTE_CLOSING:
                self._write(self._frames.send(event.response()))
                self._finish()
                self._channel.loseConnection()
            case CloseConnection(code=code, reason=reason):  # a frame that is none
                self._close(code, reason or "")

    def _gather(self, event: TextMessage) -> None:
        self._message += event.data.encode("utf-8")
        self._fragments += event.frame_finished
        if len(self._message) > bounds.SOCKET_MESSAGE or self._fragments > bounds.SOCKET_FRAGMENTS:
            self.close(
                Refusal(
                    ErrorCode.FRAME_TOO_LARGE,
                    "a message is too long, or in too many pieces",
                    limit="frame_wallet",
                    value=bounds.SOCKET_MESSAGE,
                )
            )
        elif event.message_finished:
            payload = bytes(self._message)
            self._message.clear()
            self._fragments, self._began = 0, None
            self._hear(payload)
        elif self._began is None:
            self._began = self._clock.seconds()

    def _hear(self, payload: bytes) -> None:
        """One message's JSON. Nothing it can hold makes this raise."""
        try:
            if not payload:
                raise Refusal(ErrorCode.BAD_FRAME, "a frame is not empty")
            message = codec.decode(payload)
        except Refusal as refusal:
            self.account.garbage(len(payload))
            self.refuse(refusal)
            return
        self._metrics.message(message)
        request_id = getattr(message, "id", None)
        try:
            if Role.WALLET not in messages.senders_of(type(message)):
                name = type(message).__name__
                raise Refusal(ErrorCode.NOT_AUTHORISED, f"a {Role.WALLET.value} may not send {name}")
            self.account.ask(message, len(payload))
            self._deliver(message)
        except Refusal as refusal:
            self.refuse(refusal, request_id)
        except Exception:
            self.log.failure("a message of {who} could not be handled", who=self)
            self.close(Refusal(ErrorCode.INTERNAL, "this end failed to handle the message"))

    def _deliver(self, message: messages.AnyMessage) -> None:
        match message:
            case messages.Ping():
                self.send(messages.Pong(id=message.id))
            case messages.Pong() | messages.Error():
                pass  # it answers nothing of ours: over a WebSocket the node asks no questions
            case messages.Handshake():
                if message.role != "wallet":
                    raise Refusal(ErrorCode.BAD_HANDSHAKE, "masternodes meet over TCP")
                for answer in self._greeter.hear_handshake(message):
                    self.send(answer)
                if BUDGETS in message.capabilities:
                    self.account.tell_prices()
            case messages.HandshakeAck():
                raise Refusal(ErrorCode.BAD_HANDSHAKE, "a HandshakeAck before its Handshake")
            case _:
                self._sink.handle_message(self, message)

    def refuse(self, refusal: Refusal, request_id: int | None = None) -> None:
        """One ``Error``; the connection closes if the refusal's policy says so."""
        told = dict(refusal.details)
        named = told.pop("request_id", request_id)
        number = named if isinstance(named, int) else None
        self.send(messages.error_of(Refusal(refusal.code, refusal.message, **told), number))
        if refusal.policy.closes:
            self._close(_CLOSE_CODES.get(refusal.code, CloseReason.POLICY_VIOLATION), refusal.code.value)

    # -- out -----------------------------------------------------------------------------------------

    def send(self, message: messages.AnyMessage) -> None:
        payload = codec.encode(message)
        if isinstance(message, messages.Reply):
            payload = self.account.answer(message, payload)
        self.send_payload(payload)

    def send_payload(self, payload: bytes) -> None:
        """Sends an encoded message. Bounded: a reader who lets ``limits.OUT_QUEUE_WALLET`` bytes pile up is cut off."""
        if len(payload) > limits.FRAME_PEER:
            raise Refusal(
                ErrorCode.FRAME_TOO_LARGE,
                f"a frame of {len(payload)} bytes is too long to send",
                limit="frame_peer",
                value=limits.FRAME_PEER,
            )
        self._write(text_frame(payload))

    def _write(self, frame: bytes) -> None:
        if self._closing:
            return
        if not self._paused:
            self._channel.transport.write(frame)
            return
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > limits.OUT_QUEUE_WALLET:
            self.log.info("{who} does not read: cut off", who=self)
            self.abort()

    @property
    def backlog(self) -> int:
        """Bytes that wait for the other end to read."""
        return self._waiting_bytes

    def pauseProducing(self) -> None:
        """The transport has enough to write."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport can take more."""
        self._paused = False
        while self._waiting and not self._paused and not self._closing:
            frame = self._waiting.popleft()
            self._waiting_bytes -= len(frame)
            self._channel.transport.write(frame)
        if self._is_stuffed and self._waiting_bytes <= limits.ANSWERS_QUEUE:
            self._is_stuffed = False
            if self._held is None:
                self._go_on()

    # -- time ----------------------------------------------------------------------------------------

    def deadline(self) -> float:
        idle = self._heard + limits.IDLE + (limits.PONG if self._pinged else 0.0)
        return idle if self._began is None else min(idle, self._began + limits.FRAME_TIME)

    def expired(self) -> None:
        late = self._began is not None and self._clock.seconds() >= self._began + limits.FRAME_TIME
        if self._pinged or late:
            self.log.info("{who} let its deadline pass: cut off", who=self)
            self.abort()
        else:
            self._pinged = True
            self._write(self._frames.send(Ping()))

    # -- the end -------------------------------------------------------------------------------------

    def close(self, refusal: Refusal) -> None:
        """Says why in one ``Error``, and closes."""
        if not self._closing:
            self.send(messages.error_of(refusal))
            self._close(_CLOSE_CODES.get(refusal.code, CloseReason.POLICY_VIOLATION), refusal.code.value)

    def _close(self, code: int, reason: str) -> None:
        if self._closing:
            return
        if self._frames.state is ConnectionState.OPEN:
            self._write(self._frames.send(CloseConnection(code, reason[:100])))
        self._finish()
        self._channel.linger()

    def _finish(self) -> None:
        """Nothing is said after this. Whoever is behind gets what waits, and last why it ends, if it reads on."""
        if not self._closing:
            self._closing = True
            waiting, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
            self._channel.transport.writeSequence(waiting)

    def abort(self) -> None:
        self._closing = True
        self._channel.abort()

    def connection_lost(self) -> None:
        self._closing = True
        if self._held is not None and self._held.active():
            self._held.cancel()
        self._waiting.clear()
        self._sink.connection_lost(self)
        self._on_end(self)


class Bridge:
    """Turns requests at its path into sockets."""

    def __init__(
        self, clock: Any, sink: Sink, greet: Callable[[Any], Greeter], metrics: Metrics
    ) -> None:
        """``greet`` makes the accepting side of a handshake for a transport."""
        self._clock = clock
        self._sink = sink
        self._greet = greet
        self._metrics = metrics
        self._sockets: dict[Socket, None] = {}

    def open(self, ask: Ask) -> Any:
        """Takes the connection over; raises 426 and 400 for what is no WebSocket's opening (RFC 6455 §4.2.1)."""
        request = ask.request
        channel: WebChannel = request.channel
        accept = _accept_token(request)
        if len(self._sockets) >= bounds.SOCKETS:
            raise Refusal(ErrorCode.BUSY, "there are as many WebSockets as this node serves",
                          limit="sockets", value=bounds.SOCKETS, retry_after_ms=10_000)
        socket = Socket(
            channel,
            clock=self._clock,
            sink=self._sink,
            greeter=self._greet(channel.transport),
            metrics=self._metrics,
            on_end=self._ended,
        )
        self._sockets[socket] = None
        self._metrics.sockets.set(len(self._sockets))
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        channel.upgrade(socket, head + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        return TAKEN

    def _ended(self, socket: Socket) -> None:
        self._sockets.pop(socket, None)
        self._metrics.sockets.set(len(self._sockets))

    def close(self) -> None:
        """Says ``going_away`` to everybody."""
        for socket in list(self._sockets):
            socket.close(Refusal(ErrorCode.GOING_AWAY, "this node stops"))


def _accept_token(request: Any) -> bytes:
    tokens = {token.strip().lower() for token in (request.header("connection") or "").split(",")}
    upgrade = (request.header("upgrade") or "").lower()
    speaks = request.method == b"GET" and request.clientproto == b"HTTP/1.1"
    if not speaks or upgrade != "websocket" or "upgrade" not in tokens:
        raise HttpRefusal(426, ErrorCode.UNSUPPORTED, "here WebSockets are opened")
    if request.header("sec-websocket-version") != "13":
        raise HttpRefusal(426, ErrorCode.UNSUPPORTED, "this node speaks version 13 of WebSocket")
    key = request.header("sec-websocket-key") or ""
    try:
        nonce = b64decode(key.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        nonce = b""
    if len(nonce) != 16:
        raise HttpRefusal(400, ErrorCode.BAD_FIELD, "Sec-WebSocket-Key is not 16 bytes in base64")
    return generate_accept_token(key.encode("ascii"))
