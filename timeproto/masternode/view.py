"""What the node shows to wallets and in windows: readings of the replica and the store, made between two commits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set
from importlib.metadata import version
from itertools import islice
from typing import Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred

from timeproto import limits
from timeproto.consensus.payments import JUDGED, Standing
from timeproto.consensus.replica import Replica
from timeproto.masternode.integration import MasternodeUTXOIntegration
from timeproto.masternode.trace import Tracer
from timeproto.model.block import DecidedBlock, InclusionProof, inclusion_proof
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, ChainTip, Coin, Evidence, Ledger, Transition
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import Confirmed, Locked, SpentFinalized, SpentPending, holder
from timeproto.model.vote import VoteKind
from timeproto.network import costs
from timeproto.network.node_view import Undecided
from timeproto.params import PROTOCOL_VERSION
from timeproto.web.view import Figures, VotesSeen
from timeproto.wire import messages

T = TypeVar("T")

BLOCKS_AT_HAND = 4
"""Decided blocks that are kept for those who ask for a place in one: to read one and make its tree takes a while."""

GLANCE = 0.25
"""Seconds for which the digest and the number of wallets are told again before they are made anew."""

SOFTWARE = f"timeproto/{version('timeproto')}"


class Surroundings(Protocol):
    """What the view asks of the network."""

    def peers_info(self) -> list[messages.PeerInfo]: ...

    def wallet_count(self) -> int: ...

    def subscription_count(self) -> int: ...

    def room(self) -> int:
        """Connections that are served."""


class Wellbeing(Protocol):
    """What the view asks of the machine (masternode.condition)."""

    @property
    def is_disk_low(self) -> bool: ...

    def figures(self) -> Figures: ...


class ReplicaView:
    """Implements network.utxo_handler.NodeView and web.view.NodeView."""

    def __init__(
        self,
        *,
        replica: Replica,
        ledger: Ledger,
        integration: MasternodeUTXOIntegration,
        genesis: Genesis,
        node_key: str,
        surroundings: Surroundings,
        uptime: Callable[[], float],
        received: Mapping[str, int] | None = None,
        on_locked: Callable[[float], None] = lambda _: None,
        condition: Wellbeing | None = None,
    ) -> None:
        """``uptime`` gives seconds since the start; ``received`` counts messages by type and goes on; ``on_locked`` is
        told how many seconds a payment took from its arrival to its durable lock; ``condition``: how the machine is."""
        self.genesis = genesis
        self.node_key = node_key
        self._replica = replica
        self._ledger = ledger
        self._integration = integration
        self._surroundings = surroundings
        self._uptime = uptime
        self._received = {} if received is None else received
        self._on_locked = on_locked
        self._condition = condition
        self._glanced: tuple[float, str, int] | None = None
        self.work = 0
        self._blocks: dict[int, DecidedBlock] = {}
        self._tracer = Tracer(
            replica,
            ledger,
            genesis.masternode_set,
            info=self.transaction,
            block=self._recent_block,
            cursor=lambda: messages.Cursor(node_key, self.position()),
            links=self._links,
        )

    def read(self, question: Callable[[], T]) -> Deferred[T]:
        return self._integration.read(question)

    def submit(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]:
        began = self._uptime()

        def locked(reply: messages.TransactionAccepted) -> messages.TransactionAccepted:
            self._on_locked(self._uptime() - began)
            return reply

        return self._integration.process_transaction(tx).addCallback(locked)

    def position(self) -> int:
        return self._replica.manager.position

    def log_start(self) -> int:
        return self._replica.manager.log_start

    def coin(self, outpoint: Outpoint) -> Coin | None:
        return self._replica.manager.look_up(outpoint)

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        return self._ledger.address_coins(address, after, limit, spent=spent)

    def cancel(self, cancel: messages.TransactionCancel) -> Deferred[messages.CancelAccepted]:
        return self._integration.process_cancel(cancel)

    def evidence(self, since: int, limit: int) -> list[Evidence | BlockEvidence]:
        return self._ledger.evidence(limit, since)

    def transaction(self, txid: str) -> messages.TransactionInfo | None:
        """What is known of a transaction, with what proves it."""
        payment = self._replica.payments.get(txid)
        if payment is not None:
            return None if payment.tx is None else messages.TransactionInfo(tx=payment.tx, status="pending")
        record = self._ledger.transaction(txid)
        if record is None:
            return None
        info = messages.TransactionInfo(tx=record.tx, status=record.status, proof=record.proof)
        if record.height is not None:
            place = self._place(record.height, txid)
            return msgspec.structs.replace(info, height=record.height, inclusion=place)
        ending = self._ledger.ending(txid) if record.status == "aborted" else None
        if ending is None:
            return info
        rival = ending.by
        place = self._place(ending.height, None, txid) if rival is None else self._place(ending.height, rival)
        return msgspec.structs.replace(info, height=ending.height, inclusion=place, conflicting_txid=ending.by)

    def trace(self, txid: str) -> messages.Trace | None:
        """Where a transaction is, who voted and who is missing; None if nothing is known of it."""
        return self._tracer.trace(txid)

    def _links(self) -> frozenset[str]:
        """The masternodes that are connected, this one among them."""
        return frozenset(peer.node_key for peer in self._surroundings.peers_info() if peer.direction != "none")

    def _recent_block(self, height: int) -> DecidedBlock | None:
        decided = self._blocks.pop(height, None)
        if decided is None:
            decided = self._ledger.block(height)
            self.work += 0 if decided is None else costs.of_block(decided.block)
        if decided is not None:
            self._blocks[height] = decided
            if len(self._blocks) > BLOCKS_AT_HAND:
                del self._blocks[next(iter(self._blocks))]
        return decided

    def _place(self, height: int, txid: str | None, verdict: str | None = None) -> InclusionProof | None:
        """The proof that a decided block contains a transaction, or the verdict on one."""
        decided = self._recent_block(height)
        if decided is None:
            return None
        block = decided.block
        index = block.index(txid) if txid is not None else block.verdict_index(verdict or "")
        return inclusion_proof(decided, index)

    # -- for windows only ----------------------------------------------------------------------------

    def tip(self) -> ChainTip:
        return self._replica.tip

    def confirmed_height(self) -> int:
        return self._replica.confirmed_height

    def transitions(self, after: int, limit: int) -> list[Transition]:
        return self._ledger.transitions(after, limit)

    def block(self, height: int) -> DecidedBlock | None:
        return self._ledger.block(height)

    def votes(self, txid: str) -> VotesSeen | None:
        """The votes seen for an undecided transaction that is here; None for any other."""
        payment = self._replica.payments.get(txid)
        if payment is None or payment.tx is None:
            return None
        lock, commit, abort = (payment.votes.voters(kind) for kind in (VoteKind.LOCK, VoteKind.COMMIT, VoteKind.ABORT))
        rivals = [rival.txid for _, rival in self._replica.payments.rivals(payment)]
        return VotesSeen(lock, commit, abort, rivals)

    def contested(self, limit: int) -> list[str]:
        """In the order in which they were contested here."""
        return [payment.txid for payment in self._replica.payments.contested[:limit]]

    def figures(self) -> Figures:
        """What has passed through since the start."""
        counters = self._integration.counters
        passed = {
            "steps": counters.steps,
            "commits": counters.commits,
            "inputs": counters.inputs,
            "inputs_dropped": counters.dropped,
            "proven": counters.proven,
        }
        more = Figures() if self._condition is None else self._condition.figures()
        return Figures(more.gauges, {**passed, **more.counters}, dict(self._received))

    # -- subscriptions -------------------------------------------------------------------------------

    def add_subscription(self, subscriber: Hashable, items: Iterable[Outpoint | str]) -> None:
        self._replica.manager.add_subscription(subscriber, items)

    def remove_subscription(self, subscriber: Hashable) -> bool:
        return self._replica.manager.remove_subscription(subscriber)

    def notify_subscribers(
        self, transitions: Iterable[Transition]
    ) -> Iterator[tuple[Transition, list[Hashable]]]:
        return self._replica.manager.notify_subscribers(transitions)

    def watching(self, among: Set[Hashable], outpoint: Outpoint, output: TxOutput) -> set[Hashable]:
        return self._replica.manager.subscriptions.among(among, outpoint, output.address)

    # -- what is under way ---------------------------------------------------------------------------

    def newest_undecided(self, limit: int) -> Iterator[Transaction]:
        newest = islice(self._replica.payments.newest(), limit)
        return (each.tx for each in newest if each.tx is not None and each.standing in JUDGED)

    def undecided(self, txid: str) -> Undecided | None:
        payment = self._replica.payments.get(txid)
        if payment is None or payment.tx is None or payment.standing not in JUDGED:
            return None
        rival = next((rival.txid for _, rival in self._replica.payments.rivals(payment)), None)
        if payment.standing is Standing.LOCKED:
            state = self._replica.manager.get_state(payment.tx.outpoints[0])
            if isinstance(state, SpentPending):
                return Undecided(payment.tx, "pending", state.spent_at, rival)
            return Undecided(payment.tx, "locked", state.locked_at if isinstance(state, Locked) else None, rival)
        for outpoint in payment.tx.outpoints:
            state = self._replica.manager.get_state(outpoint)
            if isinstance(state, SpentFinalized | Confirmed):
                return Undecided(payment.tx, "refused", None, state.txid)
            rival = (None if state is None else holder(state)) or rival
        return Undecided(payment.tx, "seen", None, rival)

    def _glance(self) -> tuple[str, int]:
        """The digest and the number of wallets, at most ``GLANCE`` old: the one goes over every undecided coin, the
        other over every connection, and anybody may ask."""
        now = self._uptime()
        if self._glanced is None or now - self._glanced[0] >= GLANCE:
            self._glanced = now, self._replica.state_digest(), self._surroundings.wallet_count()
        return self._glanced[1:]

    def info(self) -> messages.Info:
        """How this node is, in one message."""
        stats = self._integration.get_utxo_stats()
        peers = self._surroundings.peers_info()
        masternodes = self.genesis.masternode_set
        connected = 1 + sum(1 for peer in peers if peer.direction in ("inbound", "outbound"))
        wrong: dict[messages.Trouble, bool] = {
            "quorum": connected < masternodes.quorum,
            "voting": not stats["voting"],
            "synced": not stats["synced"],
            "disk": self._condition is not None and self._condition.is_disk_low,
        }
        digest, wallets = self._glance()
        return messages.Info(
            software=SOFTWARE,
            version=PROTOCOL_VERSION,
            network=self.genesis.network,
            genesis=self.genesis.hash,
            node_key=self.node_key,
            cursor=messages.Cursor(self.node_key, self.position()),
            masternodes=len(masternodes),
            quorum=masternodes.quorum,
            connected=connected,
            degraded=tuple(name for name, is_so in wrong.items() if is_so),
            voting=stats["voting"],
            not_voting=stats["not_voting"],
            synced=stats["synced"],
            height=self._replica.height,
            tip=self._replica.tip.hash,
            commitment=self._replica.commitment,
            block_time=self._replica.tip.timestamp,
            unconfirmed=self._replica.unconfirmed,
            contested=self._replica.contested,
            digest=digest,
            states={
                name: messages.StateCount(tally.coins, str(tally.amount))
                for name, tally in stats["states"].items()
            },
            in_flight=stats["in_flight"],
            waiting=stats["waiting"],
            final=stats["final"],
            evidence=stats["evidence"],
            wallets=wallets,
            subscriptions=self._surroundings.subscription_count(),
            uptime_ms=int(self._uptime() * 1000),
            peers=tuple(peers),
            limits=limits.published(self._surroundings.room()),
        )
