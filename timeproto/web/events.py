"""Server-sent events: every transition, in order, for whoever has curl.

A stream is a position in the transition log and nothing more. Live it is fed from memory; behind, it reads the log; a
reader who does not read is asked nothing and costs nothing until the channel cuts it off. So a stream misses nothing,
doubles nothing and queues nothing. After a reconnection ``Last-Event-ID`` takes it up where it broke off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof
from timeproto.model.canonical import is_hex
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.network.notifications import Proofs
from timeproto.web import bounds
from timeproto.web.answers import Gap, Watermark
from timeproto.web.feed import Feed, Told
from timeproto.web.view import NodeView
from timeproto.wire import codec
from timeproto.wire.messages import Cursor, TransactionInfo

_BARE = Proofs({})
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class LookedUp(Proofs):
    """What proves one transaction, as the node's view found it."""

    def __init__(self, txid: str, found: TransactionInfo | None) -> None:
        super().__init__({} if found is None or found.proof is None else {txid: found.proof})
        self._place = None if found is None else found.inclusion

    def inclusion(self, txid: str) -> InclusionProof | None:
        return self._place


def parse_cursor(text: str) -> Cursor:
    """``node:position``, as event ids are spelled; raises ``bad_field``."""
    node, _, position = text.partition(":")
    if not is_hex(node, 32) or not (position.isascii() and position.isdigit() and len(position) <= 18):
        raise Refusal(ErrorCode.BAD_FIELD, "a cursor is spelled NODE_KEY:POSITION")
    return Cursor(node, int(position))


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
        self._at = 0
        self._paused = False
        self._reading = True
        self._ended = False
        self._beat: Any = None
        self._due: Any = None

    def begin(self, since: Cursor | None) -> Deferred[None]:
        """Starts after ``since``, or now; fires when the stream stands, fails with :class:`Refusal`."""
        return self._view.read(lambda: self._open(since))

    def _open(self, since: Cursor | None) -> None:
        request = self._request
        if request.gone:
            return
        head = self._view.position()
        request.notifyFinish().addBoth(self._finish)
        request.begin(200, "text/event-stream; charset=utf-8", _HEADERS)
        request.registerProducer(self, True)
        self._feed.listen(self._wake)
        self._at = head
        gap = None
        if since is not None and since.node != self._view.node_key:
            gap = "another_node"
        elif since is not None and since.position > head:
            gap = "ahead"
        elif since is not None:
            self._at = since.position
        if gap is not None:
            self._tell("gap", Gap(gap, Cursor(self._view.node_key, head)))  # type: ignore[arg-type]
        else:
            self._tell("watermark", Watermark(self._cursor(), self._view.confirmed_height()))
        self._reading = False
        self._pump()

    def _cursor(self) -> Cursor:
        return Cursor(self._view.node_key, self._at)

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
        while not (self._paused or self._reading or self._ended):
            found = self._feed.after(self._at)
            if found is None:
                self._read_log()
                return
            page = [one for one, _ in zip(found, range(bounds.WEB_STREAM_PAGE), strict=False)]
            if not page:
                break
            self._write(page)
        self._rearm()

    def _write(self, page: list[Told]) -> None:
        self._at = page[-1].position
        node, raw = self._view.node_key, self._view.node_key.encode("ascii")
        lines = [
            b"id: %s:%d\nevent: transition\ndata: %s\n\n" % (raw, one.position, one.payload(node, lean=self._lean))
            for one in page
            if one.concerns(self._wanted)
        ]
        if lines:
            self._request.write(b"".join(lines))

    def _tell(self, event: str, what: Any) -> None:
        """An event of the stream itself; its id takes a reader on from here."""
        name = f"id: {self._view.node_key}:{self._at}\nevent: {event}\ndata: "
        self._request.write(name.encode("ascii") + codec.encode(what) + b"\n\n")

    def _read_log(self) -> None:
        self._reading = True

        def look() -> list[Told] | None:
            if self._at >= self._view.position():
                return None
            page = self._view.transitions(self._at, bounds.WEB_STREAM_PAGE)
            if not page or page[0].position != self._at + 1:
                return []
            return [self._told(transition) for transition in page]

        def looked(page: list[Told] | None) -> None:
            self._reading = False
            if self._ended:
                return
            if page is None:
                self._rearm()
                return
            if page:
                self._write(page)
            else:
                self._too_old()
            self._pump()

        self._view.read(look).addCallback(looked).addErrback(self._failed)

    def _told(self, transition: Transition) -> Told:
        """An entry of the log with what proves it, where that is wanted."""
        if self._lean or not Told(transition, _BARE).concerns(self._wanted):
            return Told(transition, _BARE)
        return Told(transition, LookedUp(transition.txid, self._view.transaction(transition.txid)))

    def _too_old(self) -> None:
        self._at = self._view.position()
        self._tell("gap", Gap("too_old", self._cursor()))

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

    def _beats(self) -> None:
        """Silence becomes information: everything up to here has been told."""

        def tell() -> None:
            if not (self._ended or self._paused or self._reading) and self._at >= self._view.position():
                self._tell("watermark", Watermark(self._cursor(), self._view.confirmed_height()))

        self._view.read(tell).addErrback(self._failed)
        self._rearm()

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
            request.unregisterProducer()
            if not request.gone:
                request.channel.persistent = 0
                request.finish()

    def _finish(self, _: Any) -> None:
        if self._ended:
            return
        self._ended = True
        self._feed.leave(self._wake)
        for call in (self._beat, self._due):
            if call is not None and call.active():
                call.cancel()
        self._on_end(self)
