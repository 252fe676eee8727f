"""The votes this replica casts in one turn: counted at once, signed together, sent when durable (protocol §4)."""

from __future__ import annotations

from timeproto import limits
from timeproto.consensus.effects import Turn
from timeproto.consensus.payments import NO_VOTES, Payment, Standing
from timeproto.consensus.vote_set import OwnBatch
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import OwnVotes, TransactionRecord
from timeproto.model.vote import ABORT, COMMIT, LOCK, sign_batch


class Ballot:
    """Collects votes until :meth:`sign`: one signature for all of them, one record of what was signed."""

    def __init__(self, key: SigningKey, genesis: Genesis, signed_before: int) -> None:
        """``signed_before``: how many batches this replica has signed in its life."""
        self.batches = signed_before
        self._key = key
        self._genesis = genesis
        self._open = OwnBatch()
        self._locks: dict[str, Payment] = {}
        self._commits: dict[str, Payment] = {}
        self._aborts: dict[str, Payment] = {}

    def __bool__(self) -> bool:
        return bool(self._locks or self._commits or self._aborts)

    @property
    def is_full(self) -> bool:
        return max(len(self._locks), len(self._commits), len(self._aborts)) >= limits.BATCH_VOTES

    def lock(self, payment: Payment, now: int) -> None:
        payment.cast_lock = True
        payment.note(locked=now)
        self._locks[payment.txid] = payment
        payment.votes.add(LOCK, self._key.public_hex, self._open)

    def commit(self, payment: Payment, now: int) -> None:
        payment.cast_commit = True
        payment.note(pending=now)
        self._commits[payment.txid] = payment
        payment.votes.add(COMMIT, self._key.public_hex, self._open)

    def abort(self, payment: Payment) -> None:
        payment.cast_abort = True
        self._aborts[payment.txid] = payment
        payment.votes.add(ABORT, self._key.public_hex, self._open)

    def sign(self, height: int, turn: Turn) -> None:
        """Signs what was cast, if anything: the batch, whose votes it holds, and their transactions become part of
        the turn's changes, and the batch goes to every peer after them."""
        if not self:
            return
        genesis = self._genesis
        batch = sign_batch(
            self._key,
            genesis.hash,
            genesis.masternode_set.hash,
            height,
            lock=self._locks,
            commit=self._commits,
            abort=self._aborts,
        )
        number, self.batches = self.batches, self.batches + 1
        self._open.signed = batch
        turn.batches[number] = batch
        turn.effects.send.append((None, batch))
        cast = (*self._locks.values(), *self._commits.values(), *self._aborts.values())
        for payment in cast:
            assert payment.tx is not None  # nobody votes for what he has not seen
            # Later votes add nothing to the record but a time, which the coins have too if they are the payment's.
            if payment.own == NO_VOTES or payment.standing is not Standing.LOCKED:
                turn.transactions[payment.txid] = TransactionRecord(payment.tx, "pending", times=payment.times)
        for payment in self._locks.values():
            payment.own = OwnVotes(number, payment.own.commit, payment.own.abort)
        for payment in self._commits.values():
            payment.own = OwnVotes(payment.own.lock, number, payment.own.abort)
        for payment in self._aborts.values():
            payment.own = OwnVotes(payment.own.lock, payment.own.commit, number)
        for payment in cast:
            turn.own_votes[payment.txid] = payment.own
        self._open, self._locks, self._commits, self._aborts = OwnBatch(), {}, {}, {}
