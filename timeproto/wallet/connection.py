"""The connections of a client: each to whichever node is the next, and each tells the client who it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timeproto.model.genesis import Genesis
from timeproto.wallet.protocol import Listener, Notice, WalletClientFactory, WalletClientProtocol


class ConnectionFactory(WalletClientFactory):
    """``nodes``: a :class:`~timeproto.wallet.nodes.Rotation`, whose ``current`` one is about to be talked to."""

    def __init__(
        self,
        clock: Any,
        genesis: Genesis,
        nodes: Any,
        *,
        on_notification: Listener,
        on_notice: Callable[[WalletClientProtocol, Notice], None],
        on_lost: Callable[[WalletClientProtocol], None],
        random: Callable[[int], bytes],
    ) -> None:
        super().__init__(clock, genesis, on_notification=on_notification, random=random)
        self._nodes = nodes
        self._on_notice = on_notice
        self._on_lost = on_lost

    def buildProtocol(self, addr: Any) -> WalletClientProtocol:
        node = self._nodes.current
        protocol = WalletClientProtocol(
            self._clock,
            self._genesis,
            node_key=node.key,
            access_key=node.access_key,
            on_notice=lambda notice: self._on_notice(protocol, notice),
            on_lost=lambda: self._on_lost(protocol),
            **self._arguments,
        )
        return protocol
