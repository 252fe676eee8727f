"""The undecided transactions of one replica: what is known of each, and every bound on knowing too much.

A payment can be known by its votes before its transaction arrives, and wait for its parents after that; both
are normal, and both are bounded per source, so that nobody can push out what others need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum, auto

import attrs

from timeproto import limits
from timeproto.consensus.effects import Ticket
from timeproto.consensus.vote_set import VoteSet
from timeproto.model.certificate import FinalityProof
from timeproto.model.ledger import OwnVotes
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction


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


@attrs.define(eq=False)
class Payment:
    """One undecided transaction. ``born`` is the tick of its arrival, ``source`` the masternode it came from."""

    txid: str
    votes: VoteSet
    born: int
    source: str | None = None
    tx: Transaction | None = None
    standing: Standing = Standing.UNSEEN
    own: OwnVotes = attrs.field(factory=OwnVotes)
    cast_lock: bool = False
    cast_commit: bool = False
    proof: FinalityProof | None = None
    tickets: list[Ticket] = attrs.field(factory=list)
    missing: tuple[str, ...] = ()
    early_voters: set[str] = attrs.field(factory=set)


class Payments:
    """All payments by txid, the coins they contend for, and who waits for whom."""

    def __init__(self, masternodes: MasternodeSet) -> None:
        self._masternodes = masternodes
        self._payments: dict[str, Payment] = {}
        self._contenders: dict[Outpoint, dict[str, None]] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._early: dict[str, dict[str, None]] = {}
        self._waiting_wallet: dict[str, None] = {}
        self._waiting_peer: dict[str, None] = {}
        self._refused: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._payments)

    def __iter__(self) -> Iterator[Payment]:
        return iter(list(self._payments.values()))

    def get(self, txid: str) -> Payment | None:
        return self._payments.get(txid)

    @property
    def waiting(self) -> int:
        """Payments whose transaction or parents are not here."""
        unseen = sum(1 for payment in self._payments.values() if payment.standing is Standing.UNSEEN)
        return unseen + len(self._waiting_peer) + len(self._waiting_wallet)

    # -- coming and going ----------------------------------------------------------------------------

    def open(self, txid: str, tick: int, source: str | None) -> Payment:
        """A new payment known by its txid alone."""
        payment = Payment(txid, VoteSet(txid, self._masternodes), tick, source)
        self._payments[txid] = payment
        return payment

    def early_vote(self, payment: Payment, voter: str) -> Payment | None:
        """Note that ``voter`` spoke of a payment not seen yet.

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

    def seen(self, payment: Payment, tx: Transaction) -> None:
        """The transaction arrived."""
        payment.tx = tx
        self._forget_early(payment)

    def wait(self, payment: Payment, parents: Iterable[str]) -> Payment | None:
        """Park a payment until ``parents`` are final; returns the payment this pushes out, if any."""
        self._unpark(payment)
        payment.standing = Standing.WAITING
        payment.missing = tuple(dict.fromkeys(parents))
        for parent in payment.missing:
            self._children.setdefault(parent, {})[payment.txid] = None
        queue, bound = (
            (self._waiting_wallet, limits.ORPHANS_WALLET)
            if payment.source is None
            else (self._waiting_peer, limits.ORPHANS_PEER)
        )
        queue[payment.txid] = None
        return self._payments[next(iter(queue))] if len(queue) > bound else None

    def contend(self, payment: Payment) -> list[tuple[Outpoint, Payment]]:
        """The transaction is valid: it wants its inputs. Returns whom it meets there, with the coin."""
        assert payment.tx is not None
        self._unpark(payment)
        rivals = []
        for outpoint in payment.tx.outpoints:
            wanted_by = self._contenders.setdefault(outpoint, {})
            rivals += [(outpoint, self._payments[txid]) for txid in wanted_by if txid != payment.txid]
            wanted_by[payment.txid] = None
        return rivals

    def crowded(self, tx: Transaction) -> bool:
        """True if a coin of ``tx`` is wanted by as many transactions as are kept."""
        return any(
            len(self._contenders.get(outpoint, ())) >= limits.RIVALS_PER_OUTPOINT for outpoint in tx.outpoints
        )

    def decide(self, payment: Payment) -> tuple[list[Payment], list[Payment]]:
        """``payment`` became final: forget it and the contest for its coins.

        Returns the rivals it beat, and the payments that waited for its outputs.
        """
        assert payment.tx is not None
        rivals: dict[str, Payment] = {}
        for outpoint in payment.tx.outpoints:
            for txid in self._contenders.pop(outpoint, ()):
                if txid != payment.txid:
                    rivals[txid] = self._payments[txid]
        children = [self._payments[txid] for txid in self._children.get(payment.txid, ())]
        self.drop(payment)
        return list(rivals.values()), children

    def drop(self, payment: Payment) -> None:
        self._payments.pop(payment.txid, None)
        self._forget_early(payment)
        self._unpark(payment)
        if payment.tx is not None:
            for outpoint in payment.tx.outpoints:
                wanted_by = self._contenders.get(outpoint)
                if wanted_by is not None:
                    wanted_by.pop(payment.txid, None)
                    if not wanted_by:
                        del self._contenders[outpoint]

    def refuse(self, payment: Payment) -> None:
        """Drop a payment that can never become final, and remember not to fetch it again."""
        self.drop(payment)
        self._refused[payment.txid] = None
        if len(self._refused) > limits.REFUSED_CACHE:
            del self._refused[next(iter(self._refused))]

    def is_refused(self, txid: str) -> bool:
        return txid in self._refused

    # -- contests ------------------------------------------------------------------------------------

    def contenders(self) -> Iterator[tuple[Outpoint, list[str]]]:
        """Every coin that undecided transactions want, with their txids in ascending order."""
        for outpoint, txids in self._contenders.items():
            yield outpoint, sorted(txids)

    def rivals(self, payment: Payment) -> Iterator[tuple[Outpoint, Payment]]:
        """Whom a payment meets at its coins; in peace nobody, at the cost of one look per coin."""
        if payment.tx is not None:
            for outpoint in payment.tx.outpoints:
                wanted_by = self._contenders.get(outpoint)
                if wanted_by is not None and len(wanted_by) > 1:
                    for txid in wanted_by:
                        if txid != payment.txid:
                            yield outpoint, self._payments[txid]

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
        payment.missing = ()
        self._waiting_wallet.pop(payment.txid, None)
        self._waiting_peer.pop(payment.txid, None)
