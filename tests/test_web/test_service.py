"""The web port as a service: it opens, it says what hinders it, it closes."""

from __future__ import annotations

from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import MemoryReactorClock, RaisingMemoryReactor
from twisted.trial.unittest import SynchronousTestCase
from wsproto.events import CloseConnection
from zope.interface.verify import verifyObject

from tests.test_web.harness import Web
from tests.test_web.sockets import Wallet
from timeproto import limits
from timeproto.errors import ConfigurationError


class Service(SynchronousTestCase):
    def test_it_listens_where_it_is_told(self) -> None:
        """On the address of its endpoint, and nowhere else."""
        web, reactor = Web(), MemoryReactorClock()
        self.successResultOf(
            ensureDeferred(web.service.listen(TCP4ServerEndpoint(reactor, 24180, interface="127.0.0.1"), "x"))
        )
        ((port, factory, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (24180, "127.0.0.1"))
        self.assertIs(factory, web.service.site)

    def test_a_port_in_use(self) -> None:
        """One sentence that names the address."""
        web = Web()
        taken = CannotListenError("127.0.0.1", 24180, OSError("in use"))
        endpoint = TCP4ServerEndpoint(RaisingMemoryReactor(listenException=taken), 24180)
        failure = self.failureResultOf(ensureDeferred(web.service.listen(endpoint, "127.0.0.1:24180")))
        failure.trap(ConfigurationError)
        self.assertIn("127.0.0.1:24180", str(failure.value))

    def test_it_closes_everything(self) -> None:
        """Idle connections, streams and answers under way: all end, and nobody new comes in."""
        web = Web()
        idle, stream, slow = (web.connect() for _ in range(3))
        stream.request("GET", "/v1/events")
        web.node.held = []
        slow.request("GET", "/v1/node")
        stopped = web.service.stopService()
        for each in (idle, stream, slow):
            self.assertTrue(each.wire.disconnecting)
        self.assertIsNone(web.service.site.buildProtocol(None))
        self.assertNoResult(stopped)
        for each in (idle, stream, slow):
            each.lose()
        self.successResultOf(stopped)
        self.assertEqual(web.clock.getDelayedCalls(), [])

    def test_who_does_not_leave_is_put_out(self) -> None:
        """A connection that will not close is aborted within seconds."""
        web = Web()
        connection = web.connect().request("GET", "/live")
        connection.channel.pauseProducing()
        web.service.stopService()
        web.clock.pump([1] * 6)
        self.assertTrue(connection.wire.aborted)

    def test_who_was_given_longer_is_put_out_too(self) -> None:
        """A stream, a last answer and a WebSocket after its goodbye, all unread: none delays the end beyond seconds."""
        web = Web()
        stream = web.connect().request("GET", "/v1/events")
        last = web.connect().request("GET", "/live", Connection="close")
        wallet = Wallet(web)
        wallet.raw(wallet.frames.send(CloseConnection(1000)))
        unread = (stream, last, wallet.connection)
        for each in unread:
            each.channel.pauseProducing()
        self.assertEqual([each.wire.aborted for each in unread], [False] * 3)
        web.service.stopService()
        web.clock.pump([1] * int(limits.CLOSE + 1))
        self.assertEqual([each.wire.aborted for each in unread], [True] * 3)

    def test_a_second_goodbye_gives_no_more_time(self) -> None:
        """Whoever is closed twice has the shorter time, counted from when it was said."""
        web = Web()
        connection = web.connect()
        connection.channel.loseConnection(3)
        web.clock.advance(2)
        connection.channel.loseConnection(30)
        web.clock.advance(1)
        self.assertTrue(connection.wire.aborted)

    def test_stopped_before_it_began(self) -> None:
        """A node that fails at its start stops a web port that never opened."""
        web = Web()
        self.successResultOf(web.service.stopService())

    def test_what_it_is_to_twisted(self) -> None:
        """The channel is the producer that transports expect."""
        self.assertTrue(verifyObject(IPushProducer, Web().connect().channel))
