"""One HTTP connection with every bound that Twisted's leaves open, and the way out of HTTP for a WebSocket.

Twisted's channel takes a body of any size into a file and a header that trickles for ever. Here each stage of a request
has a deadline and a size; what is wrong is said once, in JSON, and the connection closes. One request is answered at a
time, and none is begun while its reader still has an answer to take: so a connection never holds more than one answer.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from timeproto.errors import ErrorCode, Refusal
from timeproto.network.budget import Account
from timeproto.web import bounds
from timeproto.web.refusals import HttpRefusal, phrase, status_of, too_long
from timeproto.wire import codec, messages

_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class Stage(Enum):
    """Where a connection is between two requests."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    UPGRADED = auto()
    CLOSING = auto()
    LOST = auto()


_OVER = (Stage.CLOSING, Stage.LOST)


class Upgraded(Protocol):
    """What takes a connection over from HTTP. It is paused and resumed as a push producer is."""

    def bytes_received(self, data: bytes) -> None: ...

    def deadline(self) -> float:
        """When :meth:`expired` is to be called, unless something moves it before."""

    def expired(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def connection_lost(self) -> None: ...


class Host(Protocol):
    """What a channel asks of its factory."""

    def channel_lost(self, channel: WebChannel) -> None: ...


@implementer(IPushProducer)
class WebChannel(HTTPChannel):
    """A bounded HTTP/1.1 connection. ``host`` is the peer's address; ``account`` pays for what it asks."""

    log = Logger()
    transport: Any

    maxHeaders = bounds.WEB_HEADERS
    totalHeadersSize = bounds.WEB_HEADER_BYTES
    MAX_LENGTH = bounds.WEB_HEADER_BYTES
    timeOut = None  # our own deadlines replace the idle time-out, which every byte would push back

    def __init__(self, clock: Any, owner: Host, host: str, account: Account, *, full: bool = False) -> None:
        """``clock``: an IReactorTime provider. ``full``: nothing is served, every request is told to come later."""
        super().__init__()
        self.host = host
        self.account = account
        self.full = full
        self.stage = Stage.IDLE
        self._clock = clock
        self._owner = owner
        self._since: float = clock.seconds()
        self._stalled: float | None = None
        self._closes_in: float | None = None
        self._first = True
        self._lines = 0
        self._bytes = 0
        self._tail = b""
        self._early = bytearray()
        self._watch: Any = None
        self._upgraded: Upgraded | None = None
        self._ready: Any = None

    def callLater(self, period: float, func: Any) -> Any:
        """Twisted's mix-in for time-outs asks this."""
        return self._clock.callLater(period, func)

    # -- in ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._enter(Stage.IDLE)
        wait = self.account.welcome
        if wait > 0:
            self.transport.pauseProducing()
            self._clock.callLater(wait, self._welcomed)

    def _welcomed(self) -> None:
        if self.stage is Stage.IDLE:
            self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._upgraded is not None:
            self._hand_on(data)
            return
        if self.stage in _OVER:
            return
        if self.stage is Stage.IDLE:
            self._enter(Stage.HEAD)
        if self.stage is Stage.HEAD and self._has_bare_line_feed(data):
            self.refuse(HttpRefusal(400, ErrorCode.BAD_FRAME, "lines of a header end with CR LF"))
            return
        try:
            super().dataReceived(data)
        except Exception:
            self.log.failure("a request from {host} could not be handled", host=self.host)
            self.refuse(Refusal(ErrorCode.INTERNAL, "this end failed to handle the request"))

    def _hand_on(self, data: bytes) -> None:
        try:
            if self._upgraded is not None:
                self._upgraded.bytes_received(data)
        except Exception:
            self.log.failure("what came from {host} could not be handled", host=self.host)
            self.abort()

    def _has_bare_line_feed(self, data: bytes) -> bool:
        """Twisted would wait for the end of such a line until the deadline, and others would see an end there."""
        joined = self._tail + data
        found = _BARE_LF.search(joined.partition(b"\r\n\r\n")[0], len(self._tail))
        self._tail = joined[-3:]
        return found is not None

    def lineReceived(self, line: bytes) -> None:
        if self.stage in _OVER:
            return
        if self.stage is Stage.IDLE:
            self._enter(Stage.HEAD)
        self._bytes += len(line) + 2
        if not self._lines and len(line) > bounds.WEB_TARGET + 32:
            self.lineLengthExceeded(line)
        elif self._bytes > bounds.WEB_HEADER_BYTES:
            self._refuse_headers()
        elif line[:1] in (b" ", b"\t"):
            self.refuse(HttpRefusal(400, ErrorCode.BAD_FRAME, "a header takes one line"))
        else:
            self._lines += bool(line)
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        if self._lines:
            self._refuse_headers()
        else:
            self.refuse(too_long(414, "web_target", bounds.WEB_TARGET, "bytes of a request target"))

    def _refuse_headers(self) -> None:
        self.refuse(too_long(431, "web_header_bytes", bounds.WEB_HEADER_BYTES, "bytes of headers"))

    def headerReceived(self, line: bytes) -> bool:
        if self.stage is not Stage.HEAD:
            return False
        if self._lines > bounds.WEB_HEADERS + 1:
            self.refuse(too_long(431, "web_headers", bounds.WEB_HEADERS, "headers of one request"))
            return False
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        bad_length = name == b"content-length" and not _LENGTH.fullmatch(value)
        if bad_length or (name == b"transfer-encoding" and value.lower() != b"chunked"):
            self.refuse(HttpRefusal(400, ErrorCode.BAD_FRAME, "the length of the body is not clear"))
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        if self.stage is not Stage.HEAD:
            return
        if self.length is not None and self.length > bounds.WEB_BODY:
            self.refuse_body()
            return
        self._enter(Stage.BODY)
        super().allHeadersReceived()

    def refuse_body(self) -> None:
        self.refuse(too_long(413, "web_body", bounds.WEB_BODY, "bytes of a request body"))

    def rawDataReceived(self, data: bytes) -> None:
        if self._upgraded is not None:
            self._hand_on(data)  # it came with the request that upgraded
        elif self.stage is Stage.BODY:
            super().rawDataReceived(data)
        elif self.stage is Stage.ANSWER:
            # What follows a request waits for its answer: a little of it here, the rest in the socket.
            self._early += data
            if len(self._early) > bounds.WEB_HEADER_BYTES:
                self.transport.pauseProducing()

    def allContentReceived(self) -> None:
        if self.stage in (Stage.HEAD, Stage.BODY):
            self._enter(Stage.ANSWER)
            super().allContentReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Twisted found the request malformed."""
        self.refuse(HttpRefusal(400, ErrorCode.BAD_FRAME, "the request is not HTTP/1.1 as this node reads it"))

    @property
    def has_more(self) -> bool:
        """True if the next request has come, at least in part, before this one was answered."""
        return bool(self._early)

    # -- out -----------------------------------------------------------------------------------------

    def when_writable(self, ready: Any) -> None:
        """Calls ``ready()`` as soon as the reader has taken what was written before; at once if it has."""
        if self._stalled is None:
            ready()
        else:
            self._ready = ready

    def requestDone(self, request: Any) -> None:
        """An answer is written: on to the next request, if the connection stays."""
        if self.stage is Stage.ANSWER:
            self._enter(Stage.IDLE)
        super().requestDone(request)
        early, self._early = bytes(self._early), bytearray()
        if early:
            self.dataReceived(early)

    def pauseProducing(self) -> None:
        if self._stalled is None:
            self._stalled = self._clock.seconds()
            self._rearm()
        if self._upgraded is not None:
            self._upgraded.pauseProducing()
        else:
            super().pauseProducing()

    def resumeProducing(self) -> None:
        self._stalled = None
        if self._upgraded is not None:
            self._upgraded.resumeProducing()
            return
        super().resumeProducing()
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def refuse(self, refusal: Refusal) -> None:
        """Says what is wrong where no request can be answered, and closes without losing what was said."""
        if self.stage in _OVER:
            return
        status = status_of(refusal)
        body = codec.encode(messages.error_of(refusal))
        head = f"HTTP/1.1 {status} {phrase(status)}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "X-Content-Type-Options: nosniff\r\n\r\n"
        self.transport.write(head.encode("ascii") + body)
        self.linger()

    def linger(self) -> None:
        """Closes our half when everything is written, and throws away what still comes, for a moment."""
        self._closes_in = bounds.WEB_LINGER
        self._enter(Stage.CLOSING)
        transport = self.transport
        transport.unregisterProducer()
        transport.resumeProducing()
        # A socket closed with bytes unread is reset, and the refusal with it: close our half, read on for a moment.
        if self.isSecure() or not hasattr(transport, "loseWriteConnection"):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def loseConnection(self, within: float = bounds.WEB_STALL) -> None:
        """Closes when everything is written, for which the reader has ``within`` seconds, however often it was told."""
        if self.stage not in _OVER:
            self._closes_in = within
            self._enter(Stage.CLOSING)
            super().loseConnection()
        elif self.stage is Stage.CLOSING and self._closes_in is not None:
            # A node that stops does not wait for a reader who was given longer while it still ran.
            self._closes_in = min(self._closes_in, self._clock.seconds() - self._since + within)
            self._rearm()

    def abort(self) -> None:
        """Ends the connection now, whatever is unread or unwritten."""
        if self.stage is not Stage.LOST:
            self._closes_in = None
            self._enter(Stage.CLOSING)
            self.transport.abortConnection()

    # -- another protocol ----------------------------------------------------------------------------

    def upgrade(self, upgraded: Upgraded, answer: bytes) -> None:
        """From here on the connection is ``upgraded``'s; ``answer`` is the last that HTTP says."""
        rest, self._early = bytes(self._early), bytearray()
        self.requests = []
        self._upgraded = upgraded
        self._enter(Stage.UPGRADED)
        self.transport.write(answer)
        self.transport.resumeProducing()
        if rest:
            self._hand_on(rest)

    def moved(self) -> None:
        """The deadline of what this connection was upgraded to has moved."""
        self._rearm()

    # -- time ----------------------------------------------------------------------------------------

    def _enter(self, stage: Stage) -> None:
        if self.stage is Stage.LOST:
            return
        if stage is Stage.ANSWER:
            self._first = False
        if stage is Stage.HEAD:
            self._lines, self._bytes, self._tail = 0, 0, b""
        self.stage = stage
        self._since = self._clock.seconds()
        self._rearm()

    def _deadline(self) -> float | None:
        """The next moment at which something must have happened, None if nothing is awaited from the other end."""
        if self.stage is Stage.CLOSING:
            return None if self._closes_in is None else self._since + self._closes_in
        stalled = None if self._stalled is None else self._stalled + bounds.WEB_STALL
        if self._upgraded is not None:
            own = self._upgraded.deadline()
            return own if stalled is None else min(own, stalled)
        if stalled is not None or self.stage is Stage.ANSWER:
            return stalled
        if self.stage is Stage.BODY:
            return self._since + bounds.WEB_BODY_TIME
        return self._since + (bounds.WEB_HEAD_TIME if self._first or self.stage is Stage.HEAD else bounds.WEB_IDLE)

    def _rearm(self) -> None:
        """Looks at the clock when the next deadline comes. What arrives meanwhile only moves the deadline."""
        moment = None if self.stage is Stage.LOST else self._deadline()
        if moment is None:
            return
        if self._watch is not None and self._watch.active():
            if self._watch.getTime() <= moment:
                return
            self._watch.cancel()
        self._watch = self._clock.callLater(max(0.0, moment - self._clock.seconds()), self._look)

    def _look(self) -> None:
        self._watch = None
        moment = self._deadline()
        if moment is None or self._clock.seconds() < moment:
            self._rearm()
        elif self._stalled is not None or self.stage is Stage.CLOSING:
            self.abort()
        elif self._upgraded is not None:
            self._upgraded.expired()
            self._rearm()
        elif self.stage is Stage.IDLE:
            self.loseConnection()
        else:
            self.refuse(Refusal(ErrorCode.TIMEOUT, "the request did not arrive in time"))

    def connectionLost(self, reason: Any = None) -> None:
        self.stage = Stage.LOST
        if self._watch is not None and self._watch.active():
            self._watch.cancel()
        self._watch = self._ready = None
        if self._upgraded is not None:
            self._upgraded.connection_lost()
        super().connectionLost(reason)
        self._owner.channel_lost(self)
