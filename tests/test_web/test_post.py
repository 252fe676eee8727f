"""One POST: over real TLS to a shop on this machine, and what happens to those who would misuse it."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

import trustme
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.test_web.harness import Wire
from timeproto.web import bounds
from timeproto.web.hooks import headers_of, sign
from timeproto.web.post import (
    Goodbyes,
    GuardedEndpoint,
    GuardedEndpoints,
    Lookups,
    Poster,
    _BoundedEndpoint,
    _Whole,
    guarded_agent,
)
from timeproto.web.targets import TargetRefused, Targets

AUTHORITY = trustme.CA()
TAKEN = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


class Shop(Protocol):
    """Answers every request with the same bytes, and keeps what it was sent."""

    def connectionMade(self) -> None:
        self.factory.opened(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.closed(self)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        shops: Any = self.factory
        shops.heard += data
        if b"\r\n\r\n" in shops.heard and self.transport is not None:
            self.transport.write(shops.says)
            shops.on_heard()


class Shops(Factory):
    noisy = False
    protocol: Any = Shop

    def __init__(self, says: bytes = TAKEN) -> None:
        self.says = says
        self.heard = b""
        self.connections = 0
        self.on_opened: Callable[[], None] = lambda: None
        self.on_heard: Callable[[], None] = lambda: None
        self._open: set[Any] = set()
        self._waiting: list[Deferred[None]] = []

    def opened(self, shop: Any) -> None:
        self.connections += 1
        self._open.add(shop)
        self.on_opened()

    def closed(self, shop: Any) -> None:
        self._open.discard(shop)
        if not self._open:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def when_all_are_gone(self) -> Deferred[None]:
        if not self._open:
            return succeed(None)
        self._waiting.append(Deferred())
        return self._waiting[-1]


class Deaf(Protocol):
    """Takes a connection and says nothing."""

    def connectionMade(self) -> None:
        self.factory.opened(self)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.closed(self)  # type: ignore[union-attr]



class RealTls(TestCase):
    """A receiver on the loopback, which the operator opened, under a name that a look-up of our own leads there."""

    timeout = 60

    def setUp(self) -> None:
        self.shops = Shops()
        self.asked: list[str] = []

    def tearDown(self) -> Deferred[None]:
        """Every connection ends, whatever came of it."""
        return self.shops.when_all_are_gone()

    def open(self, *names: str) -> int:
        issued = AUTHORITY.issue_cert(*names)
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_chain_file(str(self.file(issued.cert_chain_pems[0].bytes())))
        context.use_privatekey_file(str(self.file(issued.private_key_pem.bytes())))
        options = CertificateOptions()
        options._context = context
        port = reactor.listenSSL(0, self.shops, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def open_plainly(self, protocol: type[Protocol]) -> int:
        self.shops.protocol = protocol
        port = reactor.listenTCP(0, self.shops, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def file(self, data: bytes) -> str:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(data)
        return path

    def look_up(self, host: str, port: int) -> Deferred[list[str]]:
        self.asked.append(host)
        return succeed(["127.0.0.1"])

    async def post(
        self, url: str, body: bytes = b"{}", *, trusted: bool = True, allowed: str = "127.0.0.0/8",
        clock: Any = reactor,
    ) -> str:  # fmt: skip
        authority = Certificate.loadPEM(AUTHORITY.cert_pem.bytes())
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates([authority])) if trusted else None
        agent = guarded_agent(reactor, Targets([allowed]), self.look_up, policy)
        return await Poster(clock, agent).post(url, body, headers_of("ab" * 32, b"key", 7, body))

    async def test_delivered(self) -> None:
        """Name, certificate and signature are right: the shop has the body, and its signature is the one to check."""
        port = self.open("shop.example")
        self.assertEqual(await self.post(f"https://shop.example:{port}/a?b=c", b'{"x":1}'), "delivered")
        head, _, body = self.shops.heard.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"POST /a?b=c HTTP/1.1\r\n"), head)
        lines = {name.lower(): value for name, value in (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])}
        self.assertEqual(body, b'{"x":1}')
        self.assertEqual(lines[b"host"], b"shop.example:%d" % port)
        self.assertEqual(lines[b"timeproto-signature"].decode(), sign(b"key", 7, body))
        self.assertEqual(lines[b"content-length"], b"7")

    async def test_a_certificate_for_another_name(self) -> None:
        """Nothing is sent to who cannot prove the name."""
        port = self.open("other.example")
        self.assertEqual(await self.post(f"https://shop.example:{port}/"), "certificate")
        self.assertEqual(self.shops.heard, b"")

    async def test_a_certificate_of_nobody(self) -> None:
        """An authority that the system does not know is none."""
        port = self.open("shop.example")
        self.assertEqual(await self.post(f"https://shop.example:{port}/", trusted=False), "certificate")
        self.assertEqual(self.shops.heard, b"")

    async def test_a_name_that_leads_inside(self) -> None:
        """What the look-up says is judged: no connection is made to a place the operator did not open."""
        port = self.open("shop.example")
        self.assertEqual(await self.post(f"https://shop.example:{port}/", allowed="10.0.0.0/8"), "forbidden")
        self.assertEqual((self.shops.connections, self.asked), (0, ["shop.example"]))

    async def test_a_redirect_is_not_followed(self) -> None:
        """It is a refusal like any other; nobody goes where it points."""
        port = self.open("shop.example")
        self.shops.says = b"HTTP/1.1 307 x\r\nLocation: https://shop.example:%d/b\r\nContent-Length: 0\r\n\r\n" % port
        self.assertEqual(await self.post(f"https://shop.example:{port}/"), "refused")
        self.assertEqual((self.shops.connections, self.asked), (1, ["shop.example"]))

    async def test_other_answers(self) -> None:
        """410 is goodbye; errors, and what is no HTTP at all, are failures."""
        port = self.open("shop.example")
        for says, outcome in (
            (b"HTTP/1.1 410 x\r\nContent-Length: 0\r\n\r\n", "gone"),
            (b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "refused"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "unreachable"),
        ):
            self.shops.says, self.shops.heard = says, b""
            self.assertEqual(await self.post(f"https://shop.example:{port}/"), outcome)

    async def test_an_answer_without_end(self) -> None:
        """Headers for ever are cut off at the bound; a body is not waited for, and a compressed one not opened."""
        port = self.open("shop.example")
        self.shops.says = b"HTTP/1.1 200 x\r\n" + b"X-A: b\r\n" * (bounds.WEBHOOK_ANSWER // 4)
        self.assertEqual(await self.post(f"https://shop.example:{port}/"), "unreachable")
        self.shops.says, self.shops.heard = b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000 + TAKEN, b""
        self.assertEqual(await self.post(f"https://shop.example:{port}/"), "unreachable")
        self.shops.heard = b""
        self.shops.says = b"HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\nContent-Length: 999999999\r\n\r\nnot gzip"
        self.assertEqual(await self.post(f"https://shop.example:{port}/"), "delivered")

    async def test_a_receiver_that_never_answers(self) -> None:
        """Before the handshake or after the request: called off in time, and no connection is left."""
        clock = Clock()
        deaf = self.open_plainly(Deaf)
        self.shops.on_opened = lambda: clock.advance(bounds.WEBHOOK_TIME)
        self.assertEqual(await self.post(f"https://shop.example:{deaf}/", clock=clock), "timeout")
        await self.shops.when_all_are_gone()
        self.shops.protocol, self.shops.says, self.shops.on_opened = Shop, b"", lambda: None
        self.shops.on_heard = lambda: clock.advance(bounds.WEBHOOK_TIME)
        port = self.open("shop.example")
        self.assertEqual(await self.post(f"https://shop.example:{port}/", clock=clock), "timeout")
        self.assertIn(b"POST / ", self.shops.heard)

    async def test_a_number_as_host(self) -> None:
        """A certificate for the number counts, one for a name does not."""
        port = self.open("127.0.0.1")
        self.assertEqual(await self.post(f"https://127.0.0.1:{port}/"), "delivered")
        self.assertEqual(self.asked, ["127.0.0.1"])
        port = self.open("shop.example")
        self.assertEqual(await self.post(f"https://127.0.0.1:{port}/"), "certificate")

    async def test_spellings_arrive_as_they_are(self) -> None:
        """Host names know no case; path and query reach the receiver to the letter."""
        port = self.open("shop.example")
        for path in ("/%7Ea/%2F/;b?c=%20&d==e&&f", "/a//b/", "/%ff%zz", ""):
            self.shops.heard = b""
            self.assertEqual(await self.post(f"https://SHOP.example:{port}{path}"), "delivered")
            self.assertTrue(self.shops.heard.startswith(f"POST {path or '/'} HTTP/1.1\r\n".encode()), path)

    async def test_the_systems_look_up(self) -> None:
        """Literals in every spelling come back as the numbers that are dialled; what is nothing fails."""
        lookups = Lookups(reactor)
        self.assertEqual(await lookups("127.0.0.1", 1), ["127.0.0.1"])
        self.assertEqual(await lookups("::1", 1), ["::1"])
        for spelled in ("2130706433", "0x7f.1", "127.1"):
            try:
                found = await lookups(spelled, 1)
            except socket.gaierror:
                continue
            self.assertFalse(any(Targets().may_dial(each) for each in found), spelled)
        for nothing in ("no..name", "x" * 64 + ".example"):
            with self.assertRaises(OSError):
                await lookups(nothing, 1)


class FakeAgent:
    """Answers as told, or not at all."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.cancelled = False

    def request(self, *asked: Any) -> Deferred[Any]:
        def cancel(_: Any) -> None:
            self.cancelled = True

        return Deferred(cancel) if self.answer is None else fail(self.answer)


class Outcomes(SynchronousTestCase):
    def test_no_answer(self) -> None:
        """After ten seconds it is called off."""
        clock, agent = Clock(), FakeAgent()
        posted = Poster(clock, agent).post("https://shop.example/", b"", {})
        clock.advance(bounds.WEBHOOK_TIME)
        self.assertEqual(self.successResultOf(posted), "timeout")
        self.assertTrue(agent.cancelled)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_what_went_wrong(self) -> None:
        """Each failure under its name, also where Twisted wraps it."""
        for error, outcome in (
            (OSError("no"), "unreachable"), (TargetRefused("in"), "forbidden"), (SSL.Error("x"), "certificate"),
            (ResponseNeverReceived([Failure(SSL.Error("x"))]), "certificate"),
            (ResponseNeverReceived([Failure(OSError("x"))]), "unreachable"),
        ):  # fmt: skip
            posted = Poster(Clock(), FakeAgent(error)).post("https://shop.example/", b"", {})
            self.assertEqual(self.successResultOf(posted), outcome)

    def test_a_name_that_no_certificate_can_bear(self) -> None:
        """Refused by the TLS library before anything is dialled: one outcome more, no failure."""
        memory = MemoryReactorClock()
        poster = Poster(memory, guarded_agent(memory, Targets(), lambda host, port: succeed(["8.8.8.8"])))
        posted = poster.post("https://xn--a.example/", b"", {})
        self.assertEqual(self.successResultOf(posted), "unreachable")
        self.assertEqual((memory.tcpClients, memory.getDelayedCalls()), ([], []))


@implementer(IStreamClientEndpoint)
class Near:
    """Connects at once, to a wire of its own each time."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.protocols: list[Any] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        protocol = factory.buildProtocol(None)
        self.wires.append(Wire())
        self.protocols.append(protocol)
        protocol.makeConnection(self.wires[-1])
        return succeed(protocol)


class Early(SynchronousTestCase):
    """Receivers that answer before they have read."""

    def post(self, body: bytes, *says: bytes) -> tuple[Deferred[str], Near]:
        clock, near = Clock(), Near()
        bounded = _BoundedEndpoint(near, Goodbyes(clock))

        @implementer(IAgentEndpointFactory)
        class Nearby:
            def endpointForURI(self, uri: Any) -> Any:
                return bounded

        agent = Agent.usingEndpointFactory(clock, Nearby(), HTTPConnectionPool(clock, persistent=False))
        posted = Poster(clock, agent).post("https://shop.example/", body, {})
        for each in says:
            near.protocols[0].dataReceived(each)
        return posted, near

    def test_what_is_no_answer(self) -> None:
        """However long the request, what is malformed is a failure at once, and nothing is left unhandled."""
        for says in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\xff: x\r\nnocolon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
        ):
            posted, near = self.post(b"z" * bounds.WEBHOOK_BODY, says)
            self.assertEqual(self.successResultOf(posted), "unreachable")
            self.assertTrue(near.wires[0].is_ended)
            gc.collect()  # what nobody handled is logged when it is forgotten
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_short_answer_to_a_long_request(self) -> None:
        """It counts, and the whole request was written all the same."""
        posted, near = self.post(b"z" * bounds.WEBHOOK_BODY, TAKEN[:20], TAKEN[20:])
        self.assertEqual(self.successResultOf(posted), "delivered")
        self.assertTrue(near.wires[0].value().endswith(b"\r\n\r\n" + b"z" * bounds.WEBHOOK_BODY))


class Dialling(SynchronousTestCase):
    def dial(self, *addresses: str) -> tuple[MemoryReactorClock, Deferred[Any]]:
        memory = MemoryReactorClock()
        endpoint = GuardedEndpoint(memory, "shop.example", 443, Targets(), lambda host, port: succeed(list(addresses)))
        return memory, endpoint.connect(Shops())

    def test_only_what_was_judged(self) -> None:
        """Of a name that leads in and out only the number outside is dialled, by number."""
        memory, connected = self.dial("127.0.0.1", "10.0.0.1", "8.8.8.8", "::1")
        self.assertEqual([client[0] for client in memory.tcpClients], ["8.8.8.8"])
        self.assertNoResult(connected)

    def test_nothing_outside(self) -> None:
        """No number is left, or there was none: refused, and nothing dialled."""
        for addresses in ((), ("127.0.0.1", "169.254.169.254"), ("::ffff:10.0.0.1",)):
            memory, connected = self.dial(*addresses)
            self.failureResultOf(connected, TargetRefused)
            self.assertEqual(memory.tcpClients, [])

    def test_one_after_the_other(self) -> None:
        """A number that does not answer costs a few seconds, and the next one is tried; no third."""
        memory, connected = self.dial("8.8.8.8", "2606:4700::1", "1.1.1.1")
        for number in range(2):
            host, _, factory, timeout, _ = memory.tcpClients[number]
            self.assertEqual((host, timeout), (("8.8.8.8", "2606:4700::1")[number], bounds.WEBHOOK_DIAL))
            factory.clientConnectionFailed(None, Failure(OSError("no answer")))
        self.failureResultOf(connected, OSError)
        self.assertEqual(len(memory.tcpClients), 2)

    def test_receivers_that_never_hang_up(self) -> None:
        """Closed by us, not by them: cut off after a moment, and at once those before when there are many."""
        clock, near = Clock(), Near()
        endpoint = _BoundedEndpoint(near, Goodbyes(clock))
        for _ in range(bounds.WEBHOOK_GOODBYES + 1):
            plain = self.successResultOf(endpoint.connect(Factory.forProtocol(Protocol)))
            plain.transport.loseConnection()
        self.assertEqual([each.aborted for each in near.wires], [True] + [False] * bounds.WEBHOOK_GOODBYES)
        near.protocols[1].connectionLost(Failure(ConnectionDone()))
        clock.advance(bounds.WEBHOOK_GOODBYE)
        self.assertEqual([each.aborted for each in near.wires], [True, False] + [True] * (len(near.wires) - 2))
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_names_that_never_come_back(self) -> None:
        """So many may be looked up at a time; one more fails at once, and an answer that is late is not heard."""
        calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        memory = MemoryReactorClock()
        memory.callFromThread = lambda call, *rest: calls.put(lambda: call(*rest))  # type: ignore[method-assign]
        lookups = Lookups(memory)
        waiting = [lookups("127.0.0.1", 1) for _ in range(bounds.WEBHOOK_LOOKUPS)]
        self.failureResultOf(lookups("127.0.0.1", 1), OSError)
        for each in waiting:
            each.cancel()
            self.failureResultOf(each)
        for _ in waiting:
            calls.get()()
        self.assertNoResult(lookups("127.0.0.1", 1))

    def test_a_look_up_that_finds_no_thread_takes_no_place(self) -> None:
        """Where the system has no threads left for a while, names are looked up when it has some again."""

        def refuse(thread: Thread) -> None:
            raise RuntimeError("can't start new thread")

        memory, start = MemoryReactorClock(), Thread.start
        memory.callFromThread = lambda call, *rest: None  # type: ignore[method-assign]
        lookups = Lookups(memory)
        self.patch(Thread, "start", refuse)
        for _ in range(bounds.WEBHOOK_LOOKUPS):
            self.assertRaises(RuntimeError, lookups, "127.0.0.1", 1)
        self.patch(Thread, "start", start)
        self.assertNoResult(lookups("127.0.0.1", 1))

    def test_plain_http_is_nowhere(self) -> None:
        """The agent itself knows no other scheme."""
        poster = Poster(Clock(), guarded_agent(MemoryReactorClock(), Targets(), Lookups(MemoryReactorClock())))
        self.assertEqual(self.successResultOf(poster.post("http://8.8.8.8/", b"", {})), "forbidden")

    def test_what_they_are_to_twisted(self) -> None:
        """Endpoints and agents of the declared kinds."""
        memory, targets = MemoryReactorClock(), Targets()
        endpoints = GuardedEndpoints(memory, targets, Lookups(memory))
        inner = GuardedEndpoint(memory, "a", 1, targets, Lookups(memory))
        self.assertTrue(verifyObject(IAgentEndpointFactory, endpoints))
        self.assertTrue(verifyObject(IStreamClientEndpoint, inner))
        self.assertTrue(verifyObject(IStreamClientEndpoint, _BoundedEndpoint(inner, Goodbyes(memory))))
        self.assertTrue(verifyObject(IBodyProducer, _Whole(b"x")))
        self.assertTrue(verifyObject(IAgent, Poster(Clock(), FakeAgent())._agent))
