"""A second node is asked: for a payment that one keeps to itself, or its end, or that an address was used."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.defer import ensureDeferred

from tests.cluster import COIN, address
from tests.test_wallet.accounts import TOTAL
from tests.test_wallet.purses import PurseCase
from tests.test_wallet.second_nodes import Case
from tests.test_wallet.world import Elsewhere
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.requests import ConnectionGone
from timeproto.wallet import hd
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.nodes import Node, Rotation
from timeproto.wallet.payment import OVERDUE
from timeproto.wallet.second import LOOK
from timeproto.wire import messages

SOON = OVERDUE + 8 * ASK_AGAIN


class Payments(Case):
    """What is not decided in time is handed on."""

    def test_one_that_is_not_passed_on(self) -> None:
        """The node takes it and tells nobody: the next one is given it, it is final, and the first is left."""
        self.other_node()
        self.keep_all_back()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(OVERDUE - 1)
        self.assertEqual((payment.is_accepted, payment.is_over, self.world.elsewhere.connections), (True, False, 0))
        self.world.run(3 * ASK_AGAIN + 1)
        self.assertIsNotNone(payment.proof)
        self.assertEqual((self.world.connections, self.asked_elsewhere()), (2, 1))
        why = f"it took the payment {payment.txid} and has not passed it on"
        self.assertEqual(self.warned, [f"the node at 127.0.0.1:1 keeps something back: {why}"])
        self.assertFalse(any(server.is_open for server in self.world.elsewhere.servers))

    def test_one_that_is_not_final_at_once(self) -> None:
        """It is asked for some times; if nobody makes it final it lacked something else, and the first is kept."""
        for times, connections in ((2, 2), (3, 1)):
            self.setUp()
            other, asked = self.other_node(), []
            self.keep_all_back()

            def bend(message: dict[str, Any], times: int = times, asked: list[int] = asked) -> dict[str, Any]:
                if message["type"] in ("FinalityProofs", "TransactionInfo") and len(asked) < 3 * times:
                    asked.append(1)
                    return {"type": "Error", "id": message["id"], "code": "not_found", "message": "no"}
                return message

            other.bend = bend
            client = self.world.client()
            client.submit(self.payment())
            self.world.run(SOON)
            self.assertEqual((self.world.connections, other.connections), (connections, 1))

    def test_one_whose_end_is_kept_back(self) -> None:
        """The node passed it on, and says that it knows nothing of it being final: another one proves that."""
        self.keep_all_back()
        client = self.world.client()
        payment = client.submit(self.payment())
        self.world.run(SOON)
        self.assertIsNotNone(payment.proof)
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
        self.world.run(3 * ASK_AGAIN)
        self.assertEqual(self.successResultOf(confirmed), height)

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
        super().setUp()
        self.world.size = 2
        self.other = self.world.another()
        self.give(address(hd.derive(self.PHRASE, index=3)))

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
        asked = self.asked("GetAddressUTXOs")
        self.assertEqual(self.restored(), (2, 2))
        self.assertEqual([server.is_open for server in self.other.servers], [False])
        self.assertEqual((len(asked), self.world.connections), (2 + 2 * (2 + 20 + 20), 1))

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

    def test_more_nodes_than_are_needed(self) -> None:
        """Three are asked, and who cannot be reached is passed over."""
        others = [self.other, *(Elsewhere(self.world, self.world.node) for _ in range(3))]
        others[0].refuses = True
        self.patch(self.world, "others", lambda: others)
        self.assertEqual(self.restored(), (2, 3))
        self.assertEqual([each.connections for each in others], [1, 1, 1, 0])

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
