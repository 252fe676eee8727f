"""Payments on their way to a wallet: told as a node's word, never counted, never proven by it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN
from tests.test_network.listening import Listening
from tests.test_wallet.ear import Resuming
from tests.test_wallet.till import Till
from tests.test_wallet.world import World
from timeproto.wallet import arrivals
from timeproto.wallet.client import ASK_AGAIN, WalletClient
from timeproto.wallet.incoming import Incoming
from timeproto.wire import codec, messages


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
