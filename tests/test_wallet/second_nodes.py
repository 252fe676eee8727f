"""A wallet with two nodes, the first of which keeps something to itself."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

from tests.alone_node import Node
from tests.cluster import COIN, address, key
from tests.test_wallet.ear import Resuming
from tests.test_wallet.world import Elsewhere, World
from timeproto.wallet import client as client_module
from timeproto.wallet import second as second_module
from timeproto.wire import messages


class Case(Resuming):
    def setUp(self) -> None:
        super().setUp()
        self.world.size = 2
        self.warned: list[str] = []
        self.patch(second_module, "spread", lambda seconds: seconds)
        for module, name in ((client_module, "WalletClient"), (second_module, "SecondNode")):
            self.patch(getattr(module, name), "log", mock.Mock(warn=self.warn, failure=self.warn))

    def warn(self, text: str, **values: Any) -> None:
        self.warned.append(text.format(**values))

    def other_node(self) -> Elsewhere:
        """A second node of the same network, which the first one tells nothing."""
        self.world.elsewhere = Elsewhere(self.world, Node())
        return self.world.elsewhere

    def keep_back(self, *kinds: str, connections: int = 1) -> None:
        """The first connection's node tells nothing of these kinds; what asks for them is ``not_found``."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if self.world.connections > connections or message["type"] not in kinds:
                return message
            if "id" not in message:
                return None
            return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}

        self.world.bend = bend

    def keep_all_back(self) -> None:
        self.keep_back("UTXOStateNotification", "UTXOWatermark", "FinalityProofs", "TransactionInfo")

    def without_a_quorum(self, **node: int) -> None:
        """One masternode of four, who may vote; the others say no more than that they may too."""
        self.world = World(masternodes=4, **node)
        self.wallet, self.world.size = self.world.node.wallets[0], 2
        for number in (2, 3, 4):
            peer = key(number).public_hex
            self.world.node.integration.link_up(peer)
            words = messages.Blocks(blocks=(), head=0), messages.Finalized(txids=(), next=0, head=0)
            for word in (*words, messages.Votes(voter=key(1).public_hex)):
                self.world.node.integration.handle_network_message(word, peer)

    def taking_turns(self, *places: Elsewhere) -> None:
        """Other nodes, one after the other."""
        turn = itertools.cycle(places)
        self.world.another = lambda: next(turn)
        self.world.elsewhere = places[0]

    def tell(self, position: int, state: Any) -> None:
        """The first node says that the payer's coin is in this state."""
        me, output = key(1).public_hex, {"amount": 10 * COIN, "address": address(self.wallet)}
        change = {"old_state": None, "new_state": state, "timestamp": 1, "originator": me}
        self.world.say(
            {
                "type": "UTXOStateNotification",
                "notification": {"outpoint": {"txid": self.coin().txid, "vout": self.coin().vout}, **change},
                "cursor": {"node": me, "position": position},
                "output": output,
            }
        )

    def asked_elsewhere(self) -> int:
        assert self.world.elsewhere is not None
        return self.world.elsewhere.connections
