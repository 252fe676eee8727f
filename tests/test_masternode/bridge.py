"""A bridge between ends that remember, whose threads do their work when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import AtOnce
from tests.test_consensus.alone import Alone
from timeproto.consensus.verifier import Verifier
from timeproto.errors import Refusal
from timeproto.masternode.integration import MasternodeUTXOIntegration
from timeproto.masternode.pace import Pace
from timeproto.masternode.timers import Timers
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch


class Hold:
    """An offload whose jobs run when the test says so; ``open`` runs them at once."""

    def __init__(self) -> None:
        self.open = True
        self.jobs: list[tuple[Callable[..., Any], tuple[Any, ...], Deferred[Any]]] = []

    def __call__(self, work: Callable[..., Any], *given: Any) -> Deferred[Any]:
        if self.open:
            try:
                return succeed(work(*given))
            except Exception:
                failed: Deferred[Any] = Deferred()
                failed.errback(Failure())
                return failed
        done: Deferred[Any] = Deferred()
        self.jobs.append((work, given, done))
        return done

    def let_go(self, error: Exception | None = None) -> None:
        """Does the oldest job, or makes it fail."""
        work, given, done = self.jobs.pop(0)
        if error is not None:
            done.errback(error)
        else:
            done.callback(work(*given))


class World:
    """Both ends of the bridge: what reached the peers and the wallets, in one order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def send(self, key: str, message: Any) -> None:
        self.events.append(("send", message))

    def broadcast(self, batch: Any) -> None:
        self.events += [("broadcast", message) for message in batch]

    def send_utxo_notification_to_peer(self, key: str, notification: Any) -> None:
        self.events.append(("hint", notification))

    def penalize(self, key: str, refusal: Refusal) -> None:
        self.events.append(("penalty", refusal))

    def broadcast_state_notification(self, transitions: Any, proofs: Any, blocks: Any = ()) -> None:
        self.events += [("told", (transition, proofs.get(transition.txid))) for transition in transitions]

    def broadcast_seen(self, transactions: Any) -> None:
        self.events += [("seen", tx) for tx in transactions]

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def votes(self) -> list[VoteBatch]:
        return [message for _, message in self.events if isinstance(message, VoteBatch)]

    def told(self) -> list[Transition]:
        return [value[0] for name, value in self.events if name == "told"]


class Bridge(SynchronousTestCase):
    masternodes = 4

    def setUp(self) -> None:
        self.alone = Alone(self.masternodes, coins=10)  # lends its keys, coins and store
        self.build(self.alone.replica)

    def build(self, replica: Any, pace: Pace | None = None, **more: Any) -> None:
        self.world, self.verifying, self.storing = World(), Hold(), Hold()
        self.fatal: list[Exception] = []
        self.now = 1_000
        self.bridge = MasternodeUTXOIntegration(
            replica=replica,
            store=self.alone.store,
            verifier=Verifier(self.alone.genesis),
            offload=self.verifying,
            offload_commits=self.storing,
            pace=pace or AtOnce(),
            timers=Timers(Clock()),
            now=lambda: self.now,
            fatal=self.fatal.append,
            **more,
        )
        self.bridge.initialize(peers=self.world, wallets=self.world)
        for name in ("process_transaction", "read"):
            setattr(self.bridge, name, self.heeded(getattr(self.bridge, name)))

    def heeded(self, ask: Callable[..., Deferred[Any]]) -> Callable[..., Deferred[Any]]:
        """``ask``, whose refusals nobody looks at are no errors of the test."""

        def asking(*given: Any) -> Deferred[Any]:
            answer = ask(*given)
            self.addCleanup(answer.addErrback, lambda _: None)
            return answer

        return asking

    def payment(self, number: int = 0, **more: Any) -> Transaction:
        return self.alone.pay(self.alone.coins()[number : number + 1], **more)

    def hear(self, message: Any, peer: int = 1) -> None:
        self.bridge.handle_network_message(message, self.alone.keys[peer].public_hex)

    def code(self, answer: Deferred[Any]) -> str:
        return str(self.failureResultOf(answer, Refusal).value.code)
