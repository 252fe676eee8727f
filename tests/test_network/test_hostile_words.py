"""What the other end says is only words: none of them raise, fill the log, or pass for somebody else's."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, PAYMENT, VOTERS, proof_of
from tests.test_network.harness import Network, address
from tests.test_network.test_protocol import QUESTION, ProtocolCase, framed, paying
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.handshake import HandshakeMachine
from timeproto.network.node_protocol import NodeProtocol
from timeproto.network.peer_manager import PeerManager
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Complaints(ProtocolCase):
    """Errors of the other end."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []

        def keep(event: Any) -> None:
            if "who" in event:
                self.lines.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(keep)
        self.addCleanup(globalLogPublisher.removeObserver, keep)

    def test_details_may_have_any_name(self) -> None:
        """``code``, ``message`` and ``self`` are names like others: the complaint arrives as it is."""
        details: dict[str, Any] = {"code": "x", "message": "y", "self": 1, "request_id": 2}
        asked = self.protocol.request(QUESTION)
        for number in (1, None):
            error = messages.Error(id=number, code="busy", message="no", details=details)
            self.protocol.dataReceived(framed(error))
        refusal = self.failureResultOf(asked, Refusal).value
        self.assertEqual((refusal.code, refusal.details), (ErrorCode.BUSY, details))
        self.assertEqual((self.codes(), self.transport.disconnecting), ([], False))

    def test_their_text_is_one_plain_line_in_the_log(self) -> None:
        """No line breaks and no escapes of theirs (H-15)."""
        error = messages.Error(code="a\x1b[2J\n", message="b\nforged line\u2028\x07\x1b[1m")
        self.protocol.dataReceived(framed(error))
        (line,) = self.lines
        self.assertTrue(line.isprintable(), repr(line))
        self.assertLess(len(line), 700)

    def test_a_thousand_complaints_are_few_lines(self) -> None:
        """A stranger's errors must not fill the disk: one connection has a handful of lines."""
        self.protocol.dataReceived(framed(messages.Error(code="busy", message="no")) * 1_000)
        self.assertLess(len(self.lines), 10)


class Ends(ProtocolCase):
    """The order in which a connection is taken down."""

    def test_the_producer_goes_before_the_connection(self) -> None:
        """Else a transport waits for a producer that has nothing more to say, under TLS for ever."""
        order: list[str] = []
        for name in ("unregisterProducer", "loseConnection"):
            self.patch(self.transport, name, lambda name=name: order.append(name))
        self.protocol.close(Refusal(ErrorCode.GOING_AWAY, "bye"))
        self.assertEqual(order, ["unregisterProducer", "loseConnection"])

    def test_closing_twice_is_closing_once(self) -> None:
        """One error, whoever closes again, and however."""
        self.protocol.close(Refusal(ErrorCode.GOING_AWAY, "bye"))
        self.protocol.close(Refusal(ErrorCode.BUSY, "no"))
        self.protocol.send(QUESTION)
        self.assertEqual(self.codes(), ["going_away"])

    def test_the_end_reaches_a_paused_reader(self) -> None:
        """A throttled connection that is closed reads on, or it would not notice the other end's close."""
        self.protocol.account = paying(self.clock, 10, 1)
        self.protocol.dataReceived(framed(QUESTION) * 3)
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.close()
        self.assertEqual(self.transport.producerState, "producing")
        self.clock.advance(1)
        self.assertEqual(len(self.protocol.heard), 2)

    def test_lost_while_held_back(self) -> None:
        """What was read and not handed on is dropped, with its timer."""
        self.protocol.account = paying(self.clock, 10, 1)
        self.protocol.dataReceived(framed(QUESTION) * 30)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.protocol.heard), 2)

    def test_a_cancelled_request_leaves_nothing(self) -> None:
        """No timer, no entry, and its late reply is nobody's."""
        asked = self.protocol.request(QUESTION)
        timers = len(self.clock.getDelayedCalls())
        asked.addErrback(lambda _: None)
        asked.cancel()
        self.assertEqual(len(self.clock.getDelayedCalls()), timers - 1)
        self.assertEqual(len(self.protocol._requests), 0)
        self.protocol.dataReceived(framed(messages.Finalized(id=1, txids=(), next=0, head=0)))
        self.assertFalse(self.transport.disconnecting)

    def test_listeners_hear_the_end_once(self) -> None:
        """In their order, after ``gone``."""
        heard: list[Any] = []
        self.protocol.on_lost(lambda reason: heard.append(self.protocol.is_gone))
        reason = Failure(RuntimeError("cable"))
        self.protocol.connectionLost(reason)
        self.assertEqual(heard, [1])


class Unproven(SynchronousTestCase):
    """A node that was dialled and has not proven who it is."""

    def test_nothing_of_it_is_believed(self) -> None:
        """Only the handshake is heard: a proof, a notification or a request from it goes nowhere (failure 15)."""
        network = Network()
        manager = network.add(0, [])
        manager.startService()
        recorder = network.recorders[address(0)]
        change = messages.StateChange(PAYMENT.outpoints[0], None, "Unspent", 1, VOTERS[1].public_hex)
        cursor = messages.Cursor(VOTERS[1].public_hex, 1)
        for message in (
            messages.FinalityProofs(proofs=(proof_of(PAYMENT.txid),)),
            messages.UTXOStateNotification(notification=change, cursor=cursor, output=PAYMENT.outputs[0]),
            messages.TransactionAccepted(txid=PAYMENT.txid),
        ):
            connection, said = _dialled(network.clock, manager)
            connection.dataReceived(framed(message))
            self.assertEqual(recorder.messages, [], type(message).__name__)
            self.assertFalse(connection.is_open)
            self.assertIn(b"not_authorised", said())

    def test_a_second_handshake_ends_a_link(self) -> None:
        """Roles are fixed when they are proven (H-30, H-31)."""
        network = Network()
        network.add(0, [1])
        network.add(1, [])
        network.start()
        network.run(1)
        (link,) = network.managers[address(0)].links.values()
        machine: Any = link._machine
        link.send(machine.ours)
        (other,) = network.managers[address(1)].links.values()
        network.run()
        self.assertFalse(other.is_open)


class Signatures(SynchronousTestCase):
    """What a masternode will sign for a stranger."""

    def test_the_two_sides_never_sign_the_same(self) -> None:
        """A proof of the accepting side is none of the dialling side, for whatever nonces a stranger picks."""
        for nonces in ((1, 2), (2, 1)):
            first, second = (bytes([number]) * 32 for number in nonces)
            dialler = HandshakeMachine(genesis=GENESIS, key=VOTERS[0], dialled=True, nonce=first, binding=b"")
            acceptor = HandshakeMachine(genesis=GENESIS, key=VOTERS[1], dialled=False, nonce=second, binding=b"")
            answer, proof = acceptor.hear_handshake(dialler.ours)
            dialler.hear_handshake(answer)  # type: ignore[arg-type]
            (good,) = dialler.hear_ack(proof)  # type: ignore[arg-type]
            self.assertNotEqual(good, proof)
            swapped = HandshakeMachine(genesis=GENESIS, key=VOTERS[1], dialled=False, nonce=first, binding=b"")
            swapped.hear_handshake(messages_with(dialler.ours, second))
            with self.assertRaises(Refusal) as caught:
                swapped.hear_ack(good)  # type: ignore[arg-type]
            self.assertIs(caught.exception.code, ErrorCode.BAD_HANDSHAKE)

    def test_our_own_proof_sent_back_to_us(self) -> None:
        """A stranger who claims our key and reflects what we signed has not proven it: no second process (O-05)."""
        us = HandshakeMachine(genesis=GENESIS, key=VOTERS[0], dialled=False, nonce=b"1" * 32, binding=b"")
        claim = HandshakeMachine(genesis=GENESIS, key=VOTERS[0], dialled=True, nonce=b"2" * 32, binding=b"").ours
        _, proof = us.hear_handshake(claim)
        with self.assertRaises(Refusal) as caught:  # and not OwnKey, which would stop the node
            us.hear_ack(proof)  # type: ignore[arg-type]
        self.assertIs(caught.exception.code, ErrorCode.BAD_HANDSHAKE)


class Crowded(SynchronousTestCase):
    """A full house keeps its last places for masternodes."""

    def test_a_masternode_keeps_its_place(self) -> None:
        """Once proven it is bound by no deadline, and is served."""
        self.patch(limits, "CONNECTIONS", 0)
        network = Network()
        network.add(0, [])
        network.add(1, [0])
        network.start()
        network.run(limits.HANDSHAKE * 3, 0.5)
        (link,) = network.managers[address(0)].links.values()
        self.assertTrue(link.is_open)
        self.assertEqual(len(network.dials), 1)
        network.managers[address(1)].broadcast([QUESTION])
        network.run()
        self.assertEqual([message for _, message in network.recorders[address(0)].messages], [QUESTION])

    def test_pings_do_not_keep_a_reserved_place(self) -> None:
        """Who has not proven a key within ``limits.HANDSHAKE`` makes room, however alive it is (H-28)."""
        self.patch(limits, "CONNECTIONS", 0)
        network = Network()
        manager = network.add(0, [])
        manager.startService()
        connection, _ = _accepted(network.clock, manager)
        for _ in range(int(limits.HANDSHAKE) + 1):
            connection.dataReceived(framed(messages.Ping()))
            network.clock.advance(1)
        self.assertFalse(connection.is_open)


def messages_with(handshake: messages.Handshake, nonce: bytes) -> messages.Handshake:
    import msgspec

    return msgspec.structs.replace(handshake, nonce=nonce.hex())


def _dialled(clock: Clock, manager: PeerManager) -> tuple[NodeProtocol, Any]:
    return _connected(NodeProtocol(clock, manager, dialled="192.0.2.9:1"))


def _accepted(clock: Clock, manager: PeerManager) -> tuple[NodeProtocol, Any]:
    from tests.test_network.harness import _Address
    from timeproto.network.node_protocol import NodeFactory

    protocol: Any = NodeFactory(clock, manager).buildProtocol(_Address("192.0.2.9:1"))
    return _connected(protocol)


def _connected(protocol: NodeProtocol) -> tuple[NodeProtocol, Any]:
    from tests.test_network.test_protocol import Transport

    transport = Transport()
    protocol.makeConnection(transport)
    assert protocol.remote_role is not Role.MASTERNODE
    return protocol, transport.value
