"""Where a payment is: what this node knows of one transaction, put together for ``GetTrace``.

Undecided transactions are looked up in the replica's memory, decided ones in the store. Nothing is searched: what one
answer reads is bounded by ``limits.TRACE_COINS``. Called at a boundary between commits only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from timeproto import limits
from timeproto.consensus.payments import Payment, Standing
from timeproto.consensus.refusals import double_spend
from timeproto.consensus.replica import Replica
from timeproto.model.block import DecidedBlock, Verdict
from timeproto.model.ledger import Ledger, Times, TransactionRecord
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import NULL_OUTPOINT, Outpoint, Transaction
from timeproto.model.utxo_state import SpentPending, holder
from timeproto.model.vote import VoteKind
from timeproto.wire import messages
from timeproto.wire.messages import Trace, TraceRival, TraceStage, TraceStatus


class Tracer:
    """Answers for one replica; ``info`` and ``block`` are the view's, ``links`` gives the masternodes it reaches."""

    def __init__(
        self,
        replica: Replica,
        ledger: Ledger,
        masternodes: MasternodeSet,
        *,
        info: Callable[[str], messages.TransactionInfo | None],
        block: Callable[[int], DecidedBlock | None],
        cursor: Callable[[], messages.Cursor],
        links: Callable[[], frozenset[str]],
    ) -> None:
        self._replica = replica
        self._ledger = ledger
        self._masternodes = masternodes
        self._info = info
        self._block = block
        self._cursor = cursor
        self._links = links

    def trace(self, txid: str) -> Trace | None:
        """Everything known of a transaction; None if that is nothing."""
        payment, record = self._replica.payments.get(txid), self._ledger.transaction(txid)
        status = self._status(txid, payment, record)
        if status is None:
            return None
        quorum = self._masternodes.quorum
        bare = Trace(txid=txid, cursor=self._cursor(), status=status, stages=(), complete=True, quorum=quorum)
        if payment is not None:
            return self._undecided(bare, payment)
        return self._decided(bare, record)

    def _status(self, txid: str, payment: Payment | None, record: TransactionRecord | None) -> TraceStatus | None:
        if payment is not None:
            return self._undecided_status(payment)
        if self._ledger.ending(txid) is not None:
            return "aborted"
        if record is not None and record.status == "final":
            return "final" if record.height is None else "confirmed"
        # A record that is pending, but not among the undecided, was beaten, and waits for the block that ends it.
        known = record is not None or self._replica.payments.is_refused(txid)
        return "refused" if known else None

    def _undecided_status(self, payment: Payment) -> TraceStatus:
        if payment.tx is None:
            return "announced"
        if payment.standing is not Standing.LOCKED:
            return "seen"
        state = self._replica.manager.get_state(payment.tx.outpoints[0])
        return "pending" if isinstance(state, SpentPending) else "locked"

    # -- undecided -----------------------------------------------------------------------------------

    def _undecided(self, trace: Trace, payment: Payment) -> Trace:
        votes, tx = payment.votes, payment.tx
        lock, commit, abort = (votes.voters(kind) for kind in (VoteKind.LOCK, VoteKind.COMMIT, VoteKind.ABORT))
        waits_for = self._waits_for(payment)
        cast = {"lock": lock, "verdict": lock, "commit": commit}.get(waits_for)
        rivals, more = ((), False) if tx is None else self._rivals(tx, self._contenders(payment))
        return msgspec.structs.replace(
            trace,
            stages=_stages(payment.times),
            complete=tx is None or payment.times.seen is not None,
            waits_for=waits_for,
            lock=tuple(lock),
            commit=tuple(commit),
            abort=tuple(abort),
            missing=() if cast is None else self._missing({*cast, *abort}),
            contested=payment.contested is not None,
            cancelled=payment.cancel is not None,
            parents=tuple(payment.missing)[: limits.TRACE_RIVALS],
            rivals=rivals,
            more=more,
            not_voting=self._replica.not_voting,
            tx=tx,
        )

    @staticmethod
    def _waits_for(payment: Payment) -> messages.WaitsFor:
        if payment.tx is None:
            return "transaction"
        if payment.standing is Standing.WAITING:
            return "parents"
        if payment.votes.has_quorum(VoteKind.LOCK):
            return "commit"
        return "lock" if payment.contested is None else "verdict"

    def _missing(self, cast: set[str]) -> tuple[messages.MissingVoter, ...]:
        links = self._links()
        return tuple(messages.MissingVoter(key, key in links) for key in self._masternodes.keys if key not in cast)

    def _contenders(self, payment: Payment) -> Iterator[tuple[Outpoint, str]]:
        for outpoint, rival in self._replica.payments.rivals(payment):
            yield outpoint, rival.txid

    # -- decided -------------------------------------------------------------------------------------

    def _decided(self, trace: Trace, record: TransactionRecord | None) -> Trace:
        txid, status = trace.txid, trace.status
        info, ending = self._info(txid), self._ledger.ending(txid)
        times = Times() if record is None or record.times is None else record.times
        minted = record is not None and record.tx.outpoints[0] == NULL_OUTPOINT
        trace = msgspec.structs.replace(trace, stages=_stages(times), complete=minted or times != Times())
        if status == "refused":
            refusal = self._replica.payments.refusal(txid)
            if refusal is None and record is not None:
                refusal = messages.reason_of(double_spend(record.tx, self._replica.manager))
            trace = msgspec.structs.replace(trace, refusal=refusal)
        elif status == "aborted":
            assert ending is not None  # that is what makes it so
            stage = TraceStage("aborted", times.ended)
            votes = self._verdict(ending.height, txid)
            trace = msgspec.structs.replace(
                trace, stages=(*trace.stages, stage), height=ending.height, conflicting_txid=ending.by, abort=votes
            )
        if info is None or record is None:
            return trace
        rivals, more = self._rivals(record.tx, self._others(record.tx, trace))
        trace = msgspec.structs.replace(trace, tx=record.tx, rivals=rivals, more=more)
        if status in ("aborted", "refused"):
            return msgspec.structs.replace(trace, inclusion=info.inclusion)
        return self._final(trace, info)

    def _final(self, trace: Trace, info: messages.TransactionInfo) -> Trace:
        stages = trace.stages
        lock: tuple[str, ...] = ()
        commit: tuple[str, ...] = ()
        if info.proof is not None:
            commit = tuple(vote.voter for vote in info.proof.votes)
        elif info.height is not None:
            lock = self._verdict(info.height, trace.txid)
        if info.height is not None:
            decided = None if info.inclusion is None else info.inclusion.header.timestamp
            stages = (*stages, TraceStage("confirmed", decided))
        return msgspec.structs.replace(
            trace,
            stages=stages,
            waits_for="block" if info.height is None else None,
            lock=lock,
            commit=commit,
            proof=info.proof,
            height=info.height,
            inclusion=info.inclusion,
        )

    def _verdicts(self, height: int) -> Sequence[Verdict]:
        decided = self._block(height)
        return () if decided is None else decided.block.verdicts

    def _verdict(self, height: int, txid: str) -> tuple[str, ...]:
        """Whose votes the verdict on a transaction rests on; nobody's if that block holds none."""
        found = (each.votes for each in self._verdicts(height) if each.txid == txid)
        return tuple(vote.voter for vote in next(found, ()))

    def _others(self, tx: Transaction, trace: Trace) -> Iterator[tuple[Outpoint, str]]:
        """Who wants the coins now; whom a final transaction beat, and whom the same block ended for the same coin."""
        payments, coins = self._replica.payments, frozenset(tx.outpoints)
        for outpoint in tx.outpoints[: limits.TRACE_COINS]:
            for rival in payments.wanting(outpoint):
                yield outpoint, rival.txid
        txids = payments.beaten_by(tx.txid) if trace.status == "final" else []
        if trace.status == "aborted":
            txids = [each.txid for each in self._verdicts(trace.height or 0) if each.kind == "abort"]
        for txid in txids[: limits.TRACE_COINS]:
            payment, record = payments.get(txid), self._ledger.transaction(txid)
            other = payment.tx if payment is not None else None if record is None else record.tx
            shared = [] if other is None else [each for each in other.outpoints if each in coins]
            if shared:
                yield shared[0], txid

    # -- rivals --------------------------------------------------------------------------------------

    def _rivals(self, tx: Transaction, met: Iterable[tuple[Outpoint, str]]) -> tuple[tuple[TraceRival, ...], bool]:
        """Those who were ``met`` and whoever has one of the coins; and whether there are more of them."""
        found: dict[str, Outpoint] = {}
        for outpoint in tx.outpoints[: limits.TRACE_COINS]:
            coin = self._replica.manager.look_up(outpoint)
            owner = None if coin is None else holder(coin.state)
            if owner is not None:
                found.setdefault(owner, outpoint)
        for outpoint, txid in met:
            found.setdefault(txid, outpoint)
            if len(found) > limits.TRACE_RIVALS + 1:
                break
        found.pop(tx.txid, None)
        rivals = [self._rival(txid, outpoint) for txid, outpoint in found.items()]
        return tuple(rivals[: limits.TRACE_RIVALS]), len(rivals) > limits.TRACE_RIVALS

    def _rival(self, txid: str, outpoint: Outpoint) -> TraceRival:
        payment, record = self._replica.payments.get(txid), self._ledger.transaction(txid)
        status, ending = self._status(txid, payment, record), self._ledger.ending(txid)
        times = payment.times if payment is not None else None if record is None else record.times
        height = ending.height if ending is not None else None if record is None else record.height
        return TraceRival(
            txid,
            outpoint,
            status or "announced",
            None if times is None else times.seen,
            height,
            status in ("final", "confirmed", "aborted"),
        )


def _stages(times: Times) -> tuple[TraceStage, ...]:
    way = (("seen", times.seen), ("locked", times.locked), ("pending", times.pending), ("final", times.final))
    return tuple(TraceStage(name, at) for name, at in way if at is not None)  # type: ignore[arg-type]
