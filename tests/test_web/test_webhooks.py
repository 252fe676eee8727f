"""Webhooks on a fake clock: what is told, in which order, after which crash, and to whom it is refused."""

from __future__ import annotations

import hmac
import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import fail
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, FEE, GENESIS, PAYMENT, address, build
from tests.test_web.harness import START, encode
from tests.test_web.shop import URL, Shop, wish
from timeproto.errors import ConfigurationError, ErrorCode, Refusal
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.web import bounds
from timeproto.web.hook_live import LiveHook
from timeproto.web.hooks import Hook, Kept, Removal, WebhookAnswer, hook_id, load, save
from timeproto.wire.messages import Cursor

NEXT = build([(PAYMENT.output_outpoint(0), BOB)], [(COIN, address(BOB))])
"""BOB's next payment, to himself, …"""
LATER = build([(NEXT.output_outpoint(0), BOB)], [(COIN - FEE, address(BOB))])
"""… and the one after it."""


class Telling(SynchronousTestCase):
    def test_a_payment(self) -> None:
        """Every transition of the address's coins in one signed POST, the proof with what is final, nothing else."""
        shop = Shop()
        shop.settle()
        shop.node.pay(PAYMENT)
        shop.settle()
        ((url, delivery, headers),) = shop.receiver.asked
        self.assertEqual((url, delivery.address, delivery.hook), (URL, address(BOB), hook_id(address(BOB), URL)))
        self.assertEqual([event.cursor.position for event in delivery.events], shop.expected())
        self.assertEqual(delivery.cursor.position, shop.node.position())
        self.assertEqual({event.output.address for event in delivery.events}, {address(BOB)})
        self.assertIsNotNone(delivery.events[0].proof)
        self.assertIsNone(delivery.gap)
        (hook,) = shop.saved
        stamp = headers["Timeproto-Timestamp"]
        self.assertEqual(stamp, str(int(START)))
        signed = f"{stamp}.".encode() + shop.receiver.body
        expected = "v1=" + hmac.digest(bytes.fromhex(hook.secret), signed, "sha256").hex()
        self.assertEqual(headers["Timeproto-Signature"], expected)

    def test_other_peoples_coins(self) -> None:
        """What does not concern the address is no reason for a POST."""
        shop = Shop(configured=[(address(SigningKey(b"\x42" * 32)), URL)])
        shop.settle()
        shop.node.pay(PAYMENT)
        shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual(shop.receiver.asked, [])
        self.assertEqual(shop.saved[0].done, shop.node.position())

    def test_in_order_one_after_the_other(self) -> None:
        """While a POST is under way what happens waits, and comes next, from where the last one ended."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "hang"
        shop.node.pay(PAYMENT)
        shop.settle()
        shop.node.decide()
        shop.settle()
        self.assertEqual(len(shop.receiver.asked), 1)
        shop.receiver.answer = "delivered"
        first = shop.receiver.asked[0][1]
        shop.node.pay(NEXT)
        shop.settle()
        shop.receiver.hanging[0].callback("delivered")
        shop.settle()
        told = [event.cursor.position for event in first.events] + shop.receiver.taken
        self.assertEqual(told, shop.expected())

    def test_failures_back_off_and_lose_nothing(self) -> None:
        """Pauses double up to an hour; when the shop is back it gets everything, in order."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "unreachable"
        shop.node.pay(PAYMENT)
        shop.settle()
        self.assertEqual(len(shop.receiver.asked), 1)
        times = []
        for _ in range(20_000):
            shop.clock.pump([1, 0, 0])
            if len(shop.receiver.asked) > len(times) + 1:
                times.append(int(shop.clock.seconds() - START))
        pauses = [after - before for before, after in zip([0, *times], times, strict=False)]
        self.assertEqual(pauses[:6], [1, 2, 4, 8, 16, 32])
        self.assertEqual(max(pauses), bounds.WEBHOOK_RETRY_MOST)
        self.assertEqual(shop.numbers()["timeproto_webhooks_failing"], 1)
        self.assertEqual(shop.numbers()["timeproto_webhook_behind"], shop.node.position() - shop.expected()[0] + 1)
        shop.node.decide()
        shop.receiver.answer = "delivered"
        for _ in range(3_700):
            shop.clock.pump([1, 0, 0])
        self.assertEqual(shop.receiver.taken, shop.expected())
        self.assertEqual(shop.numbers()["timeproto_webhooks_failing"], 0)

    def test_one_that_hangs_holds_up_nobody(self) -> None:
        """Each webhook waits for its own receiver alone."""
        shop = Shop(configured=[(address(BOB), URL), (address(ALICE), "https://other.example/")])
        shop.settle()
        shop.receiver.answer = "hang"
        shop.node.lock(PAYMENT)
        shop.settle()
        shop.receiver.answer = "delivered"
        shop.node.pend(PAYMENT)
        shop.node.finalize(PAYMENT)
        shop.settle()
        self.assertLessEqual(set(shop.expected(BOB)), set(shop.receiver.taken))

    def test_as_many_at_once_as_there_may_be(self) -> None:
        """A thousand receivers that hang have so many POSTs under way, and the others their turn when one ends."""
        shop = Shop(configured=[(address(BOB), f"{URL}/{each}") for each in range(40)])
        shop.settle()
        shop.receiver.answer = "hang"
        shop.node.pay(PAYMENT)
        shop.clock.pump([0] * 200)
        self.assertEqual(len(shop.receiver.hanging), bounds.WEBHOOK_POSTS)
        shop.receiver.hanging[0].callback("timeout")
        shop.settle()
        self.assertEqual(len(shop.receiver.hanging), bounds.WEBHOOK_POSTS + 1)

    def test_the_slow_wait_for_each_other(self) -> None:
        """However many receivers hang, those that were quick before are told at once; a stranger has yet to show."""
        quick = "https://quick.example/"
        slow = [(address(BOB), f"{URL}/{each}") for each in range(40)]
        shop = Shop(configured=[(address(BOB), quick), *slow])
        shop.settle()
        shop.receiver.hangs = URL
        shop.node.lock(PAYMENT)
        shop.node.pend(PAYMENT)
        shop.node.finalize(PAYMENT)
        while len({url for url, _, _ in shop.receiver.asked}) < 41:
            shop.clock.pump([0] * 100)
            while shop.receiver.hanging:
                shop.receiver.hanging.pop().callback("timeout")
        shop.settle(2)  # all that failed are tried again, and hang
        self.assertEqual(len(shop.receiver.hanging), bounds.WEBHOOK_SLOW_POSTS)
        told = [url for url, _, _ in shop.receiver.asked].count(quick)
        shop.node.pay(NEXT)
        shop.settle()
        self.assertEqual([url for url, _, _ in shop.receiver.asked].count(quick), told + 1)

    def test_a_stranger_has_yet_to_show(self) -> None:
        """A wallet's webhook is among the slow until a POST was taken quickly, and again once one was taken slowly."""
        self.patch(bounds, "WEBHOOK_SLOW_POSTS", 1)
        shop = Shop(configured=[])
        shop.settle()
        for each in range(bounds.WEBHOOKS_PER_ADDRESS):
            shop.post("/v1/webhooks", encode(wish(url=f"{URL}/{each}")))
        shop.receiver.answer = "hang"
        found = []
        for tx, takes in ((PAYMENT, 0.0), (NEXT, 2.0), (LATER, 0.0)):
            shop.node.pay(tx)
            shop.settle()
            found.append(len(shop.receiver.hanging))
            shop.settle(takes)
            while shop.receiver.hanging:
                shop.receiver.hanging.pop().callback("delivered")
                shop.settle()
        self.assertEqual(found, [1, bounds.WEBHOOKS_PER_ADDRESS, 1])

    def test_a_page_is_bounded(self) -> None:
        """More than fits one POST comes in several."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "timeout"
        self.split(shop)
        shop.receiver.answer = "delivered"
        shop.settle(2)
        shop.settle(2)
        self.assertEqual(shop.receiver.taken, shop.expected())
        self.assertGreater(len(shop.expected()), bounds.WEBHOOK_EVENTS)
        self.assertLessEqual(max(len(each.events) for _, each, _ in shop.receiver.asked), bounds.WEBHOOK_EVENTS)

    def test_less_at_a_time_after_failures(self) -> None:
        """Who cannot take fifty in time is sent half, and half of that; what is taken doubles it again."""
        shop = Shop()
        shop.receiver.most = 3
        shop.settle()
        self.split(shop)
        for each in range(6):
            shop.settle(2.0**each)
        sizes = [len(each.events) for _, each, _ in shop.receiver.asked]
        self.assertEqual(sizes[:8], [50, 25, 12, 6, 3, 6, 3, 6])
        shop.receiver.most = 1_000
        for each in range(6):
            shop.settle(2.0**each)
        self.assertEqual(shop.receiver.taken, shop.expected())

    def split(self, shop: Shop) -> None:
        """One coin of ALICE becomes a hundred of BOB."""
        shares = [(COIN // 1000, address(BOB))] * 80
        shop.node.pay(build([(Outpoint(GENESIS.hash, 0), ALICE)], [*shares, (COIN, address(ALICE))]))
        shop.settle()

    def test_a_log_that_is_gone_is_said_to_be(self) -> None:
        """A webhook further behind than the log reaches is told of the gap, and goes on after it."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "unreachable"
        shop.node.pay(PAYMENT)
        shop.settle()
        lost = shop.node.pruned = shop.node.position()
        shop.node.pay(NEXT)
        shop.settle(2)
        self.assertEqual(shop.receiver.asked[-1][1].gap, "too_old")
        shop.settle(bounds.WEBHOOK_SAVE)
        again = shop.crash()
        again.settle()
        delivery = again.receiver.asked[0][1]
        self.assertEqual((delivery.gap, delivery.events, delivery.cursor.position), ("too_old", (), lost))
        self.assertEqual(again.receiver.taken, [each for each in again.expected() if each > lost])
        self.assertGreater(len(again.receiver.taken), 0)

    def test_a_log_without_anything_left(self) -> None:
        """Cut off to its very end: the gap reaches there."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "unreachable"
        shop.node.pay(PAYMENT)
        shop.settle()
        shop.node.pruned = shop.node.position()
        shop.receiver.answer = "delivered"
        shop.settle(2)
        delivery = shop.receiver.asked[-1][1]
        self.assertEqual((delivery.gap, delivery.cursor.position), ("too_old", shop.node.position()))

    def test_an_old_store_is_said_to_be(self) -> None:
        """A node restored from a backup is behind what it delivered: the receiver is told to look anew."""
        shop = Shop()
        shop.settle()
        shop.node.pay(PAYMENT)
        again = Shop(Kept(hooks=(msgspec.structs.replace(shop.saved[0], done=77),)), shop.node)
        begun = again.node.position()
        again.receiver.answer = "unreachable"
        again.settle()
        coin = PAYMENT
        while again.node.position() <= 77:  # the new log overtakes what the old one had, before the shop is back
            coin = build([(coin.output_outpoint(0), BOB)], [(coin.outputs[0].amount - FEE, address(BOB))])
            again.node.pay(coin)
        again.settle(bounds.WEBHOOK_SAVE)
        again = again.crash()
        again.settle()
        gap, *later = [delivery for _, delivery, _ in again.receiver.asked]
        self.assertEqual((gap.gap, gap.cursor.position, gap.events), ("ahead", begun, ()))
        self.assertEqual(again.receiver.taken, [each for each in again.expected() if each > begun])
        self.assertEqual({each.gap for each in later}, {None})
        again.settle(bounds.WEBHOOK_SAVE)
        self.assertIsNone(again.saved[0].gap)

    def test_numbers(self) -> None:
        """What was posted, how it ended, and how many events were taken."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "certificate"
        shop.node.pay(PAYMENT)
        shop.settle()
        shop.receiver.answer = "delivered"
        shop.settle(2)
        numbers = shop.numbers()
        self.assertEqual(numbers["timeproto_webhook_posts_totalcertificate"], 1)
        self.assertEqual(numbers["timeproto_webhook_posts_totaldelivered"], 1)
        self.assertEqual(numbers["timeproto_webhook_events_total"], len(shop.expected()))
        self.assertEqual((numbers["timeproto_webhooks"], numbers["timeproto_webhooks_due"]), (1, 0))


class Crashes(SynchronousTestCase):
    def test_what_was_not_delivered_is(self) -> None:
        """Killed while the shop was away: after the start it gets what happened before and since."""
        shop = Shop()
        shop.settle()
        shop.receiver.answer = "unreachable"
        shop.node.pay(PAYMENT)
        shop.settle(bounds.WEBHOOK_SAVE)
        shop.node.decide()
        again = shop.crash()
        again.settle()
        self.assertEqual(again.receiver.taken, again.expected())

    def test_what_was_delivered_and_saved_is_not_again(self) -> None:
        """Stopped in order: nothing is told twice."""
        shop = Shop()
        shop.settle()
        shop.node.pay(PAYMENT)
        shop.settle()
        self.successResultOf(shop.service.stopService())
        again = shop.crash()
        again.settle()
        self.assertEqual(again.receiver.asked, [])

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from(["pay", "block", "ok", "away", "wait", "save", "crash"]), max_size=25))
    def test_nothing_is_lost(self, steps: list[str]) -> None:
        """However shops, payments and crashes interleave: all arrives, in order, and twice only what a crash forgot."""
        shop, coin, told = Shop(), PAYMENT, list[int]()
        shop.settle()
        shop.node.pay(coin)
        for step in steps:
            if step == "pay":
                coin = build([(coin.output_outpoint(0), BOB)], [(coin.outputs[0].amount - FEE, address(BOB))])
                shop.node.pay(coin)
            elif step == "block":
                shop.node.decide()
            elif step in ("ok", "away"):
                shop.receiver.answer = "delivered" if step == "ok" else "unreachable"
            elif step == "crash":
                told += shop.receiver.taken
                shop = shop.crash()
            shop.settle({"wait": 3, "save": bounds.WEBHOOK_SAVE}.get(step, 0))
        shop.receiver.answer = "delivered"
        for each in range(12):
            shop.settle(2.0**each)
        told += shop.receiver.taken
        seen: list[int] = []
        for position in told:
            if shop.expected()[len(seen) : len(seen) + 1] == [position]:
                seen.append(position)
            else:
                self.assertIn(position, seen)
                del seen[seen.index(position) + 1 :]
        self.assertEqual(seen, shop.expected())

    def test_the_file(self) -> None:
        """Written whole, for its owner alone; a damaged one is named, a torn one beside it is not read."""
        path = Path(self.mktemp())
        self.assertEqual(load(path), Kept())
        hook = Hook(hook_id("TIME0a", URL), "TIME0a", URL, "ab" * 32, "wallet", 7, 1, 2, "10.0.0.1", "ahead")
        kept = Kept(hooks=(hook,), removed={"cd" * 32: Removal(5, "a", "10.0.0.1"), "ef" * 32: 5})
        save(path, kept)
        self.assertEqual((load(path), path.stat().st_mode & 0o777), (kept, 0o600))
        path.with_name(path.name + ".new").write_bytes(b"{")
        self.assertEqual(load(path), kept)
        save(path, Kept())
        self.assertEqual(load(path), Kept())
        path.write_bytes(b'{"version":1,"hooks":[{}]}')
        with self.assertRaisesRegex(ConfigurationError, path.name):
            load(path)

    def test_a_file_of_an_older_node(self) -> None:
        """It is read: without the first failure of a webhook, and with nothing of a removed one but the time."""
        path, secret = Path(self.mktemp()), "ab" * 32
        path.write_text(f'''{{"version": 1, "removed": {{"{"cd" * 32}": 5}}, "hooks": [{{"hook": "{"ef" * 32}",
            "address": "TIME0a", "url": "{URL}", "secret": "{secret}", "owner": "wallet", "done": 7, "stamp": 1,
            "ends_at": 2, "payer": "10.0.0.1", "gap": null}}]}}''')
        hook = Hook("ef" * 32, "TIME0a", URL, secret, "wallet", 7, 1, 2, "10.0.0.1")
        self.assertEqual(load(path), Kept(hooks=(hook,), removed={"cd" * 32: 5}))

    def test_secrets_are_not_shown(self) -> None:
        """What is logged of a webhook does not hold its key."""
        secret, cursor = "ab" * 32, Cursor("77" * 32, 7)
        hook = Hook("cd" * 32, "TIME0a", URL, secret, "wallet", 7)
        answer = WebhookAnswer("cd" * 32, "TIME0a", URL, secret, 7, cursor, 0, None)
        for one in (hook, answer, Kept(hooks=(hook,)), LiveHook(hook, 7, None, True, True)):
            self.assertNotIn(secret, repr(one))

    def test_nothing_secret_is_logged(self) -> None:
        """Neither the key of the HMAC nor the URL, which may hold a password of the receiver's, is in a line."""
        lines: list[Any] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        shop = Shop()
        shop.settle()
        for answer in ("refused", "gone", "forbidden", "certificate"):
            shop.receiver.answer = answer
            shop.node.pay(PAYMENT) if answer == "refused" else None
            shop.settle(100)
        text = "".join(f"{formatEvent(line)} {line}" for line in lines)
        self.assertIn(hook_id(address(BOB), URL), text)
        self.assertNotIn(shop.saved[0].secret, text)
        self.assertNotIn(URL, text)


class Stopping(SynchronousTestCase):
    def test_nothing_is_left_behind(self) -> None:
        """POSTs under way are called off, pauses too, and what was delivered is saved."""
        shop = Shop(configured=[(address(BOB), URL), (address(ALICE), URL)])
        shop.settle()
        shop.receiver.answer = "unreachable"
        shop.node.lock(PAYMENT)
        shop.settle()
        shop.receiver.answer = "hang"
        shop.node.pend(PAYMENT)
        shop.node.finalize(PAYMENT)
        shop.settle()
        self.successResultOf(shop.service.stopService())
        self.assertEqual(shop.clock.getDelayedCalls(), [])
        self.assertEqual(len(shop.saved), 2)

    def test_a_node_that_cannot_be_read(self) -> None:
        """It halts: the webhooks wait, and nothing falls over."""
        shop = Shop()
        shop.settle()

        def refuse(question: Any) -> Any:
            return fail(Refusal(ErrorCode.INTERNAL, "halted"))

        shop.node.read, read = refuse, shop.node.read  # type: ignore[method-assign]
        shop.node.pay(PAYMENT)
        shop.settle()
        shop.node.read = read  # type: ignore[method-assign]
        shop.settle(2)
        self.assertEqual(shop.receiver.taken, shop.expected())
        self.assertEqual(json.loads(shop.receiver.body)["address"], address(BOB))
