"""Payments on their way, told to whoever watches what they pay (protocol §7, ``TransactionStatus``).

Hints, and nobody gets money by them: nothing of this is in the durable log, and a reader who falls behind is told how
things are now and not how they went. A coin comes with its proof, whatever was said here before. It comes first, too:
only a connection that has been told all transitions of a commit is told what became of the payments in it.

While nobody has asked for hints nothing is remembered and nothing looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any, Literal

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.utxo_state import Confirmed, Locked, SpentFinalized, SpentPending, UTXOState
from timeproto.network.fanout import Shared
from timeproto.network.feeds import BUSY_PAUSE, Feed, Feeds, Subscriber
from timeproto.network.node_view import Client, NodeView
from timeproto.wire import codec
from timeproto.wire.messages import PaidOutput, TransactionStatus

Status = Literal["seen", "locked", "pending", "final", "confirmed", "refused", "aborted"]

_STEPS: dict[type[UTXOState], Status] = {
    Locked: "locked", SpentPending: "pending", SpentFinalized: "final", Confirmed: "confirmed",
}  # fmt: skip


@attrs.define(eq=False)
class _Payment:
    """A transaction somebody was told of, and what was said last. ``inputs`` is empty of one that came and was final in
    one commit: nobody will contest it."""

    txid: str
    inputs: Sequence[Outpoint]
    outputs: Sequence[PaidOutput]
    status: Status | None = None
    rival: str | None = None

    @classmethod
    def of(cls, tx: Transaction) -> _Payment:
        outputs = [PaidOutput(vout, output) for vout, output in enumerate(tx.outputs)]
        return cls(tx.txid, tx.outpoints, outputs)

    @property
    def weight(self) -> int:
        return len(self.inputs) + len(self.outputs)


class Incoming:
    """Everything in here but ``begun`` is called when a commit is durable, at the boundary after it."""

    log = Logger()

    def __init__(self, view: NodeView, feeds: Feeds, clock: Any) -> None:
        """``clock``: an IReactorTime provider, or None: then whoever begins is shown at once what is on its way."""
        self._view = view
        self._feeds = feeds
        self._clock = clock
        self._payments: dict[str, _Payment] = {}
        self._wanted: dict[Outpoint, dict[str, None]] = {}
        self._weight = 0
        self._behind: dict[Feed, None] = {}
        self._call: Any = None

    # -- what happens --------------------------------------------------------------------------------

    def seen(self, transactions: Iterable[Transaction]) -> None:
        """Transactions came that are valid here and not locked. Whoever a rival of them pays is told too."""
        if self._is_deaf():
            return
        for tx in transactions:
            known = self._view.undecided(tx.txid)
            if known is None:
                continue
            if tx.txid not in self._payments:
                self._say(_Payment.of(tx), known.status, known.rival)
            for payment in self._rivals(tx.outpoints, tx.txid):
                if payment.rival is None and payment.status is not None:  # the first says enough
                    self._say(payment, payment.status, tx.txid)

    def tell(self, transitions: Iterable[Transition], blocks: Sequence[DecidedBlock]) -> None:
        """A commit, whose transitions have been told. Of the steps a payment made in it the last is said."""
        if self._is_deaf():
            return
        steps: dict[str, Transition] = {}
        created: dict[str, list[PaidOutput]] = {}
        taken: list[Transition] = []
        for each in transitions:
            if each.old_state is None:
                created.setdefault(each.txid, []).append(PaidOutput(each.outpoint.vout, each.output))
            elif type(each.new_state) in _STEPS:
                steps[each.txid] = each
                if isinstance(each.new_state, SpentFinalized | Confirmed):
                    taken.append(each)
        for decided in blocks:
            header = decided.block.header
            for txid in decided.block.aborted:
                self._end(self._payments.get(txid), header.height, header.timestamp)
        for txid, step in steps.items():
            self._step(txid, step, created.get(txid))
        for each in taken:
            self._beat(each)

    def _step(self, txid: str, step: Transition, created: list[PaidOutput] | None) -> None:
        payment, known = self._payments.get(txid), self._view.undecided(txid)
        if payment is None and known is not None:
            payment = _Payment.of(known.tx)
        elif payment is None and created is not None:
            payment = _Payment(txid, (), created)
        if payment is None:
            return  # nobody was told while it was undecided, and its coins have been shown
        state = step.new_state
        height = state.block_height if isinstance(state, Confirmed) else None
        rival = None if known is None else known.rival
        self._say(payment, _STEPS[type(state)], rival, at=step.timestamp, height=height)
        if height is not None:
            self._forget(payment)

    def _beat(self, step: Transition) -> None:
        """A coin is spent for ever: whoever else wanted it cannot be, and the block with the winner ends it."""
        for payment in self._rivals((step.outpoint,), step.txid):
            if isinstance(step.new_state, Confirmed):
                self._end(payment, step.new_state.block_height, step.timestamp, step.txid)
            elif payment.status != "refused":  # once says enough; and a block may have ended it by now
                self._say(payment, "refused", step.txid, at=step.timestamp, code=ErrorCode.DOUBLE_SPEND)

    def _end(self, payment: _Payment | None, height: int, at: int, rival: str | None = None) -> None:
        if payment is not None:
            self._say(payment, "aborted", rival, at=at, code=ErrorCode.ABORTED, height=height)
            self._forget(payment)

    # -- beginning, and coming back ------------------------------------------------------------------

    def begun(self, feed: Feed, name: str) -> None:
        """A subscription may have begun to listen: it is shown what is on its way, soon."""
        if Subscriber(feed.client, name) in self._feeds.listeners:
            self._is_behind(feed)
            if self._clock is None:
                self._show()

    def _is_behind(self, feed: Feed) -> None:
        self._behind[feed] = None
        if self._clock is not None and self._call is None:
            self._call = self._clock.callLater(limits.INCOMING_PAUSE, self._show_later)

    def _show_later(self) -> None:
        def failed(failure: Failure) -> None:
            refusal = failure.value
            if not isinstance(refusal, Refusal):  # a node that stops refuses, and has told so
                self.log.failure("what is on its way could not be shown", failure=failure)
            elif refusal.code is ErrorCode.BUSY and self._call is None:
                self._call = self._clock.callLater(BUSY_PAUSE, self._show_later)

        self._call = None
        self._view.read(self._show).addErrback(failed)

    def _show(self) -> None:
        """Tells those who are level with the log what of the newest undecided pays them, in one pass for all."""
        left = self._take_level()
        among = {each for each in self._feeds.listeners if each.client in left}
        room = limits.INCOMING_SCAN
        for tx in self._view.newest_undecided(room) if left else ():
            room -= len(tx.outpoints) + len(tx.outputs)
            if room < 0 or not left:
                break
            payment = self._payments.get(tx.txid) or _Payment.of(tx)
            paid = self._paid(payment, among)
            known = self._view.undecided(tx.txid) if paid else None
            if known is None:
                continue
            self._remember(payment, known.status, known.rival)
            code = ErrorCode.DOUBLE_SPEND if known.status == "refused" else None
            self._send(payment, paid, at=known.since, code=code)
            for client in paid:
                left[client] -= 1
                if not left[client]:
                    del left[client]
                    among = {each for each in among if each.client in left}

    def _take_level(self) -> dict[Client, int]:
        """Some of those who are behind and level with the log, with how much each may be shown; the others wait."""
        behind, self._behind = self._behind, {}
        left: dict[Client, int] = {}
        for feed in behind:
            if not self._feeds.is_open(feed):
                continue
            if len(left) < limits.INCOMING_FEEDS and self._is_level(feed):
                left[feed.client] = limits.INCOMING_SHOWN
            else:
                self._is_behind(feed)
        return left

    def _is_level(self, feed: Feed) -> bool:
        """True if the feed has been told every transition, and reads."""
        return feed.at is None and not self._feeds.is_slow(feed)

    # -- saying --------------------------------------------------------------------------------------

    def _say(
        self,
        payment: _Payment,
        status: Status,
        rival: str | None,
        *,
        at: int | None = None,
        code: ErrorCode | None = None,
        height: int | None = None,
    ) -> None:
        """Says each thing once to all who are paid; nothing of a payment is kept if nobody is."""
        if (payment.status, payment.rival) == (status, rival):
            return
        paid = self._paid(payment, self._feeds.listeners)
        if not paid:
            self._forget(payment)
            return
        self._remember(payment, status, rival)
        level: dict[Client, list[int]] = {}
        for client, places in paid.items():
            feed = self._feeds.all[client]
            if self._is_level(feed):
                level[client] = places
            else:
                self._is_behind(feed)
        self._send(payment, level, at=at, code=code, height=height)

    def _send(
        self,
        payment: _Payment,
        paid: dict[Client, list[int]],
        *,
        at: int | None = None,
        code: ErrorCode | None = None,
        height: int | None = None,
    ) -> None:
        """Encoded once for all who are paid by the same outputs."""
        assert payment.status is not None  # it was remembered
        words: dict[tuple[int, ...], Shared] = {}
        for client, places in paid.items():
            key = tuple(places)
            if key not in words:
                word = TransactionStatus(
                    txid=payment.txid,
                    status=payment.status,
                    outputs=tuple(payment.outputs[place] for place in places),
                    timestamp=at,
                    code=code,
                    conflicting_txid=payment.rival,
                    height=height,
                )
                words[key] = Shared(codec.encode(word))
            self._feeds.send_shared(self._feeds.all[client], words[key])

    def _paid(self, payment: _Payment, among: Set[Subscriber]) -> dict[Client, list[int]]:
        """Which of the listeners ``among`` are paid, and by which of the outputs."""
        paid: dict[Client, list[int]] = {}
        for place, each in enumerate(payment.outputs):
            found = self._view.watching(among, Outpoint(payment.txid, each.vout), each.output)
            for client in {each.client for each in found if isinstance(each, Subscriber)}:
                paid.setdefault(client, []).append(place)
        return paid

    # -- remembering ---------------------------------------------------------------------------------

    def _is_deaf(self) -> bool:
        """True if nobody asked; then there is nothing to remember either."""
        if self._feeds.listeners:
            return False
        if self._payments:
            self._payments.clear()
            self._wanted.clear()
            self._weight = 0
        return True

    def _rivals(self, outpoints: Iterable[Outpoint], txid: str) -> list[_Payment]:
        """The payments spoken of that want one of these coins, but for ``txid``."""
        found = {each: None for outpoint in outpoints for each in self._wanted.get(outpoint, ()) if each != txid}
        return [self._payments[each] for each in found]

    def _remember(self, payment: _Payment, status: Status, rival: str | None) -> None:
        payment.status, payment.rival = status, rival
        if payment.txid in self._payments:
            return
        self._payments[payment.txid] = payment
        self._weight += payment.weight
        for outpoint in payment.inputs:
            self._wanted.setdefault(outpoint, {})[payment.txid] = None
        while self._weight > limits.INCOMING:
            self._forget(next(iter(self._payments.values())))

    def _forget(self, payment: _Payment) -> None:
        if self._payments.pop(payment.txid, None) is None:
            return
        self._weight -= payment.weight
        for outpoint in payment.inputs:
            wanting = self._wanted[outpoint]
            del wanting[payment.txid]
            if not wanting:
                del self._wanted[outpoint]
