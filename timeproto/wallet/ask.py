"""A short conversation with one node, or with several at the same time: connect, ask, close."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.logger import Logger

from timeproto.errors import Refusal
from timeproto.model.genesis import Genesis
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.nodes import Node
from timeproto.wallet.protocol import WalletClientFactory, WalletClientProtocol
from timeproto.wallet.turns import together

if TYPE_CHECKING:  # a client asks itself
    from timeproto.wallet.client import WalletClient

HELD_UP = 60.0
"""Seconds, in all, for which one of several nodes may hold up whoever asks them."""


@asynccontextmanager
async def conversation(
    reactor: Any, node: Node, genesis: Genesis | None = None, **arguments: Any
) -> AsyncIterator[WalletClientProtocol]:
    """A connection to ``node`` that is closed in the end; requests may be sent when it is ready. Raises
    :class:`ConnectionGone` if nobody is there. ``arguments``: of :class:`WalletClientProtocol`."""
    factory = WalletClientFactory(reactor, genesis, node_key=node.key, **arguments)
    try:
        protocol: WalletClientProtocol = await node.endpoint(reactor).connect(factory)
    except (ConnectError, DNSLookupError, ValueError) as error:  # the last: no host can have such a name
        raise ConnectionGone(f"{node.address} cannot be reached: {error}") from None
    except ConnectingCancelledError:
        raise CancelledError from None  # as it is at any other moment
    try:
        yield protocol
    finally:
        protocol.close()


async def ask(reactor: Any, node: Node | str, question: Any, genesis: Genesis | None = None) -> Any:
    """The reply. Raises :class:`~timeproto.errors.Refusal` (they said no) or :class:`ConnectionGone` (nobody is there,
    or they went away). With ``genesis`` the node must prove that it is one of its masternodes."""
    async with conversation(reactor, Node(node) if isinstance(node, str) else node, genesis) as protocol:
        await protocol.when_ready()
        return await protocol.request(question)


@attrs.define(eq=False)
class _Other:
    """``taken``: seconds that were spent waiting for it."""

    address: str
    protocol: WalletClientProtocol
    belief: Belief
    taken: float


class Others:
    """Nodes beside the one of the moment, each a masternode of its own, that are asked the same at the same time. Who
    lies, does not answer, or has taken more than ``HELD_UP`` seconds in all is asked no more."""

    log = Logger()

    def __init__(self, client: WalletClient) -> None:
        self._client = client
        self._nodes = iter(client.nodes.others())
        self._keys = {None if client.connection is None else client.connection.node_key}
        self._asked: list[_Other] = []
        self._conversations = AsyncExitStack()

    def __len__(self) -> int:
        return len(self._asked)

    @asynccontextmanager
    async def connected(self, number: int) -> AsyncIterator[None]:
        """Up to ``number`` of them are, meanwhile; those that cannot be asked are passed over."""
        async with self._conversations:
            await together(self._take() for _ in range(number))
            yield

    async def _take(self) -> None:
        """The next one that can be asked."""
        client = self._client
        for node in self._nodes:
            began, why = client.seconds(), "it is a masternode that is asked already"
            talk = conversation(client.reactor, node, client.genesis, access_key=node.access_key)
            try:
                protocol = await self._conversations.enter_async_context(talk)
                await protocol.when_ready()
            except (ConnectionGone, Refusal) as error:
                why = str(error)
            else:
                if protocol.node_key not in self._keys:
                    self._keys.add(protocol.node_key)
                    belief = client.belief.of(protocol.request)
                    self._asked.append(_Other(node.address, protocol, belief, client.seconds() - began))
                    return
                protocol.close()
            self.log.warn("the node at {node} is not asked: {why}", node=node.address, why=why)

    async def any(self, question: Callable[[Belief], Awaitable[bool]]) -> bool:
        """True if one of them proves it."""
        return any(await together([self._ask(each, question) for each in self._asked]))

    async def _ask(self, other: _Other, question: Callable[[Belief], Awaitable[bool]]) -> bool:
        client, began = self._client, self._client.seconds()
        late = client.reactor.callLater(max(0.0, HELD_UP - other.taken), other.protocol.abort)
        try:
            return await question(other.belief)
        except (ConnectionGone, Refusal, Lie) as error:
            self._asked.remove(other)
            other.protocol.close()
            why = str(error) if late.active() else f"it took more than {HELD_UP:g} s"
            self.log.warn("the node at {node} is asked no more: {why}", node=other.address, why=why)
            return False
        finally:
            other.taken += client.seconds() - began
            if late.active():
                late.cancel()
