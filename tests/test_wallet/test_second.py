"""A second node is asked: for a payment that one keeps to itself, or its end, or that an address was used."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError, ConnectingCancelledError

from tests import alone_node
from tests.cluster import COIN, address
from tests.test_wallet import verdicts
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import PurseCase
from tests.test_wallet.second_nodes import Case
from tests.test_wallet.world import Elsewhere, World
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model import masternodes
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import confirming, hd
from timeproto.wallet import payment as payment_module
from timeproto.wallet.ask import HELD_UP, Others
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.nodes import Node, Rotation
from timeproto.wallet.payment import OVERDUE
from timeproto.wallet.second import GRACE, LOOK
from timeproto.wire import codec, messages

SOON = OVERDUE + 8 * ASK_AGAIN


class Payments(Case):
    """What is not decided in time is handed on."""

    def test_one_that_is_not_passed_on(self) -> None:
        """The node takes it and tells nobody: the next one is given it, it is final, and the first is left."""
        self.other_node()
        self.keep_all_back()
        client = self.world.client()
        payment, second = (client.submit(self.payment(number)) for number in (0, 1))
        self.world.run(OVERDUE - 1)
        self.assertEqual((payment.is_accepted, payment.is_over, self.world.elsewhere.connections), (True, False, 0))
        self.world.run(3 * ASK_AGAIN + 1)
        self.assertTrue(payment.proof and second.proof)
        self.assertEqual((self.world.connections, self.asked_elsewhere()), (2, 1))
        why = f"it took the payment {second.txid} and has not passed it on"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])
        self.assertFalse(any(server.is_open for server in self.world.elsewhere.servers))

    def test_one_that_is_not_final_at_once(self) -> None:
        """It is asked for some times; if nobody makes it final it lacked something else, and the first is kept."""
        for times, connections in ((2, 2), (3, 1)):
            self.setUp()
            other, asked = self.other_node(), []
            self.keep_all_back()

            def bend(message: dict[str, Any], times: int = times, asked: list[int] = asked) -> dict[str, Any]:
                if message["type"] in ("FinalityProofs", "TransactionInfo") and len(asked) < 6 * times:
                    asked.append(1)
                    return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}
                return message

            other.bend = bend
            client = self.world.client()
            for number in (0, 1):
                client.submit(self.payment(number))
            self.world.run(SOON)
            self.assertEqual((self.world.connections, other.connections), (connections, 1))

    def test_one_whose_end_is_kept_back(self) -> None:
        """The node passed it on, and says that it knows nothing of it being final: another one proves that."""
        self.keep_all_back()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(SOON)
        self.assertIsNotNone(payment.proof)
        self.world.run(GRACE)
        self.assertEqual(self.world.connections, 2)
        why = f"it does not know that the payment {payment.txid} is final"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])

    def test_one_that_a_node_does_not_answer(self) -> None:
        """Who waits for it to be accepted is told when the other one has taken it."""
        self.keep_all_back()
        kept = self.world.bend
        self.world.bend = lambda message: None if message["type"] == "TransactionAccepted" else kept(message)
        self.other_node()
        client = self.world.client()
        payment = client.submit(self.payment())
        accepted = payment.when_accepted()
        self.world.run(OVERDUE - 1)
        self.assertNoResult(accepted)
        self.world.run(3 * ASK_AGAIN)
        self.assertIs(self.successResultOf(accepted), payment)

    def test_one_that_waits_for_a_quorum(self) -> None:
        """Nobody keeps it back: others are asked ever more seldom, and the first is not left."""
        self.without_a_quorum()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(600)
        self.assertFalse(payment.is_over)
        self.assertEqual((self.world.connections, self.asked_elsewhere()), (1, 5))  # after 10, 30, 70, 150, 310 s
        self.assertEqual(self.warned, [])

    def test_one_whose_coin_another_has_spent(self) -> None:
        """The next node proves it: the payment is over, though the first one says nothing."""
        other = self.other_node()
        rival = self.payment(to=2)
        other.node.integration.process_transaction(rival)
        self.keep_all_back()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(SOON)
        refusal = self.failureResultOf(payment.when_final(), Refusal).value
        self.assertEqual((refusal.code, refusal.details["conflicting_txid"]), (ErrorCode.DOUBLE_SPEND, rival.txid))

    def test_one_that_another_node_refuses(self) -> None:
        """Its no is a word: the payment goes on, and the first node is not left for it."""
        other = self.other_node()
        self.keep_all_back()

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] not in ("TransactionAccepted", "FinalityProofs", "TransactionInfo"):
                return message
            return {"type": "Error", "id": message["id"], "code": "bad_signature", "message": "no"}

        other.bend = bend
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(SOON)
        self.assertFalse(payment.is_over)
        self.assertEqual((self.world.connections, other.connections, self.warned), (1, 1, []))

    def test_a_refusal_of_the_first_after_another_was_given_it(self) -> None:
        """Nobody knows any more that it is with nobody: its coins are not free."""
        answers: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            if message["type"] == "TransactionAccepted":
                answers.append(message)
                return None
            return None if message["type"] == "UTXOStateNotification" else message

        self.world.bend = bend
        self.other_node().node.hold()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(OVERDUE + 1)
        self.assertEqual(self.asked_elsewhere(), 1)
        self.world.say({"type": "Error", "id": answers[0]["id"], "code": "bad_signature", "message": "no"})
        self.world.run(0.1)
        self.assertIsNone(payment.error)

    def test_the_wish_to_cancel_one(self) -> None:
        """It is handed on with the payment: else the next node would see to it that it is final."""
        other = self.other_node()
        wishes: list[Any] = []
        handle = other.node.handler.handle_message

        def note(client: Any, message: Any) -> None:
            wishes.extend([message] * isinstance(message, messages.TransactionCancel))
            handle(client, message)

        other.node.handler.handle_message = note
        self.keep_all_back()
        client = self.world.client()
        tx = self.payment()
        client.submit(tx)
        client.cancel(tx, self.wallet).addErrback(lambda failure: failure.trap(Refusal))
        self.world.run(SOON)
        self.assertEqual([wish.txid for wish in wishes], [tx.txid])

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

    def test_one_that_the_first_is_too_busy_for(self) -> None:
        """It is given it again and again, and that puts nothing off: another is given it too."""
        other = self.other_node()
        self.world.bend = lambda message: (
            {"type": "Error", "id": message["id"], "code": "busy", "message": "no"}
            if message["type"] == "TransactionAccepted"
            else None if message["type"] == "UTXOStateNotification" else message
        )  # fmt: skip
        self.world.client().submit(self.payment())
        self.world.run(OVERDUE + 3 * ASK_AGAIN)
        self.assertEqual(other.node.replica.final_count, 1)

    def test_one_beside_another_that_all_refuse(self) -> None:
        """That one is tried elsewhere ever more seldom; a new one does not wait for it."""
        client = self.world.client()
        self.refuse_payments("unknown_input")
        client.submit(self.payment())
        self.world.run(300)
        before = self.world.connections
        self.refuse_payments("not_voting")
        client.submit(self.payment(1))
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(self.world.connections, before + 1)

    def refuse_payments(self, code: str) -> None:
        self.world.bend = self.world.another().bend = lambda message: (
            {"type": "Error", "id": message["id"], "code": code, "message": "no"}
            if message["type"] == "TransactionAccepted"
            else None if message["type"] == "UTXOStateNotification" else message
        )  # fmt: skip

    def test_one_after_another_that_is_not_passed_on(self) -> None:
        """One may be chance, or the other one's word: the first is left for two on one connection."""
        for is_cut, connections in ((True, 2), (False, 2)):
            self.setUp()
            other, payments = self.other_node(), []

            def bend(
                message: dict[str, Any], other: Elsewhere = other, payments: list[Any] = payments
            ) -> dict[str, Any] | None:
                if message["type"] not in ("UTXOStateNotification", "FinalityProofs", "TransactionInfo"):
                    return message
                if other.node.replica.final_count == len(payments):  # then it has heard of it
                    return message
                is_answer = "id" in message
                error = {"type": "Error", "id": message.get("id"), "code": "not_found", "message": "no"}
                return error if is_answer else None

            self.world.bend = bend
            client = self.world.client()
            for number in (0, 1):
                payments.append(client.submit(self.payment(number)))
                self.world.run(SOON + GRACE)
                self.assertIsNotNone(payments[-1].proof)
                if number == 0:
                    self.assertEqual((self.world.connections, self.warned), (1, []))
                    if is_cut:
                        self.world.cut()
            self.assertEqual((self.world.connections, bool(self.warned)), (connections, not is_cut))

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

    def test_one_that_another_is_behind_with(self) -> None:
        """It had not heard of it, and cannot prove it; then the first does: that one is not to blame."""
        other, asked = self.other_node(), []

        def behind(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] not in ("FinalityProofs", "TransactionInfo"):
                return message
            asked.append(self.world.clock.seconds())
            return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}

        def late(message: dict[str, Any]) -> dict[str, Any] | None:
            if asked and self.world.clock.seconds() > asked[0] + 0.5:
                return message
            if message["type"] in ("FinalityProofs", "TransactionInfo"):
                return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}
            return None if message["type"] == "UTXOStateNotification" else message

        other.bend, self.world.bend = behind, late
        client = self.world.client()
        payments = [client.submit(self.payment(number)) for number in range(3)]
        self.world.run(SOON + GRACE)
        self.assertTrue(all(payment.proof for payment in payments))
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_many_that_wait_keep_no_look_from_its_turn(self) -> None:
        """Sixty payments without a quorum, handed on and on: another is asked for coins all the same."""
        self.without_a_quorum(coins=60)
        asked = self.asked("UTXOSubscribe")
        client, _ = self.watching(0)
        for number in range(60):
            client.submit(self.payment(number))
        self.world.run(2 * LOOK)
        self.assertEqual(len([each for each in asked if each.subscriber_id == "compare"]), 2)

    def test_old_ones_are_asked_after_seldom(self) -> None:
        """They wait for a block, or for a quorum: a thousand of them are not a thousand questions all the time."""
        self.without_a_quorum()
        asked = self.asked("GetFinalityProof")
        self.world.size = 1
        self.world.client().submit(self.payment())
        self.world.run(600)
        self.assertLess(len(asked), 25)

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

    def test_a_wish_to_cancel_that_comes_late(self) -> None:
        """It does not wait until the payment is handed on again, which may be minutes later."""
        self.without_a_quorum()
        wishes: list[float] = []
        client, tx = self.world.client(), self.payment()
        client.submit(tx)
        self.world.run(200)
        send, began = client._outbox._send_cancel, self.world.clock.seconds()

        async def note(cancel: Any, belief: Any = None) -> None:
            wishes.extend([self.world.clock.seconds() - began] * (belief is not None))
            await send(cancel, belief)

        client._outbox._send_cancel = note
        client.cancel(tx, self.wallet).addErrback(lambda failure: failure.trap(Refusal))
        self.world.run(SOON)
        self.assertEqual([seconds < OVERDUE + 2 * ASK_AGAIN for seconds in wishes], [True])

    def test_one_that_takes_the_first_long_to_take(self) -> None:
        """It has not said that it took the payment: it is not blamed that it did not pass it on."""
        self.other_node()
        self.world.node.hold()
        client = self.world.client()
        payments = [client.submit(self.payment(number)) for number in range(3)]
        self.world.run(SOON)
        self.assertTrue(all(payment.proof for payment in payments))
        self.assertEqual((self.world.connections, self.warned), (1, []))

    def test_one_whose_end_the_first_hears_a_little_later(self) -> None:
        """It has half a minute to prove what the other one has, before it is left."""
        for seconds, connections in ((GRACE, 1), (2 * GRACE, 2)):
            self.setUp()
            since: list[float] = []

            def bend(message: dict[str, Any], seconds: float = seconds, since: list[float] = since) -> Any:
                knows = since and self.world.clock.seconds() >= since[0] + seconds
                if self.world.connections > 1 or knows or message["type"] == "TransactionAccepted":
                    return message
                if message["type"] in ("FinalityProofs", "TransactionInfo"):
                    return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}
                return None if message["type"] == "UTXOStateNotification" else message

            def note(message: dict[str, Any], since: list[float] = since) -> Any:
                since.extend([self.world.clock.seconds()] * (message["type"] == "FinalityProofs"))
                return message

            self.world.bend, self.world.another().bend = bend, note
            payment = self.world.client().submit(self.payment())
            self.world.run(SOON + GRACE)
            self.assertIsNotNone(payment.proof)
            self.assertEqual(self.world.connections, connections)

    def test_one_while_no_node_is_connected(self) -> None:
        """The one of the moment does not end its greeting: another is given the payment all the same."""
        other = self.other_node()
        self.world.bend = lambda message: None
        payment = self.world.client().submit(self.payment())
        self.world.run(OVERDUE + 2 * ASK_AGAIN)
        self.assertIsNotNone(payment.proof)
        self.assertEqual(other.node.replica.final_count, 1)

    def test_one_that_the_first_refuses_late(self) -> None:
        """The other one refused it too: it is over, for nobody has it."""
        self.without_a_quorum()
        self.world.node.integration.process_transaction(self.payment(to=2))
        held: list[dict[str, Any]] = []

        def bend(message: dict[str, Any]) -> dict[str, Any] | None:
            held.extend([message] * (message.get("code") == "double_spend"))
            return None if message.get("code") == "double_spend" else message

        self.world.bend = bend
        payment = self.world.client().submit(self.payment())
        self.world.run(OVERDUE + 2 * ASK_AGAIN)
        self.assertEqual((payment.is_over, self.asked_elsewhere()), (False, 1))
        self.world.bend = lambda message: message
        self.world.say(held[0])
        self.world.run(60)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.DOUBLE_SPEND)
        self.assertEqual(self.world.connections, 1)

    def test_one_that_all_refuse_until_a_block_decides(self) -> None:
        """They are tried ever more seldom: each is a reconnect, and everything is read again."""
        client = self.world.client()
        self.world.bend = lambda message: None if message["type"] == "TransactionAccepted" else message
        client.submit(self.payment())
        self.world.run(1)
        self.world.bend = self.world.another().bend = lambda message: (
            {"type": "Error", "id": message["id"], "code": "double_spend", "message": "no"}
            if message["type"] in ("TransactionAccepted", "FinalityProofs", "TransactionInfo")
            else None if message["type"] == "UTXOStateNotification" else message
        )  # fmt: skip
        self.world.cut()
        self.world.run(600)
        self.assertLess(self.world.connections, 20)

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

    def test_none_is_forgotten(self) -> None:
        """Of more than can be handed on in time those come first that wait for longest."""
        self.without_a_quorum(coins=12)
        handed: set[str] = set()
        client = self.world.client()
        hand_on = client._outbox.hand_on

        async def note(payment: Any, *more: Any) -> bool:
            handed.add(payment.txid)
            return await hand_on(payment, *more)

        client._outbox.hand_on = note
        self.patch(payment_module, "OVERDUE_MAX", 20.0)
        with mock.patch("timeproto.wallet.outbox.HANDED_ON", 1):
            for number in range(12):
                client.submit(self.payment(number))
            self.world.run(300)
        self.assertEqual(len(handed), 12)

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

    def test_many_at_a_time(self) -> None:
        """So many as are handed on at a time, and the others after them."""
        other = self.other_node()
        self.keep_back("UTXOStateNotification", "FinalityProofs", "TransactionInfo", connections=5)
        with mock.patch("timeproto.wallet.outbox.HANDED_ON", 2):
            client = self.world.client()
            payments = [client.submit(self.payment(number)) for number in range(4)]
            for handed_on, seconds in ((0, OVERDUE - 1), (2, 3), (4, 2 * OVERDUE)):
                self.world.run(seconds)
                self.assertEqual(other.node.replica.final_count, handed_on)
            self.assertTrue(all(each.proof for each in payments))


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
