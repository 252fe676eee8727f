"""Nodes that refuse, are slow, or do not say: with another to ask they are left for it, and not all the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure

from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import FEE, PurseCase
from timeproto import limits
from timeproto.cli.wallet_setting import at_any_node
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.watching import REFUSED
from timeproto.wire import messages

Message = dict[str, Any]


def busy(message: Message) -> Message:
    return {"type": "Error", "id": message["id"], "code": "busy", "message": "later"}


class Unserved(PurseCase):
    def setUp(self) -> None:
        super().setUp()
        self.world.size = 2

    def first(self, kind: str, connections: int = 1) -> None:
        """Messages of this kind are not to be had from the first node."""
        self.world.bend = lambda message: (
            busy(message) if message["type"] == kind and self.world.connections <= connections else message
        )

    def test_a_node_that_takes_no_subscription(self) -> None:
        """The next one does, and there is a balance."""
        self.first("UTXOSubscribed")
        client = self.client()
        client.startService()
        client.balance().addErrback(lambda failure: None)
        self.world.run(5)
        self.assertEqual((self.balance(client), self.world.connections), (TOTAL, 2))

    def test_a_node_that_takes_no_address_for_change(self) -> None:
        """What comes back of a payment is there as soon as another node has been asked."""
        client = self.opened()
        self.first("UTXOSubscribed")
        client.send(self.shop, COIN)
        self.world.run(10)
        self.assertEqual((TOTAL - self.balance(client) - COIN <= FEE, self.world.connections), (True, 2))

    def test_nodes_that_all_refuse(self) -> None:
        """They are not run through: each has some minutes."""
        self.first("UTXOSubscribed", connections=100)
        client = self.client()
        client.startService()
        for _ in range(60):
            client.balance().addErrback(lambda failure: None)
            self.world.run(20)
        self.assertLess(self.world.connections, 3 + 1_200 / REFUSED)

    def test_what_every_node_refuses(self) -> None:
        """One more is tried for what a node has no room for, and then that is that."""
        client = self.opened()
        self.refuse(client.account._own.at(0, 1), ErrorCode.OVER_LIMIT)
        client.account.new_address()
        self.world.run(5 * REFUSED)
        self.assertEqual(self.world.connections, 2)
        self.refused.clear()
        self.world.run(REFUSED + 5)
        self.assertEqual((self.balance(client), self.world.connections), (TOTAL, 2))

    def test_a_node_that_asks_for_patience(self) -> None:
        """It is no slow one."""
        client, held = self.opened(), []

        def bend(message: Message) -> Message:
            if message["type"] != "Error" or held:
                return message
            held.append(message)
            return message | {"code": "over_limit", "details": {"retry_after_ms": 41_000}}

        self.world.bend = bend
        asking = ensureDeferred(client.ask(messages.GetTransaction(txid="ab" * 32)))
        self.world.run(60)
        self.failureResultOf(asking, Refusal)
        self.assertEqual(self.world.connections, 1)

    def test_what_is_called_off_while_it_waits_for_its_turn(self) -> None:
        """That is not a node that went away: who took it for one would begin again what somebody had ended."""
        client, begun = self.opened(), []
        later = {"type": "Error", "code": "over_limit", "message": "", "details": {"retry_after_ms": 9_000}}
        self.world.bend = lambda message: (
            later | {"id": message["id"]}
            if message["type"] == "AddressUTXOs" else message
        )  # fmt: skip

        async def work() -> None:
            begun.append(1)
            await client.address_coins(address(self.mine))

        command = Deferred.fromCoroutine(at_any_node(self.world.clock, client, work))
        self.world.run(1)
        command.cancel()
        self.world.run(6)
        self.failureResultOf(command, CancelledError)
        self.assertEqual(begun, [1])

    def test_too_many_questions_of_ones_own(self) -> None:
        """They wait for room: no node is to blame for them."""
        self.patch(limits, "REQUESTS", 2)
        client = self.opened()
        asking = [ensureDeferred(client.ask(messages.GetInfo())) for _ in range(12)]
        self.world.run(10)
        for each in asking:
            self.successResultOf(each)

    def test_the_only_node(self) -> None:
        """There is nobody to leave it for, and nothing is written of that."""
        self.world.size = 1
        self.first("UTXOSubscribed", connections=100)
        client = self.client()
        log = mock.Mock()
        self.patch(type(client), "log", log)
        client.startService()
        client.balance().addErrback(lambda failure: None)
        self.world.run(REFUSED + 5)
        self.assertEqual((self.world.connections, log.warn.called), (1, False))

    def test_a_node_that_answers_at_the_last_moment(self) -> None:
        """Some of its answers may take so long; if all do, another is tried."""
        for slow, connections in (({"AddressUTXOs"}, 1), ({"TransactionInfo"}, 2)):
            self.setUp()
            client = self.opened()
            txid = self.world.node.view.address_coins(address(self.mine), None, 1, spent=False)[0][0][0].txid

            def bend(message: Message, slow: set[str] = slow) -> Message | None:
                if message["type"] not in slow or message.pop("late", False) or self.world.connections > 1:
                    return message
                server, late = self.world._servers[-1], json.dumps(message | {"late": True}).encode()
                self.world.clock.callLater(19, server.send_payload, late)
                return None

            self.world.bend = bend
            for _ in range(8):
                coins = messages.GetAddressUTXOs(address=address(self.mine))
                for question in (messages.GetTransaction(txid=txid), coins):
                    ensureDeferred(client.ask(question)).addErrback(Failure.trap, ConnectionGone)
                self.world.run(20)
            self.assertEqual(self.world.connections, connections)

    def test_many_questions_that_are_not_answered(self) -> None:
        """One of a kind is asked at a time: a bad node does not fill the table, so that nothing else can be asked."""
        self.world.size = 1
        client = self.opened()
        self.world.bend = lambda message: (
            None if message["type"] in ("UTXOStateNotification", "FinalityProofs", "TransactionInfo") else message
        )
        payment = client.account.send(self.shop, COIN)
        payment.when_final().addErrback(lambda failure: None)
        client.wait_confirmed(payment.txid).addErrback(lambda failure: None)
        client.cancel(payment.txid).addErrback(lambda failure: None)
        self.world.run(19)
        self.assertLess(len(client.connection._requests), 8)
        self.patch(limits, "REQUESTS", len(client.connection._requests))
        other = client.account.send(self.shop, COIN)  # if the table is full all the same, that is no last word
        self.world.run(1)
        self.assertIsNone(other.error)


class Owed(PurseCase):
    """A node does not say what became of coins."""

    def owed(self, seconds: float, answer: Callable[[Message], Message] = busy) -> Any:
        """A coin was spent while the client was away, and all is shown anew: what is not shown is asked after."""
        client = self.opened()
        client.watches._place.lose()
        self.world.bend = lambda message: answer(message) if message["type"] == "UTXOStateResponse" else message
        self.world.refuses = True
        self.world.cut()
        self.spend()
        self.world.refuses = False
        self.world.run(seconds)
        return client

    def test_the_only_node(self) -> None:
        """It is asked ever more seldom, on the same connection, and there is no balance until it says."""
        asked = self.asked("UTXOStateQuery")
        client = self.owed(600)
        self.assertEqual(self.world.connections, 2)
        self.assertLess(len(asked), 8)
        balance = client.balance()
        self.world.run(3)
        self.failureResultOf(balance, ConnectionGone)
        self.world.bend = lambda message: message
        self.world.run(300)
        self.assertEqual((self.balance(client), self.world.connections), (TOTAL - 9 * COIN, 2))

    def test_one_of_several(self) -> None:
        """It has a minute, and then another is asked."""
        self.world.size = 2
        client = self.owed(40)
        self.assertEqual(self.world.connections, 2)
        self.world.run(60)
        self.assertEqual(self.world.connections, 3)
        self.world.bend = lambda message: message
        self.world.run(300)
        self.assertEqual(self.balance(client), TOTAL - 9 * COIN)

    def test_an_answer_that_lacks_some(self) -> None:
        """Of each coin that is asked after something is to be said."""
        self.world.size = 2
        client = self.owed(5, lambda message: message | ({"states": []} if self.world.connections == 2 else {}))
        self.assertEqual((self.balance(client), self.world.connections), (TOTAL - 9 * COIN, 3))
