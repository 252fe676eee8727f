"""The node's side of the web port: where it opens, who is told of a commit, and what is measured.

Nothing in here decides, and nothing waits for a window.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.logger import Logger

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import Config
from timeproto.masternode.ends import Wallets
from timeproto.masternode.view import ReplicaView
from timeproto.masternode.worker import Worker
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import KeptProof
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Transaction
from timeproto.network.budget import BUDGETS, Budgets
from timeproto.network.discovery import is_wildcard, parse_address
from timeproto.network.handshake import CURSORS, OWNERS, STATUSES
from timeproto.network.peer_manager import PeerManager
from timeproto.network.tls import TLS4ServerEndpoint, channel_binding
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.web.feed import Feed
from timeproto.web.hooks import load, save
from timeproto.web.metrics import Metrics
from timeproto.web.service import WebService
from timeproto.web.site import LOOPBACK_NAMES
from timeproto.web.targets import Targets
from timeproto.web.webhooks import Webhooks


class Timed:
    """Work done elsewhere (integration.Offload) that tells how long each piece took, its wait counted."""

    def __init__(self, work: Callable[..., Deferred[Any]], clock: Any, observe: Callable[[float], None]) -> None:
        """``clock``: IReactorTime; ``observe`` is told seconds."""
        self._work = work
        self._clock = clock
        self._observe = observe

    def __call__(self, *job: Any) -> Deferred[Any]:
        began = self._clock.seconds()

        def done(result: Any) -> Any:
            self._observe(max(0.0, self._clock.seconds() - began))
            return result

        return self._work(*job).addBoth(done)


class Everybody:
    """Implements masternode.ends.Wallets: a commit is told to the wallets and then to each window."""

    def __init__(self, wallets: Wallets, *windows: Feed) -> None:
        self._wallets = wallets
        self._windows = windows

    def broadcast_state_notification(
        self,
        transitions: Iterable[Transition],
        proofs: Mapping[str, KeptProof],
        blocks: Sequence[DecidedBlock] = (),
    ) -> None:
        told = list(transitions)
        self._wallets.broadcast_state_notification(told, proofs, blocks)
        for window in self._windows:
            window.broadcast_state_notification(told, proofs, blocks)

    def broadcast_seen(self, transactions: Sequence[Transaction]) -> None:
        self._wallets.broadcast_seen(transactions)


class Windows(MultiService):
    """The web port as the configuration wants it; empty, and told nothing, where it wants none."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        *,
        view: ReplicaView,
        handler: UTXOProtocolHandler,
        peers: PeerManager,
        metrics: Metrics,
        now: Callable[[], int],
        budgets: Budgets | None = None,
        tls: Any = None,
    ) -> None:
        """``now`` gives Unix milliseconds; ``budgets``: who pays for what wallets ask, here and over TCP; ``tls``: the
        port's IOpenSSLContextFactory, None for no TLS."""
        super().__init__()
        self._reactor = reactor
        self._config = config
        self._view = view
        self._tls = tls
        self._saving: Worker | None = None
        self._web: WebService | None = None
        has_webhooks = config.webhooks or config.webhook_wallets
        if not has_webhooks:
            try:
                config.webhooks_path.unlink(missing_ok=True)  # what is no longer named is forgotten, the last of it too
            except OSError as error:
                raise ConfigurationError(f"{config.webhooks_path} cannot be removed: {error.strerror}") from None
        if config.web is None:
            return
        self._web = WebService(
            clock=reactor,
            view=view,
            sink=handler,
            greet=lambda transport: peers.machine(
                dialled=False,
                binding=channel_binding(transport),
                capabilities=(BUDGETS, CURSORS, OWNERS, STATUSES),  # messages there are text
            ),
            now=lambda: now() / 1000,
            hosts=names_of(config.web, config.web_hosts),
            origins=config.web_origins,
            metrics=metrics,
            make_webhooks=self._make_webhooks if has_webhooks else None,
            budgets=budgets,
        )
        self._web.setServiceParent(self)

    def _make_webhooks(self, feed: Feed, metrics: Metrics) -> Webhooks:
        # It brings an HTTP client's worth of imports, and few nodes have webhooks.
        from timeproto.web.post import Lookups, Poster, guarded_agent

        config, path = self._config, self._config.webhooks_path
        targets = Targets(config.webhook_networks)
        self._saving = Worker(self._reactor, "timenode-webhooks")
        return Webhooks(
            clock=self._reactor,
            view=self._view,
            feed=feed,
            metrics=metrics,
            poster=Poster(self._reactor, guarded_agent(self._reactor, targets, Lookups(self._reactor))),
            targets=targets,
            kept=load(path),
            configured=config.webhook_pairs,
            wallets=config.webhook_wallets,
            save=partial(self._saving, save, path),
            now=time.time,  # theirs may go back: a node that clings to a wrong one signs what no receiver believes
            random=os.urandom,
        )

    def startService(self) -> None:
        if self._saving is not None:
            self._saving.start()
        super().startService()

    def stopService(self) -> Deferred[None]:
        """Closes the port; fires when everybody is gone and what webhooks delivered is saved."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        running = bool(self.running)
        await maybeDeferred(super().stopService)
        if self._saving is not None and running:
            self._saving.stop()

    def told_with(self, wallets: Wallets) -> Wallets:
        """``wallets`` and, after them, the windows."""
        return wallets if self._web is None else Everybody(wallets, self._web.feed)

    async def listen(self) -> None:
        """Opens the port, if there is to be one; :class:`ConfigurationError` if it cannot be had."""
        address = self._config.web
        if self._web is None or address is None:
            return
        host, port = parse_address(address)
        endpoint: Any = TCP4ServerEndpoint(self._reactor, port, limits.LISTEN_QUEUE, host)
        if self._tls is not None:
            endpoint = TLS4ServerEndpoint(self._reactor, port, self._tls, host)
        await self._web.listen(endpoint, address)
        scheme = "http" if self._tls is None else "https"
        self.log.info("the live page is at {url}", url=f"{scheme}://{address}/")


def names_of(address: str, more: Iterable[str]) -> list[str]:
    """The names by which a port goes: the loopback's, the host it listens on, and ``more``."""
    host, _, _ = address.rpartition(":")
    return [*LOOPBACK_NAMES, *(() if is_wildcard(address) else (host,)), *more]
