"""A node that invents payments on their way, their amounts, ends and blocks, or too many of them: no money, no harm."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster import COIN, address
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.till import Till
from tests.test_wallet.world import World
from timeproto.model.transaction import Transaction
from timeproto.wallet import arrivals, hd, watch
from timeproto.wallet.account import Account
from timeproto.wallet.client import ASK_AGAIN
from timeproto.wallet.purse import MemoryPurse
from timeproto.wire import codec

PHRASE = "abandon " * 11 + "about"


class Lying(ClientCase):
    """A node whose every word about payments may be false."""

    def setUp(self) -> None:
        super().setUp()
        self.world = World(wallets=2, coins=4)
        self.wallet = self.world.node.wallets[0]
        self.mine = hd.derive(PHRASE)
        self.till = Till()

    def payment(self, number: int = 0, to: int = 1, amount: int = COIN) -> Transaction:
        """To the merchant's account."""
        from tests.cluster import pay

        spends = [(self.coin(number), 10 * COIN, self.wallet)]
        return pay(self.world.node.genesis, spends, [(address(self.mine), amount)])

    def account(self) -> Account:
        account = Account(MemoryPurse(PHRASE), self.world.client(), now=lambda: 0)
        self.outcome(account.open())
        watched = account.client.watch(
            self.till.told.append, addresses=[address(self.mine)], on_payment=self.till.told.append
        )
        self.world.run(0.5)
        self.successResultOf(watched)
        self.till.told.clear()
        return account

    def say(self, status: str, tx: Transaction | None = None, **more: Any) -> None:
        output = {"amount": 1_000 * COIN, "address": address(self.mine)}
        if tx is not None:
            output = json.loads(codec.encode(tx.outputs[0]))
        word = {"type": "TransactionStatus", "txid": "ab" * 32 if tx is None else tx.txid, "status": status}
        self.world.say(word | {"outputs": [{"vout": 0, "output": output}]} | more)
        self.world.run(0.2)

    def test_an_invented_payment_is_no_money(self) -> None:
        """Whatever status it gives it: no balance, no coin, no proof; and final is not even told."""
        account = self.account()
        for status in ("seen", "locked", "pending", "final", "refused", "aborted"):
            self.say(status)
        self.assertEqual(self.till.statuses, ["seen", "locked", "pending", "refused", "aborted"])
        self.assertEqual((account.balance().total, account.balance().pending), (0, 0))
        self.assertFalse(hasattr(self.till.hints[0], "proven"))
        self.assertTrue(account.client.is_current)

    def test_a_block_that_is_not_proven(self) -> None:
        """Of a payment that is final the height must be proven, and a false one is a lie; of others it is ignored."""
        account = self.account()
        self.say("pending")
        self.say("confirmed", height=3)
        self.assertEqual((self.till.statuses, account.client.belief.lies), (["pending"], 0))
        self.till.told.clear()
        tx = self.payment()
        self.say("locked", tx)
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.world.node.integration.process_transaction(tx)
        self.world.node.make_block()
        self.world.run(0.2)
        self.assertEqual(self.till.story, ["locked", "UNSPENT", "final"])
        self.world.bend = lambda message: message
        self.say("confirmed", tx, height=7)
        self.assertEqual(self.till.statuses, ["locked", "final"])
        self.assertEqual(account.client.belief.lies, 1)
        self.say("confirmed", tx, height=1)
        self.assertEqual((self.till.statuses[-1], self.till.hints[-1].height), ("confirmed", 1))

    def test_an_end_that_was_none(self) -> None:
        """Refused, aborted: and then the coin comes with its proof, which is what counts."""
        account = self.account()
        tx = self.payment()
        self.say("refused", tx, conflicting_txid="cd" * 32, code="double_spend")
        self.say("aborted", tx, height=3, code="aborted")
        self.world.node.integration.process_transaction(tx)
        self.world.run(0.2)
        self.assertEqual(self.till.story, ["refused", "aborted", "UNSPENT", "final"])
        self.assertEqual(account.balance().total, COIN)
        self.say("aborted", tx, height=4)
        self.say("locked", tx)
        self.assertEqual(self.till.story[-1], "final")
        self.assertEqual(account.balance().total, COIN)

    def test_an_amount_that_it_has_not(self) -> None:
        """More than it pays, and to an output that is not there: corrected by the proof, in every later word."""
        account = self.account()
        tx = self.payment()
        output = {"amount": 1_000 * COIN, "address": address(self.mine)}
        outputs = [{"vout": 0, "output": output}, {"vout": 9, "output": output}]
        self.world.say({"type": "TransactionStatus", "txid": tx.txid, "status": "locked", "outputs": outputs})
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.world.node.integration.process_transaction(tx)
        self.world.node.make_block()
        self.world.run(0.2)
        self.world.bend = lambda message: message
        self.world.say({
            "type": "TransactionStatus", "txid": tx.txid, "status": "confirmed", "outputs": outputs, "height": 1,
        })  # fmt: skip
        self.world.run(0.2)
        self.assertEqual([(each.status, each.amount) for each in self.till.hints],
                         [("locked", 2_000 * COIN), ("final", COIN), ("confirmed", COIN)])  # fmt: skip
        self.assertEqual(account.balance().total, COIN)

    def test_a_payment_named_like_genesis(self) -> None:
        """Its coins are no payment's, whatever a node says."""
        client = self.world.client()
        genesis = self.world.node.genesis.hash
        watching = client.watch(
            self.till.told.append, addresses=[address(self.wallet)], on_payment=self.till.told.append
        )
        self.world.run(0.3)
        self.successResultOf(watching)
        output = {"amount": COIN, "address": address(self.wallet)}
        word = {"type": "TransactionStatus", "txid": genesis, "status": "locked"}
        self.world.say(word | {"outputs": [{"vout": 77, "output": output}]})
        self.world.run(0.2)
        self.world.node.integration.process_transaction(self.payment())
        self.world.run(0.2)
        self.assertEqual([each.status for each in self.till.hints if each.txid == genesis], ["locked"])
        self.assertEqual(client.belief.lies, 0)

    def test_of_what_has_come_nothing_more_is_said(self) -> None:
        """A coin that was told is not on its way, whatever a node says that is behind."""
        self.account()
        tx = self.payment()
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.world.node.integration.process_transaction(tx)
        self.world.run(0.2)
        self.world.bend = lambda message: message
        for status in ("seen", "pending", "refused", "confirmed"):
            self.say(status, tx)
        self.assertEqual(self.till.story, ["UNSPENT"])

    def test_outputs_of_others(self) -> None:
        """What pays somebody else is none of this watch's, in the same word too."""
        self.account()
        mine, theirs = address(self.mine), address(self.wallet)
        outputs = [{"vout": at, "output": {"amount": COIN, "address": to}} for at, to in enumerate((theirs, mine))]
        word = {"type": "TransactionStatus", "txid": "ab" * 32, "status": "locked"}
        self.world.say(word | {"outputs": outputs[:1]})
        self.world.say(word | {"outputs": outputs})
        self.world.run(0.2)
        (hint,) = self.till.hints
        self.assertEqual(([each.vout for each in hint.outputs], hint.amount), ([1], COIN))

    def test_any_number_of_inventions(self) -> None:
        """A watch remembers the newest, and the node is asked after a few at a time."""
        self.patch(watch, "PAYMENTS", 10)
        account = self.account()
        for number in range(25):
            self.world.say({
                "type": "TransactionStatus", "txid": f"{number:064x}", "status": "locked",
                "outputs": [{"vout": 0, "output": {"amount": COIN, "address": address(self.mine)}}],
            })  # fmt: skip
        self.world.run(0.5)
        self.assertEqual(len(self.till.hints), 25)
        (watching,) = [each for each in account.client.watches._watches if each.on_payment]
        self.assertEqual(list(watching.payments), [f"{number:064x}" for number in range(15, 25)])
        asked = []
        handle = self.world.node.handler.handle_message
        self.patch(self.world.node.handler, "handle_message", lambda *it: asked.append(it[1]) or handle(*it))
        self.world.run(arrivals.SILENCE + ASK_AGAIN)
        found = [each for each in asked if type(each).__name__ == "GetTransaction"]
        self.assertTrue(0 < len(found) <= 2 * arrivals.ASKED, len(found))
        self.assertLessEqual(len(account.client.watches.arrivals._heard), 10)

    def invent(self, count: int, start: int = 0) -> None:
        """So many payments that do not exist."""
        for number in range(start, start + count):
            self.world.say({
                "type": "TransactionStatus", "txid": f"{number:064x}", "status": "locked",
                "outputs": [{"vout": 0, "output": {"amount": COIN, "address": address(self.mine)}}],
            })  # fmt: skip
        self.world.run(0.2)

    def test_inventions_do_not_push_out_what_has_come(self) -> None:
        """Of a payment that is final the block is told, however many words came since."""
        self.patch(watch, "PAYMENTS", 10)
        account = self.account()
        tx = self.payment()
        self.say("locked", tx)
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.world.node.integration.process_transaction(tx)
        self.world.run(0.2)
        self.world.bend = lambda message: message
        self.invent(25)
        (watching,) = [each for each in account.client.watches._watches if each.on_payment]
        self.assertEqual(list(watching.payments), [tx.txid, *(f"{number:064x}" for number in range(16, 25))])
        self.world.node.make_block()
        self.world.run(0.2)
        self.assertEqual([each.status for each in self.till.hints if each.txid == tx.txid][-1], "confirmed")

    def test_an_invention_where_all_have_come(self) -> None:
        """It is not taken, nor told, and every block is told; what has its block makes room."""
        self.patch(watch, "PAYMENTS", 3)
        self.account()
        txs = [self.payment(number) for number in range(3)]
        for tx in txs:
            self.say("locked", tx)
            self.world.node.integration.process_transaction(tx)
        self.world.run(0.2)
        self.invent(2)
        self.world.node.make_block()
        self.world.run(0.2)
        told = [(each.txid, each.status) for each in self.till.hints if each.status != "locked"]
        self.assertEqual(sorted(told), sorted((tx.txid, status) for tx in txs for status in ("final", "confirmed")))
        self.assertEqual(self.till.statuses.count("locked"), 3)
        self.invent(1)
        self.assertEqual(self.till.statuses.count("locked"), 4)

    def test_what_has_come_is_asked_after_first(self) -> None:
        """And inventions when there is nothing else to ask, but for one of them."""
        self.patch(arrivals, "ASKED", 2)
        account = self.account()
        tx = self.payment()
        self.invent(5)
        self.world.run(5)
        self.say("locked", tx)
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.world.node.integration.process_transaction(tx)
        self.world.node.make_block()
        self.world.run(arrivals.SILENCE)
        account.client.watches.arrivals._heard.update({f"{number:064x}": 0.0 for number in range(5)})
        self.world.run(ASK_AGAIN)
        self.assertEqual(self.till.statuses[-1], "confirmed")

    def test_any_number_of_inventions_while_the_node_does_not_answer(self) -> None:
        """When they were heard is not noted of all of them."""
        self.patch(watch, "PAYMENTS", 10)
        self.patch(arrivals, "PAYMENTS", 10)
        account = self.account()
        self.invent(5)
        self.world.bend = lambda message: None if message["type"] == "Error" else message
        self.world.run(arrivals.SILENCE + ASK_AGAIN)
        self.assertTrue(account.client.watches.arrivals._is_asking)
        self.invent(100, 5)
        self.assertLessEqual(len(account.client.watches.arrivals._heard), 10)

    def test_an_end_that_is_not_proven_when_asked_for(self) -> None:
        """The node says aborted and cannot show the block: a lie, and nothing is told."""
        account = self.account()
        tx = self.payment()
        self.say("locked", tx)

        def bend(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "Error" and message["code"] == "not_found":
                told = {"type": "TransactionInfo", "id": message["id"], "tx": json.loads(codec.encode(tx))}
                return told | {"status": "aborted", "height": 1}
            return message

        self.world.bend = bend
        self.world.run(arrivals.SILENCE + 2 * ASK_AGAIN)
        self.assertEqual(self.till.statuses, ["locked"])
        self.assertGreater(account.client.belief.lies, 0)
