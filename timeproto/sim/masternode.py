"""One masternode's process: the shell around a real replica, with nothing of Twisted and every way to die.

It does what ``masternode.integration`` does: inbox, verify, step, commit, release, one step at a time, nothing leaves
before its commit is durable. While a commit is on the disk the next inputs gather.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import Any, Protocol

import attrs

from timeproto import limits
from timeproto.consensus.effects import Effects, Heard, Input, LinkDown, LinkUp, Submit, Tick, Wake
from timeproto.consensus.replica import Replica
from timeproto.consensus.verifier import NONE_KNOWN, Known, Verifier
from timeproto.errors import Refusal
from timeproto.model.ledger import Changes
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.sim.disk import Disk
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.network import Network, Parcel
from timeproto.sim.scene import Scene
from timeproto.sim.signatures import Signer
from timeproto.wire import messages

EPOCH = 1_700_000_000_000
"""Unix milliseconds at the beginning of every run."""


class Moment(Enum):
    """Where in the way of a change set a masternode can die."""

    BEFORE_COMMIT = auto()
    AFTER_COMMIT = auto()
    AFTER_SEND = auto()


@attrs.define
class Fuse:
    """Dies at the ``left``-th commit from now on, at that moment."""

    left: int
    moment: Moment


@attrs.define
class Clock:
    """A wall clock: ``offset`` in ms, ``drift`` in microseconds a second."""

    offset: int = 0
    drift: int = 0

    def read(self, now: int) -> int:
        """Unix milliseconds at the virtual time ``now``."""
        return EPOCH + self.offset + now * (SECOND + self.drift) // SECOND // MILLISECOND


class Watch(Protocol):
    """Who is shown everything that a masternode does (sim.checkers)."""

    def started(self, node: Masternode) -> None: ...

    def committed(self, node: Masternode, changes: Changes) -> None: ...

    def released(self, node: Masternode, effects: Effects) -> None: ...

    def sent(self, node: Masternode, message: Any) -> None: ...

    def settled(self, node: Masternode, batch: VoteBatch) -> None: ...

    def shown(self, node: Masternode, message: messages.Transactions) -> None: ...

    def answered(self, node: Masternode, ticket: Any, answer: Any) -> None: ...

    def died(self, node: Masternode, effects: Effects | None, moment: Moment | None) -> None: ...

    def failed(self, node: Masternode, error: Exception) -> None: ...


class Masternode:
    """``name`` is the masternode's key in hex, ``number`` its place in the set; ``life`` counts starts and deaths,
    ``latest`` is the latest time that it ever read off its clock. A turn's checks and decisions take up to ``thought``
    microseconds, and what comes meanwhile belongs to the turn."""

    def __init__(
        self, number: int, signer: Signer, disk: Disk, scene: Scene, *, chance: random.Random, watch: Watch
    ) -> None:
        self.number = number
        self.name = signer.public_hex
        self.disk = disk
        self.clock = Clock()
        self.alive = False
        self.paused = False
        self.expelled = False
        self.busy = False
        self.life = 0
        self.latest = EPOCH
        self.fuse: Fuse | None = None
        self.thought = 8 * MILLISECOND
        self.peers: dict[int, str] = {}
        self.links: dict[str, int] = {}
        self.network: Network
        self.replica: Replica
        self.verifier: Verifier
        self._signer = signer
        self._genesis, self._events = scene.genesis, scene.events
        self._chance = chance
        self._watch = watch
        self._inbox: list[tuple[Input, Known]] = []
        self._tick_due = False
        self._pending: Effects | None = None
        self._last_read = 0

    @property
    def store(self) -> Any:
        """What is durable."""
        return self.disk.store

    @property
    def is_committing(self) -> bool:
        """True while the replica is ahead of its disk."""
        return self._pending is not None

    # -- life and death ------------------------------------------------------------------------------

    def start(self, *, at_once: bool = False) -> None:
        """``at_once``: with its links up from the first moment."""
        self.life += 1
        self.alive, self.busy, self.paused = True, False, False
        self._inbox, self._tick_due, self._pending, self.links = [], False, None, {}
        self._last_read = 0
        self.replica = self.make_replica()
        self.verifier = Verifier(self._genesis)
        self._events.after(self._chance.randint(1, int(limits.TICK * SECOND)), self._tick, self.life)
        self._watch.started(self)
        self.network.node_up(self.number, at_once=at_once)

    def make_replica(self) -> Replica:
        return Replica(self.disk.store, self._genesis, self._signer)

    def kill(self, *, noticed: bool = True, moment: Moment | None = None) -> None:
        """kill -9. A commit on its way to the disk got there, or did not: ``moment`` says, or chance does."""
        if not self.alive:
            return
        pending, self._pending = self._pending, None
        if pending is not None and moment is None:
            moment = Moment.AFTER_COMMIT if self._chance.random() < 0.5 else Moment.BEFORE_COMMIT
            if moment is Moment.AFTER_COMMIT and pending.changes is not None:
                self._keep(pending.changes)
        self.alive = False
        self.life += 1
        self.fuse = None
        self._watch.died(self, pending, moment)
        self.network.node_down(self.number, noticed=noticed)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def go_on(self) -> None:
        """SIGCONT: what came meanwhile is read now, timers that ran out run out once."""
        self.paused = False
        self._advance()

    # -- what comes in -------------------------------------------------------------------------------

    def hear(self, parcel: Parcel, sender: int) -> None:
        name = self.peers[sender]
        if name not in self.links:
            return
        try:
            message = parcel.message
        except Refusal:
            self.network.sever(self.network.wires[sender, self.number].link)
            return
        if isinstance(message, VoteBatch):
            if self.replica.is_settled(message):
                self._watch.settled(self, message)
                return
        elif isinstance(message, messages.Transactions):
            self._watch.shown(self, message)
        message = self.replica.news(message)
        self._post(Heard(message, name), self._known_in(message))

    def submit(self, tx: Transaction, ticket: Any) -> None:
        self._post(Submit(tx, ticket), self._known([tx]))

    def post(self, entry: Input) -> None:
        """An input that carries no transaction."""
        self._post(entry, NONE_KNOWN)

    def link_up(self, peer: int) -> None:
        self.links[self.peers[peer]] = peer
        self.post(LinkUp(self.peers[peer]))

    def link_down(self, peer: int) -> None:
        if self.links.pop(self.peers[peer], None) is not None:
            self.post(LinkDown(self.peers[peer]))

    def _post(self, entry: Input, known: Known) -> None:
        self._inbox.append((entry, known))
        self._advance()

    def _known_in(self, message: Any) -> Known:
        match message:
            case messages.TransactionBroadcast():
                return self._known([message.tx])
            case messages.Transactions():
                return self._known(message.transactions)
        return NONE_KNOWN

    def _known(self, transactions: Any) -> Known:
        held = ((tx.txid, self.replica.transaction(tx.txid)) for tx in transactions)
        return {txid: tx for txid, tx in held if tx is not None}

    def _tick(self, life: int) -> None:
        if life == self.life:
            self._tick_due = True
            self._events.after(int(limits.TICK * SECOND), self._tick, life)
            self._advance()

    def _wake(self, life: int, wake: Wake) -> None:
        if life == self.life:
            self.post(wake)

    def now(self) -> int:
        """This node's time, which never goes back within one life."""
        self._last_read = max(self._last_read, self.clock.read(self._events.now))
        self.latest = max(self.latest, self._last_read)
        return self._last_read

    # -- verify, step, commit, release ---------------------------------------------------------------

    def _advance(self) -> None:
        """Begins a turn unless one is under way: what comes while it is thought about belongs to it."""
        if not self.busy and self.alive and not self.paused and (self._inbox or self._tick_due):
            self.busy = True
            self._events.after(100 + int(self._chance.random() * self.thought), self._turn, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life:
            return
        self.busy = False
        if self.paused:
            return
        taken, self._inbox = self._inbox[: limits.STEP_INPUTS], self._inbox[limits.STEP_INPUTS :]
        effects = self._decide(taken)
        if effects is None:
            return
        if effects.changes is None:
            self._release(effects)
            self._advance()
        else:
            self._write(effects, effects.changes)

    def _write(self, effects: Effects, changes: Changes) -> None:
        """Begins the commit; nothing of the step leaves before it has returned."""
        self.busy = True
        self._pending = effects
        self._events.after(self.disk.latency(), self._committed, self.life, effects, changes)

    def _decide(self, taken: list[tuple[Input, Known]]) -> Effects | None:
        try:
            verified = self.verifier.check(taken)
            for fault in verified.faults:
                raise fault
            inputs = verified.inputs
            if self._tick_due:
                inputs.append(Tick())
                self._tick_due = False
            effects = self.replica.step(inputs, self.now())
        except Exception as error:
            self._watch.failed(self, error)
            return None
        for ticket, refusal in verified.refused:
            self._watch.answered(self, ticket, refusal)
        effects.blame += verified.blame
        return effects

    def _keep(self, changes: Changes) -> None:
        self.disk.commit(changes)
        self._watch.committed(self, changes)

    def _committed(self, life: int, effects: Effects, changes: Changes) -> None:
        if life != self.life:
            return
        fuse = self.fuse
        if fuse is not None:
            fuse.left -= 1
        burnt = fuse is not None and fuse.left <= 0
        if burnt and fuse is not None and fuse.moment is Moment.BEFORE_COMMIT:
            self.kill(moment=fuse.moment)
            return
        self._keep(changes)
        if burnt and fuse is not None and fuse.moment is Moment.AFTER_COMMIT:
            self.kill(moment=fuse.moment)
            return
        self._pending = None
        self._release(effects)
        if burnt:
            self.kill(moment=Moment.AFTER_SEND)
            return
        self.busy = False
        self._advance()

    def _release(self, effects: Effects) -> None:
        """What was decided is durable: let it out."""
        self._watch.released(self, effects)
        if effects.identity_conflict is not None:
            self.expelled = True  # the process ends with a status that no supervisor restarts
            self.kill()
            return
        for key, message in effects.send:
            if key is None:
                self._send(message, list(self.links.values()))
        for key, message in effects.send:
            if key is not None and key in self.links:
                self._send(message, [self.links[key]])
        for ticket, answer in effects.replies:
            self._watch.answered(self, ticket, answer)
        for delay, wake in effects.timers:
            self._set_timer(delay, wake)

    def _set_timer(self, delay: int, wake: Wake) -> None:
        """In so many milliseconds of a time that nobody sets."""
        self._events.after(delay * MILLISECOND, self._wake, self.life, wake)

    def _send(self, message: Any, receivers: list[int]) -> None:
        self._watch.sent(self, message)
        if receivers:
            parcel = self.network.office.parcel(message)
            for receiver in receivers:
                self.network.post(self.number, receiver, parcel)
