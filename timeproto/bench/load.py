"""An open loop: payments leave at their appointed times, whatever became of those before.

Times count from the moment a payment *had to* leave, so neither a stall of the nodes nor one of this process hides in
the numbers; how late this process was is reported beside them. Payment i goes to node i mod n, unless all go to one.
The receiver of all of them watches at the last node.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as Overdue
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.task import deferLater

from timeproto import limits
from timeproto.bench import kernel
from timeproto.bench.line import Line
from timeproto.bench.payments import Payment
from timeproto.devnet.processes import Devnet
from timeproto.errors import Refusal
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.keys import Remembered
from timeproto.network.discovery import parse_address
from timeproto.network.requests import ConnectionGone
from timeproto.network.tls import KeyedConnectionCreator
from timeproto.wallet.belief import SIGNATURES
from timeproto.wire import codec, messages

PATIENCE = 20.0
"""Seconds after the last send in which a payment must be final to count."""
LATE = 1.0
"""Seconds from which on a payment is late …"""
LATE_SHARE = 0.01
"""… and the share of late ones that a load may have to be sustained (so that p99 < 1 s)."""
SLOT = 0.004
"""Seconds between two looks at what is due: a timer for every single payment would cost more than sending it."""
LOOK = 0.1
PAYERS = 10
"""Wallets that pay at one node."""

_TIMESTAMP = re.compile(rb'"timestamp":(\d+)')


@attrs.define
class Outcome:
    """What one load did. Times in milliseconds, CPU in seconds, of the load's own length ``seconds``.

    ``lock``: to the ``TransactionAccepted``; ``final``: to the verified proof at the wallet that paid; ``notify``: from
    the step of the node that tells (to a millisecond) to the receiver's wallet. ``lag``: how late payments left.
    ``others_cpu_s``: what neither the nodes nor this process used, so what disturbed the measurement.
    """

    rate: float
    planned: int
    sent: int = 0
    final: int = 0
    refused: dict[str, int] = attrs.field(factory=dict)
    stopped_early: bool = False
    seconds: float = 0.0
    final_ms: list[float] = attrs.field(factory=list)
    lock_ms: list[float] = attrs.field(factory=list)
    notify_ms: list[float] = attrs.field(factory=list)
    lag_ms: list[float] = attrs.field(factory=list)
    nodes_cpu_s: float = 0.0
    own_cpu_s: float = 0.0
    others_cpu_s: float | None = None
    peer_bytes: int | None = None
    wallet_bytes: int | None = None
    agree: bool = False

    @property
    def failed(self) -> int:
        return self.sent - self.final

    @property
    def late(self) -> int:
        return sum(1 for each in self.final_ms if each >= LATE * 1000) + self.failed

    @property
    def is_sustained(self) -> bool:
        """True if every payment became final, 99 of 100 within a second, and the nodes agree."""
        return not self.stopped_early and self.failed == 0 and self.late <= LATE_SHARE * self.planned and self.agree


def node_pids(devnet: Devnet) -> list[int]:
    """The processes of the nodes that run."""
    return [process.pid for process in devnet.processes if process.status is None and process.pid is not None]


class Load:
    """Connections to every node of a devnet, over which loads are sent one after another."""

    def __init__(
        self,
        reactor: Any,
        devnet: Devnet,
        receiver: str,
        now: Callable[[], float] = time.perf_counter,
        *,
        at: int | None = None,
        patient: bool = False,
    ) -> None:
        """``at``: the node, from 1, that all payments go to, of ``PAYERS`` wallets in turn. ``patient``: lateness does
        not end a load, and whether the nodes agree is asked later, by :meth:`agree`."""
        self._reactor = reactor
        self._now = now
        self._devnet = devnet
        self._receiver = receiver
        self._at = at
        self._patient = patient
        self._genesis = devnet.layout.genesis
        self._signatures = Remembered(SIGNATURES)
        self._lines: list[Line] = []
        self._payers: list[Line] = []
        self._watcher: Line | None = None
        self._payments: Sequence[Payment] = ()
        self._by_txid: dict[str, Payment] = {}
        self._left = 0
        self._done: Deferred[None] | None = None
        self._outcome = Outcome(0, 0)

    async def connect(self) -> None:
        for address in self._devnet.addresses:
            self._lines.append(await self._line(address, self._hear))
        if self._at is None:
            self._payers = self._lines
        else:
            address = self._devnet.addresses[self._at - 1]
            self._payers = [await self._line(address, self._hear) for _ in range(PAYERS)]
        self._watcher = await self._line(self._devnet.addresses[-1], self._hear_receiver)
        await self._watcher.ask(messages.UTXOSubscribe(subscriber_id="receiver", addresses=(self._receiver,)))

    async def _line(self, address: str, hear: Callable[[bytes], None]) -> Line:
        host, port = parse_address(address)
        endpoint: Any = HostnameEndpoint(self._reactor, host, port)
        if self._devnet.layout.tls:
            endpoint = wrapClientTLS(KeyedConnectionCreator(), endpoint)  # a proof is checked, whoever brings it
        line: Line = await connectProtocol(endpoint, Line(hear))
        await line.ask(messages.Ping())  # who never says a word is cut off
        return line

    def close(self) -> None:
        for line in self._all():
            if line.transport is not None:
                line.transport.loseConnection()

    def _all(self) -> set[Line]:
        return {*self._lines, *self._payers, *([self._watcher] if self._watcher else [])}

    async def run(
        self, payments: Sequence[Payment], rate: float, show: Callable[[float], None] = lambda share: None
    ) -> Outcome:
        """Sends ``payments`` at ``rate`` a second and waits for what becomes of them.

        It stops sending as soon as more are late than a sustained load may have, for the rest would prove nothing.
        """
        outcome = self._outcome = Outcome(rate, len(payments))
        self._payments, self._left = payments, 0
        self._by_txid = {payment.tx.txid: payment for payment in payments}
        before = self._meter()
        began = self._now() + 0.05
        for number, payment in enumerate(payments):
            payment.due = began + number / rate
        await self._send(outcome, show)
        await self._settle(outcome)
        outcome.seconds = self._now() - began
        self._account(outcome, before, self._meter())
        self._collect(outcome)
        self._by_txid = {}
        outcome.agree = self._patient or await self.agree()
        return outcome

    # -- sending -------------------------------------------------------------------------------------

    async def _send(self, outcome: Outcome, show: Callable[[float], None]) -> None:
        payments, lines = self._payments, self._payers
        tolerated = len(payments) if self._patient else LATE_SHARE * len(payments)
        looked = at = horizon = late = 0
        shown = self._now()
        while at < len(payments):
            now = self._now()
            while at < len(payments) and payments[at].due <= now:
                payment = payments[at]
                payment.sent = self._now()
                lines[at % len(lines)].send(payment.frame)
                at += 1
            self._left += at - looked
            looked = at
            while horizon < at and payments[horizon].due < now - LATE:
                late += payments[horizon].final is None
                horizon += 1
            if late > tolerated or any(line.gone for line in lines):
                outcome.stopped_early = True
                break
            if now - shown > LOOK:
                shown = now
                show(at / len(payments))
            if at < len(payments):
                await deferLater(self._reactor, max(SLOT, payments[at].due - self._now()))
        outcome.sent = at

    async def _settle(self, outcome: Outcome) -> None:
        """Until everything sent is final or refused, but no longer than ``PATIENCE``."""
        if self._left <= 0:
            return
        self._done = Deferred()
        patience = self._reactor.callLater(PATIENCE, self._done.callback, None)
        await self._done
        self._done = None
        if patience.active():
            patience.cancel()

    def _ended(self) -> None:
        self._left -= 1
        if self._left == 0 and self._done is not None and not self._done.called:
            self._done.callback(None)

    # -- hearing -------------------------------------------------------------------------------------

    def _hear(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"UTXOStateNotification"'):
            # Of the notifications only the one with the final state decides; the rest is told by the first bytes.
            if b'"new_state":{"SpentFinalized"' in payload:
                self._hear_final(codec.decode(payload))
            return
        message = codec.decode(payload)
        if isinstance(message, messages.TransactionAccepted):
            payment = self._by_txid.get(message.txid)
            if payment is not None and payment.locked is None:
                payment.locked = self._now()
        elif isinstance(message, messages.Error) and message.id:
            payment = self._payments[message.id - 1] if message.id <= len(self._payments) else None
            if payment is not None and payment.refused is None and payment.final is None:
                payment.refused = message.code
                self._ended()

    def _hear_final(self, message: Any) -> None:
        proof: FinalityProof | None = message.proof
        if proof is None:
            return
        payment = self._by_txid.get(proof.txid)
        if payment is not None and payment.final is None and payment.refused is None:
            check_proof(proof, self._genesis.masternode_set, self._genesis.hash, self._signatures)
            payment.final = self._now()
            self._ended()

    def _hear_receiver(self, payload: bytes) -> None:
        now = time.time() * 1000
        told = _TIMESTAMP.search(payload)
        if told is not None and b'"old_state":null' in payload:
            self._outcome.notify_ms.append(now - int(told[1]))

    # -- accounts ------------------------------------------------------------------------------------

    def _meter(self) -> tuple[float, float, float | None, dict[tuple[int, int], int] | None]:
        own = resource.getrusage(resource.RUSAGE_SELF)
        ports = {parse_address(address)[1] for address in self._devnet.addresses}
        return (
            kernel.cpu_seconds(node_pids(self._devnet)),
            own.ru_utime + own.ru_stime,
            kernel.busy_seconds(),
            kernel.tcp_received(ports),
        )

    def _account(self, outcome: Outcome, before: Any, after: Any) -> None:
        outcome.nodes_cpu_s, outcome.own_cpu_s = after[0] - before[0], after[1] - before[1]
        if before[2] is not None and after[2] is not None:
            others = after[2] - before[2] - outcome.nodes_cpu_s - outcome.own_cpu_s
            outcome.others_cpu_s = max(0.0, others)
        if before[3] is not None and after[3] is not None:
            ours = {line.transport.getHost().port for line in self._all()}  # type: ignore[union-attr]
            moved = {ends: count - before[3].get(ends, 0) for ends, count in after[3].items()}
            outcome.wallet_bytes = sum(count for ends, count in moved.items() if ours & set(ends))
            outcome.peer_bytes = sum(moved.values()) - outcome.wallet_bytes

    def _collect(self, outcome: Outcome) -> None:
        for payment in self._payments[: outcome.sent]:
            if payment.sent is not None:
                outcome.lag_ms.append((payment.sent - payment.due) * 1000)
            if payment.locked is not None:
                outcome.lock_ms.append((payment.locked - payment.due) * 1000)
            if payment.final is not None:
                outcome.final_ms.append((payment.final - payment.due) * 1000)
            if payment.refused is not None:
                outcome.refused[payment.refused] = outcome.refused.get(payment.refused, 0) + 1
        outcome.final = len(outcome.final_ms)

    async def agree(self) -> bool:
        """True if all nodes come to one digest, with nothing in flight, within a few seconds."""
        for _ in range(40):
            try:
                infos = [await self._info(line) for line in self._lines]
            except (Refusal, ConnectionGone, Overdue):
                return False
            if len({info.digest for info in infos}) == 1 and not any(info.in_flight for info in infos):
                return True
            await deferLater(self._reactor, 0.25)
        return False

    def _info(self, line: Line) -> Deferred[Any]:
        answer: Deferred[Any] = line.ask(messages.GetInfo()).addTimeout(limits.REQUEST_TIME, self._reactor)
        return answer
