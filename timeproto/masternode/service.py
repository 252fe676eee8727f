"""The masternode as a Twisted service: puts the rooms together in order, and takes them down in the other order."""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application import service
from twisted.internet import protocol, stdio
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    globalLogPublisher,
)
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.consensus.replica import Replica, found
from timeproto.consensus.verifier import Verifier
from timeproto.errors import ConfigurationError, ExitStatus, IdentityConflict, Refusal, StorageError
from timeproto.masternode.admin import Admin
from timeproto.masternode.certificates import Certificates
from timeproto.masternode.condition import Condition
from timeproto.masternode.config import Config
from timeproto.masternode.desk import Desk, load_keys, save_keys
from timeproto.masternode.integration import MasternodeUTXOIntegration
from timeproto.masternode.machine import await_turns, exit_with, say, spare_the_collector
from timeproto.masternode.open_files import connections
from timeproto.masternode.pace import Pace
from timeproto.masternode.timers import Timers
from timeproto.masternode.usage import Meter
from timeproto.masternode.view import ReplicaView
from timeproto.masternode.watchman import Watchman
from timeproto.masternode.windows import Timed, Windows
from timeproto.masternode.worker import Worker
from timeproto.model import lanes
from timeproto.model.block import BlockVote
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.vote import VoteBatch
from timeproto.network.budget import Budgets
from timeproto.network.handover import asker
from timeproto.network.node_protocol import NodeProtocol
from timeproto.network.peer_manager import PeerManager
from timeproto.network.quota import Keys
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.storage.rocks import RocksStore, open_store
from timeproto.web.metrics import Metrics
from timeproto.wire import messages
from timeproto.wire.messages import Role

_STATUS = ((ConfigurationError, ExitStatus.CONFIGURATION), (IdentityConflict, ExitStatus.IDENTITY))


_DIALLING = "twisted.application._client_service"
"""Each attempt to connect is a line of it, and says neither where nor why; network.dialler says both, once."""


class Dispatcher:
    """The one place where a message finds who answers it, whoever dialled."""

    def __init__(
        self,
        integration: MasternodeUTXOIntegration,
        handler: UTXOProtocolHandler,
        received: Counter[str] | None = None,
    ) -> None:
        """``received`` is where every message is counted by its type."""
        self._integration = integration
        self._handler = handler
        self._received = Counter[str]() if received is None else received

    def message_received(self, connection: NodeProtocol, message: messages.AnyMessage) -> None:
        """What masternodes say among themselves goes to the replica, every wallet's request to the handler."""
        self._received[type(message).__name__] += 1
        key = connection.node_key
        if connection.remote_role is Role.MASTERNODE and key is not None and _is_for_replica(message):
            self._integration.handle_network_message(message, key)
        elif connection.asker is not None:
            connection.asker.ask(message)
            self._handler.handle_message(connection.asker, message)
        else:
            self._handler.handle_message(connection, message)

    def connection_lost(self, connection: NodeProtocol) -> None:
        self._handler.connection_lost(connection)
        if connection.asker is not None:
            self._handler.connection_lost(connection.asker)

    def link_up(self, connection: NodeProtocol) -> None:
        if connection.node_key is not None:
            self._integration.link_up(connection.node_key)

    def link_down(self, connection: NodeProtocol) -> None:
        if connection.node_key is not None:
            self._integration.link_down(connection.node_key)


_FOR_REPLICA = (
    messages.TransactionBroadcast,
    messages.Transactions,
    VoteBatch,
    messages.Votes,
    messages.FinalityProofs,
    messages.Finalized,
    messages.GetTransactions,
    messages.GetVotes,
    messages.GetFinalized,
    messages.UTXOStateNotification,
    messages.TransactionCancel,
    messages.BlockProposal,
    BlockVote,
    messages.GetBlocks,
    messages.Blocks,
)


def _is_for_replica(message: messages.AnyMessage) -> bool:
    return isinstance(message, _FOR_REPLICA)


class TimeNode(service.MultiService):
    """One masternode. Everything that can fail at the start fails before the first connection is accepted."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: Config,
        key: SigningKey,
        genesis: Genesis,
        *,
        until_stdin_closes: bool = False,
    ) -> None:
        super().__init__()
        self.setName("timenode")
        self._reactor = reactor
        self._config = config
        self._key = key
        self._genesis = genesis
        self._until_stdin_closes = until_stdin_closes
        self._verifying = Worker(reactor, "timenode-verify")
        self._storing = Worker(reactor, "timenode-store")
        self._timers = Timers(reactor)
        self._store: RocksStore | None = None
        self._integration: MasternodeUTXOIntegration | None = None
        self._certificates: Certificates | None = None
        self._starting: Deferred[None] | None = None
        self._leaving = self._stopping = False
        self._asked = False
        self._last_now = 0

    # -- starting ------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begins to start; what goes wrong ends the process with its exit status and one sentence."""
        super().startService()
        keep_to_level(globalLogPublisher, self._config.log_level)
        await_turns()  # before there are threads, which are scheduled as their parent is
        self._verifying.start()
        self._storing.start()
        # After daemonizing, which no thread survives, and inside the reactor, which a failure must stop.
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        if self._config.tls:
            signal.signal(signal.SIGHUP, self._asked_to_reload)
        if self._until_stdin_closes:
            stdio.StandardIO(_UntilEnd(self._stop_reactor), reactor=self._reactor)
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.leave(failure.value or RuntimeError("no reason was given"))

    def _asked_to_stop(self, number: int, frame: Any) -> None:
        """The first signal stops in order, with status 0; a second one at once."""
        if self._asked:
            os._exit(128 + number)
        self._asked = True
        self._reactor.callFromThread(self._stop_reactor)

    def _asked_to_reload(self, number: int, frame: Any) -> None:
        if self._certificates is not None:
            self._reactor.callFromThread(self._certificates.reload)

    def _stop_reactor(self) -> None:
        if self.running:
            with suppress(ReactorNotRunning):  # it is stopping already
                self._reactor.stop()

    async def _start(self) -> None:
        config, genesis = self._config, self._genesis
        started = self._reactor.seconds()
        room, fewer = connections(len(genesis.masternodes), web=config.web is not None)
        if fewer is not None:
            self.log.warn("{fewer}", fewer=fewer)
        store = self._store = await self._storing(open_store, config.store_path, genesis.hash, self._key.public_hex)
        founding = found(store, genesis, log_start=1000 * self._now())  # no log grows by a million in a second
        if founding is not None:
            await self._storing(store.commit, founding)
        if self._stopping:
            return
        replica = Replica(store, genesis, self._key)
        metrics, received = Metrics(), Counter[str]()
        integration = self._integration = MasternodeUTXOIntegration(
            replica=replica,
            store=store,
            verifier=Verifier(genesis),
            offload=Timed(self._verifying, self._reactor, metrics.verify_seconds.observe),
            at_once=Timed(maybeDeferred, self._reactor, metrics.verify_seconds.observe),
            offload_commits=Timed(self._storing, self._reactor, metrics.commit_seconds.observe),
            commit_at_once=Timed(maybeDeferred, self._reactor, metrics.commit_seconds.observe),
            pace=Pace(self._reactor, Meter(self._reactor)),
            timers=self._timers,
            now=self._now,
            fatal=self.leave,
        )
        context = None
        if config.tls:
            certificates = self._certificates = Certificates(
                self._reactor, *config.tls_paths, config.tls_host, metrics=metrics, now=time.time
            )
            certificates.setServiceParent(self)
            context = certificates.context
        handler = UTXOProtocolHandler(self._reactor)
        keys = Keys(self._reactor, load_keys(config.keys_path))
        budgets = Budgets(self._reactor, keys)
        peers = PeerManager(
            reactor=self._reactor,
            key=self._key,
            genesis=genesis,
            listen=config.listen,
            announce=config.announce,
            peers=config.peers,
            bootstrap=config.bootstrap,
            tls=context,
            dispatcher=Dispatcher(integration, handler, received),
            on_identity_conflict=lambda reason: self.leave(IdentityConflict(reason)),
            room=room,
            budgets=budgets,
        )
        condition = Condition(self._reactor, config.datadir, self._storing, budgets)
        view = ReplicaView(
            replica=replica,
            ledger=store,
            integration=integration,
            genesis=genesis,
            node_key=self._key.public_hex,
            surroundings=_Surroundings(peers, handler),
            uptime=lambda: self._reactor.seconds() - started,
            received=received,
            on_locked=metrics.lock_seconds.observe,
            condition=condition,
        )
        windows = Windows(
            self._reactor, config, view=view, handler=handler, peers=peers, metrics=metrics, now=self._now,
            budgets=budgets, tls=context,
        )  # fmt: skip
        integration.initialize(peers=peers, wallets=windows.told_with(handler))
        handler.setup_notification_handler(view, asker(peers.links))
        await peers.listen()
        await windows.listen()
        desk = Desk(
            peers=peers,
            budgets=budgets,
            keys=keys,
            save=partial(self._storing, save_keys, config.keys_path),
            now=self._now,
        )
        admin = Admin(self._reactor, config.datadir, desk)
        admin.listen()
        admin.setServiceParent(self)
        condition.setServiceParent(self)
        peers.setServiceParent(self)
        windows.setServiceParent(self)  # after the peers, and so stopped before them
        spare_the_collector()
        ticking = LoopingCall(integration.tick)
        ticking.clock = self._reactor
        ticking.start(limits.TICK, now=False).addErrback(
            lambda failure: self.log.failure("time stands still", failure=failure)
        )
        self._ticking = ticking
        Watchman(
            self._reactor, genesis.masternode_set, self._key.public_hex,
            not_voting=lambda: replica.not_voting, links=peers.links,
        ).setServiceParent(self)  # fmt: skip
        self.log.info(
            "masternode {key} of {network} serves on {listen}: {votes}",
            key=self._key.public_hex,
            network=genesis.network,
            listen=config.listen,
            votes=replica.not_voting or "voting",
        )
        self.log.info("signatures are checked {how}", how=lanes.account())

    def _now(self) -> int:
        """Unix milliseconds that never go back, whatever the clock does: times of one coin stay in order."""
        self._last_now = max(self._last_now, int(time.time() * 1000))
        return self._last_now

    # -- stopping ------------------------------------------------------------------------------------

    def leave(self, reason: BaseException) -> None:
        """The node cannot go on: votes no more, says why in one sentence and stops the process with the status that
        tells it."""
        if self._leaving:
            return
        self._leaving = True
        status = next((status for kind, status in _STATUS if isinstance(reason, kind)), ExitStatus.STORAGE)
        # twistd ends with 0 once its reactor has stopped; this runs after it has tidied up.
        atexit.register(exit_with, status)
        self._stop_reactor()
        if self._integration is not None:
            self._integration.give_up(reason)
        if not isinstance(reason, ConfigurationError | IdentityConflict | StorageError | Refusal):
            self.log.failure("the node's own code failed", failure=Failure(reason))
        self.log.critical("the node stops: {reason}", reason=reason)
        say(f"timenode: {' '.join(str(reason).split())}")

    async def _stop(self) -> None:
        self._stopping = True
        if self._starting is not None:
            await self._starting  # what it has begun is taken down below, and nothing is begun after
        ticking = getattr(self, "_ticking", None)
        if ticking is not None and ticking.running:
            ticking.stop()
        self._timers.stop()
        await maybeDeferred(super().stopService)
        if self._integration is not None:
            await self._integration.when_idle()
        if self._store is not None:
            await self._storing(self._store.close).addErrback(self._failed)
        self._verifying.stop()
        self._storing.stop()

    def stopService(self) -> Deferred[None]:
        """Closes every connection with ``going_away``, waits for what is being committed, closes the store."""
        return ensureDeferred(self._stop())


def keep_to_level(publisher: LogPublisher, level: str) -> None:
    """Nothing below ``level`` reaches an observer. twistd writes everything down, debugging and all; and it has chosen
    its observers by now, with no door for a filter in front of them."""
    lowest = LogLevel.levelWithName(level)
    predicate = LogLevelFilterPredicate(lowest)
    if lowest is LogLevel.info:
        predicate.setLogLevelForNamespace(_DIALLING, LogLevel.warn)
    for observer in list(publisher._observers):
        publisher.removeObserver(observer)
        publisher.addObserver(FilteringLogObserver(observer, [predicate]))


class _Surroundings:
    def __init__(self, peers: PeerManager, handler: UTXOProtocolHandler) -> None:
        self._peers, self._handler = peers, handler

    def peers_info(self) -> list[messages.PeerInfo]:
        return self._peers.peers_info()

    def wallet_count(self) -> int:
        return self._peers.wallet_count

    def subscription_count(self) -> int:
        return self._handler.subscription_count

    def room(self) -> int:
        return self._peers.house.room


class _UntilEnd(protocol.Protocol):
    """Waits for standard input to end."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connectionLost(self, reason: Any = None) -> None:
        self._ended()
