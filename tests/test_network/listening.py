"""A masternode among others, with wallets at it: real replicas and real blocks under a wallets' handler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from tests.alone_node import NoPeers
from tests.cluster import Cluster, address
from tests.cluster import Node as Replicating
from tests.test_network.test_cursors import Reader
from timeproto.consensus.effects import Effects, Heard, Input
from timeproto.masternode.view import ReplicaView
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import codec, messages
from timeproto.wire.messages import TransactionStatus, UTXOSubscribe


class AtOnce:
    """An integration as far as wallets that only listen need it: every moment is a boundary."""

    def read(self, question: Callable[[], Any]) -> Deferred[Any]:
        return execute(question)

    def get_utxo_stats(self) -> dict[str, Any]:
        figures = dict.fromkeys(("in_flight", "waiting", "final", "evidence"), 0)
        return {"states": {}, "voting": True, "not_voting": None, "synced": True, **figures}


class Listening(Cluster):
    """Everything that node 0 commits is told to ``handler``, and what others do to their own in ``handlers``."""

    def __init__(self, n: int = 4, seed: int = 1, **more: Any) -> None:
        self.handlers: dict[int, UTXOProtocolHandler | None] = {}
        super().__init__(n, seed, **more)
        self.settle(3)
        self.clock = Clock()
        self.serve()

    def serve(self) -> None:
        """As after a restart: nobody is connected."""
        self.integration = AtOnce()
        self.handler = UTXOProtocolHandler(self.clock)
        self.view = self.view_of(0)
        self.handler.setup_notification_handler(self.view)

    def view_of(self, number: int) -> ReplicaView:
        node = self.nodes[number]
        return ReplicaView(
            replica=node.replica, ledger=node.store, integration=self.integration,  # type: ignore[arg-type]
            genesis=self.genesis, node_key=node.key, surroundings=NoPeers(), uptime=lambda: 1.0,
        )  # fmt: skip

    def act(self, node: Replicating, inputs: list[Input]) -> Effects:
        effects = super().act(node, inputs)
        told = [handler for number, handler in self.handlers.items() if self.nodes[number] is node]
        for handler in filter(None, told):
            changes = effects.changes
            if changes is not None:
                found = {txid: changes.transactions[txid].kept for txid in changes.finalized}
                proofs = {txid: proof for txid, proof in found.items() if proof is not None}
                handler.broadcast_state_notification(changes.transitions, proofs, tuple(effects.blocks.values()))
            if effects.seen:
                handler.broadcast_seen(effects.seen)
        return effects

    @property
    def handler(self) -> UTXOProtocolHandler | None:
        return self.handlers.get(0)

    @handler.setter
    def handler(self, handler: UTXOProtocolHandler | None) -> None:
        self.handlers[0] = handler

    def ask(self, message: Any, reader: Reader) -> Any:
        """The answer, taken."""
        assert self.handler is not None
        before = len(reader.told)
        self.handler.handle_message(reader, message)
        return reader.told.pop(before)

    def listener(self, *wallets: int, statuses: bool = True, **more: Any) -> Reader:
        """A connection that watches the addresses of ``wallets``."""
        reader = more.pop("reader", None) or Reader()
        addresses = tuple(self.address_of(number) for number in wallets)
        request = UTXOSubscribe(id=1, subscriber_id="s", addresses=addresses, statuses=statuses, **more)
        answer = self.ask(request, reader)
        assert isinstance(answer, messages.UTXOSubscribed), answer
        return reader

    def address_of(self, wallet: int) -> str:
        return address(self.wallets[wallet])

    def alone(self, tx: Transaction) -> None:
        """Node 0 learns of a payment and of no vote for it."""
        self.partition([0], [1, 2, 3])
        self.submit(tx, 0)
        self.run()

    def lock_votes(self, tx: Transaction, *others: int) -> None:
        """Node 0 hears that ``others`` lock for it; everything else that is said meanwhile is lost."""
        self.heal()
        self.wire.clear()
        for number in others:
            self.submit(tx, number)
        said = [(codec.decode(payload), sender) for sender, to, payload in self.wire if to == self.nodes[0].key]
        self.act(self.nodes[0], [Heard(message, sender) for message, sender in said if isinstance(message, VoteBatch)])
        self.wire.clear()


def statuses(reader: Reader) -> list[TransactionStatus]:
    return [each for each in reader.told if isinstance(each, TransactionStatus)]


def said(reader: Reader) -> list[str]:
    """The statuses told, in order."""
    return [each.status for each in statuses(reader)]
