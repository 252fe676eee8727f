"""A short conversation with one node: connect, ask, close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.error import ConnectError, DNSLookupError

from timeproto.model.genesis import Genesis
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.nodes import Node
from timeproto.wallet.protocol import WalletClientFactory, WalletClientProtocol


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
