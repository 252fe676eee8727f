"""Numbers for Prometheus. Every label's values are from a closed set of our own: no client chooses one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from timeproto.web.view import Figures
from timeproto.wire import messages

_NAME = re.compile(r"\A[a-z][a-z_]{0,60}\Z")
_PAYMENT_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_QUERY_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """Counters and histograms of one node's windows, and its own figures read when asked.

    ``lock_seconds``: from a payment's arrival to its durable lock; ``final_seconds``: from lock to proof;
    ``notify_seconds``: from a transition's commit to its telling; ``query_seconds``: from a request to its answer.
    ``verify_seconds`` and ``commit_seconds`` are of one batch, with the way to a thread and back if it goes there.
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.http_answers = Counter("timeproto_http_answers", "Answers by status", ["status"], registry=registry)
        self.turned_away = Counter("timeproto_http_turned_away", "Connections without room", registry=registry)
        self.sockets = Gauge("timeproto_websockets", "WebSocket connections", registry=registry)
        self.socket_messages = Counter(
            "timeproto_websocket_messages", "Messages received over WebSockets", ["type"], registry=registry
        )
        self.streams = Gauge("timeproto_event_streams", "Event streams", registry=registry)
        self.webhooks = Gauge("timeproto_webhooks", "Webhooks", registry=registry)
        self.webhooks_due = Gauge("timeproto_webhooks_due", "Webhooks with events to deliver", registry=registry)
        self.webhooks_failing = Gauge("timeproto_webhooks_failing", "Webhooks whose POST failed", registry=registry)
        self.webhook_behind = Gauge(
            "timeproto_webhook_behind", "Transitions since the oldest that a webhook has to look at", registry=registry
        )
        self.webhook_posts = Counter("timeproto_webhook_posts", "POSTs by their end", ["outcome"], registry=registry)
        self.webhook_events = Counter("timeproto_webhook_events", "Transitions delivered", registry=registry)
        self.webhook_seconds = _histogram("webhook", "A POST of a webhook", _PAYMENT_SECONDS, registry)
        self.tls_end = Gauge(
            "timeproto_tls_certificate_end_seconds", "When the TLS certificate ends, in Unix time", registry=registry
        )
        self.tls_end.set(float("inf"))  # without TLS nothing ends
        self.tls_reloads = Counter(
            "timeproto_tls_reloads", "TLS files read again: loaded, refused", ["outcome"], registry=registry
        )
        self.reactor_lag = Gauge("timeproto_reactor_lag_seconds", "How late the last timer was", registry=registry)
        self.lock_seconds = _histogram("lock", "Arrival of a payment to its durable lock", _PAYMENT_SECONDS, registry)
        self.final_seconds = _histogram("final", "Lock of a payment to its finality proof", _PAYMENT_SECONDS, registry)
        self.notify_seconds = _histogram("notify", "Commit of a transition to its telling", _QUERY_SECONDS, registry)
        self.verify_seconds = _histogram("verify", "Signature checks of a batch of inputs", _QUERY_SECONDS, registry)
        self.commit_seconds = _histogram("commit", "A durable commit", _QUERY_SECONDS, registry)
        self.query_seconds = Histogram(
            "timeproto_query_seconds", "Request to answer", ["route"], buckets=_QUERY_SECONDS, registry=registry
        )
        ProcessCollector(registry=registry)
        self._node = _Node()
        registry.register(self._node)

    def render(self, info: messages.Info, figures: Figures) -> tuple[bytes, str]:
        """The text format and its content type, with the node's figures of this moment."""
        self._node.info, self._node.figures = info, figures
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def message(self, message: Any) -> None:
        """Counts a received message by its type."""
        name = type(message).__name__
        self.socket_messages.labels(type=name if name in messages.CATALOGUE else "other").inc()


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"timeproto_{name}_seconds", meaning, buckets=buckets, registry=registry)


class _Node:
    """Turns what the node says about itself into metrics, at the moment of the question."""

    def __init__(self) -> None:
        self.info: messages.Info | None = None
        self.figures = Figures()

    def describe(self) -> list[Metric]:
        """Nothing: the names depend on the node's figures, and all are ours."""
        return []

    def collect(self) -> Iterator[Metric]:
        info = self.info
        if info is None:
            return
        plain = {
            "position": ("Last entry of the transition log", info.cursor.position),
            "height": ("Last decided block", info.height),
            "masternodes": ("Members of the masternode set", info.masternodes),
            "quorum": ("Votes that make a quorum", info.quorum),
            "connected": ("Masternodes reached, this one counted", info.connected),
            "quorum_reached": ("1 while a quorum is connected", int(info.connected >= info.quorum)),
            "voting": ("1 while this node votes", int(info.voting)),
            "synced": ("1 while this node is caught up", int(info.synced)),
            "in_flight": ("Undecided transactions", info.in_flight),
            "waiting": ("Transactions that wait for a parent", info.waiting),
            "unconfirmed": ("Final transactions in no block yet", info.unconfirmed),
            "contested": ("Contested transactions", info.contested),
            "final_transactions": ("Final transactions", info.final),
            "evidence": ("Pieces of evidence held", info.evidence),
            "wallets": ("Wallets connected over TCP", info.wallets),
            "subscriptions": ("Subscriptions", info.subscriptions),
            "uptime_seconds": ("Since the start", info.uptime_ms / 1000),
        }
        for name, (meaning, value) in plain.items():
            yield GaugeMetricFamily(f"timeproto_{name}", meaning, value=value)
        degraded = GaugeMetricFamily("timeproto_degraded", "1 while the node is not as it should be", labels=["reason"])
        for reason in get_args(messages.Trouble):
            degraded.add_metric([reason], reason in info.degraded)
        yield degraded
        coins = GaugeMetricFamily("timeproto_coins", "Coins by state", labels=["state"])
        for state, tally in sorted(info.states.items()):
            coins.add_metric([state], tally.coins)
        yield coins
        for name, value in _named(self.figures.gauges, plain):
            yield GaugeMetricFamily(f"timeproto_{name}", "A figure of the node", value=value)
        for name, value in _named(self.figures.counters, plain):
            yield CounterMetricFamily(f"timeproto_{name}", "A figure of the node", value=value)
        received = CounterMetricFamily("timeproto_messages", "Messages received over TCP", labels=["type"])
        for name, value in sorted(self.figures.messages.items()):
            if name in messages.CATALOGUE:
                received.add_metric([name], value)
        yield received


def _named(figures: Any, taken: Any) -> list[tuple[str, float]]:
    return sorted((name, value) for name, value in figures.items() if _NAME.match(name) and name not in taken)
