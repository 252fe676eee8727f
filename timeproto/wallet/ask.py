"""One question to one node: connect, ask, close."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectError, DNSLookupError

from timeproto.model.genesis import Genesis
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.nodes import Node
from timeproto.wallet.protocol import WalletClientFactory


async def ask(reactor: Any, node: Node | str, question: Any, genesis: Genesis | None = None) -> Any:
    """The reply. Raises :class:`~timeproto.errors.Refusal` (they said no) or :class:`ConnectionGone` (nobody is there,
    or they went away). With ``genesis`` the node must prove that it is one of its masternodes."""
    if isinstance(node, str):
        node = Node(node)
    factory = WalletClientFactory(reactor, genesis, node_key=node.key)
    try:
        protocol = await node.endpoint(reactor).connect(factory)
    except (ConnectError, DNSLookupError) as error:
        raise ConnectionGone(f"{node.address} cannot be reached: {error}") from None
    try:
        await protocol.when_ready()
        return await protocol.request(question)
    finally:
        protocol.close()
