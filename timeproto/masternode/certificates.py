"""The one TLS configuration of a node's ports: kept as its files are, while the node runs.

They are looked at now and then, and on SIGHUP. A pair that does not serve is complained of once, and the one before
stays in use; connections that are there keep what they have.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.network.certificates import RENEW_BEFORE, make_certificate, renew_certificate
from timeproto.network.tls import ServerContextFactory
from timeproto.web.metrics import Metrics


class Certificates(Service):
    """``context`` is for every port that speaks TLS."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        certificate: Path,
        key: Path,
        host: str,
        *,
        metrics: Metrics,
        now: Callable[[], float],
    ) -> None:
        """Made first, for ``host``, if both files are missing; :class:`ConfigurationError` if they do not serve.

        ``now`` gives Unix seconds.
        """
        self._paths = certificate, key
        self._metrics = metrics
        self._unix = now
        self._seen = self._complained = b""
        self._unmade: int | None = None
        try:
            if not certificate.exists() and not key.exists():
                make_certificate(certificate, key, host, self._now())
        except OSError as error:
            raise ConfigurationError(
                f"the TLS certificate {certificate} and key {key} can neither be read nor made: {error.strerror}"
            ) from None
        self._renew()
        self.context = ServerContextFactory(certificate, key)
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor
        metrics.tls_end.set(self.context.end.timestamp())
        if self.context.end <= self._now():
            self.log.warn("the TLS certificate {path} has ended: who checks it stays away", path=str(certificate))

    def startService(self) -> None:
        super().startService()
        self._looking.start(limits.CERTIFICATE_LOOK, now=False).addErrback(
            lambda failure: self.log.failure("the TLS files are not looked at any more", failure=failure)
        )

    def stopService(self) -> None:
        super().stopService()
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """Takes what has changed, and makes again what this node made and ends soon."""
        if self.context.end - self._now() <= RENEW_BEFORE:
            self._renew()
        found, seen = self.context.fingerprint(), self._seen
        self._seen = found
        if found != self.context.loaded:
            # Of two files that are replaced one comes first: what does not fit has until the next look.
            self._load(found, is_settled=found == seen)

    def reload(self) -> None:
        """Takes what is there now, or says why not."""
        self._complained = b""
        self._load(self.context.fingerprint(), is_settled=True)

    def _load(self, found: bytes, *, is_settled: bool) -> None:
        try:
            self.context.reload(self._now())
        except ConfigurationError as error:
            if is_settled and found != self._complained:
                self._complained = found
                self._metrics.tls_reloads.labels(outcome="refused").inc()
                self.log.error("{error}; the one before stays in use", error=error)
            return
        self._complained = b""
        self._metrics.tls_reloads.labels(outcome="loaded").inc()
        self._metrics.tls_end.set(self.context.end.timestamp())
        self.log.info("the TLS certificate is loaded; it ends at {end}", end=f"{self.context.end:%Y-%m-%d %H:%M} UTC")

    def _renew(self) -> None:
        try:
            renew_certificate(*self._paths, self._now())
        except OSError as error:
            if error.errno != self._unmade:  # its text names a file that has another name each time
                self._unmade = error.errno
                self.log.error("the TLS certificate cannot be renewed: {error}", error=error)
        else:
            self._unmade = None

    def _now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._unix(), datetime.UTC)
