"""The web port: who may connect, whose pages may ask, which route answers, and how an answer looks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network import costs
from timeproto.network.budget import Account, Budgets, block_of
from timeproto.web import bounds
from timeproto.web.channel import WebChannel
from timeproto.web.metrics import Metrics
from timeproto.web.refusals import HttpRefusal, phrase, status_of
from timeproto.web.routes import TAKEN, Ask, Body, Route, Router, read_values
from timeproto.wire import codec, messages

JSON = "application/json"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_HOST = re.compile(r"\A(?P<name>[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")

_KEY = re.compile(r"\ABearer ([0-9a-f]{64})\Z")

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}
"""Headers of every answer; an answer's own win."""


class WebRequest(Request):
    """A request whose body stays in memory, within its bound, and whose forms nobody parses."""

    channel: WebChannel
    content: Any
    price: Mapping[str, str] = {}
    """Headers that say what the request cost and what is left."""
    spent = 0.0

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        if self.content.tell() + len(data) > bounds.WEB_BODY:
            self.channel.refuse_body()
        else:
            self.content.write(data)

    def parseCookies(self) -> None:
        """Nobody here looks at a cookie."""

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        self.path, _, self.query = path.partition(b"?")
        self.gone = False
        self.notifyFinish().addErrback(self._left)
        self.channel.when_writable(self.process)

    def _left(self, failure: Failure) -> None:
        self.gone = True

    def process(self) -> None:
        self.channel.factory.serve(self)

    def header(self, name: str) -> str | None:
        """A header that is given once, or not; raises ``bad_field`` if it is given twice."""
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"), [])
        if len(values) > 1:
            raise Refusal(ErrorCode.BAD_FIELD, f"{name} is given twice")
        return values[0].decode("latin-1") if values else None

    def spend(self, cost: float) -> None:
        """What answering turned out to cost besides; not to be called once ``gone``."""
        account = self.channel.account
        account.spend(cost, counts=cost)
        self.spent += cost
        self.price = _price(account, self.spent)

    def answer(self, body: Body) -> None:
        """One whole answer, and the end of the request."""
        if self.gone or self.finished:
            return
        self.begin(body.status, body.content_type, body.headers)
        self.responseHeaders.setRawHeaders(b"Content-Length", [str(len(body.data)).encode("ascii")])
        self.write(body.data)
        self.finish()

    def begin(self, status: int, content_type: str, headers: Any) -> None:
        """Status and headers; they leave with the first byte of the body."""
        self.setResponseCode(status, phrase(status).encode("ascii"))
        every = {**_SAFE, **self.price, "Content-Type": content_type, **headers}
        for name, value in every.items():
            self.responseHeaders.setRawHeaders(name.encode("ascii"), [value.encode("ascii")])


class WebSite(ServerFactory):
    """Accepts connections and serves their requests from a table of routes."""

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: Any,
        routes: Sequence[Route],
        metrics: Metrics,
        *,
        hosts: Iterable[str] = LOOPBACK_NAMES,
        origins: Iterable[str] = (),
        budgets: Budgets | None = None,
    ) -> None:
        """``hosts``: names by which this port may be addressed, without ports. ``origins``: foreign pages
        (``https://name``) that may send payments and open WebSockets; pages of this port always may. ``budgets``: who
        pays for what is asked here and elsewhere."""
        self.clock = clock
        self.router = Router(routes)
        self.metrics = metrics
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}
        self._budgets = budgets or Budgets(clock)
        self._channels: dict[WebChannel, None] = {}
        self._strangers: dict[WebChannel, None] = {}
        self._blocks: Counter[str] = Counter()
        self._emptied: list[Deferred[None]] = []
        self._stopping = False
        self._silent_until: dict[type[BaseException] | None, float] = {}

    # -- connections ---------------------------------------------------------------------------------

    def buildProtocol(self, addr: Any) -> WebChannel | None:
        """None (the connection is dropped) when not even a refusal is worth its place any more."""
        host = getattr(addr, "host", "?")
        block = block_of(host)
        if len(self._channels) >= bounds.WEB_CONNECTIONS and self._strangers:  # they make room, the oldest first
            stranger = next(iter(self._strangers))
            self.channel_lost(stranger)
            stranger.abort()
        crowd = block is not None and self._blocks[block] >= bounds.WEB_CONNECTIONS_PER_BLOCK
        full = len(self._channels) >= bounds.WEB_CONNECTIONS + bounds.WEB_CONNECTIONS_PER_BLOCK
        if self._stopping or crowd or full or self._budgets.is_overdrawn(host):
            self.metrics.turned_away.inc()
            return None
        account = self._budgets.open(host, costs.CONNECTION, "web")
        channel = WebChannel(self.clock, self, host, account, full=len(self._channels) >= bounds.WEB_CONNECTIONS)
        channel.factory = self
        channel.requestFactory = WebRequest
        self._channels[channel] = self._strangers[channel] = None
        if block is not None:
            self._blocks[block] += 1
        return channel

    def channel_lost(self, channel: WebChannel) -> None:
        if channel not in self._channels:
            return
        del self._channels[channel]
        self._strangers.pop(channel, None)
        block = block_of(channel.host)
        if block is not None:
            self._blocks[block] -= 1
            if not self._blocks[block]:
                del self._blocks[block]
        channel.account.close()
        if not self._channels:
            emptied, self._emptied = self._emptied, []
            for each in emptied:
                each.callback(None)

    @property
    def connections(self) -> int:
        return len(self._channels)

    def close(self) -> Deferred[None]:
        """Closes every connection; fires when the last one is gone, which its deadlines see to."""
        self._stopping = True
        done: Deferred[None] = Deferred()
        if not self._channels:
            done.callback(None)
            return done
        self._emptied.append(done)
        for channel in list(self._channels):
            channel.loseConnection(limits.CLOSE)
        return done

    def log(self, request: WebRequest) -> None:
        """Twisted tells this of every answer that is complete."""
        self.metrics.http_answers.labels(status=str(request.code)).inc()

    # -- requests ------------------------------------------------------------------------------------

    def serve(self, request: WebRequest) -> None:
        """Answers one request: the route's answer, or one error in JSON."""
        self._strangers.pop(request.channel, None)
        began = self.clock.seconds()
        account = request.channel.account
        try:
            route, ask = self._understand(request)
            self._use_key(request)
        except Exception as error:  # to see what is wrong with a request is work too
            account.spend(bounds.WEB_COST)
            request.price = _price(account, bounds.WEB_COST)
            refusal = error if isinstance(error, Refusal) else self._own_fault()
            self._when_paid(request, self._refuse, request, refusal)
            return
        cost = route.cost * bounds.WEB_COST + costs.of_bytes(len(ask.body))
        try:
            account.pay(cost)
        except Refusal as refusal:
            request.price = _price(account, cost)
            self._refuse(request, refusal)
            return
        request.spent, request.price = cost, _price(account, cost)
        self._when_paid(request, self._handle, request, route, ask, began)

    def _when_paid(self, request: WebRequest, work: Callable[..., None], *what: Any) -> None:
        """Does it when whoever asks has paid for it, unless they leave before."""
        account = request.channel.account
        wait = account.hold

        def due() -> None:
            try:
                account.went_on(more=request.channel.has_more)
            except Refusal as refusal:
                self._refuse(request, refusal)
            else:
                work(*what)

        if wait > 0:
            later = self.clock.callLater(wait, due)
            request.notifyFinish().addBoth(lambda _: later.active() and later.cancel())
        else:
            work(*what)

    def _understand(self, request: WebRequest) -> tuple[Route, Ask]:
        if request.channel.full:
            raise Refusal(ErrorCode.BUSY, "the web port is full", limit="web_connections",
                          value=bounds.WEB_CONNECTIONS, retry_after_ms=10_000)
        self._require_host(request)
        method = request.method.decode("ascii")
        route, raw = self.router.find(method, request.path.decode("latin-1"))
        if route.method == "POST" or request.header("upgrade") is not None:
            self.require_origin(request)
        values = read_values(route, raw, request.query.decode("latin-1"))
        body = request.content.read() if request.content.seek(0) == 0 else b""
        if route.body is not None:
            self._require_json(request)
        elif body:
            raise Refusal(ErrorCode.BAD_FIELD, "this request has no body")
        return route, Ask(values, body, request)

    def _use_key(self, request: WebRequest) -> None:
        """Whoever the request names pays for it: a key, or its connection."""
        given = request.header("authorization")
        key = None if given is None else _KEY.match(given)
        if given is not None and key is None:
            raise HttpRefusal(401, ErrorCode.NOT_AUTHORISED, "a key is sent as Bearer and 64 characters of hex")
        try:
            request.channel.account.use(None if key is None else key[1])
        except Refusal:
            raise HttpRefusal(401, ErrorCode.NOT_AUTHORISED, "this node knows no such key") from None

    def _handle(self, request: WebRequest, route: Route, ask: Ask, began: float) -> None:
        if request.gone:
            return

        def answered(result: Any) -> None:
            self.metrics.query_seconds.labels(route=route.path).observe(self.clock.seconds() - began)
            if result is TAKEN:
                return
            if not isinstance(result, Body):
                result = Body(codec.encode(result), JSON, route.status)
            if not request.gone:
                request.spend(costs.of_bytes(len(result.data)))
                request.answer(result)

        def failed(failure: Failure) -> None:
            value = failure.value
            self._refuse(request, value if isinstance(value, Refusal) else self._own_fault(failure))

        answer = maybeDeferred(route.handle, ask)
        answer.addCallback(answered).addErrback(failed)
        answer.addErrback(lambda failure: self._log.failure("an answer could not be sent", failure=failure))

    def _own_fault(self, failure: Failure | None = None) -> Refusal:
        failure, now = failure or Failure(), self.clock.seconds()
        if now >= self._silent_until.get(failure.type, 0):
            self._silent_until[failure.type] = now + bounds.WEB_COMPLAINT
            self._log.failure("a request failed", failure=failure)
        return Refusal(ErrorCode.INTERNAL, "the node failed to answer")

    def _refuse(self, request: WebRequest, refusal: Refusal) -> None:
        status = status_of(refusal)
        headers = {}
        if status == 405:
            headers["Allow"] = str(refusal.details.get("allow", ""))
        if "retry_after_ms" in refusal.details:
            headers["Retry-After"] = str(-(-int(refusal.details["retry_after_ms"]) // 1000))
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status == 426:
            headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        channel = getattr(request, "channel", None)
        if channel is not None and (channel.full or (refusal.policy.closes and status == 429)):
            headers["Connection"] = "close"
            channel.persistent = 0
        request.answer(Body(codec.encode(messages.error_of(refusal)), JSON, status, headers))

    # -- whose pages ---------------------------------------------------------------------------------

    def _require_host(self, request: WebRequest) -> None:
        """A name that is not ours is another site's that was made to point here (DNS rebinding)."""
        given = request.header("host")
        match = None if given is None else _HOST.match(given)
        if given is None and request.clientproto == b"HTTP/1.0":
            return  # no browser speaks it
        if match is None:
            raise HttpRefusal(400, ErrorCode.BAD_FIELD, "the Host header is missing or malformed")
        if match["name"].lower() not in self._hosts:
            raise HttpRefusal(421, ErrorCode.NOT_AUTHORISED, "this port does not go by that name (web_hosts)")

    def require_origin(self, request: WebRequest) -> None:
        """A browser says whose page asks: ours, or one the operator named. Programs say nothing."""
        origin = request.header("origin")
        if origin is None:
            if request.header("sec-fetch-site") in ("cross-site", "same-site"):
                raise Refusal(ErrorCode.NOT_AUTHORISED, "pages of other sites may not ask this")
            return
        scheme = "https" if request.channel.isSecure() else "http"
        if origin.lower() not in (f"{scheme}://{(request.header('host') or '').lower()}", *self._origins):
            raise Refusal(ErrorCode.NOT_AUTHORISED, "pages of that origin may not ask this (web_origins)")

    def _require_json(self, request: WebRequest) -> None:
        kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise HttpRefusal(415, ErrorCode.UNSUPPORTED, f"the body's Content-Type is {JSON}")
        if request.header("content-encoding") not in (None, "identity"):
            raise HttpRefusal(415, ErrorCode.UNSUPPORTED, "the body is not to be compressed")


def _price(account: Account, cost: float) -> dict[str, str]:
    """As in the IETF's draft on rate limit headers: the policy, and what is left of it until it is whole again."""
    rate, burst = account.rate
    whole = -(-(burst - account.left) // rate)
    return {
        "RateLimit-Policy": f'"cost";q={burst};w={-(-burst // rate)}',
        "RateLimit": f'"cost";r={account.left};t={whole}',
        "Timeproto-Cost": str(int(cost)),
    }
