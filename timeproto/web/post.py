"""One POST of a webhook: to a place on the Internet, whose certificate names it, with a signature, and for a bounded
time. Of the answer only the status counts: nothing of it is kept, decoded or followed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IPolicyForHTTPS
from zope.interface import implementer

from timeproto.web import bounds
from timeproto.web.hooks import Outcome
from timeproto.web.targets import TargetRefused, Targets

Lookup = Callable[[str, int], "Deferred[list[str]]"]
"""The numeric addresses of a host."""


class Lookups:
    """Asks the system for names, each in a thread of its own: a name server that does not answer holds up nobody."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running = 0

    def __call__(self, host: str, port: int) -> Deferred[list[str]]:
        if self._running >= bounds.WEBHOOK_LOOKUPS:
            return fail(OSError("too many names are being looked up"))
        done: Deferred[list[str]] = Deferred(lambda _: None)  # the thread cannot be called off; its answer is not heard

        def ended(found: list[str] | Failure) -> None:
            self._running -= 1
            if not done.called:
                done.callback(found)

        def look_up() -> None:
            try:
                rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found: Any = list(dict.fromkeys(str(row[4][0]) for row in rows))
            except UnicodeError:
                found = Failure(OSError(f"{host} is no name"))
            except Exception:
                found = Failure()
            self._reactor.callFromThread(ended, found)

        Thread(target=look_up, name="timenode-lookup", daemon=True).start()
        self._running += 1  # a thread that could not be started has no end
        return done


@implementer(IStreamClientEndpoint)
class GuardedEndpoint:
    """A host that is looked up, judged by its numbers, and dialled by the number that was judged."""

    def __init__(self, reactor: Any, host: str, port: int, targets: Targets, lookup: Lookup) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._targets = targets
        self._lookup = lookup

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        found = await self._lookup(self._host, self._port)
        allowed = [address for address in found if self._targets.may_dial(address)]
        if not allowed:
            raise TargetRefused(f"{self._host} is not on the Internet")
        problem: Exception = OSError("no address")
        for address in allowed[: bounds.WEBHOOK_ADDRESSES]:
            kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
            try:
                return await kind(self._reactor, address, self._port, timeout=bounds.WEBHOOK_DIAL).connect(factory)
            except CancelledError:
                raise
            except Exception as error:
                problem = error
        raise problem


class Goodbyes:
    """Connections that we closed and the receiver has not: TLS waits for its last word, and some never say it."""

    def __init__(self, clock: Any) -> None:
        """``clock``: IReactorTime."""
        self._clock = clock
        self._waiting: dict[_Bounded, Any] = {}

    def say(self, connection: _Bounded) -> None:
        if connection not in self._waiting:
            if len(self._waiting) >= bounds.WEBHOOK_GOODBYES:
                self._cut(next(iter(self._waiting)))
            self._waiting[connection] = self._clock.callLater(bounds.WEBHOOK_GOODBYE, self._cut, connection)

    def heard(self, connection: _Bounded) -> None:
        """It is gone."""
        call = self._waiting.pop(connection, None)
        if call is not None and call.active():
            call.cancel()

    def _cut(self, connection: _Bounded) -> None:
        self.heard(connection)
        connection.cut()


class _Bounded(ProtocolWrapper):
    """Cuts off who answers with more than a status and some headers, and who does not let go."""

    _received = 0
    goodbyes: Goodbyes

    def dataReceived(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > bounds.WEBHOOK_ANSWER:
            self.cut()
        else:
            super().dataReceived(data)

    def loseConnection(self) -> None:
        self.goodbyes.say(self)
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.goodbyes.heard(self)
        super().connectionLost(reason)

    def cut(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    def __init__(self, endpoint: Any, goodbyes: Goodbyes) -> None:
        self._endpoint = endpoint
        self._goodbyes = goodbyes

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        def bounded(factory: Any, wrapped: Any) -> _Bounded:
            wrapper = _Bounded(factory, wrapped)
            wrapper.goodbyes = self._goodbyes
            return wrapper

        wrapping = WrappingFactory(protocolFactory)
        wrapping.noisy = False
        wrapping.protocol = bounded
        connected: Deferred[Any] = self._endpoint.connect(wrapping)
        return connected.addCallback(lambda wrapper: wrapper.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class GuardedEndpoints:
    """TLS to a judged place; the certificate must be for the host as the URL spells it (service-identity)."""

    def __init__(self, reactor: Any, targets: Targets, lookup: Lookup, policy: Any = None) -> None:
        """``policy``: IPolicyForHTTPS; by default the authorities that the system trusts."""
        self._reactor = reactor
        self._targets = targets
        self._lookup = lookup
        self._policy = IPolicyForHTTPS(policy or BrowserLikePolicyForHTTPS())
        self._goodbyes = Goodbyes(reactor)

    def endpointForURI(self, uri: URI) -> Any:
        if uri.scheme != b"https":
            raise TargetRefused("webhooks go to https:// alone")
        inner = GuardedEndpoint(self._reactor, uri.host.decode("ascii"), uri.port, self._targets, self._lookup)
        secure = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), inner)
        return _BoundedEndpoint(secure, self._goodbyes)


@implementer(IAgent)
class _StatusAgent:
    """Leaves of an answer its status: cookies, encodings and places to go on to are nobody's business here."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Deferred[Any]:
        def bare(response: Any) -> Any:
            response.headers = Headers()
            return response

        answered: Deferred[Any] = self._agent.request(method, uri, headers, bodyProducer)
        return answered.addCallback(bare)


@implementer(IBodyProducer)
class _Whole:
    """A body that is handed to the transport in one piece, with the headers: it is in memory as it is.

    Twisted's client cannot bear an answer that is malformed and comes while the request is still being written. Here
    there is no such time, whatever the receiver says and however slowly it reads.
    """

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._body)
        self._body = b""
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to be held back."""

    def resumeProducing(self) -> None:
        """Nothing is left to be written."""

    def stopProducing(self) -> None:
        """The connection is gone: what is written to it goes nowhere."""


class _Enough(Protocol):
    """Hangs up when the body begins."""

    def connectionMade(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class Poster:
    """Sends what it is given, once."""

    def __init__(self, clock: Any, agent: Any) -> None:
        """``clock``: IReactorTime; ``agent``: IAgent, as :func:`guarded_agent` makes it."""
        self._clock = clock
        self._agent = _StatusAgent(agent)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[Outcome]:
        """Fires with how it ended, within ``bounds.WEBHOOK_TIME``; never fails."""
        # A client of its own for each POST: it holds nothing that one receiver could leave for another.
        client = HTTPClient(self._agent, data_to_body_producer=_Whole)
        every = Headers({name: [value] for name, value in headers.items()})
        # What cannot even be asked (a name that no certificate can bear) is raised at once.
        asked: Deferred[Any] = maybeDeferred(
            client.post, url, data=body, headers=every, allow_redirects=False, unbuffered=True, reactor=self._clock
        )
        asked.addTimeout(bounds.WEBHOOK_TIME, self._clock, lambda *_: fail(TimeoutError()))
        return asked.addCallback(_judge).addErrback(_outcome_of)


def guarded_agent(reactor: Any, targets: Targets, lookup: Lookup, policy: Any = None) -> Any:
    """An agent that dials only what ``targets`` allows, and no place twice with one connection."""
    pool = HTTPConnectionPool(reactor, persistent=False)
    return Agent.usingEndpointFactory(reactor, GuardedEndpoints(reactor, targets, lookup, policy), pool)


def _judge(response: Any) -> Outcome:
    response.deliverBody(_Enough())
    if 200 <= response.code < 300:
        return "delivered"
    return "gone" if response.code == 410 else "refused"


def _outcome_of(failure: Failure) -> Outcome:
    reasons = [failure]
    if isinstance(failure.value, ResponseNeverReceived | RequestTransmissionFailed | ResponseFailed):
        reasons += failure.value.reasons
    if any(each.check(TargetRefused) for each in reasons):
        return "forbidden"
    if any(each.check(SSL.Error, VerificationError) for each in reasons):
        return "certificate"
    if any(each.check(TimeoutError, CancelledError) for each in reasons):
        return "timeout"
    return "unreachable"
