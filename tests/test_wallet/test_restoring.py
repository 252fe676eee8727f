"""A wallet is restored: that an address was used is asked of several nodes, and one that proves it is enough."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import ConnectError

from tests import alone_node
from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import PurseCase
from tests.test_wallet.world import Elsewhere, World
from timeproto import limits
from timeproto.model import masternodes
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import hd
from timeproto.wallet.ask import HELD_UP, Others
from timeproto.wallet.nodes import Node, Rotation


class Restoring(PurseCase):
    """A wallet from its phrase: what one node says was never used is asked at others too."""

    def setUp(self) -> None:
        self.patch(masternodes, "quorum", lambda n: 1)  # the first makes final what the others know as well
        super().setUp()
        self.world = World(wallets=2, coins=4, masternodes=4)
        self.fund(self.mine, 4)
        self.world.size = 2
        self.other, *self.more = (Elsewhere(self.world, self.world.node, number) for number in (2, 3, 4))
        self.world.elsewhere = self.other
        self.give(address(hd.derive(self.PHRASE, index=3)))
        self.warned: list[str] = []
        self.patch(Others, "log", mock.Mock(warn=lambda text, **values: self.warned.append(text.format(**values))))

    def restored(self, seconds: float = 3) -> tuple[int, int]:
        """How many addresses were found, and how many nodes were asked."""
        self.restoring = self.client()
        self.restoring.startService()
        self.world.run(1)
        found = ensureDeferred(self.restoring.account.restore())
        self.world.run(seconds)
        return self.successResultOf(found), self.restoring.account.asked

    def says_unused(self, message: dict[str, Any]) -> dict[str, Any]:
        return message | {"coins": []} if message["type"] == "AddressUTXOs" else message

    def test_nodes_that_agree(self) -> None:
        """One conversation with the other, which is over in the end; the first is kept."""
        asked, others = self.asked("GetAddressUTXOs"), list[str]()

        def note(message: dict[str, Any]) -> dict[str, Any]:
            others.extend([message["type"]] if message["type"] == "AddressUTXOs" else [])
            return message

        self.other.bend = note
        self.assertEqual(self.restored(), (2, 2))
        self.assertEqual([server.is_open for server in self.other.servers], [False])
        self.assertEqual((len(asked), len(others), self.world.connections), (2 + 2 + 20 + 20, 2 + 20 + 20, 1))

    def test_one_that_keeps_an_address_to_itself(self) -> None:
        """Another proves that it was used; the first is left, since it would keep the coins back as well."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            return self.says_unused(message) if self.world.connections == 1 else message

        self.world.bend = bend
        self.assertEqual(self.restored(), (2, 2))
        self.assertEqual(self.balance(self.restoring), TOTAL + 9 * COIN)
        self.assertEqual(self.world.connections, 2)

    def test_another_one_that_keeps_it_to_itself(self) -> None:
        """One proof is enough, and a node that is behind is none to be left."""
        self.other.bend = self.says_unused
        self.assertEqual((self.restored(), self.world.connections), ((2, 2), 1))

    def test_another_one_that_lies(self) -> None:
        """Coins without a proof are no reason to look further, nor to give up: it is asked no more."""

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] != "AddressUTXOs":
                return message
            coin = {"outpoint": {"txid": "ab" * 32, "vout": 0}, "state": "Unspent"}
            return message | {"coins": [coin | {"output": {"amount": COIN, "address": message["address"]}}]}

        self.other.bend = bend
        self.assertEqual(self.restored(), (2, 1))

    def test_another_one_that_goes_away(self) -> None:
        """It is not counted, for it was not asked about each address."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "AddressUTXOs":
                self.other.servers[-1].abort()
            return message

        self.other.bend = bend
        self.assertEqual(self.restored(), (2, 1))

    def with_others(self, *others: Any) -> None:
        self.patch(self.world, "others", lambda: others)

    def test_more_nodes_than_are_needed(self) -> None:
        """Three are asked, and who cannot be reached is passed over, and named."""
        others = [self.other, *self.more, Elsewhere(self.world, self.world.node)]
        self.with_others(*others)
        self.other.refuses = True
        self.assertEqual(self.restored(), (2, 3))
        self.assertEqual([each.connections for each in others], [1, 1, 1, 0])
        self.assertEqual(len(self.warned), 1)
        self.assertIn("the node at 127.0.0.1:2 is not asked: 127.0.0.1:2 cannot be reached", self.warned[0])

    def test_one_of_another_network(self) -> None:
        """It is passed over, and it is said why."""
        stranger = alone_node.Node(wallets=1)
        self.more[0].manager = World(stranger).manager
        self.with_others(self.more[0])
        self.assertEqual(self.restored(), (2, 1))
        self.assertIn("127.0.0.1:3 is not asked: wrong_genesis", *self.warned)

    def test_two_addresses_of_one_masternode(self) -> None:
        """Its word counts once, whether it is the own node or one that is asked already."""
        again = [Elsewhere(self.world, self.world.node, number) for number in (1, 2)]
        self.with_others(again[0], self.other, again[1], self.more[0])
        self.assertEqual(self.restored(), (2, 3))
        self.assertEqual(len([each for each in self.warned if "a masternode that is asked already" in each]), 2)
        self.assertFalse(any(server.is_open for each in again for server in each.servers))

    def test_others_are_asked_at_the_same_time(self) -> None:
        """Two that do not answer cost no more time than one; nor do two that cannot be reached."""

        def connect(factory: Any) -> Deferred[Any]:
            connecting: Deferred[Any] = Deferred()
            self.world.clock.callLater(limits.HANDSHAKE, connecting.errback, ConnectError())
            return connecting

        self.with_others(self.other, self.more[0])
        for each in (self.other, self.more[0]):
            each.bend = lambda message: None if message["type"] == "AddressUTXOs" else message
        self.assertEqual(self.restored(limits.REQUEST_TIME + 2), (2, 1))
        for each in (self.other, self.more[0]):
            self.patch(each, "connect", connect)
        self.assertEqual(self.restored(limits.HANDSHAKE + 2), (2, 1))

    def test_a_slow_one_is_dropped(self) -> None:
        """So many seconds in all, and not for each answer."""

        def slowly(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] != "AddressUTXOs":
                return message
            server, late = self.other.servers[-1], json.dumps(message).encode()
            self.world.clock.callLater(5, lambda: server.is_open and type(server).send_payload(server, late))
            return None

        self.other.bend = slowly
        self.assertEqual(self.restored(HELD_UP + 2), (2, 1))
        self.assertEqual(self.warned, ["the node at 127.0.0.1:2 is asked no more: it took more than 60 s"])

    def test_its_own_node_was_a_moment_behind(self) -> None:
        """It is asked again in the end, and kept if it knows by then what another has proven."""
        fifth, told = address(hd.derive(self.PHRASE, index=5)), list[str]()
        self.give(fifth, 1)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "AddressUTXOs" and fifth in json.dumps(message["coins"]):
                told.append(fifth)
                return message if len(told) > 1 else self.says_unused(message)
            return message

        self.world.bend = bend
        self.assertEqual((self.restored(), self.world.connections), ((3, 2), 1))
        self.assertEqual(len(told), 2)

    def test_its_own_node_refuses_to_say(self) -> None:
        """Asked again about what another has proven, it has no better answer than before: it is left."""

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if self.world.connections == 1 and message["type"] == "AddressUTXOs":
                asked.append(message)
                if len(asked) > 44:
                    return {"type": "Error", "id": message["id"], "code": "busy", "message": "no"}
                return self.says_unused(message)
            return message

        asked: list[Any] = []
        self.world.bend = bend
        self.assertEqual(self.restored(), (2, 2))
        self.assertEqual((len(asked), self.world.connections), (45, 2))

    def test_its_own_node_goes_away(self) -> None:
        """Nothing was restored then: it is said, and may be done again."""
        self.world.bend = lambda message: None if message["type"] == "AddressUTXOs" else message
        client = self.client()
        client.startService()
        self.world.run(1)
        restoring = ensureDeferred(client.account.restore())
        self.world.run(0.5)
        self.world.refuses = True
        self.world.cut()
        self.failureResultOf(restoring, ConnectionGone)
        self.failureResultOf(ensureDeferred(client.account.restore()), ConnectionGone)
        self.assertEqual([server.is_open for server in self.other.servers], [False])

    def test_a_node_that_is_named_twice(self) -> None:
        """Its word counts once."""
        self.patch(Node, "endpoint", lambda node, reactor: None)
        nodes = Rotation(None, [Node(f"127.0.0.1:{port}") for port in (1, 2, 2, 1, 3)])
        self.assertEqual([each.address for each in nodes.others()], ["127.0.0.1:2", "127.0.0.1:3"])
        self.assertEqual({nodes.another().address for _ in range(2)}, {"127.0.0.1:2", "127.0.0.1:3"})

    def test_it_is_called_off(self) -> None:
        """While the others are asked: whoever did that hears just that, and no conversation goes on."""
        self.other.bend = lambda message: None if message["type"] == "AddressUTXOs" else message
        client = self.client()
        client.startService()
        self.world.run(1)
        restoring = ensureDeferred(client.account.restore())
        self.world.run(1)
        self.assertNoResult(restoring)
        restoring.cancel()
        self.failureResultOf(restoring, CancelledError)
        self.world.run(1)
        self.assertEqual([server.is_open for server in self.other.servers], [False])
