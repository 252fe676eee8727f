"""The one bridge between the network and the replica: inbox → verify → step → commit → release.

Where a decision becomes durable: :meth:`MasternodeUTXOIntegration._advance` steps the replica, commits what it
decided, in a thread if it is much, and only then releases what follows: votes to the peers, answers and notifications
to the wallets. While one commit is on its way to the disk the next batch gathers, and longer on a busy machine
(masternode.pace), so batches grow with the load by themselves.

Everything that reads (queries, subscriptions) runs at the boundary between two commits. There the replica's memory
and the disk are the same, so nobody is ever shown what a power cut could take back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.consensus.effects import Cancel, Effects, Heard, Input, LinkDown, LinkUp, Submit, Tick
from timeproto.consensus.refusals import busy, not_voting
from timeproto.consensus.replica import Replica
from timeproto.consensus.verifier import NONE_KNOWN, Known, Verified, Verifier
from timeproto.errors import ConfigurationError, ErrorCode, IdentityConflict, Refusal, StorageError
from timeproto.masternode.ends import Peers, Wallets
from timeproto.masternode.inbox import Counters, Inbox, Ready
from timeproto.masternode.pace import Pace
from timeproto.masternode.reads import Reads
from timeproto.masternode.timers import Timers
from timeproto.model.block import DecidedBlock
from timeproto.model.ledger import Changes, Store
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages

T = TypeVar("T")

Offload = Callable[..., "Deferred[Any]"]
"""Runs ``f(*args)`` where it may block (a thread in the node, at once in tests)."""


class MasternodeUTXOIntegration:
    """Feeds one :class:`Replica` and releases its effects in order. The reactor never waits in here."""

    log = Logger()

    def __init__(
        self,
        *,
        replica: Replica,
        store: Store,
        verifier: Verifier,
        offload: Offload,
        at_once: Offload | None = None,
        offload_commits: Offload | None = None,
        commit_at_once: Offload | None = None,
        pace: Pace,
        timers: Timers,
        now: Callable[[], int],
        fatal: Callable[[BaseException], None],
    ) -> None:
        """``at_once`` and ``commit_at_once`` do what is too small for ``offload`` and ``offload_commits``; ``pace``
        says when; ``now`` gives Unix ms; ``fatal`` is told of what this node cannot live with, once."""
        self.replica = replica
        self.counters = Counters()
        self._store = store
        self._verifier = verifier
        self._offload = offload
        self._at_once = at_once or offload
        self._offload_commits = offload_commits or offload
        self._commit_at_once = commit_at_once or self._offload_commits
        self._pace = pace
        self._timers = timers
        self._now = now
        self._fatal = fatal
        self._peers: Peers | None = None
        self._wallets: Wallets | None = None
        self._inbox = Inbox()
        self._ready = Ready()
        self._tick_due = False
        self._reads = Reads(timers, lambda: not self._busy, self._advance)
        self._tickets: dict[Deferred[Any], None] = {}
        self._gathering = False
        self._verifying = False
        self._busy = self._advancing = False
        self._broken: BaseException | None = None
        self._ahead_of_disk = False
        self._idle: list[Deferred[None]] = []

    def initialize(self, *, peers: Peers, wallets: Wallets) -> None:
        """Connects the two ends. Nothing is accepted before; a missing one is a :class:`ConfigurationError`."""
        for name, end, needed in (
            ("peers", peers, ("send", "broadcast", "send_utxo_notification_to_peer", "penalize")),
            ("wallets", wallets, ("broadcast_state_notification", "broadcast_seen")),
        ):
            missing = [method for method in needed if not callable(getattr(end, method, None))]
            if missing:
                raise ConfigurationError(f"the node is miswired: its {name} cannot {', '.join(missing)}")
        self._peers, self._wallets = peers, wallets

    # -- what comes in -------------------------------------------------------------------------------

    def handle_network_message(self, message: messages.AnyMessage, sender: str) -> None:
        """A message of the masternode ``sender``, whose identity is proven; what it says is not, yet."""
        if isinstance(message, VoteBatch) and self.replica.is_settled(message):
            return  # of n votes the last n - q come when all is decided: not one of them is worth a signature check
        message = self.replica.news(message)
        self._post(Heard(message, sender), self._known_in(message))

    def process_transaction(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]:
        """A wallet's transaction. Fires when its coins are locked, durably; fails with :class:`Refusal`."""
        return self._ask(partial(Submit, tx), self._known([tx]))

    def process_cancel(self, cancel: messages.TransactionCancel) -> Deferred[messages.CancelAccepted]:
        """An owner's wish. Fires when the transaction is contested here; fails with :class:`Refusal`."""
        return self._ask(partial(Cancel, cancel), NONE_KNOWN)

    def _ask(self, make: Callable[[Deferred[Any]], Input], known: Known) -> Deferred[Any]:
        """An input that is answered: with the reply, or with the :class:`Refusal` it fails with."""
        if self._broken is not None:
            return fail(self._not_voting())
        if self._inbox.is_full:
            return fail(_too_much())
        ticket: Deferred[Any] = Deferred()
        self._tickets[ticket] = None

        def answered(answer: T) -> T:
            self._tickets.pop(ticket, None)
            return answer

        ticket.addBoth(answered)
        self._post(make(ticket), known)
        return ticket

    def link_up(self, key: str) -> None:
        self._post(LinkUp(key))

    def link_down(self, key: str) -> None:
        self._post(LinkDown(key))

    def tick(self) -> None:
        """Called every ``limits.TICK`` seconds. After a stall one tick follows, not all that were missed."""
        self._require_wiring()
        self._tick_due = True
        self._advance()

    def read(self, question: Callable[[], T]) -> Deferred[T]:
        """Runs ``question`` at a boundary between commits: at once if none is under way and few are asked.

        Fails with ``going_away`` once a commit has failed: what is in memory may then never have been.
        """
        if self._ahead_of_disk:
            return fail(_going_away())
        if len(self._reads) >= limits.INBOX:
            return fail(_too_much())
        answer = self._reads.add(question)
        self._reads.ask()
        return answer

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing is being verified or committed, and nothing will be: the store may be closed."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._tell_idle()
        return idle

    def _require_wiring(self) -> None:
        if self._peers is None:
            raise ConfigurationError("the node is miswired: initialize() has not been called")

    def _post(self, entry: Input, known: Known = NONE_KNOWN) -> None:
        self._require_wiring()
        if self._broken is not None:
            return
        if isinstance(entry, Heard) and not self._inbox.has_room_for(entry.sender):
            self.counters.dropped += 1  # whatever it was, it is asked for again
            return
        self._inbox.append(entry, known)
        if not self._gathering:
            self._gathering = True
            self._pace.gather(self._gathered)
        self._verify()

    def _gathered(self) -> None:
        self._gathering = False
        self._verify()

    def _known_in(self, message: messages.AnyMessage) -> Known:
        match message:
            case messages.TransactionBroadcast():
                return self._known([message.tx])
            case messages.Transactions():
                return self._known(message.transactions)
        return NONE_KNOWN

    def _known(self, transactions: Iterable[Transaction]) -> Known:
        held = ((tx.txid, self.replica.transaction(tx.txid)) for tx in transactions)
        return {txid: tx for txid, tx in held if tx is not None}

    # -- verify, step, commit ------------------------------------------------------------------------

    def _verify(self) -> None:
        """Starts the verify stage unless it is at work, or a step's worth waits already: so the inbox is what fills."""
        if self._verifying or not self._inbox or self._ready.is_enough:
            return
        if self._gathering and not self._inbox.is_a_step:
            return
        self._verifying = True
        offload = self._at_once if self._inbox.is_small else self._offload
        checking = offload(self._verifier.check, self._inbox.take())
        checking.addCallback(self._verified).addErrback(self._verify_failed)

    def _verified(self, verified: Verified) -> None:
        self._verifying = False
        for ticket, refusal in verified.refused:
            self._reply(ticket, refusal)
        self._blame(verified.blame)
        for fault in verified.faults:
            self.log.failure("an input could not be verified", failure=Failure(fault))
        self._ready.append(verified.inputs, self._inbox.taken)
        self._verify()
        self._advance()

    def _advance(self) -> None:
        """Answers what wants to read, then steps and commits: one step under way at a time, from its first decision
        to the last word of its release."""
        if self._advancing:
            return  # what is done on the spot comes back here, and the loop below goes on with what it left
        self._advancing = True
        while not self._busy:
            self._reads.ask()
            if self._busy or self._broken is not None or not (self._ready or self._tick_due):
                break
            inputs = self._ready.take()
            if self._tick_due:
                inputs.append(Tick())
                self._tick_due = False
            self._busy = True
            self._step(inputs)
            self._verify()
        self._advancing = False
        self._tell_idle()

    def _step(self, inputs: list[Input]) -> None:
        self.counters.steps += 1
        self.counters.inputs += len(inputs)
        try:
            effects = self.replica.step(inputs, self._now())
            if effects.identity_conflict is not None:  # what was decided beside it may go against a forgotten vote:
                raise IdentityConflict(effects.identity_conflict)  # on the disk it would be served at the next start
            if effects.changes is None:
                self._release(effects)
                self._busy = False
                return
        except BaseException:  # a panic in a library is no Exception
            self._collapse(Failure())
            return
        self._commit(effects, effects.changes)

    def _commit(self, effects: Effects, changes: Changes) -> None:
        self.counters.commits += 1

        def committed(_: None) -> None:
            self._release(effects)
            self._busy = False
            self._advance()

        offload = self._commit_at_once if len(changes.transitions) <= limits.COMMIT_AT_ONCE else self._offload_commits
        offload(self._store.commit, changes).addCallback(committed).addErrback(self._collapse)

    # -- release -------------------------------------------------------------------------------------

    def _release(self, effects: Effects) -> None:
        """What was decided is durable: let it out, peers first, since they are waited for."""
        if self._peers is None or self._wallets is None:
            raise ConfigurationError("the node is miswired: initialize() has not been called")
        self._peers.broadcast([message for key, message in effects.send if key is None])
        for key, message in effects.send:
            if key is not None and isinstance(message, messages.UTXOStateNotification):
                self._peers.send_utxo_notification_to_peer(key, message)
            elif key is not None:
                self._peers.send(key, message)
        for ticket, answer in effects.replies:
            self._reply(ticket, answer)
        for milliseconds, wake in effects.timers:
            self._timers.start(milliseconds, partial(self._post, wake))
        self._blame(effects.blame)
        if effects.changes is not None:
            self.broadcast_state_change(effects.changes, tuple(effects.blocks.values()))
        if effects.seen:
            self._wallets.broadcast_seen(effects.seen)
        if effects.alarm is not None:
            self.log.critical("this node votes no more: {reason}", reason=effects.alarm)

    def _reply(self, ticket: Any, answer: Any) -> None:
        """Refusals take their turn with the questions: there may be a flood of them, and nothing follows from one."""
        if isinstance(answer, Refusal):
            self._reads.add(partial(_answer, ticket, answer))
        else:
            _answer(ticket, answer)

    def broadcast_state_change(self, changes: Changes, blocks: Sequence[DecidedBlock] = ()) -> None:
        """Tells the wallets every transition of a committed change set, with the proofs that came with it and the
        ``blocks`` by which it came about."""
        kept = ((txid, changes.transactions[txid].kept) for txid in changes.finalized)
        proofs = {txid: proof for txid, proof in kept if proof is not None}
        for txid in proofs:
            self.handle_instant_finality_achieved(txid)
        if self._wallets is not None:
            self._wallets.broadcast_state_notification(changes.transitions, proofs, blocks)

    def handle_instant_finality_achieved(self, txid: str) -> None:
        """``txid`` is proven final here, durably."""
        self.counters.proven += 1

    def get_utxo_stats(self) -> dict[str, Any]:
        """Counts and sums by state, and what is under way; call it inside :meth:`read`."""
        replica = self.replica
        return {
            "states": replica.manager.tallies,
            "in_flight": replica.payments.seen_count,
            "waiting": replica.payments.waiting,
            "final": replica.final_count,
            "evidence": replica.evidence_count,
            "voting": self._broken is None and replica.not_voting is None,
            "not_voting": str(self._broken) if self._broken is not None else replica.not_voting,
            "synced": replica.is_synced,
        }

    def _blame(self, blame: Iterable[tuple[str, Refusal]]) -> None:
        for key, refusal in blame:
            self.log.warn("masternode {key} misbehaved: {why}", key=key, why=refusal.message)
            if self._peers is not None:
                self._peers.penalize(key, refusal)

    # -- the end -------------------------------------------------------------------------------------

    def _verify_failed(self, failure: Failure) -> None:
        self._verifying = False
        self.give_up(self._reason(failure))

    def _collapse(self, failure: Failure) -> None:
        """A step or its commit failed: nothing more may leave, not even in an answer, since it may not be durable."""
        self._busy = False
        self._ahead_of_disk = True
        self._reads.refuse(_going_away())
        self.give_up(self._reason(failure))

    def _reason(self, failure: Failure) -> Exception:
        if isinstance(failure.value, StorageError | IdentityConflict):
            return failure.value
        self.log.failure("the node's own code failed", failure=failure)
        return StorageError(f"the node cannot go on: {failure.value}")

    def give_up(self, reason: BaseException) -> None:
        """Votes no more and takes nothing more; what is being committed is let through."""
        first, self._broken = self._broken is None, self._broken or reason
        self.replica.halt(str(reason))
        self._ready.clear()
        self._inbox.clear()
        for ticket in list(self._tickets):
            _answer(ticket, self._not_voting())
        if first:
            self._fatal(reason)
        self._tell_idle()

    def _not_voting(self) -> Refusal:
        return not_voting(str(self._broken))

    def _tell_idle(self) -> None:
        if not (self._verifying or self._busy) and (self._broken is not None or not (self._inbox or self._ready)):
            idle, self._idle = self._idle, []
            if idle and self._broken is None:  # timers run out, and links go, while it closes
                self._broken = StorageError("the store is closed")
            for waiting in idle:
                waiting.callback(None)


def _too_much() -> Refusal:
    return busy("too much is waiting here; try again", "inbox", limits.INBOX)


def _going_away() -> Refusal:
    return Refusal(ErrorCode.GOING_AWAY, "the node stops: what it decided last was not written down")


def _answer(ticket: Any, answer: Any) -> None:
    """Tickets are Deferreds of this module's making; a wallet that went away has cancelled its own."""
    if not ticket.called:
        if isinstance(answer, Refusal):
            ticket.errback(answer)
        else:
            ticket.callback(answer)
