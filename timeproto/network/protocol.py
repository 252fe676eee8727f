"""Frames and messages on one connection, the same for nodes and wallets (protocol §7).

A frame is a 4-byte big-endian length and a JSON payload. The class of Twisted's is kept, its buffering is not: the
stock ``dataReceived`` copies the whole buffer for every segment (51 s of CPU for a mebibyte that comes byte by byte).
Everything is bounded: the frame, the time it takes, silence, what waits to be written, and the time to close.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ISSLTransport
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from zope.interface import implementer

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.budget import BUDGETS, Account
from timeproto.network.fanout import Shared, frame_of
from timeproto.network.handshake import ZSTD
from timeproto.network.outbox import Outbox
from timeproto.network.requests import ConnectionGone, Requests, quoted
from timeproto.wire import codec, compression, messages
from timeproto.wire.messages import Role

_LENGTH = struct.Struct("!I")


@implementer(IPushProducer, IHandshakeListener)
class MessageProtocol(Int32StringReceiver):
    """Messages in, messages out. Subclasses override :meth:`ready`, :meth:`message_received` and :meth:`gone`.

    ``remote_role`` is what the other end has proven to be, and so what it may send.
    """

    log = Logger()
    transport: Any = None
    remote_role: Role = Role.WALLET
    out_queue = limits.OUT_QUEUE_WALLET
    must_speak_first = False
    """True if the other end must send a whole frame within ``limits.HANDSHAKE`` (a server's clients)."""
    account: Account | None = None
    """Who pays for what the other end asks; None if nobody has to."""

    def __init__(self, clock: Any) -> None:
        """``clock``: an IReactorTime provider."""
        self._clock = clock
        self._buffer = bytearray()
        self._expected: int | None = None
        self._limit = limits.FRAME_WALLET
        self._requests = Requests(clock)
        self._held: Any = None
        self._is_indebted = False
        self._is_stuffed = False
        self.outbox = Outbox()
        self._closing = False
        self._secure = False
        self._spoken = False
        self._opened = clock.seconds()
        self._heard = clock.seconds()
        self._frame_began: float | None = None
        self._closed_at: float | None = None
        self._pinged = False
        self._has_complained = False
        self._watch: Any = None
        self._lost_listeners: list[Callable[[Any], None]] = []
        self.peer_host = "?"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.remote_role.value} {self.peer_host}>"

    # -- what subclasses hear ------------------------------------------------------------------------

    def made(self) -> None:
        """The TCP connection stands; ``peer_host`` is known."""

    def ready(self) -> None:
        """Bytes may be exchanged: the TCP connection stands, and TLS if there is any."""

    def spoken(self) -> None:
        """The other end's first frame is here, before what it says."""
        self._spoken = True

    def message_received(self, message: messages.AnyMessage) -> None:
        """A message that is neither a ping nor the reply to a request of ours. May raise :class:`Refusal`."""

    def complained(self, refusal: Refusal) -> None:
        """The other end refused something that was no request of ours: that is written down."""
        if not self._has_complained:  # the first says enough, and a stranger must not fill the disk
            self._has_complained = True
            self.log.info("{who} complains: {said}", who=self, said=quoted(refusal))

    def gone(self, reason: Any) -> None:
        """The connection is lost."""

    # -- connection ----------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self._opened = self._heard = self._clock.seconds()
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)  # a vote that waits for Nagle is late
        self.peer_host = str(getattr(self.transport.getPeer(), "host", "?"))
        self.outbox.open(self.transport)
        self.transport.registerProducer(self, True)
        self._rearm()
        self.made()
        if not ISSLTransport.providedBy(self.transport):
            self.handshakeCompleted()

    def handshakeCompleted(self) -> None:
        """TLS stands (or there is none): from here on bytes mean something."""
        if not self._secure and not self._closing:
            self._secure = True
            self.ready()

    def connectionLost(self, reason: Any = None) -> None:
        self._closing = True
        for call in (self._watch, self._held):
            if call is not None and call.active():
                call.cancel()
        self._watch = self._held = None
        self._buffer.clear()
        self.outbox.close()
        self._requests.fail_all(ConnectionGone(f"the connection to {self.peer_host} is lost"))
        self.gone(reason)
        listeners, self._lost_listeners = self._lost_listeners, []
        for listener in listeners:
            listener(reason)

    def on_lost(self, listener: Callable[[Any], None]) -> None:
        """Calls ``listener(reason)`` once, when the connection is lost."""
        self._lost_listeners.append(listener)

    @property
    def is_open(self) -> bool:
        """True until either end begins to close."""
        return not self._closing and self.transport is not None

    def close(self, refusal: Refusal | None = None) -> None:
        """Says why, if ``refusal`` is given, and closes; aborts if that takes longer than ``limits.CLOSE``."""
        if self._closing or self.transport is None:
            return
        if refusal is not None:
            self.send(messages.error_of(refusal))
        self._closing = True
        self._closed_at = self._clock.seconds()
        self.outbox.finish()
        self.transport.unregisterProducer()
        self.transport.resumeProducing()  # a paused transport would not notice that the other end has closed
        self.transport.loseConnection()
        self._rearm()

    def abort(self) -> None:
        """Ends the connection now, whatever is unread or unwritten."""
        self._closing = True
        self.outbox.close()
        if self.transport is not None:
            self.transport.abortConnection()

    # -- out -----------------------------------------------------------------------------------------

    def send(self, message: messages.AnyMessage) -> None:
        payload = codec.encode(message)
        if self.account is not None and isinstance(message, messages.Reply):
            payload = self.account.answer(message, payload)
        self.send_payload(payload)

    def send_payload(self, payload: bytes) -> None:
        """Sends an encoded message. Bounded: a reader who lets ``out_queue`` bytes pile up is cut off."""
        if not self._closing and self.transport is not None:
            self.outbox.write(frame_of(payload, squeezed=self.outbox.squeezes))
            if self.outbox.size > self.out_queue:
                self._cut_off()

    def send_at_once(self, shared: Iterable[Shared]) -> None:
        """Sends what others are sent too, in one piece, and before the reactor turns."""
        for each in shared:
            self.outbox.hold(each)
        self.outbox.flush()
        if self.outbox.size > self.out_queue:
            self._cut_off()

    def _cut_off(self) -> None:
        self.log.info("{who} does not read: cut off", who=self)
        self.abort()

    def request(self, message: Any) -> Deferred[Any]:
        """Sends a request; fires with its reply, fails with :class:`Refusal` or :class:`ConnectionGone`."""
        try:
            number, reply = self._requests.open(messages.ANSWERS[type(message)])
        except (Refusal, ConnectionGone) as error:
            return fail(error)
        self.send(msgspec.structs.replace(message, id=number))
        return reply

    @property
    def backlog(self) -> int:
        """Bytes that wait for the other end to read."""
        return self.outbox.size

    def pauseProducing(self) -> None:
        """The transport has enough to write."""
        self.outbox.pause()

    def resumeProducing(self) -> None:
        """The transport can take more: the other end reads, and so is there, also if our ping stands behind that."""
        self._heard, self._pinged = self._clock.seconds(), False
        self.outbox.resume()
        if self._is_stuffed and self.outbox.size <= limits.ANSWERS_QUEUE:
            self._is_stuffed = False
            if self._held is None:
                self._go_on()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""
        self.outbox.close()

    # -- in ------------------------------------------------------------------------------------------

    def raise_frame_limit(self) -> None:
        """The other end may send frames of ``limits.FRAME_PEER`` from now on."""
        self._limit = limits.FRAME_PEER

    def hear_capabilities(self, capabilities: Sequence[str]) -> None:
        """What the other end's ``Handshake`` offers, in answer to ours or before it: from here on both may use it."""
        self.outbox.squeezes = ZSTD in capabilities
        if self.account is not None and BUDGETS in capabilities:
            self.account.tell_prices()

    def dataReceived(self, data: bytes) -> None:
        if self._closing:
            return
        self._heard, self._pinged = self._clock.seconds(), False
        self._buffer += data
        if self._held is None and not self._is_stuffed:
            self._take_frames()

    def _take_frames(self) -> None:
        """Hands on every whole frame in the buffer, which is cut once; what is answered at once goes in one piece."""
        self.outbox.gather()
        try:
            self._cut_frames()
        finally:
            self.outbox.release()

    def _cut_frames(self) -> None:
        at, taken, buffer = 0, 0, self._buffer
        while not (self._closing or self._is_stuffed) and self._held is None:
            if self._expected is None:
                if len(buffer) - at < 4:
                    break
                (self._expected,) = _LENGTH.unpack_from(buffer, at)
                at += 4
                if not self._length_is_good(self._expected):
                    break
            if len(buffer) - at < self._expected:
                break
            payload = bytes(memoryview(buffer)[at : at + self._expected])
            at += self._expected
            self._expected = None
            self._frame_began = None
            if not self._spoken:
                self.spoken()
            self.stringReceived(payload)
            taken += 1
            if self.account is not None and not self._closing:
                self._hold_back(taken)
        if self._closing:
            buffer.clear()
            return
        del buffer[:at]
        is_read = self._held is None and not self._is_stuffed  # what waits may be whole frames
        if is_read and (buffer or self._expected is not None) and self._frame_began is None:
            self._frame_began = self._clock.seconds()
            self._rearm()

    def _length_is_good(self, length: int) -> bool:
        if length == 0:
            self.close(Refusal(ErrorCode.BAD_FRAME, "a frame is not empty"))
        elif length > self._limit:
            name = "frame_peer" if self._limit == limits.FRAME_PEER else "frame_wallet"
            why = f"a frame of {length} bytes is too long"
            self.close(Refusal(ErrorCode.FRAME_TOO_LARGE, why, limit=name, value=self._limit))
        return not self._closing

    def held_back(self) -> float:
        """Seconds for which the other end is not read, since it asks for more than its share."""
        return 0.0 if self.account is None else self.account.hold

    def _hold_back(self, taken: int = 0) -> None:
        # A wallet that does not read its answers is not read either, until it does.
        self._is_stuffed = self.outbox.paused and self.outbox.size > limits.ANSWERS_QUEUE
        self.hold_back(self.held_back(), turn_is_over=taken >= limits.FRAMES_IN_A_ROW)

    def hold_back(self, wait: float, *, turn_is_over: bool = False) -> None:
        """Reads nothing more for ``wait`` seconds, or until others had their turn."""
        if (wait > 0 or turn_is_over) and self._held is None:
            self._held = self._clock.callLater(wait, self._go_on)
            self._is_indebted = wait > 0
        if self._held is not None or self._is_stuffed:
            self.transport.pauseProducing()

    def _go_on(self) -> None:
        waited, was_indebted = len(self._buffer), self._is_indebted
        self._held, self._is_indebted = None, False
        self._take_frames()
        if self.account is not None and was_indebted and not self._closing:
            try:
                self.account.went_on(more=len(self._buffer) < waited)
            except Refusal as refusal:
                self.close(refusal)
        if self._held is None and not (self._closing or self._is_stuffed):
            self.transport.resumeProducing()

    def stringReceived(self, string: bytes) -> None:
        """One frame's payload. Nothing it can hold makes this raise."""
        try:
            if self.outbox.squeezes and compression.is_squeezed(string):
                string = compression.expand(string, self._limit)
            message = codec.decode(string)
        except Refusal as refusal:
            if self.account is not None:
                self.account.garbage(len(string))
            self.refuse(refusal)
            return
        try:
            if self.remote_role not in messages.senders_of(kind := type(message)):
                raise Refusal(ErrorCode.NOT_AUTHORISED, f"a {self.remote_role.value} may not send {kind.__name__}")
            if self.account is not None:
                self.account.ask(message, len(string))
            self._deliver(message)
        except Refusal as refusal:
            self.refuse(refusal, getattr(message, "id", None))
        except Exception:
            self.log.failure("a message of {who} could not be handled", who=self)
            self.close(Refusal(ErrorCode.INTERNAL, "this end failed to handle the message"))

    def _deliver(self, message: messages.AnyMessage) -> None:
        if isinstance(message, messages.Ping):
            self.send(messages.Pong(id=message.id))
        elif isinstance(message, messages.Error):
            if not self._requests.answer(message.id, message.refusal()):
                self.complained(message.refusal())
        elif isinstance(message, messages.Reply) and self._requests.answer(message.id, message):
            return
        elif not isinstance(message, messages.Pong):
            self.message_received(message)

    def refuse(self, refusal: Refusal, request_id: int | None = None) -> None:
        """One ``Error``; the connection closes if the refusal's policy says so."""
        told = dict(refusal.details)
        named = told.pop("request_id", request_id)
        number = named if isinstance(named, int) else None
        self.send(messages.error_of(Refusal(refusal.code, refusal.message, **told), number))
        if refusal.policy.closes:
            self.close()

    # -- time ----------------------------------------------------------------------------------------

    def is_greeted(self) -> bool:
        """False while the other end still owes us, within ``limits.HANDSHAKE``, what opens a conversation."""
        return self._spoken or not self.must_speak_first

    def _deadline(self) -> tuple[float, str]:
        """The next moment at which something must have happened, and what that is."""
        if self._closed_at is not None:
            return self._closed_at + limits.CLOSE, "close"
        if not self._secure or not self.is_greeted():
            return self._opened + limits.HANDSHAKE, "handshake"
        idle = self._heard + limits.IDLE + (limits.PONG if self._pinged else 0.0)
        if self._frame_began is not None and self._frame_began + limits.FRAME_TIME < idle:
            return self._frame_began + limits.FRAME_TIME, "frame"
        return idle, "pong" if self._pinged else "idle"

    def _rearm(self) -> None:
        """Looks at the clock when the next deadline comes. What arrives meanwhile only moves the deadline."""
        moment, _ = self._deadline()
        if self._watch is not None and self._watch.active():
            if self._watch.getTime() <= moment:
                return
            self._watch.cancel()
        self._watch = self._clock.callLater(max(0.0, moment - self._clock.seconds()), self._look)

    def _look(self) -> None:
        self._watch = None
        moment, what = self._deadline()
        if self._clock.seconds() < moment:
            self._rearm()
        elif what == "idle":
            self._pinged = True
            self.send(messages.Ping())
            self._rearm()
        else:
            self.log.info("{who} let its {what} deadline pass: cut off", who=self, what=what)
            self.abort()
