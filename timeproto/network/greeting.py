"""Connections that count only once they are greeted: the door between our handshakes and Twisted's ClientService.

``ClientService`` takes an open TCP connection for a success, and its ``prepareConnection`` cannot lose the connection
it prepares (it has no transition for that, as of Twisted 26.10). So the handshake happens inside ``connect``: who
refuses us counts as a failed attempt and is dialled ever more rarely, and a connection lost in mid-handshake is one
more failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from timeproto import limits
from timeproto.network.protocol import MessageProtocol
from timeproto.network.requests import ConnectionGone

FIRST_RETRY = 0.2
"""Seconds to the first retry, about: nodes that start together find each other at once."""
RETRY_FACTOR = 1.5


def back_off(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row: growing to ``limits.RECONNECT_MAX``, and spread by
    half of itself to either side, so that a thousand wallets do not come back in the same moment."""
    pause = min(FIRST_RETRY * RETRY_FACTOR ** min(attempt - 1, 50), limits.RECONNECT_MAX)
    return pause * (0.5 + chance())


class Handle(Protocol):
    """What ClientService holds in place of the connection: it hears of the end, and can bring it about."""


class HandleFactory(Factory):
    """Makes handles, for ClientService."""

    noisy = False
    protocol = Handle


class _Hangup:
    """The part of a transport that ClientService uses."""

    def __init__(self, connection: MessageProtocol) -> None:
        self._connection = connection

    def loseConnection(self) -> None:
        self._connection.close()


@implementer(IStreamClientEndpoint)
class GreetedEndpoint:
    """Connects by ``endpoint`` with ``factory``, and succeeds when ``greet(connection)`` has."""

    def __init__(self, endpoint: Any, factory: Any, greet: Callable[[Any], Deferred[Any]]) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._greet = greet

    def __repr__(self) -> str:
        return f"<GreetedEndpoint {self._endpoint!r}>"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Fires with a handle made by ``protocolFactory``; cancelling it drops the connection.

        Cancelled it has failed when ``cancel`` returns, as ClientService needs it, though it be from within ``greet``.
        """
        connecting = Deferred.fromCoroutine(self._connect(protocolFactory))
        outcome: Deferred[Any] = Deferred(lambda _: connecting.cancel())

        def connected(handle: Any) -> None:
            if outcome.called:
                handle.transport.loseConnection()
            else:
                outcome.callback(handle)

        def failed(failure: Failure) -> None:
            if not outcome.called:
                outcome.errback(failure)

        connecting.addCallbacks(connected, failed)
        return outcome

    async def _connect(self, handles: Any) -> Any:
        connection: MessageProtocol = await self._endpoint.connect(self._factory)
        try:
            await self._greet(connection)
            if not connection.is_open:
                raise ConnectionGone(f"{connection.peer_host} left as soon as it was greeted")
        except BaseException:
            if connection.is_open:  # else it is being closed with a word, and in time
                connection.abort()
            raise
        handle = handles.buildProtocol(None)
        handle.makeConnection(_Hangup(connection))
        connection.on_lost(lambda reason: handle.connectionLost(reason or Failure(ConnectionGone("lost"))))
        return handle
