"""What honest masternodes may say about payments (protocol §4, §5), read off what leaves them.

The adversary is taken at its strongest: whatever a faulty masternode could have signed counts as signed, shown or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timeproto.model.ledger import OwnVotes
from timeproto.model.transaction import Outpoint
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.scene import Scene
from timeproto.sim.trace import short
from timeproto.wire import messages

LOCK, COMMIT, ABORT = VoteKind.LOCK, VoteKind.COMMIT, VoteKind.ABORT


class VoteChecks:
    """``endings`` maps a txid to the height of the decided block that ended it."""

    def __init__(self, scene: Scene) -> None:
        self.voters: dict[VoteKind, dict[str, set[str]]] = {kind: {} for kind in VoteKind}
        self.endings: dict[str, int] = {}
        self.faulty = scene.faulty
        self._genesis, self._book, self._tally = scene.genesis, scene.book, scene.tally
        self._quorum = scene.genesis.masternode_set.quorum
        self._members = len(scene.genesis.masternode_set)
        self._batches: dict[str, VoteBatch] = {}
        self._vote_in: dict[tuple[str, VoteKind, str], str] = {}
        self._locked_for: dict[tuple[str, Outpoint], str] = {}
        self._split: set[Outpoint] = set()

    def can_have_quorum(self, kind: VoteKind, txid: str) -> bool:
        """True if a certificate can exist anywhere: honest votes, and all the faulty could add."""
        return len(self.voters[kind].get(txid, ())) + len(self.faulty) >= self._quorum

    # -- what is kept, and what is sent --------------------------------------------------------------

    def kept(self, batches: Iterable[VoteBatch]) -> None:
        """What an honest masternode has made durable counts as signed: it may leave in a batch, or in a proof."""
        for batch in batches:
            self._batches[batch.signature] = batch
            for kind, txid in batch.votes():
                place = batch.voter, kind, txid
                if self._vote_in.setdefault(place, batch.signature) != batch.signature:
                    raise Broken(4, "I-2", f"{short(batch.voter)} signed its {kind.name} vote for {short(txid)} twice")
                self.voters[kind].setdefault(txid, set()).add(batch.voter)

    def check(self, batches: Iterable[VoteBatch]) -> None:
        """What was just kept, when the blocks that were kept with it are known."""
        for batch in batches:
            for txid in batch.lock:
                self._check_lock(batch, txid)
            for txid in batch.commit:
                self._check_commit(batch, txid)
            for txid in batch.abort:
                self._check_abort(batch, txid)

    def sent(self, node: Masternode, message: Any) -> None:
        if isinstance(message, VoteBatch):
            self._check_sent(node, message)
        elif isinstance(message, messages.Votes):
            for batch in message.batches:
                self._check_sent(node, batch)

    def _check_sent(self, node: Masternode, batch: VoteBatch) -> None:
        known = self._batches.get(batch.signature)
        if known is not batch and known != batch:
            if batch.voter == node.name:
                raise Broken(4, "I-3", f"{short(node.name)} sent votes that it did not keep")
            if batch.voter not in self.faulty or not batch.verify(self._genesis.hash):
                raise Broken(4, "I-14", f"{short(node.name)} hands on votes that {short(batch.voter)} did not sign")
            self._batches[batch.signature] = batch
        if batch.voter == node.name:
            self._check_durable(node, batch)

    def _check_lock(self, batch: VoteBatch, txid: str) -> None:
        entry = self._book.entries.get(txid)
        if entry is None or not entry.valid:
            raise Broken(3, "I-6", f"{short(batch.voter)} lock-voted {short(txid)}, which is not valid")
        if self.endings.get(txid, batch.height + 1) <= batch.height:
            raise Broken(4, "I-9", f"{short(batch.voter)} lock-voted {short(txid)} after it had ended")
        for outpoint in entry.tx.outpoints:
            before = self._locked_for.get((batch.voter, outpoint), txid)
            if before != txid and self.endings.get(before, batch.height + 1) > batch.height:
                raise Broken(
                    4, "I-2", f"{short(batch.voter)} lock-voted {short(before)} and {short(txid)} for {outpoint}"
                )
            self._locked_for[batch.voter, outpoint] = txid
            self._look_for_split(outpoint)

    def _check_commit(self, batch: VoteBatch, txid: str) -> None:
        """A commit vote follows from a lock certificate, and from no abort vote."""
        if not self.can_have_quorum(LOCK, txid):
            count = len(self.voters[LOCK].get(txid, ()))
            raise Broken(1, "I-5", f"{short(batch.voter)} commit-voted {short(txid)} on {count} honest lock votes")
        if batch.voter in self.voters[ABORT].get(txid, ()):
            raise Broken(4, "I-2", f"{short(batch.voter)} aborted {short(txid)}, then committed to it")
        if self.can_have_quorum(COMMIT, txid):
            for rival in self._book.rivals(txid):
                if self.can_have_quorum(COMMIT, rival):
                    raise Broken(1, "I-1", f"{short(txid)} and {short(rival)} can both be proven final")
            if txid in self.endings:
                raise Broken(2, "I-4", f"{short(txid)} was ended by block {self.endings[txid]} and can be proven final")

    def _check_abort(self, batch: VoteBatch, txid: str) -> None:
        if batch.voter in self.voters[COMMIT].get(txid, ()):
            raise Broken(4, "I-2", f"{short(batch.voter)} committed to {short(txid)}, then aborted it")
        if txid not in self._book.entries or not self._book.is_contested(txid):
            raise Broken(4, "I-9", f"{short(batch.voter)} aborted {short(txid)}, which nobody contests")
        if self.can_have_quorum(LOCK, txid) and self.can_have_quorum(ABORT, txid):
            self._tally.saw("lock and abort certificate")

    def _check_durable(self, node: Masternode, batch: VoteBatch) -> None:
        """Before it is on the wire a vote can be read back, the very batch."""
        for kind, txid in batch.votes():
            own = node.store.own_votes(txid) or OwnVotes()
            number = {LOCK: own.lock, COMMIT: own.commit, ABORT: own.abort}[kind]
            if number is None or node.store.batch(number) != batch:
                raise Broken(4, "I-3", f"{short(node.name)} sent a {kind.name} vote that it did not keep")

    def _look_for_split(self, outpoint: Outpoint) -> None:
        """The honest votes for one coin are so divided that no rival can win it."""
        rivals = self._book.spenders[outpoint]
        if len(rivals) > 1 and outpoint not in self._split:
            cast = {rival: len(self.voters[LOCK].get(rival, ())) for rival in rivals}
            undecided = self._members - sum(cast.values())
            if max(cast.values()) + undecided < self._quorum:
                self._split.add(outpoint)
                self._tally.saw("split votes")
