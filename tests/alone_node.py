"""One masternode without network or reactor: replica, store, bridge and wallet handler, wired as in the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from tests.cluster import key, make_genesis
from timeproto import limits
from timeproto.consensus.replica import Replica, found
from timeproto.consensus.verifier import Verifier
from timeproto.masternode.integration import MasternodeUTXOIntegration
from timeproto.masternode.pace import Pace
from timeproto.masternode.timers import Timers
from timeproto.masternode.view import ReplicaView
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.storage.memory import MemoryStore
from timeproto.wire import codec, messages


class NoPeers:
    """A masternode alone in its set."""

    def send(self, key: str, message: Any) -> None: ...

    def broadcast(self, messages: Any) -> None: ...

    def send_utxo_notification_to_peer(self, key: str, notification: Any) -> None: ...

    def penalize(self, key: str, refusal: Any) -> None: ...

    def peers_info(self) -> list[Any]:
        return []

    def wallet_count(self) -> int:
        return 0

    def room(self) -> int:
        return limits.CONNECTIONS

    def subscription_count(self) -> int:
        return 0


class Client:
    """A wallet's connection that keeps what it is told, as messages."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def send(self, message: Any) -> None:
        self.send_payload(codec.encode(message))

    def send_payload(self, payload: bytes) -> None:
        self.told.append(codec.decode(payload))

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return told

    def notified(self) -> list[tuple[str, str]]:
        """(outpoint, new state's name) of every notification, taken."""
        return [
            (str(each.notification.outpoint), state_name(each.notification.new_state))
            for each in self.take()
            if isinstance(each, messages.UTXOStateNotification)
        ]


def state_name(state: Any) -> str:
    return state if isinstance(state, str) else type(state._given()[0]).__name__


class AtOnce(Pace):
    """No pace: every input is stepped as it comes."""

    def __init__(self) -> None:
        super().__init__(Clock(), lambda: None)

    def gather(self, then: Callable[[], None]) -> None:
        then()


class Node:
    """``hold()`` keeps commits from returning until ``release()``."""

    def __init__(self, wallets: int = 3, coins: int = 4, *, masternodes: int = 1) -> None:
        """Of several ``masternodes`` this is the first, and the others are silent: nothing becomes final."""
        self.wallets = [key(1_000 + number) for number in range(wallets)]
        self.genesis = make_genesis(masternodes, self.wallets, coins)
        self.clock = Clock()
        self.fatal: list[Exception] = []
        self._now = 1_000
        self.timers = Timers(self.clock)
        self.begin()

    def begin(self, log_start: int = 0) -> None:
        """From an empty data directory, also where there was another one before: it is lost."""
        self.store = MemoryStore()
        founding = found(self.store, self.genesis, log_start)
        assert founding is not None
        self.store.commit(founding)
        self.start()

    def start(self) -> None:
        """From the store, as after a power cut: what was on its way to the disk is lost, and so is every connection."""
        self.timers.stop()
        self._held: list[Callable[[], None]] | None = None
        self.replica = Replica(self.store, self.genesis, key(1))
        self.integration = MasternodeUTXOIntegration(
            replica=self.replica,
            store=self.store,
            verifier=Verifier(self.genesis),
            offload=maybeDeferred,
            offload_commits=self._commit,
            pace=AtOnce(),
            timers=self.timers,
            now=self._tick,
            fatal=self.fatal.append,
        )
        self.handler = UTXOProtocolHandler(self.clock)
        self.integration.initialize(peers=NoPeers(), wallets=self.handler)
        self.view = self._view(1)
        self.handler.setup_notification_handler(self.view)

    def _view(self, number: int) -> ReplicaView:
        return ReplicaView(
            replica=self.replica,
            ledger=self.store,
            integration=self.integration,
            genesis=self.genesis,
            node_key=key(number).public_hex,
            surroundings=NoPeers(),
            uptime=lambda: 1.0,
        )

    def handler_of(self, number: int) -> UTXOProtocolHandler:
        """What masternode ``number`` would answer that knows all that this one does; it tells of nothing new."""
        handler = UTXOProtocolHandler(self.clock)
        handler.setup_notification_handler(self._view(number))
        return handler

    def _tick(self) -> int:
        self._now += 1
        return self._now

    def _commit(self, work: Any, *arguments: Any) -> Deferred[Any]:
        if self._held is None:
            return maybeDeferred(work, *arguments)
        done: Deferred[Any] = Deferred()

        def run() -> None:
            maybeDeferred(work, *arguments).chainDeferred(done)

        self._held.append(run)
        return done

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for each in held:
            each()

    def make_block(self) -> int:
        """Lets the interval pass; returns the new height. A quorum of one agrees with itself."""
        self._now += self.genesis.block_interval * 1000
        self.integration.tick()
        self.clock.advance(self.genesis.block_interval)
        return self.replica.height

    def ask(self, client: Client, message: Any) -> Any:
        """What one request is answered with, once; notifications are kept."""
        before = len(client.told)
        self.handler.handle_message(client, message)
        answers = [each for each in client.told[before:] if not isinstance(each, messages.UTXOStateNotification)]
        for answer in answers:
            client.told.remove(answer)
        assert len(answers) == 1, answers
        return answers[0]
