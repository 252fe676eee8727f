"""Payments on their way to a wallet: told as a node's word, never counted, never proven by it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address
from tests.test_network.listening import Listening
from tests.test_wallet.ear import Resuming
from tests.test_wallet.test_client import ClientCase
from tests.test_wallet.world import World
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import kind
from timeproto.wallet import arrivals, hd, watch
from timeproto.wallet.account import Account
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.incoming import Incoming
from timeproto.wallet.purse import MemoryPurse
from timeproto.wire import codec, messages

PHRASE = "abandon " * 11 + "about"


class Till:
    """A merchant's: everything that a watch told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @property
    def hints(self) -> list[Incoming]:
        return [each for each in self.told if isinstance(each, Incoming)]

    @property
    def statuses(self) -> list[str]:
        return [each.status for each in self.hints]

    @property
    def story(self) -> list[str]:
        """Statuses of payments and states of coins, as they came; a coin's with its proof is in capitals."""
        return [
            each.status if isinstance(each, Incoming)
            else (kind(each.new_state).upper() if each.proven else kind(each.new_state))
            for each in self.told
        ]  # fmt: skip


class Honest(SynchronousTestCase):
    """A node among four."""

    def setUp(self) -> None:
        self.net = Listening()
        self.world = World(self.net)
        self.payee = self.net.address_of(1)
        self.till = Till()

    def watching(self, client: WalletClient | None = None) -> WalletClient:
        client = client or self.world.client()
        watched = client.watch(self.till.told.append, addresses=[self.payee], on_payment=self.till.told.append)
        self.world.run(0.5)
        self.successResultOf(watched)
        return client

    def finish(self) -> None:
        self.net.heal()
        self.net.settle()
        self.world.run(0.5)

    def test_from_the_first_word_to_the_block(self) -> None:
        """Locked and pending are words; then the coin, proven; then final; then the block, proven."""
        client = self.watching()
        self.till.told.clear()
        tx = self.net.payment(0, 0, 1)
        self.net.alone(tx)
        self.world.run(0.1)
        self.net.lock_votes(tx, 1, 2)
        self.world.run(0.1)
        self.assertEqual(self.till.story, ["locked", "pending"])
        self.finish()
        self.net.pass_time(8_000)
        self.world.run(0.5)
        self.assertEqual(self.till.story, ["locked", "pending", "UNSPENT", "final", "confirmed"])
        for each in self.till.hints:
            self.assertEqual((each.txid, each.amount, each.rival), (tx.txid, COIN, None))
        self.assertEqual(self.till.hints[-1].height, 1)
        self.assertTrue(client.is_current)

    def test_a_rival_and_the_end(self) -> None:
        """Warned as soon as there is one; the loser ends without a coin."""
        self.watching()
        self.till.told.clear()
        loser, winner = (self.net.payment(0, 0, to) for to in (1, 2))
        self.net.alone(loser)
        self.net.submit(winner, 1)
        self.net.run()
        self.world.run(0.1)
        self.net.heal()
        self.net.pass_time(8_000)
        self.world.run(0.5)
        self.assertEqual(self.till.story, ["locked", "refused", "aborted"])
        self.assertEqual([each.rival for each in self.till.hints], [None, winner.txid, winner.txid])
        self.assertEqual(self.till.hints[-1].code, "aborted")

    def test_what_is_on_its_way_when_it_comes(self) -> None:
        """And again after a reconnect: told once, and the end that came meanwhile is the coin's."""
        tx = self.net.payment(0, 0, 1)
        self.net.alone(tx)
        self.watching()
        self.till.told[:] = [each for each in self.till.told if isinstance(each, Incoming)]
        self.assertEqual(self.till.story, ["locked"])
        self.world.cut()
        self.world.run(3)
        self.assertEqual(self.till.story, ["locked"])
        self.world.refuses = True
        self.world.cut()
        self.finish()
        self.world.refuses = False
        self.world.run(30)
        self.assertEqual(self.till.story, ["locked", "UNSPENT", "final"])

    def test_an_end_that_was_missed_is_asked_for(self) -> None:
        """Aborted while nobody listened, confirmed without a hint: the node is asked, and has to prove it."""
        self.watching()
        self.till.told.clear()
        loser, winner = (self.net.payment(0, 0, to) for to in (1, 2))
        other = self.net.payment(0, 1, 1)
        self.net.alone(loser)
        self.net.submit(other, 0)
        self.world.run(0.1)
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.net.submit(winner, 1)
        self.net.run()
        self.net.heal()
        self.net.pass_time(16_000)
        self.world.run(arrivals.SILENCE + 3 * ASK_AGAIN)
        ends = {each.txid: each for each in self.till.hints}
        self.assertEqual((ends[loser.txid].status, ends[loser.txid].rival), ("aborted", winner.txid))
        record = self.net.nodes[0].store.transaction(other.txid)
        assert record is not None and record.height is not None
        self.assertEqual((ends[other.txid].status, ends[other.txid].height), ("confirmed", record.height))
        asked = []
        handle = self.net.handler.handle_message  # type: ignore[union-attr]
        self.patch(self.net.handler, "handle_message", lambda *it: asked.append(it) or handle(*it))
        self.world.run(3 * arrivals.SILENCE)
        self.assertEqual([type(message).__name__ for _, message in asked if "Get" in type(message).__name__], [])

    def asked_after(self) -> list[str]:
        """The payments that the node is asked for from now on."""
        asked: list[str] = []
        handle = self.net.handler.handle_message  # type: ignore[union-attr]

        def note(client: Any, message: Any) -> None:
            asked.extend([message.txid] if isinstance(message, messages.GetTransaction) else [])
            handle(client, message)

        self.patch(self.net.handler, "handle_message", note)
        return asked

    def test_what_nodes_do_not_know(self) -> None:
        """Asked after a few times, and again if it is heard of; what is undecided, until it is decided."""
        self.watching()
        tx = self.net.payment(0, 0, 1)
        self.net.alone(tx)
        output = {"vout": 0, "output": {"amount": COIN, "address": self.payee}}
        word = {"type": "TransactionStatus", "txid": "ab" * 32, "status": "locked", "outputs": [output]}
        self.world.say(word)
        asked = self.asked_after()
        self.world.run((arrivals.UNKNOWN + 3) * (arrivals.SILENCE + ASK_AGAIN))
        self.assertEqual(asked.count("ab" * 32), arrivals.UNKNOWN)
        self.assertGreater(asked.count(tx.txid), arrivals.UNKNOWN + 1)
        self.world.say(word)
        self.finish()
        told = [(each.txid == tx.txid, each.status) for each in self.till.hints]
        self.assertEqual(told, [(True, "locked"), (False, "locked"), (True, "final")])
        self.world.run(arrivals.SILENCE + 2 * ASK_AGAIN)
        self.assertEqual(asked.count("ab" * 32), arrivals.UNKNOWN + 1)

    def test_what_is_not_asked_after_any_more_comes(self) -> None:
        """Its coin is told, and final and confirmed after it, found by asking if the node does not tell."""
        self.watching()
        self.till.told.clear()
        tx = self.net.payment(0, 0, 1)
        output = {"vout": 0, "output": json.loads(codec.encode(tx.outputs[0]))}
        self.world.say({"type": "TransactionStatus", "txid": tx.txid, "status": "seen", "outputs": [output]})
        self.world.run((arrivals.UNKNOWN + 1) * (arrivals.SILENCE + ASK_AGAIN))
        self.world.bend = lambda message: None if message["type"] == "TransactionStatus" else message
        self.net.submit(tx, 0)
        self.finish()
        self.assertEqual(self.till.story, ["seen", "UNSPENT", "final"])
        self.net.pass_time(16_000)
        self.world.run(arrivals.SILENCE + 2 * ASK_AGAIN)
        self.assertEqual(self.till.story, ["seen", "UNSPENT", "final", "confirmed"])

    def test_words_are_asked_after_beside_what_has_come(self) -> None:
        """However many payments wait for their block: the word that waits longest is asked after each time."""
        client = self.watching()
        words = [self.net.payment(0, number, 1) for number in range(2)]
        for tx in words:
            self.net.alone(tx)
        self.world.run(0.5)
        (watching,) = client.watches._watches
        paid = messages.PaidOutput(0, words[0].outputs[0])
        finals = [f"{number:064x}" for number in range(100)]
        watching.payments.update({txid: Incoming(txid, "final", (paid,)) for txid in finals})
        asked = self.asked_after()
        self.world.run(3 * arrivals.SILENCE)
        for tx in words:
            self.assertGreater(asked.count(tx.txid), 1)
        self.assertLessEqual(set(finals), set(asked))

    def test_who_does_not_ask_is_told_nothing(self) -> None:
        """And the node is not asked for it."""
        client = self.world.client()
        ensureDeferred(client.watch(self.till.told.append, addresses=[self.payee]))
        self.world.run(0.5)
        self.assertEqual(self.net.handler._feeds.listeners, set())  # type: ignore[union-attr]

    def test_asked_for_by_the_second_watch(self) -> None:
        """Of the same addresses, on the same connection."""
        client = self.world.client()
        ensureDeferred(client.watch(lambda change: None, addresses=[self.payee]))
        self.world.run(0.5)
        self.watching(client)
        self.net.alone(self.net.payment(0, 0, 1))
        self.world.run(0.1)
        self.assertEqual(self.till.statuses, ["locked"])

    def test_a_node_that_does_not_know_of_it(self) -> None:
        """An older version is asked nothing that it would refuse, and the coins come as they did."""

        def older(message: dict[str, Any]) -> dict[str, Any]:
            if message["type"] == "Handshake":
                message["capabilities"] = ["cursors", "zstd"]
            return message

        self.world.bend = older
        client = self.watching()
        self.till.told.clear()
        self.net.submit(self.net.payment(0, 0, 1), 0)
        self.net.run()
        self.world.run(0.5)
        self.assertEqual(self.till.story, ["UNSPENT"])
        self.assertTrue(client.is_current)

    def test_stopped_is_silent(self) -> None:
        """Nothing more after ``stop``."""
        client = self.world.client()
        watched = client.watch(self.till.told.append, addresses=[self.payee], on_payment=self.till.told.append)
        self.world.run(0.5)
        self.successResultOf(watched).stop()
        self.till.told.clear()
        self.net.submit(self.net.payment(0, 0, 1), 0)
        self.net.run()
        self.world.run(0.5)
        self.assertEqual(self.till.told, [])


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


class BesideChanges(Resuming):
    def say(self, status: str, number: int) -> None:
        output = json.loads(codec.encode(self.payment(number).outputs[0]))
        word = {"type": "TransactionStatus", "txid": self.payment(number).txid, "status": status, "height": 3}
        self.world.say(word | {"outputs": [{"vout": 0, "output": output}]})
        self.world.run(0.1)

    def test_hints_change_nothing_about_changes(self) -> None:
        """The same story with and without them: the same changes, in the same order (S-1 to S-5)."""
        heard = []
        for listens in (False, True):
            self.world = World()
            self.wallet = self.world.node.wallets[0]
            hints: list[Incoming] = []
            client, ear = self.watching(0, 1, **({"on_payment": hints.append} if listens else {}))
            for number in (0, 3):
                for status in ("locked", "final", "confirmed") if listens else ():
                    self.say(status, number)
                self.pay(number)
                self.say("aborted", number)
                self.away(lambda: self.pay(1, 2))
                self.world.run(1)
            heard.append(ear.take())
            self.assertEqual(bool(hints), listens)
            client.stopService()
            self.world.run(0.5)
        self.assertEqual(heard[0], heard[1])
        self.assertGreater(len(heard[0]), 12)

    def test_blocks_that_a_node_does_not_show(self) -> None:
        """No change waits for them; they are asked for a few at a time, each once, and told when they are shown."""
        self.patch(arrivals, "ASKED", 2)
        hints: list[Incoming] = []
        _, ear = self.watching(1, on_payment=hints.append)
        kept: list[tuple[Any, Any]] = []
        handle = self.world.node.handler.handle_message
        first = [self.payment(number).txid for number in range(3)]

        def keep(client: Any, message: Any) -> None:
            is_kept = isinstance(message, messages.GetTransaction) and message.txid in first
            kept.append((client, message)) if is_kept else handle(client, message)

        for number in range(3):
            self.say("locked", number)
        self.pay(0, 1, 2)
        self.world.run(0.5)
        self.assertEqual([each.status for each in hints], ["locked"] * 3 + ["final"] * 3)
        self.patch(self.world.node.handler, "handle_message", keep)
        self.world.bend = lambda message: None if message.get("status") == "confirmed" else message
        self.world.node.make_block()
        self.world.run(0.5)
        self.world.bend = lambda message: message | ({"height": 1} if message.get("status") == "confirmed" else {})
        for number in (0, 1, 2) * 5:
            self.say("confirmed", number)
        self.assertEqual(len(kept), 2)
        ear.take()
        self.pay(3)
        self.world.run(0.5)
        self.assertEqual([each[-1] for each in ear.take()], ["Unspent"])
        while kept:
            handle(*kept.pop())
            self.world.run(0.1)
        told = [(each.txid, each.height) for each in hints if each.status == "confirmed"]
        self.assertEqual(sorted(told), [(txid, 1) for txid in sorted(first)])

    def test_a_block_that_one_node_spoke_of(self) -> None:
        """The next node is not blamed for what the last one said of it."""
        self.patch(arrivals, "ASKED", 1)
        hints: list[Incoming] = []
        client, _ = self.watching(1, on_payment=hints.append)
        for number in range(3):
            self.say("locked", number)
        self.pay(0, 1, 2)
        self.world.run(0.5)
        self.world.bend = lambda message: None if "confirmed" in str(message.get("status")) else message
        self.world.node.make_block()
        self.world.run(0.5)
        self.world.bend = lambda message: None if message["type"] == "TransactionInfo" else message
        for number in range(3):
            self.say("confirmed", number)  # in block 3
        self.world.bend = lambda message: message
        self.away(lambda: None)
        self.world.bend = lambda message: message | ({"height": 1} if message.get("status") == "confirmed" else {})
        self.say("confirmed", 0)
        self.assertEqual([each.height for each in hints if each.status == "confirmed"], [1])
        self.world.run(arrivals.SILENCE + 3 * ASK_AGAIN)
        self.assertEqual((client.belief.lies, self.world.connections), (0, 2))
        self.assertEqual([each.height for each in hints if each.status == "confirmed"], [1, 1, 1])
