"""The undecided transactions of one replica: what is known of each, and every bound on knowing too much.

A payment can be known by its votes before its transaction arrives, and wait for its parents after that; both
are normal, and both are bounded per source, so that nobody can push out what others need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import Enum, auto

import attrs
import msgspec

from timeproto import limits
from timeproto.consensus.effects import Ticket
from timeproto.consensus.retained import Retained
from timeproto.consensus.vote_set import VoteSet
from timeproto.errors import Refusal
from timeproto.model.certificate import FinalityProof
from timeproto.model.ledger import OwnVotes, Times
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.vote import VoteKind
from timeproto.wire.messages import Reason, TransactionCancel, reason_of

CONTEST_TICKS = math.ceil(limits.CONTEST_DELAY / limits.TICK) + 1
"""Ticks from contest to abort vote: ``limits.CONTEST_DELAY`` at least, wherever within a tick the contest began."""


class Standing(Enum):
    """How far this replica is with a payment."""

    UNSEEN = auto()
    """Votes or a proof are here, the transaction is not."""
    WAITING = auto()
    """An input does not exist here yet."""
    OPEN = auto()
    """Valid and its coins are free, but this replica does not vote (yet)."""
    LOCKED = auto()
    """This replica cast its lock vote."""
    RIVAL = auto()
    """Valid, but another transaction holds an input here."""


JUDGED = (Standing.OPEN, Standing.LOCKED, Standing.RIVAL)
"""Where the transaction is here, and valid against coins that exist."""

NO_VOTES, NO_TIMES = OwnVotes(), Times()


@attrs.define(eq=False)
class Payment:
    """One undecided transaction. ``born`` is the tick of its arrival, and before that of the first word of it;
    ``source`` is the masternode it came from, None for a wallet; one that is not here ``is_asked_for`` once.
    ``missing`` are the parents it waits for, ``contested`` is the tick since which it is. ``times`` tells how far it
    came, and when.
    """

    txid: str
    votes: VoteSet
    born: int
    source: str | None = None
    is_asked_for: bool = False
    tx: Transaction | None = None
    standing: Standing = Standing.UNSEEN
    own: OwnVotes = NO_VOTES
    cast_lock: bool = False
    cast_commit: bool = False
    cast_abort: bool = False
    contested: int | None = None
    cancel: TransactionCancel | None = None
    proof: FinalityProof | None = None
    tickets: list[Ticket] = attrs.field(factory=list)
    missing: dict[str, None] = attrs.field(factory=dict)
    early_voters: set[str] = attrs.field(factory=set)
    times: Times = NO_TIMES

    @property
    def size(self) -> int:
        """Bytes of the transaction, in its canonical encoding and its signatures; 0 while it is not here."""
        return 0 if self.tx is None else len(self.tx.canonical) + len(self.tx.signature)

    def note(self, **when: int) -> Times:
        """How far it came, and when (Unix ms)."""
        self.times = msgspec.structs.replace(self.times, **when)
        return self.times


class Payments:
    """All payments by txid, the coins they contend for, and who waits for whom."""

    def __init__(self, masternodes: MasternodeSet) -> None:
        self._masternodes = masternodes
        self._payments: dict[str, Payment] = {}
        self._contenders: dict[Outpoint, dict[str, None]] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._early: dict[str, dict[str, None]] = {}
        self._waiting: dict[str | None, dict[str, int]] = {}
        self._parked = self._parked_bytes = 0
        self._refused: dict[str, Reason] = {}
        self._contested: dict[str, None] = {}
        self._beaten: dict[str, dict[str, None]] = {}
        self._seen = self._seen_bytes = 0
        self._brought: dict[str, int] = {}
        self._brought_bytes = 0
        self._retained = Retained()

    def __len__(self) -> int:
        return len(self._payments)

    def __iter__(self) -> Iterator[Payment]:
        return iter(list(self._payments.values()))

    def get(self, txid: str) -> Payment | None:
        return self._payments.get(txid)

    def newest(self) -> Iterator[Payment]:
        """From the newest to the oldest; to be used up before anything changes."""
        return reversed(self._payments.values())

    @property
    def seen_count(self) -> int:
        """Payments whose transaction and parents are here. What votes alone announce takes nobody's room, and what
        waits for a parent has a bound of its own: liars cannot fill a node for wallets with children of nobody."""
        return self._seen - self._parked

    @property
    def seen_bytes(self) -> int:
        """Bytes of the same: a wallet's largest transaction takes a hundred times the memory of most."""
        return self._seen_bytes - self._parked_bytes

    def has_room_to_bring(self, size: int) -> str | None:
        """None, or which bound is full: wallets have brought so much that no other masternode is known to have room
        for, that as much of each other would fill one. If all were full, and each of something else, nothing could ever
        be final."""
        count, most = self.share
        if len(self._brought) >= count:
            return "brought"
        return "brought_bytes" if self._brought and self._brought_bytes + size > most else None

    @property
    def share(self) -> tuple[int, int]:
        """How many of those may be here, and of how many bytes in all."""
        members = len(self._masternodes)
        return max(1, limits.IN_FLIGHT_PEER // members), limits.IN_FLIGHT_PEER_BYTES // members

    def is_brought(self, payment: Payment) -> None:
        """A wallet brought it, perhaps before a restart, and this replica locked it."""
        self._is_shared(payment)  # one that is locked again is counted once
        self._brought[payment.txid] = payment.size
        self._brought_bytes += payment.size
        self.is_spoken_of(payment)

    def is_spoken_of(self, payment: Payment) -> None:
        """There is one vote more. What f + 1 others have locked, or aborted, is let in everywhere (Finality)."""
        if payment.txid in self._brought and payment.votes.holders > self._masternodes.faulty + 1:
            self._is_shared(payment)

    def _is_shared(self, payment: Payment) -> None:
        self._brought_bytes -= self._brought.pop(payment.txid, 0)

    @property
    def waiting(self) -> int:
        """Payments whose transaction or parents are not here."""
        return len(self._payments) - self.seen_count

    # -- coming and going ----------------------------------------------------------------------------

    def open(self, txid: str, tick: int) -> Payment:
        """A new payment known by its txid alone."""
        payment = Payment(txid, VoteSet(txid, self._masternodes), tick)
        self._payments[txid] = payment
        return payment

    def early_vote(self, payment: Payment, voter: str) -> Payment | None:
        """Note that ``voter`` spoke of a payment not seen yet; so does each voter who does, not the first alone.

        Past its bound the voter's oldest word is forgotten; returns the payment that nobody speaks of any more.
        """
        mine = self._early.setdefault(voter, {})
        mine[payment.txid] = None
        payment.early_voters.add(voter)
        if len(mine) <= limits.EARLY_VOTES:
            return None
        oldest = self._payments[next(iter(mine))]
        del mine[oldest.txid]
        oldest.early_voters.discard(voter)
        return None if oldest.early_voters else oldest

    def unsettled(self) -> list[list[str]]:
        """What is not here, by who spoke of it, and what waits for a parent, by who brought it: oldest first."""
        return [list(spoken) for spoken in self._early.values() if spoken] + list(map(list, self._waiting.values()))

    @property
    def retained(self) -> Retained:
        """The batches of others, as long as a vote in them counts."""
        return self._retained

    def forget_least(self, voter: str) -> None:
        """Keep no more of a voter's batches than there is room for."""
        for kept in self._retained.forget_least(voter):
            for kind, txid in kept.signed.votes():
                payment = self._payments.get(txid)
                if payment is not None:
                    payment.votes.remove(kind, kept)

    def seen(self, payment: Payment, tx: Transaction, source: str | None, tick: int, now: int | None = None) -> None:
        """The transaction arrived at ``now`` (Unix ms), from the masternode ``source`` or from a wallet."""
        payment.tx, payment.source, payment.born, payment.times = tx, source, tick, Times(now)
        self._seen += 1
        self._seen_bytes += payment.size
        self._forget_early(payment)

    def wait(self, payment: Payment, parents: Iterable[str]) -> list[Payment]:
        """Park a payment until ``parents`` are final; returns those of its source that this pushes out, by their number
        or their size."""
        assert payment.tx is not None
        self._unpark(payment)
        payment.standing = Standing.WAITING
        payment.missing = dict.fromkeys(parents)
        for parent in payment.missing:
            self._children.setdefault(parent, {})[payment.txid] = None
        queue = self._waiting.setdefault(payment.source, {})
        bound = limits.ORPHANS_WALLET if payment.source is None else limits.ORPHANS_PEER
        queue[payment.txid] = payment.size
        self._parked += 1
        self._parked_bytes += payment.size
        excess, count = sum(queue.values()) - limits.ORPHANS_BYTES, len(queue) - bound
        pushed_out = []
        for txid, size in queue.items():
            if excess <= 0 and count <= 0:
                break
            pushed_out.append(self._payments[txid])
            excess, count = excess - size, count - 1
        return pushed_out

    def contend(self, payment: Payment) -> None:
        """The transaction is valid: it wants its inputs."""
        assert payment.tx is not None
        self._unpark(payment)
        for outpoint in payment.tx.outpoints:
            self._contenders.setdefault(outpoint, {})[payment.txid] = None

    def crowded(self, tx: Transaction) -> bool:
        """True if a coin of ``tx`` is wanted by as many transactions as are kept."""
        return any(
            len(self._contenders.get(outpoint, ())) >= limits.RIVALS_PER_OUTPOINT for outpoint in tx.outpoints
        )

    def is_backed(self, payment: Payment, tx: Transaction) -> bool:
        """True if a masternode locked ``tx`` that locked no other transaction kept for its coins. An honest one has one
        at a time, so all of those are kept, and no coin keeps more than n beyond the bound."""
        rivals = {txid for outpoint in tx.outpoints for txid in self._contenders.get(outpoint, ())}
        others = {voter for txid in rivals for voter in self._payments[txid].votes.voters(VoteKind.LOCK)}
        return not others.issuperset(payment.votes.voters(VoteKind.LOCK))

    def decide(self, payment: Payment) -> tuple[list[Payment], list[Payment]]:
        """``payment`` became final: forget it and the contest for its coins.

        Returns the rivals it beat, and the payments that waited for its outputs and for nothing else.
        """
        assert payment.tx is not None
        rivals: dict[str, Payment] = {}
        for outpoint in payment.tx.outpoints:
            for txid in self._contenders.pop(outpoint, ()):
                if txid != payment.txid:
                    rivals[txid] = self._payments[txid]
        self.drop(payment)
        for rival in rivals:
            self._beaten.setdefault(payment.txid, {})[rival] = None
        return list(rivals.values()), self.arrived(payment.txid)

    def arrived(self, txid: str) -> list[Payment]:
        """The outputs of ``txid`` exist now: the payments that waited for them and for nothing else."""
        children = [self._payments[child] for child in self._children.pop(txid, ())]
        for child in children:
            del child.missing[txid]
        return [child for child in children if not child.missing]

    def waiting_for(self, txid: str) -> list[Payment]:
        """The payments that spend an output of ``txid``, which is not here."""
        return [self._payments[child] for child in self._children.get(txid, ())]

    def is_beaten_by(self, loser: str, winner: str) -> None:
        """``winner`` is final and spends a coin that ``loser`` wants: the block with the one ends the other."""
        self._beaten.setdefault(winner, {})[loser] = None

    def beaten_by(self, winner: str) -> list[str]:
        """Whom the block with ``winner``, which is final, will end."""
        return list(self._beaten.get(winner, ()))

    def take_beaten(self, winner: str) -> list[str]:
        """Whom ``winner`` ends, now that a block contains it: the beaten, and whoever still wants its coins."""
        return list(self._beaten.pop(winner, ()))

    def drop(self, payment: Payment) -> None:
        if self._payments.pop(payment.txid, None) is not None:
            self._retained.remove(payment.votes.carriers())
            self._is_shared(payment)
            if payment.tx is not None:
                self._seen -= 1
                self._seen_bytes -= payment.size
        self._forget_early(payment)
        self._unpark(payment)
        self._contested.pop(payment.txid, None)
        if payment.tx is not None:
            for outpoint in payment.tx.outpoints:
                wanted_by = self._contenders.get(outpoint)
                if wanted_by is not None:
                    wanted_by.pop(payment.txid, None)
                    if not wanted_by:
                        del self._contenders[outpoint]

    def refuse(self, payment: Payment, why: Refusal) -> None:
        """Drop a payment that can never become final, and remember not to fetch it again, and why."""
        self.drop(payment)
        self._refused[payment.txid] = reason_of(why)
        if len(self._refused) > limits.REFUSED_CACHE:
            del self._refused[next(iter(self._refused))]

    def is_refused(self, txid: str) -> bool:
        return txid in self._refused

    def refusal(self, txid: str) -> Reason | None:
        """Why the transaction was refused for ever, if it was and that is remembered."""
        return self._refused.get(txid)

    # -- contests ------------------------------------------------------------------------------------

    def contest(self, payment: Payment, tick: int) -> None:
        """From now on, if not before, the payment's fate is a block's to decide."""
        if payment.contested is None:
            payment.contested = tick
        self._contested[payment.txid] = None

    @property
    def contested(self) -> list[Payment]:
        """In the order in which they were contested here."""
        return [self._payments[txid] for txid in self._contested]

    def wanting(self, outpoint: Outpoint) -> list[Payment]:
        """Who wants a coin."""
        return [self._payments[txid] for txid in self._contenders.get(outpoint, ())]

    def contenders(self) -> Iterator[tuple[Outpoint, list[str]]]:
        """Every coin that undecided transactions want, with their txids in ascending order."""
        for outpoint, txids in self._contenders.items():
            yield outpoint, sorted(txids)

    def rivals(self, payment: Payment) -> Iterable[tuple[Outpoint, Payment]]:
        """Whom a payment meets at its coins, each once, with the first coin where; in peace nobody."""
        met: dict[str, Outpoint] = {}
        if payment.tx is not None:
            for outpoint in payment.tx.outpoints:
                wanted_by = self._contenders.get(outpoint)
                if wanted_by is not None and len(wanted_by) > 1:
                    for txid in wanted_by:
                        met.setdefault(txid, outpoint)
        if not met:
            return ()
        met.pop(payment.txid, None)
        return [(outpoint, self._payments[txid]) for txid, outpoint in met.items()]

    # -- within --------------------------------------------------------------------------------------

    def _forget_early(self, payment: Payment) -> None:
        for voter in payment.early_voters:
            self._early[voter].pop(payment.txid, None)
        payment.early_voters.clear()

    def _unpark(self, payment: Payment) -> None:
        for parent in payment.missing:
            siblings = self._children.get(parent)
            if siblings is not None:
                siblings.pop(payment.txid, None)
                if not siblings:
                    del self._children[parent]
        payment.missing = {}
        queue = self._waiting.get(payment.source)
        if queue is not None:
            size = queue.pop(payment.txid, None)
            if size is not None:
                self._parked -= 1
                self._parked_bytes -= size
            if not queue:
                del self._waiting[payment.source]
