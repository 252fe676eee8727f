"""Links between masternodes over TLS, and the man in the middle of one; the port they come in by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, VOTERS
from tests.test_network.harness import Network, Recorder, address
from timeproto import limits
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.network.certificates import make_certificate
from timeproto.network.node_protocol import NodeFactory, NodeProtocol
from timeproto.network.peer_manager import PeerManager
from timeproto.network.protocol import MessageProtocol
from timeproto.network.requests import NotProven
from timeproto.network.tls import KeyedConnectionCreator, ServerContextFactory, ServerTransport, secured
from timeproto.wire import messages
from timeproto.wire.messages import Role


class Relay(MessageProtocol):
    """Half of a man in the middle: passes on every message it hears to his other half."""

    remote_role = Role.MASTERNODE
    other: Relay

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.early: list[Any] = []
        self.is_ready = False

    def ready(self) -> None:
        self.is_ready = True
        for message in self.early:
            self.send(message)

    def message_received(self, message: Any) -> None:
        if self.other.is_ready:
            self.other.send(message)
        else:
            self.other.early.append(message)


class TLSLinks(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.files = folder / "certificate.pem", folder / "key.pem"
        make_certificate(*self.files, "127.0.0.1")
        self.network = Network()
        self.one, self.two = self.network.add(0, []), self.network.add(1, [])
        self.network.start()

    def channel(self, client: Any, server: Any) -> Any:
        """TLS between two protocols; the pump that moves its bytes."""

        def only(protocol: Any) -> Factory:
            return Factory.forProtocol(lambda: protocol)

        clock = self.network.clock  # without one small writes would be gathered on the global reactor's
        near = TLSMemoryBIOFactory(KeyedConnectionCreator(), True, only(client), clock).buildProtocol(None)
        far = secured(only(server), ServerContextFactory(*self.files), clock).buildProtocol(None)
        return connect(far, FakeTransport(far, True), near, FakeTransport(near, False), greet=False)

    def ends(self) -> tuple[Any, Any]:
        """A dialling connection of the one, an accepting one of the other."""
        factory = NodeFactory(self.network.clock, self.one, dialled=address(1))
        return factory.buildProtocol(None), NodeProtocol(self.network.clock, self.two)

    def test_two_masternodes_link(self) -> None:
        """The handshake runs inside TLS, bound to the channel, and messages pass."""
        dialling, accepting = self.ends()
        self.network.pumps.append(self.channel(dialling, accepting))
        self.network.run(1)
        self.assertEqual((dialling.node_key, accepting.node_key), (VOTERS[1].public_hex, VOTERS[0].public_hex))
        self.one.broadcast([messages.GetFinalized(since=1)])
        self.network.run(0.1)
        heard = [message for _, message in self.network.recorders[address(1)].messages]
        self.assertEqual(heard, [messages.GetFinalized(since=1)])

    def test_one_that_speaks_no_tls(self) -> None:
        """Whoever dials it hears why it is not proven; and who dials without TLS where there is one, that it may be."""
        dialling, accepting = self.ends()
        only = Factory.forProtocol(lambda: dialling)
        near = TLSMemoryBIOFactory(KeyedConnectionCreator(), True, only, self.network.clock).buildProtocol(None)
        pump = connect(accepting, FakeTransport(accepting, True), near, FakeTransport(near, False), greet=False)
        self.assertIn("it does not speak TLS", self.why(dialling, pump))
        dialling, accepting = self.ends()
        only = Factory.forProtocol(lambda: accepting)
        far = secured(only, ServerContextFactory(*self.files), self.network.clock).buildProtocol(None)
        pump = connect(far, FakeTransport(far, True), dialling, FakeTransport(dialling, False), greet=False)
        self.assertIn("as one that speaks TLS does", self.why(dialling, pump))

    def why(self, dialling: NodeProtocol, pump: Any) -> str:
        """Why the other end is not proven."""
        proven = dialling.when_handshaken()
        self.network.pumps.append(pump)
        self.network.run(1)
        return str(self.failureResultOf(proven, NotProven).value)

    def test_who_says_why_it_is_not_proven(self) -> None:
        """What it complains of, or what this node does, is the reason, and not what follows."""
        wrong = Refusal(ErrorCode.WRONG_GENESIS, "another" + 1_000 * "!")
        other = Refusal(ErrorCode.GOING_AWAY, "this node stops")
        for end, reason in (
            (lambda near, far: far.close(wrong), "it says wrong_genesis, 'another!!!"),
            (lambda near, far: near.close(wrong), "this node says wrong_genesis"),
            (lambda near, far: near.refuse(wrong), "this node says wrong_genesis"),
            (lambda near, far: (near.complained(wrong), near.close(other)), "it says wrong_genesis, 'another!!!"),
        ):
            told = self.ended(end)
            self.assertIn(f"not proven to be a masternode: {reason}", told)
            self.assertLess(len(told), 300)

    def test_what_they_say_is_short_with_its_escapes_too(self) -> None:
        """However many characters it takes to write theirs harmlessly; and of a dial it is written down once."""
        lines: list[str] = []
        self.patch(NodeProtocol, "log", Logger(observer=lambda event: self.hear(event, lines)))
        wrong = Refusal(ErrorCode.WRONG_GENESIS, 500 * "\u2028")
        told = self.ended(lambda near, far: (near.complained(wrong), near.abort()))
        self.assertIn("it says wrong_genesis, '", told)
        self.assertLess(len(told), 350)
        self.assertEqual([line for line in lines if "complains" in line], [])
        self.ended(lambda near, far: (far.complained(wrong), far.abort()))
        (line,) = (line for line in lines if "complains" in line)
        self.assertLess(len(line), 350)

    def hear(self, event: Any, lines: list[str]) -> None:
        if event["log_level"] >= LogLevel.info:
            lines.append(str(formatEvent(event)))

    def test_who_says_nothing(self) -> None:
        """This node's patience ends, and not theirs."""
        dialling, silent = self.ends()[0], Protocol()
        pump = connect(silent, FakeTransport(silent, True), dialling, FakeTransport(dialling, False), greet=False)
        proven = dialling.when_handshaken()
        self.network.pumps.append(pump)
        self.network.run(2 * limits.HANDSHAKE)
        self.assertIn("this node cut it off", str(self.failureResultOf(proven, NotProven).value))

    def test_who_leaves_without_a_reason(self) -> None:
        """What was refused and did not end it is none; and whoever spoke, or stood behind TLS, speaks our language."""
        minor = Refusal(ErrorCode.UNSUPPORTED, "no")
        for end in (
            lambda near, far: far.close(),
            lambda near, far: (near.refuse(minor), far.close()),
        ):
            self.assertTrue(self.ended(end).endswith("masternode: it hung up"))
        dialling, accepting = self.ends()
        pump = connect(
            accepting, FakeTransport(accepting, True), dialling, FakeTransport(dialling, False), greet=False
        )
        accepting.send(messages.Ping())
        accepting.close()
        self.assertTrue(self.why(dialling, pump).endswith("masternode: it hung up"))

    def ended(self, end: Any) -> str:
        """Why the other end is not proven, where ``end(near, far)`` came between the channel and the handshake."""
        dialling, accepting = self.ends()
        pump = self.channel(dialling, accepting)
        while not dialling._secure:
            pump.pump()
        end(dialling, accepting)
        return self.why(dialling, pump)

    def test_a_man_in_the_middle_links_with_nobody(self) -> None:
        """He ends both channels with the same certificate and passes on every word: the binding gives him away."""
        dialling, accepting = self.ends()
        near, far = Relay(self.network.clock), Relay(self.network.clock)
        near.other, far.other = far, near
        self.network.pumps += [self.channel(dialling, near), self.channel(far, accepting)]
        self.network.run(1)
        self.assertTrue(near.is_ready and far.is_ready, "he was there")
        self.assertEqual((self.one.links, self.two.links), ({}, {}))
        self.assertFalse(dialling.is_open)
        self.network.run(limits.HANDSHAKE + 1, 0.5)
        self.assertFalse(accepting.is_open)

    def test_without_tls_he_is_only_a_wire(self) -> None:
        """The same relay on plain TCP passes, as the page for operators says: there TLS is needed."""
        dialling, accepting = self.ends()
        near, far = Relay(self.network.clock), Relay(self.network.clock)
        near.other, far.other = far, near
        for client, server in ((dialling, near), (far, accepting)):
            self.network.pumps.append(
                connect(server, FakeTransport(server, True), client, FakeTransport(client, False), greet=False)
            )
        self.network.run(1)
        self.assertEqual(len(self.one.links), 1)

    def test_stopping_a_tls_link_leaves_nothing(self) -> None:
        """The close_notify is answered, the timers are gone (a producer that stays registered would hold it)."""
        self.network.pumps.append(self.channel(*self.ends()))
        self.network.run(1)
        self.assertEqual(len(self.network.links()), 2)
        self.network.stop()
        for stopped in self.network.stopped:
            self.successResultOf(stopped)
        self.assertEqual([call for call in self.network.clock.getDelayedCalls() if call.active()], [])


class Ports(SynchronousTestCase):
    """The listening port."""

    def manager(self, reactor: Any, **more: Any) -> PeerManager:
        return PeerManager(
            reactor=reactor,
            key=VOTERS[0],
            genesis=GENESIS,
            listen="127.0.0.1:24100",
            dispatcher=Recorder(),
            on_identity_conflict=lambda _: None,
            **more,
        )

    def listen(self, manager: PeerManager) -> Any:
        from twisted.internet.defer import Deferred

        return Deferred.fromCoroutine(manager.listen())

    def test_it_listens_where_it_should(self) -> None:
        """On the host and the port of the address, and nowhere else."""
        reactor = MemoryReactorClock()
        self.successResultOf(self.listen(self.manager(reactor)))
        ((port, _, _, host),) = reactor.tcpServers
        self.assertEqual((host, port), ("127.0.0.1", 24100))

    def test_a_port_that_is_taken(self) -> None:
        """One sentence that names the address (O-01)."""

        class Taken(MemoryReactorClock):
            def listenTCP(self, port: Any, *_: Any, **__: Any) -> Any:
                raise CannotListenError("127.0.0.1", port, OSError("in use"))

        failure = self.failureResultOf(self.listen(self.manager(Taken())), ConfigurationError)
        self.assertIn("127.0.0.1:24100", str(failure.value))

    def test_tls_where_there_is_a_context(self) -> None:
        """The port then speaks TLS, whatever it is asked in."""
        folder = Path(self.mktemp())
        folder.mkdir()
        make_certificate(folder / "c.pem", folder / "k.pem", "127.0.0.1")
        reactor = MemoryReactorClock()
        context = ServerContextFactory(folder / "c.pem", folder / "k.pem")
        self.successResultOf(self.listen(self.manager(reactor, tls=context)))
        ((port, factory, backlog, host),) = reactor.tcpServers
        self.assertEqual((host, port, backlog), ("127.0.0.1", 24100, limits.LISTEN_QUEUE))
        transport = factory.buildProtocol(None)
        self.assertIsInstance(transport, ServerTransport)
        self.assertIsInstance(transport.wrappedProtocol, NodeProtocol)
        transport.makeConnection(StringTransport())
        self.assertIs(transport.getHandle().get_context(), context.getContext())

    def test_before_it_runs_nobody_is_served(self) -> None:
        """A connection between ``listen`` and ``startService`` is told to come again, and leaves nothing."""
        network = Network()
        manager = network.add(0, [])
        from tests.test_network.test_peer_manager import _wallet

        wallet = _wallet(network, manager)
        network.run(1)
        self.assertEqual(wallet.codes(), ["going_away"])
        self.assertEqual((manager._connections, manager.house._blocks), ({}, {}))
        self.assertEqual([call for call in network.clock.getDelayedCalls() if call.active()], [])
