"""A second node is asked, over a connection of a moment; and for blocks that the first keeps to itself."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError

from tests import alone_node
from tests.test_wallet import verdicts
from tests.test_wallet.second_nodes import Case
from tests.test_wallet.world import Elsewhere
from timeproto.wallet import confirming
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.payment import OVERDUE
from timeproto.wallet.second import GRACE, LOOK
from timeproto.wire import codec

SOON = OVERDUE + 8 * ASK_AGAIN


class Conversations(Case):
    """One at a time, with another node each time, and none for long."""

    def test_another_that_answers_at_the_last_moment(self) -> None:
        """Each answer is in time, and the conversation ends after a minute all the same."""
        other = self.other_node()

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message.pop("late", None) or message["type"].startswith("Handshake") or "id" not in message:
                return message
            server, late = other.servers[-1], json.dumps(message | {"late": True}).encode()
            self.world.clock.callLater(19, server.send_payload, late)
            return None

        other.bend = bend
        self.keep_all_back()
        client, _ = self.watching(0)
        for number in range(4):
            client.submit(self.payment(number))
        client._second._look_at = 0.0
        self.world.run(ASK_AGAIN + 57)
        self.assertTrue(other.servers[0].is_open)
        self.world.run(5)
        self.assertFalse(other.servers[0].is_open)

    def test_many_that_wait_keep_no_look_from_its_turn(self) -> None:
        """Sixty payments without a quorum, handed on and on: another is asked for coins all the same."""
        self.without_a_quorum(coins=60)
        asked = self.asked("UTXOSubscribe")
        client, _ = self.watching(0)
        for number in range(60):
            client.submit(self.payment(number))
        self.world.run(2 * LOOK)
        self.assertEqual(len([each for each in asked if each.subscriber_id == "compare"]), 2)

    def test_where_others_are_not_there(self) -> None:
        """Who cannot be reached was not given it: the next one is tried at once, and after all of them in a while."""
        dead, other = self.other_node(), Elsewhere(self.world, alone_node.Node())
        dead.refuses, self.world.size = True, 3
        self.taking_turns(dead, other)
        self.keep_all_back()
        payment = self.world.client().submit(self.payment())
        self.world.run(OVERDUE + 4 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        other.refuses = True
        self.world.client().submit(self.payment(1))
        self.world.run(OVERDUE + 100)
        self.assertLess(dead.connections, 12)

    def test_one_that_does_not_answer(self) -> None:
        """It has a minute, however many payments there are, and then the next one is asked."""
        mute, other = self.other_node(), Elsewhere(self.world, alone_node.Node())
        self.taking_turns(mute, other)
        mute.bend = lambda message: message if message["type"].startswith("Handshake") else None
        self.keep_all_back()
        client = self.world.client()
        payments = [client.submit(self.payment(number)) for number in range(4)]
        self.world.run(OVERDUE + 60 + 3 * OVERDUE)
        self.assertTrue(all(payment.proof for payment in payments))

    def test_who_stops_the_client_when_it_is_final(self) -> None:
        """That is told in the midst of asking the other node: it ends there, though more was to be asked."""
        other = self.other_node()
        other.bend = lambda message: None if message["type"] == "UTXOSubscribed" else message
        self.keep_all_back()
        client, _ = self.watching(1)
        client._second._look_at = 0.0
        stopped: list[Any] = []
        client.submit(self.payment()).when_final().addCallback(lambda proof: stopped.append(client.stopService()))
        self.world.run(SOON)
        self.successResultOf(stopped[0])
        self.assertFalse(other.servers[0].is_open)

    def test_a_client_that_is_stopped_while_it_connects(self) -> None:
        """As an endpoint says it: nothing is written of that."""
        self.world.another().connect = lambda factory: Deferred(lambda d: d.errback(ConnectingCancelledError(None)))
        self.keep_all_back()
        client = self.world.client()
        client.submit(self.payment()).when_final().addErrback(lambda failure: None)
        self.world.run(OVERDUE + ASK_AGAIN)
        stopping = client.stopService()
        self.world.run(1)
        self.successResultOf(stopping)
        self.assertEqual(self.warned, [])


class Blocks(Case):
    """Whoever waits for a block hears of it from another node."""

    def test_a_block_that_is_kept_back(self) -> None:
        """Who waits for the block hears of it from another node."""
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(1)
        self.keep_all_back()
        confirmed = client.wait_confirmed(payment.txid)
        height = self.world.node.make_block()
        self.world.run(LOOK - 2 * ASK_AGAIN)
        self.assertNoResult(confirmed)
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(self.successResultOf(confirmed), height)
        self.world.run(GRACE + 5 * ASK_AGAIN)
        why = f"it does not know that a block contains {payment.txid}"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])

    def test_who_waits_for_a_block_no_longer(self) -> None:
        """Called off while another node is asked for it: nothing was proven, and the first is not left for that."""
        client, _ = self.watching(1)
        waiting = client.wait_confirmed("ab" * 32)
        waiting.addErrback(lambda failure: None)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "Error":
                waiting.cancel()
            return message

        self.world.another().bend = bend
        self.world.run(LOOK + GRACE + 10 * ASK_AGAIN)
        self.assertTrue(waiting.called)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_a_block_that_ended_it(self) -> None:
        """The other one proves that, and then the first does too: it kept nothing back."""
        tx, said = self.payment(), []
        info = json.loads(codec.encode(verdicts.aborted(self.world.node.genesis, tx)))

        def bend(message: dict[str, Any], elsewhere: bool) -> dict[str, Any]:
            is_answer = message["type"] == "Error" and "id" in message and bool(elsewhere or said)
            said.extend([1] * (is_answer and elsewhere))
            return info | {"id": message["id"]} if is_answer else message

        self.world.another().bend = lambda message: bend(message, True)
        self.world.bend = lambda message: bend(message, False)
        client, _ = self.watching(1)
        waiting = client.wait_confirmed(tx.txid)
        self.world.run(LOOK + GRACE + 10 * ASK_AGAIN)
        self.assertEqual(self.failureResultOf(waiting).value.height, 1)
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_blocks_that_never_come(self) -> None:
        """They are asked for in turn, and keep nobody from hearing of others."""
        self.patch(confirming, "ASKED_ELSEWHERE", 2)
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(1)
        self.keep_all_back()
        for number in (1, 2, 3):
            client.wait_confirmed(f"{number:064x}")
        confirmed = client.wait_confirmed(payment.txid)
        self.world.node.make_block()
        self.world.run(2 * LOOK + 3 * ASK_AGAIN)
        self.successResultOf(confirmed)
