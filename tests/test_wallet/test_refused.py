"""Payments that a node refused: sent once more while an answer is still on its way, or final in spite of its no."""

from __future__ import annotations

from typing import Any
from unittest import mock

import msgspec
from twisted.internet.defer import fail
from twisted.logger import Logger, formatEvent

from tests.cluster import COIN, address, key, pay
from tests.test_wallet.purses import PurseCase
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.test_ends import Ends
from timeproto.errors import ErrorCode, Refusal
from timeproto.wallet.belief import Aborted, DoubleSpend
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.payment import Payment
from timeproto.wire import messages

Message = dict[str, Any]


def no(accepted: Message, code: str = "over_limit") -> Message:
    """What a node says in place of having taken the payment."""
    return {"type": "Error", "id": accepted["id"], "code": code, "message": "no"}


class Holding:
    """What a node says and is not heard yet."""

    def __init__(self, *types: str) -> None:
        self.held: list[Message] = []
        self._types = types

    def __call__(self, message: Message) -> Message | None:
        if message["type"] in self._types:
            self.held.append(message)
            return None
        return None if message["type"] == "UTXOStateNotification" else message

    def only(self, name: str) -> Message:
        return next(each for each in self.held if each["type"] == name)


class SentAgain(ClientCase):
    """The same transaction, submitted again: what is proven of it concerns whichever payment there is by then."""

    def test_a_proof_that_was_asked_for_by_the_first(self) -> None:
        """It comes when a no has ended that one: the second is final, and so, as it turns out, was the first."""
        client = self.world.client()
        self.world.bend = holding = Holding("TransactionAccepted", "FinalityProofs")
        tx = self.payment()
        first = client.submit(tx)
        ending = client.cancel(tx, self.wallet)  # then its proof is asked for before it is accepted
        self.world.run(ASK_AGAIN + 0.5)
        proof = holding.only("FinalityProofs")
        self.world.bend = lambda message: message
        self.world.say(no(holding.only("TransactionAccepted")))
        self.world.run(0)
        for waiting in (first.when_final(), ending):
            self.assertIs(self.failureResultOf(waiting, Refusal).value.code, ErrorCode.OVER_LIMIT)
        second = client.submit(tx)
        final = second.when_final()
        self.world.say(proof)
        self.world.run(0)
        self.assertEqual(self.successResultOf(final).txid, tx.txid)
        self.assertIs(first.proof, second.proof)

    def test_one_that_is_final_already(self) -> None:
        """It is the same payment, which no second one keeps from hearing of its block; no wish to cancel it is left."""
        wishes = []
        cancel = self.world.node.view.cancel
        self.patch(self.world.node.view, "cancel", lambda each: (wishes.append(each), cancel(each))[1])
        client = self.world.client()
        first = client.submit(self.payment())
        confirmed = client.wait_confirmed(first.txid)
        self.world.run(0.5)
        self.assertIs(client.submit(first.tx), first)
        ending = client.cancel(first.tx, self.wallet)
        self.assertIs(self.failureResultOf(ending, Refusal).value.code, ErrorCode.ALREADY_FINAL)
        height = self.world.node.make_block()
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual((self.successResultOf(confirmed), first.height, wishes), (height, height, []))


class Overtaken(ClientCase):
    def test_final_while_a_no_is_looked_into(self) -> None:
        """The next node names a rival; the proof comes before that is checked: no node is left for it any more."""
        client = self.world.client()
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        payment = client.submit(self.payment())
        self.world.run(0.2)
        holding = Holding("FinalityProofs", "Error")
        details = {"conflicting_txid": "ab" * 32, "outpoint": str(payment.tx.outpoints[0])}

        def bend(message: Message) -> Message | None:
            if message["type"] == "TransactionAccepted":
                return no(message, "double_spend") | {"details": details}
            return holding(message)

        self.world.bend = bend
        self.world.cut()
        self.world.run(2 * ASK_AGAIN)
        self.assertIsNone(payment.proof)
        self.world.bend = lambda message: message
        connections = self.world.connections
        self.world.say(holding.only("FinalityProofs"))
        self.world.run(0)
        self.assertIsNotNone(payment.proof)
        self.world.say(holding.only("Error"))
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(self.world.connections, connections)


class Outrun(PurseCase):
    """Another process with these keys has spent a coin, and the node does not tell of it."""

    def test_a_coin_that_a_proven_rival_took(self) -> None:
        """It is gone from the balance with the payment that wanted it, and the next payment picks another."""
        client = self.opened()
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        self.spend()
        payment = client.account.send(self.shop, 35 * COIN)
        payment.may_be_known = True  # as after a connection that was lost
        self.world.run(1)
        refusal = self.failureResultOf(payment.when_final(), DoubleSpend).value
        self.assertEqual((len(refusal.spent), client.account.balance().total), (1, 27 * COIN))
        again = client.account.send(self.shop, 20 * COIN)
        self.world.run(1)
        self.assertIsNone(again.error)

    def test_its_own_proof_is_no_rival(self) -> None:
        """A node refuses what is final, with the payment's own txid as the rival: that ends nothing."""
        client = self.opened()
        payment = client.account.send(self.shop, COIN)
        details = {"conflicting_txid": payment.txid, "outpoint": str(payment.tx.outpoints[0])}
        payment.may_be_known = True
        self.world.bend = lambda message: (
            None if message["type"] == "UTXOStateNotification"
            else no(message, "double_spend") | {"details": details}
            if message["type"] == "TransactionAccepted" else message
        )  # fmt: skip
        self.world.run(1)
        self.assertIsNone(payment.error)


class Asked(ClientCase):
    """A client that watches no coins."""

    def test_final_for_whoever_asks(self) -> None:
        """What it checks when it is asked for the proof, or the block, of a refused payment settles that too."""
        client = self.world.client()
        for number, ask in enumerate((client.wait_final, client.wait_confirmed)):
            self.world.bend = lambda message: (
                None if message["type"] == "UTXOStateNotification"
                else no(message) if message["type"] == "TransactionAccepted" else message
            )  # fmt: skip
            payment = client.submit(self.payment(number))
            self.world.run(0.2)
            self.failureResultOf(payment.when_final(), Refusal)
            self.world.bend = lambda message: message
            self.world.node.make_block()
            asked = ask(payment.txid)
            self.world.run(2 * ASK_AGAIN)
            self.successResultOf(asked)
            self.assertIsNotNone(payment.proof)


class Forged(ClientCase):
    """Somebody's transaction that claims to be another one: its txid is a claim, and not what it hashes to."""

    def test_what_is_proven_of_the_name_is_not_proven_of_it(self) -> None:
        """Handed in before the other one is proven, or after, or while it is one of ours: it fails, and is not sent."""
        client = self.world.client()
        asked: list[Message] = []
        handle = self.world.node.handler.handle_message
        self.patch(self.world.node.handler, "handle_message", lambda *each: (asked.append(each[1]), handle(*each)))
        theirs, ours, other = (self.payment(number) for number in range(3))
        self.world.node.integration.process_transaction(theirs)
        forged = [msgspec.structs.replace(other, txid=each.txid) for each in (theirs, ours)]
        payments = [client.submit(each) for each in forged]
        true = client.submit(ours)
        proofs = [client.wait_final(each.txid) for each in (theirs, ours)]
        self.world.run(1)
        for proof in proofs:
            self.successResultOf(proof)
        payments += [client.submit(each) for each in forged]
        self.world.run(2 * ASK_AGAIN)
        for payment in payments:
            self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.TXID_MISMATCH)
            self.assertIsNone(payment.proof)
        self.assertIsNotNone(true.proof)
        self.assertIsNone(client.belief.proven(other.txid))
        sent = [each.tx for each in asked if isinstance(each, messages.TransactionBroadcast)]
        self.assertEqual(sent, [ours])


class EndedAgain(Ends):
    """The same, of a transaction that a block has ended."""

    def test_an_end_that_was_asked_for_by_the_first(self) -> None:
        """The proven end comes when a no has ended that one: the second has ended, and nobody waits for it."""
        self.undecided()
        tx = self.payment()
        self.shows(self.aborted(tx))
        client = self.world.client()
        self.world.bend = holding = Holding("TransactionAccepted", "TransactionInfo")
        first = client.submit(tx)
        first.when_final().addErrback(lambda failure: None)
        client.cancel(tx, self.node.wallets[0]).addErrback(lambda failure: None)
        self.world.run(ASK_AGAIN + 0.5)
        info = holding.only("TransactionInfo")
        self.world.say(no(holding.only("TransactionAccepted")))
        self.world.run(0)
        self.assertIsNotNone(first.error)
        self.world.bend = lambda message: None if message["type"] == "TransactionAccepted" else message
        final, ending = client.submit(tx).when_final(), client.cancel(tx, self.node.wallets[0])
        self.world.say(info)
        self.world.run(0)
        self.failureResultOf(final, Aborted)
        self.assertEqual(self.successResultOf(ending).height, 1)

    def test_a_no_to_the_first_ends_nothing_of_the_second(self) -> None:
        """It comes after the end of that one: neither the payment in its place nor the wish to cancel it is over."""
        self.undecided()
        client = self.world.client()
        tx = self.payment()
        first = client.submit(tx)
        client.stopService()
        client.startService()
        self.world.run(2)
        ending = client.cancel(tx, self.node.wallets[0])
        client._outbox._end(first, Refusal(ErrorCode.OVER_LIMIT, "no"))
        self.assertIsNotNone(client._outbox.get(tx.txid))
        self.shows(self.aborted(tx))
        self.world.run(2 * ASK_AGAIN)
        self.assertEqual(self.successResultOf(ending).height, 1)
        first.when_final().addErrback(lambda failure: None)


class FinalAfterAll(PurseCase):
    """A node says no to a payment and has it made final: the first no ends it, but what is proven later is told."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        self.patch(Payment, "log", Logger(observer=lambda event: self.lines.append(str(formatEvent(event)))))

    def told_no(self, client: Any) -> tuple[Payment, list[Message]]:
        """A payment that the node takes and says no to, and what it does not tell of it yet."""
        untold: list[Message] = []

        def bend(message: Message) -> Message | None:
            if message["type"] == "UTXOStateNotification":
                untold.append(message)
                return None
            return no(message) if message["type"] == "TransactionAccepted" else message

        self.world.bend = bend
        sending = client.send(self.shop, COIN)
        self.world.run(0.2)
        payment: Payment = self.successResultOf(sending)
        self.assertIs(self.failureResultOf(payment.when_final(), Refusal).value.code, ErrorCode.OVER_LIMIT)
        self.assertIsNone(payment.proof)
        self.world.bend = lambda message: message
        return payment, untold

    def assert_told(self, payment: Payment, steps: list[str]) -> None:
        """Once to whoever listens, once in the log; who was told no was told, and who asks now hears the truth."""
        self.assertEqual(steps[:1], ["SpentFinalized"])
        self.assertEqual(len(self.lines), 1)
        self.assertIn(payment.txid, self.lines[0])
        self.assertIsInstance(payment.error, Refusal)
        self.assertIs(self.successResultOf(payment.when_final()), payment.proof)
        self.assertIs(self.successResultOf(payment.when_accepted()), payment)

    def test_a_no_that_was_a_lie(self) -> None:
        """Its proof is told with the coin: the payment has it at once, says so and warns."""
        client = self.opened()
        payment, untold = self.told_no(client)
        steps: list[str] = []
        payment.on_step(lambda step: steps.append(step.state))
        for each in untold:
            self.world.say(each)
        self.world.run(0)
        self.assert_told(payment, steps)
        self.world.run(3 * ASK_AGAIN)
        self.world.node.make_block()
        self.world.run(3 * ASK_AGAIN)
        self.assert_told(payment, steps)

    def test_seen_in_what_the_next_node_shows(self) -> None:
        """Nothing is told of it, and the next connection shows its change among the coins: the proof is asked for."""
        client = self.opened()
        payment, _ = self.told_no(client)
        steps: list[str] = []
        payment.on_step(lambda step: steps.append(step.state))
        client.watches._place.lose()
        self.world.cut()
        self.world.run(2 * ASK_AGAIN)
        self.assert_told(payment, steps)

    def test_its_coins_were_paid_again_meanwhile(self) -> None:
        """Of the two payments each hears which one it was."""
        client = self.opened()
        payment, untold = self.told_no(client)
        self.world.bend = lambda message: None if message["type"] == "Error" else message
        rival = client.submit(self.again(payment))
        self.world.run(0.2)
        self.assertFalse(rival.is_over)
        for each in untold:
            self.world.say(each)
        self.world.run(0)
        self.assertIsNotNone(payment.proof)
        refusal = self.failureResultOf(rival.when_final(), Refusal).value
        self.assertEqual(refusal.details["conflicting_txid"], payment.txid)

    def again(self, payment: Payment) -> Any:
        coins = [(each, 9 * COIN, self.mine) for each in payment.tx.outpoints]
        return pay(self.world.node.genesis, coins, [(address(key(7)), COIN)])

    def test_its_coins_and_its_block(self) -> None:
        """Without change nothing else tells that its coin is spent: it is not picked again, and its block is told."""
        client = self.opened()
        self.world.bend = lambda message: (
            None if message["type"] == "UTXOStateNotification"
            else no(message) if message["type"] == "TransactionAccepted" else message
        )  # fmt: skip
        sending = client.send(self.shop, 9 * COIN - 1_000)
        self.world.run(0.5)
        payment = self.successResultOf(sending)
        self.failureResultOf(payment.when_final(), Refusal)
        self.world.bend = lambda message: None if message["type"] == "UTXOStateNotification" else message
        asked = client.wait_final(payment.txid)
        self.world.run(1)
        self.successResultOf(asked)
        free = {coin.outpoint for coin in client.account.book.free()}
        self.assertEqual((free & set(payment.tx.outpoints), len(free)), (set(), 3))
        confirmed = client.wait_confirmed(payment.txid)
        height = self.world.node.make_block()
        self.world.run(3 * ASK_AGAIN)
        self.assertEqual((self.successResultOf(confirmed), payment.height), (height, height))
        self.assertEqual([step.state for step in payment.history][-1], "Confirmed")

    def test_a_no_that_was_honest(self) -> None:
        """It is told at once, whatever it says of node or payment, and afterwards nothing more is asked or written."""
        client = self.opened()
        for code in (ErrorCode.OVER_LIMIT, ErrorCode.DOUBLE_SPEND, ErrorCode.UNKNOWN_INPUT, ErrorCode.DUST):
            self.world.bend = lambda message: message
            self.patch(self.world.node.integration, "process_transaction", self.saying(code))
            sending = client.send(self.shop, COIN)
            self.world.run(0.2)
            final = self.successResultOf(sending).when_final()
            self.assertIs(self.failureResultOf(final, Refusal).value.code, code)
        asked = self.asked("GetFinalityProof")
        self.world.run(5 * ASK_AGAIN)
        self.assertEqual((asked, self.lines), ([], []))

    def saying(self, code: ErrorCode) -> Any:
        return lambda tx: fail(Refusal(code, "no"))

    def test_no_more_are_kept_than_may_be(self) -> None:
        """A node that refuses everything does not fill the memory."""
        client = self.opened()
        with mock.patch("timeproto.wallet.outbox.REFUSED", 2):
            payments = [self.told_no(client)[0] for _ in range(3)]
        self.assertEqual(list(client._outbox._refused), payments[1:])
