"""Server-sent events: every transition, in order, for whoever has curl.

A stream is a position in the transition log and nothing more. Live it is fed from memory; behind, it reads the log; a
reader who does not read is asked nothing and costs nothing until the channel cuts it off. So a stream misses nothing,
doubles nothing and queues nothing. After a reconnection ``Last-Event-ID`` takes it up where it broke off.

What has happened before is paid for, page by page: whoever asks for much of it waits as with any other question, and
whoever is too far behind is told so. What is told as it happens costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NoReturn

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import is_hex
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.network import costs
from timeproto.web import bounds
from timeproto.web.answers import Gap, Watermark
from timeproto.web.feed import Feed, Told
from timeproto.web.log_proofs import BARE, LogProofs
from timeproto.web.view import NodeView
from timeproto.wire import codec
from timeproto.wire.messages import Cursor, GetTransaction

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def parse_cursor(text: str) -> Cursor:
    """``node:position``, as event ids are spelled; raises ``bad_field``."""
    node, _, position = text.partition(":")
    if not is_hex(node, 32) or not (position.isascii() and position.isdigit() and len(position) <= 18):
        raise Refusal(ErrorCode.BAD_FIELD, "a cursor is spelled NODE_KEY:POSITION")
    return Cursor(node, int(position))


@attrs.frozen
class _Page:
    """Events, as they are written, of everything up to ``upto``."""

    upto: int
    text: bytes


@implementer(IPushProducer)
class Stream:
    """One event stream of one request."""

    log = Logger()

    def __init__(
        self,
        request: Any,
        view: NodeView,
        feed: Feed,
        clock: Any,
        *,
        wanted: Iterable[Outpoint | str],
        lean: bool,
        on_end: Callable[[Stream], None],
    ) -> None:
        """``wanted``: addresses, outpoints and txids, none for everything. ``lean``: without proofs."""
        self._request = request
        self._view = view
        self._feed = feed
        self._clock = clock
        self._wanted = frozenset(wanted)
        self._lean = lean
        self._on_end = on_end
        self._account = request.channel.account
        self._at = 0
        self._live_from = 0
        self._paused = False
        self._reading = True
        self._begun = self._ended = self._is_placed = False
        self._opening: Deferred[None]
        self._beat: Any = None
        self._due: Any = None
        self._held: Any = None

    def begin(self, since: Cursor | None) -> Deferred[None]:
        """Starts after ``since``, or now; fires when the stream stands, fails with :class:`Refusal`."""

        def called_off(failure: Failure) -> NoReturn:
            failure.trap(CancelledError)
            raise Refusal(ErrorCode.GOING_AWAY, "the node stops")

        self._opening = self._view.read(lambda: self._open(since))
        return self._opening.addErrback(called_off)

    def _open(self, since: Cursor | None) -> None:
        request = self._request
        if request.gone or self._ended:
            return
        head = self._view.position()
        self._begun = True
        request.notifyFinish().addBoth(self._finish)
        request.begin(200, "text/event-stream; charset=utf-8", _HEADERS)
        request.registerProducer(self, True)
        self._feed.listen(self._wake)
        self._at = self._live_from = head
        gap = None
        if since is not None and since.node != self._view.node_key:
            gap = "another_node"
        elif since is not None and since.position > head:
            gap = "ahead"
        elif since is not None:  # a little before the beginning is where whoever asks for the last few begins
            start = self._view.log_start()
            self._at = start if 0 < start - since.position <= bounds.WEB_STREAM_PAGE else since.position
        if gap is not None:
            self._tell("gap", Gap(gap, Cursor(self._view.node_key, head)))  # type: ignore[arg-type]
            self._is_placed = True
        elif self._at == head:
            self._tell_watermark()
        self._reading = False
        self._pump()

    def _cursor(self) -> Cursor:
        return Cursor(self._view.node_key, self._at)

    def _tell_watermark(self) -> None:
        """At a boundary at which everything has been told: else the height would be of what is still to come."""
        self._is_placed = True
        self._tell("watermark", Watermark(self._cursor(), self._view.confirmed_height()))

    # -- writing -------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """A commit is told: what it changed is written once the node has told everybody else."""
        if self._due is None and not self._ended:
            self._due = self._clock.callLater(0, self._woken)

    def _woken(self) -> None:
        self._due = None
        self._pump()

    def _pump(self) -> None:
        """Writes what there is until the reader has enough, the end is reached, or the log has to be asked."""
        while not (self._paused or self._reading or self._ended or self._held is not None):
            found = self._feed.after(self._at)
            if found is None:
                self._read_log()
                return
            page = self._page(found)
            if page.upto == self._at:
                break
            self._write(page, costs.of_bytes(len(page.text)) if self._at < self._live_from else 0)
        self._rearm()

    def _page(self, found: Iterable[Told]) -> _Page:
        """A bounded part of what was found: who stops reading in the middle has made the node hold no more."""
        node, raw = self._view.node_key, self._view.node_key.encode("ascii")
        upto, lines, size = self._at, list[bytes](), 0
        for one in islice(found, bounds.WEB_STREAM_PAGE):
            upto = one.position
            if one.concerns(self._wanted):
                payload = one.payload(node, lean=self._lean)
                lines.append(b"id: %s:%d\nevent: transition\ndata: %s\n\n" % (raw, upto, payload))
                size += len(lines[-1])
                if size > bounds.WEB_STREAM_BYTES:
                    break
        return _Page(upto, b"".join(lines))

    def _write(self, page: _Page, cost: int) -> None:
        """Writes a page, and goes on when it is paid for."""
        self._at = page.upto
        if page.text:
            self._request.write(page.text)
        if cost:
            self._account.spend(cost, counts=cost)
            wait = self._account.hold
            if wait > 0 and not self._ended:
                self._held = self._clock.callLater(wait, self._paid)

    def _paid(self) -> None:
        self._held = None
        self._pump()

    def _tell(self, event: str, what: Any) -> None:
        """An event of the stream itself; its id takes a reader on from here."""
        name = f"id: {self._view.node_key}:{self._at}\nevent: {event}\ndata: "
        self._request.write(name.encode("ascii") + codec.encode(what) + b"\n\n")

    def _read_log(self) -> None:
        self._reading = True

        def look() -> tuple[_Page, int] | Gap | None:
            head = self._view.position()
            if self._at >= head:
                return None
            if head - self._at > limits.REPLAY:
                return Gap("too_long", Cursor(self._view.node_key, head))
            entries = self._view.transitions(self._at, bounds.WEB_STREAM_PAGE)
            if not entries or entries[0].position != self._at + 1:
                return Gap("too_old", Cursor(self._view.node_key, head))
            proofs = LogProofs(self._view)
            page = self._page(self._told(entry, proofs) for entry in entries)
            read = len(entries) * bounds.WEB_STREAM_READ + len(proofs) * costs.BASE[GetTransaction]
            return page, read + costs.of_bytes(len(page.text))

        def looked(found: tuple[_Page, int] | Gap | None) -> None:
            self._reading = False
            if self._ended:
                return
            if found is None:
                self._rearm()
                return
            if isinstance(found, Gap):
                self._is_placed = True
                self._at = found.cursor.position
                self._tell("gap", found)
            else:
                self._write(*found)
            self._pump()

        self._view.read(look).addCallback(looked).addErrback(self._failed)

    def _told(self, entry: Transition, proofs: LogProofs) -> Told:
        """An entry of the log with what proves it, where that is wanted."""
        bare = Told(entry, BARE)
        return bare if self._lean or not bare.concerns(self._wanted) else Told(entry, proofs.of(entry))

    def _failed(self, failure: Failure) -> None:
        if failure.check(Refusal) is None:
            self.log.failure("an event stream failed", failure=failure)
        self.stopProducing()

    # -- silence -------------------------------------------------------------------------------------

    def _rearm(self) -> None:
        if self._beat is not None and self._beat.active():
            self._beat.reset(bounds.WEB_STREAM_BEAT)
        elif not self._ended:
            self._beat = self._clock.callLater(bounds.WEB_STREAM_BEAT, self._beats)
        if not self._is_placed:
            self._say_how_far()

    def _beats(self) -> None:
        """Silence becomes information: everything up to here has been told."""
        self._say_how_far()
        self._rearm()

    def _say_how_far(self) -> None:
        def tell() -> None:
            if not (self._ended or self._paused or self._reading) and self._at >= self._view.position():
                self._tell_watermark()

        self._view.read(tell).addErrback(self._failed)

    # -- IPushProducer -------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._pump()

    def stopProducing(self) -> None:
        """Ends the stream from this side."""
        if not self._ended:
            request = self._request
            self._finish(None)
            if not self._begun:
                self._opening.cancel()
                return
            request.unregisterProducer()
            if not request.gone:
                request.channel.persistent = 0
                request.finish()

    def _finish(self, _: Any) -> None:
        if self._ended:
            return
        self._ended = True
        self._feed.leave(self._wake)
        for call in (self._beat, self._due, self._held):
            if call is not None and call.active():
                call.cancel()
        self._on_end(self)
