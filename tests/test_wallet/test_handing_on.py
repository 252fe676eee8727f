"""Payments that a node keeps to itself, or their ends: another is given them, and the first is left."""

from __future__ import annotations

from typing import Any
from unittest import mock

from tests.test_wallet.second_nodes import Case
from tests.test_wallet.world import Elsewhere
from timeproto.errors import ErrorCode, Refusal
from timeproto.wallet import payment as payment_module
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.payment import OVERDUE
from timeproto.wallet.second import GRACE
from timeproto.wire import messages

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

    def test_old_ones_are_asked_after_seldom(self) -> None:
        """They wait for a block, or for a quorum: a thousand of them are not a thousand questions all the time."""
        self.without_a_quorum()
        asked = self.asked("GetFinalityProof")
        self.world.size = 1
        self.world.client().submit(self.payment())
        self.world.run(600)
        self.assertLess(len(asked), 25)

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
