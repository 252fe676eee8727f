"""The web port as a service: puts the windows together, and closes them before the node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.network.budget import Budgets, block_of
from timeproto.web import openapi
from timeproto.web.api import Api
from timeproto.web.feed import Feed
from timeproto.web.hooks import WebhookAnswer, WebhookList, WebhookQuestion, WebhookRequest
from timeproto.web.metrics import Metrics
from timeproto.web.page import Page
from timeproto.web.parameters import WEBHOOK_REFUSES
from timeproto.web.routes import Ask, Body, Route, read_body
from timeproto.web.site import LOOPBACK_NAMES, WebSite
from timeproto.web.view import Greeter, NodeView, Sink
from timeproto.web.webhooks import Webhooks
from timeproto.web.websocket import Bridge

LAG_PAUSE = 1.0
"""Seconds between two looks at how late timers are."""


class WebService(Service):
    """HTTP, WebSocket and the page of one node.

    ``feed`` is to be told of every commit (masternode.ends.Wallets); ``metrics`` may be told by others of what they
    measure.
    """

    log = Logger()

    def __init__(
        self,
        *,
        clock: Any,
        view: NodeView,
        sink: Sink,
        greet: Callable[[Any], Greeter],
        now: Callable[[], float],
        hosts: Iterable[str] = LOOPBACK_NAMES,
        origins: Iterable[str] = (),
        metrics: Metrics | None = None,
        make_webhooks: Callable[[Feed, Metrics], Webhooks] | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        """``clock``: IReactorTime; ``now``: Unix seconds; ``greet`` makes a handshake's accepting side for a transport;
        ``hosts``, ``origins`` and ``budgets`` as for :class:`timeproto.web.site.WebSite`; ``make_webhooks`` None for a
        node that has none."""
        self.setName("web")
        self.metrics = metrics or Metrics()
        self.feed = Feed(self.metrics, now)
        self._clock = clock
        self._api = Api(view, self.feed, self.metrics, clock)
        self._webhooks = None if make_webhooks is None else make_webhooks(self.feed, self.metrics)
        self._bridge = Bridge(clock, sink, greet, self.metrics)
        page = Page()
        routes = self._api.routes()
        routes += [
            Route("GET", "/v1/socket", "The messages of the wire protocol over a WebSocket, one in each text message",
                  "websocket", self._bridge.open, status=101, cost=5, refuses=(ErrorCode.NOT_AUTHORISED,)),
            Route("POST", "/v1/webhooks", "Register, renew or remove a webhook of an address, signed with its key",
                  WebhookAnswer, self._webhook, body=WebhookRequest, cost=20, refuses=WEBHOOK_REFUSES),
            Route("POST", "/v1/webhooks/list", "The webhooks that the wallet of an address registered, for that wallet",
                  WebhookList, self._list_webhooks, body=WebhookQuestion, cost=5, refuses=WEBHOOK_REFUSES),
            Route("GET", "/openapi.json", "This document", "application/json", self._describe),
            Route("GET", "/", "The live page", "text/html", page.answer),
        ]
        self._document: bytes | None = None
        self.site = WebSite(clock, routes, self.metrics, hosts=hosts, origins=origins, budgets=budgets)
        self._port: Any = None
        self._lag = LoopingCall(self._measure)
        self._lag.clock = clock
        self._expected: float | None = None

    def _describe(self, ask: Ask) -> Body:
        if self._document is None:
            self._document = openapi.document(self.site.router.routes, version("timeproto"))
        return Body(self._document, "application/json", headers={"Cache-Control": "no-cache"})

    def _webhook(self, ask: Ask) -> Deferred[WebhookAnswer]:
        request, host = read_body(ask, WebhookRequest), ask.request.channel.host
        return self._require_webhooks().ask(request, block_of(host) or "")

    def _list_webhooks(self, ask: Ask) -> Deferred[WebhookList]:
        return self._require_webhooks().list(read_body(ask, WebhookQuestion))

    def _require_webhooks(self) -> Webhooks:
        if self._webhooks is None:
            raise Refusal(ErrorCode.NOT_AUTHORISED, "this node has no webhooks")
        return self._webhooks

    async def listen(self, endpoint: Any, address: str) -> None:
        """Opens the port at ``endpoint`` (IStreamServerEndpoint); ``address`` names it if it cannot be had."""
        try:
            self._port = await endpoint.listen(self.site)
        except (CannotListenError, OSError) as error:
            raise ConfigurationError(f"the web address {address} cannot be listened on: {error}") from None

    def startService(self) -> None:
        super().startService()
        if self._webhooks is not None:
            self._webhooks.startService()
        self._lag.start(LAG_PAUSE, now=True).addErrback(
            lambda failure: self.log.failure("the reactor's lag is not measured", failure=failure)
        )

    def _measure(self) -> None:
        now = self._clock.seconds()
        if self._expected is not None:
            self.metrics.reactor_lag.set(max(0.0, now - self._expected))
        self._expected = now + LAG_PAUSE

    def stopService(self) -> Deferred[None]:
        """Says goodbye to everybody; fires when all are gone, at most a few seconds later."""
        super().stopService()
        if self._lag.running:
            self._lag.stop()
        closing = [] if self._port is None else [maybeDeferred(self._port.stopListening)]
        self._bridge.close()
        self._api.close()
        closing.append(self.site.close())
        if self._webhooks is not None and self._webhooks.running:
            closing.append(self._webhooks.stopService())
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)
