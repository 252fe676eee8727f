"""The open loop: what leaves when, what counts as final, and when a load is given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import load as module
from timeproto.bench.frames import frame
from timeproto.bench.inprocess import Cluster
from timeproto.bench.line import Line
from timeproto.bench.load import Load, Outcome
from timeproto.bench.payments import Payment
from timeproto.errors import Refusal
from timeproto.model.ledger import TransactionRecord
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import SpentFinalized, SpentPending, to_wire
from timeproto.wallet.coins import WalletCoin
from timeproto.wire import codec, messages

ADDRESSES = ("127.0.0.1:24300", "127.0.0.1:24301")


class Transport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getHost(self) -> Any:
        return SimpleNamespace(port=1)


class OpenLoop(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.cluster = Cluster(4, 40)
        self.node = self.cluster.nodes[0]
        layout = SimpleNamespace(genesis=self.cluster.genesis)
        devnet: Any = SimpleNamespace(layout=layout, addresses=ADDRESSES, processes=[])
        self.load = Load(self.clock, devnet, "receiver", now=self.clock.seconds)
        self.digest = "d"
        self.in_flight = 0
        for number in range(len(ADDRESSES)):
            line = Line(self.load._hear)
            line.makeConnection(Transport())
            self.patch(line, "ask", lambda question, number=number: self.info(number))
            self.load._lines.append(line)
            self.load._payers.append(line)
        self.load._watcher = Line(self.load._hear_receiver)
        self.load._watcher.makeConnection(Transport())

    def info(self, number: int) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        answer.callback(SimpleNamespace(digest=self.digest.format(number), in_flight=self.in_flight))
        return answer

    def payments(self, count: int) -> list[Payment]:
        """Payments that the cluster has made final already: their proofs are at hand."""
        found = []
        for number, tx in enumerate(self.cluster.pay(count), 1):
            coin = WalletCoin(tx.outpoints[0], 1, "TIME0x")
            found.append(Payment(tx, frame(codec.encode(messages.TransactionBroadcast(id=number, tx=tx))), coin))
        return found

    def sent(self, number: int) -> int:
        """How many payments left on one connection."""
        transport: Any = self.load._lines[number].transport
        value, count = transport.value(), 0
        while value:
            value, count = value[4 + int.from_bytes(value[:4], "big") :], count + 1
        return count

    def accept(self, tx: Transaction) -> None:
        self.load._hear(codec.encode(messages.TransactionAccepted(id=1, txid=tx.txid)))

    def tell(self, tx: Transaction, *, final: bool = True, proof: Any = None) -> None:
        record = self.node.store.transaction(tx.txid)
        assert isinstance(record, TransactionRecord)
        state = SpentFinalized(tx.txid, 0, 3) if final else SpentPending(tx.txid, 3, 4, 0)
        change = messages.StateChange(tx.outpoints[0], None, to_wire(state), 0, self.node.key)
        self.load._hear(
            codec.encode(
                messages.UTXOStateNotification(
                    notification=change,
                    cursor=messages.Cursor(self.node.key, 1),
                    output=tx.outputs[0],
                    proof=(proof or record.proof) if final else None,
                )
            )
        )

    def run_load(self, payments: list[Payment], rate: float) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self.load.run(payments, rate))

    def test_payments_leave_on_time(self) -> None:
        """At their appointed times, to the nodes in turn, whatever became of those before."""
        running = self.run_load(self.payments(4), 10.0)
        self.assertEqual((self.sent(0), self.sent(1)), (0, 0))
        for expected in ((1, 0), (1, 1), (2, 1), (2, 2)):
            self.clock.pump([0.02] * 5)
            self.assertEqual((self.sent(0), self.sent(1)), expected)
        self.assertNoResult(running)

    def test_what_is_counted(self) -> None:
        """Lock and finality from when a payment had to leave; only a proven SpentFinalized is final."""
        payments = self.payments(2)
        running = self.run_load(payments, 1000.0)
        self.clock.pump([0.01] * 10)
        for payment in payments:
            self.accept(payment.tx)
            self.tell(payment.tx, final=False)
        self.assertNoResult(running)
        self.clock.advance(0.2)
        for payment in payments:
            self.tell(payment.tx)
            self.tell(payment.tx)
        outcome = self.successResultOf(running)
        self.assertEqual((outcome.sent, outcome.final, outcome.failed), (2, 2, 0))
        self.assertTrue(outcome.is_sustained)
        self.assertAlmostEqual(outcome.lock_ms[0], 50, places=3)
        self.assertAlmostEqual(outcome.final_ms[0], 250, places=3)
        self.assertAlmostEqual(outcome.final_ms[1], 249, places=3)

    def test_a_proof_that_does_not_hold(self) -> None:
        """It is an error of the measurement, not a payment that is final."""
        payments = self.payments(2)
        self.run_load(payments, 1000.0)
        self.clock.pump([0.01] * 10)
        record = self.node.store.transaction(payments[1].tx.txid)
        assert record is not None and record.proof is not None
        wrong = codec.decode(codec.encode(messages.FinalityProofs(proofs=(record.proof,)))).proofs[0]
        bent = type(wrong)(payments[0].tx.txid, wrong.set, wrong.votes)
        self.assertRaises(Refusal, self.tell, payments[0].tx, proof=bent)
        self.assertIsNone(payments[0].final)

    def test_refused(self) -> None:
        """A refusal ends a payment: it has failed, by its code, and nobody waits for it."""
        payments = self.payments(2)
        running = self.run_load(payments, 1000.0)
        self.clock.pump([0.01] * 10)
        self.tell(payments[0].tx)
        self.load._hear(codec.encode(messages.Error(id=2, code="busy", message="full")))
        outcome = self.successResultOf(running)
        self.assertEqual((outcome.final, outcome.failed, outcome.refused), (1, 1, {"busy": 1}))
        self.assertFalse(outcome.is_sustained)

    def test_lost(self) -> None:
        """What is not final when patience ends has failed."""
        running = self.run_load(self.payments(1), 1000.0)
        self.clock.pump([0.1, module.PATIENCE + 1])
        outcome = self.successResultOf(running)
        self.assertEqual((outcome.sent, outcome.final, outcome.failed), (1, 0, 1))

    def test_too_much(self) -> None:
        """It stops sending when more are late than a sustained load may have."""
        running = self.run_load(self.payments(20), 2.0)
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.sent(0) + self.sent(1), 3)
        self.clock.pump([0.1] * 30 + [module.PATIENCE])
        outcome = self.successResultOf(running)
        self.assertTrue(outcome.stopped_early)
        self.assertFalse(outcome.is_sustained)
        self.assertLess(outcome.sent, 20)

    def test_a_lost_connection(self) -> None:
        """A node that hangs up ends the load."""
        running = self.run_load(self.payments(20), 2.0)
        self.clock.pump([0.1] * 3)
        self.load._lines[0].connectionLost()
        self.clock.pump([0.1] * 10 + [module.PATIENCE])
        self.assertTrue(self.successResultOf(running).stopped_early)

    def test_nodes_that_disagree(self) -> None:
        """They are given some seconds; then the load was not sustained, however fast it was."""
        for digest, in_flight in (("{}", 0), ("same", 1)):
            self.digest, self.in_flight = digest, in_flight
            payments = self.payments(1)
            running = self.run_load(payments, 1000.0)
            self.clock.pump([0.1])
            self.tell(payments[0].tx)
            self.assertNoResult(running)
            self.clock.pump([0.25] * 50)
            outcome = self.successResultOf(running)
            self.assertFalse(outcome.agree)
            self.assertFalse(outcome.is_sustained)

    def test_the_receiver(self) -> None:
        """Only a coin just created counts, by the time of the node's step."""
        self.patch(module.time, "time", lambda: 100.25)
        outcome = self.load._outcome = Outcome(1.0, 1)
        told = b'{"type":"UTXOStateNotification","notification":{"old_state":%s,"timestamp":100240}}'
        self.load._hear_receiver(told % b"null")
        self.load._hear_receiver(told % b'{"Locked":{}}')
        self.assertEqual(outcome.notify_ms, [10.0])
