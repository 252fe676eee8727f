"""Webhooks that wallets ask for over HTTP: who may, how many, for how long, and what is kept of them."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, CAROL, GENESIS, PAYMENT, address, build
from tests.test_web.harness import START, Web, encode
from tests.test_web.shop import URL, HeldNode, Shop, question, wish
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import Outpoint
from timeproto.params import COIN
from timeproto.web import bounds
from timeproto.web.hook_register import Register
from timeproto.web.hooks import Kept, WebhookRequest
from timeproto.web.targets import Targets

OTHER = build([(Outpoint(GENESIS.hash, 1), ALICE)], [(COIN, address(BOB))])


class Wallets(SynchronousTestCase):
    def setUp(self) -> None:
        self.shop = Shop(configured=[])
        self.shop.settle()

    def ask(self, request: WebhookRequest, shop: Shop | None = None) -> Any:
        return (shop or self.shop).post("/v1/webhooks", encode(request))

    def refused(self, request: WebhookRequest, status: int, code: str, shop: Shop | None = None) -> None:
        answer = self.ask(request, shop)
        self.assertEqual((answer.status, answer.code), (status, code))

    def test_registered_and_told(self) -> None:
        """Durable before the answer; from then on every transition, over a crash too."""
        answer = self.ask(wish())
        self.assertEqual(answer.status, 200, answer.body)
        (hook,) = self.shop.saved
        self.assertEqual((hook.hook, hook.secret), (answer.json["hook"], answer.json["secret"]))
        self.assertEqual(answer.json["ends_at"], int((START + bounds.WEBHOOK_LIFE) * 1000))
        again = self.shop.crash(configured=[])
        again.settle()
        again.node.pay(PAYMENT)
        again.settle()
        self.assertEqual(again.receiver.taken, again.expected())

    def test_renewed(self) -> None:
        """The same wish, later: it lives longer, keeps its secret and place, and says how it goes."""
        first = self.ask(wish()).json
        self.shop.receiver.answer = "refused"
        self.shop.node.pay(PAYMENT)
        self.shop.settle(10)
        renewed = self.ask(wish(at=START + 9)).json
        self.assertEqual(renewed["secret"], first["secret"])
        self.assertGreater(renewed["ends_at"], first["ends_at"])
        self.assertEqual((renewed["outcome"], renewed["failures"] > 0), ("refused", True))
        self.assertLess(renewed["cursor"]["position"], self.shop.node.position())
        self.assertEqual(len(self.shop.saved), 1)

    def test_removed(self) -> None:
        """Nothing more is told, what is under way is called off, and an old request does not bring it back."""
        self.ask(wish())
        self.shop.receiver.answer = "hang"
        self.shop.node.pay(PAYMENT)
        self.shop.settle()
        self.assertEqual(self.ask(wish(at=START + 1, remove=True)).json["ends_at"], None)
        self.assertEqual(self.shop.saved, [])
        self.refused(wish(at=START + 1), 403, "not_authorised")
        self.refused(wish(at=START + 2, remove=True), 404, "not_found")
        self.shop.settle(3_600)
        self.assertEqual(len(self.shop.receiver.asked), 1)

    def test_an_old_request_brings_nothing_back(self) -> None:
        """Removed, or ended by its receiver, and after a restart too: what was once signed is not to be sent again."""
        for ends in ("remove", "gone"):
            shop = Shop(configured=[])
            shop.settle()
            self.assertEqual(self.ask(wish(), shop).status, 200)
            if ends == "remove":
                self.ask(wish(at=START + 1, remove=True), shop)
            else:
                shop.receiver.answer = "gone"
                shop.node.pay(PAYMENT)
            shop.settle(bounds.WEBHOOK_SAVE)
            self.assertEqual(shop.saved, [])
            self.refused(wish(), 403, "not_authorised", shop)
            again = shop.crash(configured=[])
            again.settle()
            self.refused(wish(), 403, "not_authorised", again)
            again.settle(2 * bounds.WEBHOOK_CLOCK)
            self.assertEqual(again.kept.removed, {})
            self.refused(wish(), 403, "not_authorised", again)
            self.assertEqual(self.ask(wish(at=again.clock.seconds()), again).status, 200)

    def test_a_clock_that_was_ahead_for_a_moment(self) -> None:
        """What was forgotten then is not brought back by an older request, and whoever asks anew is heard."""
        self.ask(wish())
        self.ask(wish(at=START + 1, remove=True))
        hooks: Any = self.shop.service._webhooks
        right, ahead = hooks._now, [86_400.0]
        self.patch(hooks, "_now", lambda: right() + ahead[0])
        self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual(self.shop.kept.removed, {})
        ahead[0] = 0
        self.refused(wish(), 403, "not_authorised")
        self.refused(wish(at=START + 1), 403, "not_authorised")
        self.assertEqual(self.ask(wish(at=START + 2)).status, 200)

    def test_a_clock_that_was_ahead_for_long(self) -> None:
        """What somebody asked for then keeps nobody else from asking once it is right, and is not brought back."""
        hooks: Any = self.shop.service._webhooks
        right, ahead = hooks._now, [86_400.0]
        self.patch(hooks, "_now", lambda: right() + ahead[0])
        at = START + ahead[0]
        self.ask(wish(at=at))
        self.ask(wish(at=at + 1, remove=True))
        self.shop.settle(bounds.WEBHOOK_CLOCK + bounds.WEBHOOK_SAVE)
        self.assertEqual(self.shop.kept.removed, {})
        ahead[0] = 0
        self.assertEqual(self.ask(wish(ALICE, at=self.shop.clock.seconds())).status, 200)
        self.shop.settle(at - self.shop.clock.seconds())
        self.refused(wish(at=at), 403, "not_authorised")
        self.assertEqual(self.ask(wish(at=at + 2)).status, 200)

    def test_what_is_forgotten_is_bounded(self) -> None:
        """Past that the oldest time stands for all: too much is refused then, and never too little."""
        self.patch(bounds, "WEBHOOKS", 2)
        hooks = Register({"a": 1, "b": 5, "c": 3})
        self.assertTrue(hooks.forget(6))
        self.assertEqual([hooks.forgotten(each) for each in "abcd"], [1, 5, 3, 1])

    def test_asked_again_it_tries_again(self) -> None:
        """Who renews waits half a minute at most, for the receiver may be back; asking often makes it no sooner."""
        self.ask(wish())
        self.shop.receiver.answer = "unreachable"
        self.shop.node.pay(PAYMENT)
        self.shop.settle()
        for _ in range(12):
            self.shop.settle(600)
        self.shop.receiver.answer = "delivered"
        self.shop.settle(1)
        self.assertEqual(self.shop.receiver.taken, [])
        for _ in range(3):
            self.assertEqual(self.shop.receiver.taken, [])
            self.assertEqual(self.ask(wish(at=self.shop.clock.seconds())).status, 200)
            self.shop.settle(bounds.WEBHOOK_RENEWED / 3)
        self.assertEqual(self.shop.receiver.taken, self.shop.expected())

    def test_the_list(self) -> None:
        """The owner of the address sees what was registered for it, without secrets, and nobody else's."""
        first, second = self.ask(wish()).json, self.ask(wish(url=URL + "/2")).json
        self.ask(wish(ALICE))
        listed = self.shop.post("/v1/webhooks/list", encode(question()))
        self.assertEqual(listed.status, 200, listed.body)
        expected = [
            {name: each[name] for name in ("hook", "url", "ends_at", "cursor", "failures", "outcome")}
            for each in (first, second)
        ]
        self.assertEqual(listed.json["webhooks"], expected)
        for wrong, code in (
            (msgspec.structs.replace(question(), address=address(ALICE)), "not_owner"),
            (msgspec.structs.replace(question(), timestamp=int(START * 1000) + 1), "bad_signature"),
            (question(at=START - 301), "not_authorised"),
        ):
            self.assertEqual(self.shop.post("/v1/webhooks/list", encode(wrong)).code, code)
        signature = wish().signature  # a wish to register is no question
        borrowed = msgspec.structs.replace(question(), signature=signature)
        self.assertEqual(self.shop.post("/v1/webhooks/list", encode(borrowed)).code, "bad_signature")

    def test_the_list_hides_the_operators(self) -> None:
        """Where the operator is told of an address is not its owner's business."""
        shop = Shop()
        shop.settle()
        self.assertEqual(shop.post("/v1/webhooks/list", encode(question())).json, {"webhooks": []})

    def test_a_receiver_that_is_gone(self) -> None:
        """410 is a receiver's way to end it."""
        self.ask(wish())
        self.shop.receiver.answer = "gone"
        self.shop.node.pay(PAYMENT)
        self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual(self.shop.saved, [])
        self.assertEqual(len(self.shop.receiver.asked), 1)

    def test_it_lapses(self) -> None:
        """Not renewed, or nothing but failures for days: the node forgets it."""
        self.ask(wish())
        self.shop.settle(bounds.WEBHOOK_LIFE + 1)
        self.assertEqual(self.shop.saved, [])
        shop = Shop(configured=[])
        shop.settle()
        self.ask(wish(), shop)
        shop.receiver.answer = "unreachable"
        shop.node.pay(PAYMENT)
        for _ in range(int(bounds.WEBHOOK_PATIENCE / 3_600) + 3):
            shop.settle(3_600)
        self.assertEqual(shop.saved, [])

    def test_patience_over_restarts(self) -> None:
        """Days of failures count from the first, however often the node begins anew; a success ends them."""
        self.ask(wish())
        self.shop.receiver.answer = "refused"
        self.shop.node.pay(PAYMENT)
        shop, left = self.shop, list[int]()
        for answer in ("delivered", "refused", "refused"):
            shop.settle()
            shop.settle(bounds.WEBHOOK_PATIENCE * 2 / 3)
            now, shop = shop.clock.seconds(), Shop(shop.kept, shop.node, configured=[])
            shop.receiver.answer = answer
            shop.clock.advance(now - shop.clock.seconds())
            shop.settle(bounds.WEBHOOK_SAVE)
            if answer == "delivered":
                shop.receiver.answer = "refused"
                shop.node.pay(OTHER)
            left.append(len(shop.saved))
        self.assertEqual(left, [1, 1, 0])

    def test_only_the_owner(self) -> None:
        """Somebody else's address, another's signature, another node's request, one of yesterday, a second time."""
        self.refused(msgspec.structs.replace(wish(), public_key=ALICE.public_hex), 422, "not_owner")
        self.refused(msgspec.structs.replace(wish(), url=URL + "x"), 422, "bad_signature")
        self.refused(msgspec.structs.replace(wish(), remove=True), 422, "bad_signature")
        other = wish()
        signature = BOB.sign(other.signed_bytes(GENESIS.hash, "77" * 32)).hex()
        self.refused(msgspec.structs.replace(other, signature=signature), 422, "bad_signature")
        for at in (START - 301, START + 301):
            self.refused(wish(at=at), 403, "not_authorised")
        self.assertEqual(self.ask(wish()).status, 200)
        self.refused(wish(), 403, "not_authorised")
        self.refused(msgspec.structs.replace(wish(), address=address(BOB, "mainnet")), 422, "bad_address")

    def test_targets(self) -> None:
        """A number that is inside is refused at once, unless the operator opened it; so is what is no URL of ours."""
        for url in ("https://127.0.0.1/", "https://169.254.169.254/", "https://10.0.0.1:8443/", "https://a.example:99999/"):
            self.refused(wish(url=url), 403, "not_authorised")
        self.refused(wish(url="http://a.example/"), 400, "bad_field")
        shop = Shop(configured=[], targets=Targets(["10.0.0.0/8"]))
        shop.settle()
        self.assertEqual(self.ask(wish(url="https://10.0.0.1:8443/"), shop).status, 200)

    def test_only_if_the_operator_likes(self) -> None:
        """A node without webhooks, and one whose operator keeps them to himself, take none."""
        shop = Shop(wallets=False)
        shop.settle()
        self.refused(wish(ALICE), 403, "not_authorised", shop)
        answer = Web().post("/v1/webhooks", encode(wish()))
        self.assertEqual((answer.status, answer.code), (403, "not_authorised"))

    def test_the_operators_is_his(self) -> None:
        """A wallet does not renew or remove what the configuration says."""
        shop = Shop()
        shop.settle()
        self.refused(wish(remove=True), 403, "not_authorised", shop)

    def test_as_many_as_there_may_be(self) -> None:
        """For one address and for the node; the refusals name their bounds."""
        for each in range(bounds.WEBHOOKS_PER_ADDRESS):
            self.assertEqual(self.ask(wish(url=f"{URL}/{each}")).status, 200)
        self.refused(wish(url=f"{URL}/x"), 429, "over_limit")
        many = [(address(ALICE), f"{URL}/{each}") for each in range(bounds.WEBHOOKS)]
        shop = Shop(configured=many)
        shop.settle()
        self.refused(wish(), 429, "over_limit", shop)

    def test_one_household_does_not_fill_it(self) -> None:
        """Webhooks from one block of addresses are bounded, over a restart too; others still find room."""
        self.patch(bounds, "WEBHOOKS_PER_BLOCK", 2)
        body, found = [encode(wish(key)) for key in (ALICE, BOB, CAROL)], list[int]()

        def post(shop: Shop, which: int, host: str) -> int:
            headers = {"Content_Type": "application/json"}
            return shop.connect(host).ask("POST", "/v1/webhooks", body[which], **headers).status

        found += [post(self.shop, 0, "10.0.0.1"), post(self.shop, 1, "10.0.0.1"), post(self.shop, 2, "10.0.0.1")]
        again = self.shop.crash(configured=[])
        again.settle()
        found += [post(again, 2, "10.0.0.1"), post(again, 2, "10.0.0.2")]
        self.assertEqual(found, [200, 200, 429, 429, 200])

    def test_what_was_removed_keeps_its_place_for_a_while(self) -> None:
        """Who registers and removes again and again fills its own share, over a restart too, and nobody else's."""
        self.patch(bounds, "WEBHOOKS_PER_BLOCK", 3)
        self.patch(bounds, "WEBHOOKS", 4)
        headers, found = {"Content_Type": "application/json"}, list[int]()

        def post(shop: Shop, host: str, request: WebhookRequest) -> int:
            return shop.connect(host).ask("POST", "/v1/webhooks", encode(request), **headers).status

        for each in range(4):
            found.append(post(self.shop, "10.0.0.1", wish(SigningKey(bytes([100 + each]) * 32))))
            if each == 2:
                self.shop = self.shop.crash(configured=[])
                self.shop.settle()
            post(self.shop, "10.0.0.1", wish(SigningKey(bytes([100 + each]) * 32), at=START + 1, remove=True))
        self.assertEqual(found, [200, 200, 200, 429])
        self.assertEqual(post(self.shop, "10.0.0.2", wish()), 200)
        self.shop.settle(2 * bounds.WEBHOOK_CLOCK)
        self.assertEqual(post(self.shop, "10.0.0.1", wish(ALICE, at=self.shop.clock.seconds())), 200)

    def test_an_address_pays_with_its_own_places(self) -> None:
        """What was removed counts for its address, but not against itself: the same one may come back."""
        for each in range(bounds.WEBHOOKS_PER_ADDRESS):
            self.assertEqual(self.ask(wish(url=f"{URL}/{each}")).status, 200)
        self.assertEqual(self.ask(wish(url=f"{URL}/0", at=START + 1, remove=True)).status, 200)
        self.refused(wish(url=f"{URL}/x"), 429, "over_limit")
        self.assertEqual(self.ask(wish(url=f"{URL}/0", at=START + 2)).status, 200)

    def test_what_an_older_node_kept(self) -> None:
        """Of what was removed it kept the time alone: that still counts."""
        hook = self.ask(wish()).json["hook"]
        again = Shop(Kept(removed={hook: int(START * 1000)}), configured=[])
        again.settle()
        self.refused(wish(), 403, "not_authorised", again)
        self.assertEqual(self.ask(wish(at=START + 1), again).status, 200)

    def test_before_it_began(self) -> None:
        """While the node starts a wallet is told to come again."""
        shop = Shop(configured=[], node=HeldNode())
        connection = shop.connect()
        answer = connection.ask("POST", "/v1/webhooks", encode(wish()), Content_Type="application/json")
        self.assertEqual((answer.status, answer.code), (503, "busy"))
        connection.lose()
        self.successResultOf(shop.service.stopService())
        self.assertEqual(shop.clock.getDelayedCalls(), [])

    def test_many_at_once_are_saved_together(self) -> None:
        """While one saving is under way all that come share the next; past the bound they are told so."""
        self.shop.saving = slow = Deferred[None]()
        before = self.shop.saves
        self.patch(bounds, "WEBHOOK_WAITING", 4)
        waiting = [self.shop.connect() for _ in range(6)]
        for each, connection in enumerate(waiting):
            key = (ALICE, BOB)[each % 2]
            connection.request("POST", "/v1/webhooks", encode(wish(key, f"{URL}/{each}")),
                               Content_Type="application/json")
        self.assertEqual(self.shop.saves, before + 1)
        self.assertEqual(waiting[5].answers()[0].code, "busy")
        self.assertEqual([connection.take() for connection in waiting[:5]], [b""] * 5)
        self.shop.saving = None
        slow.callback(None)
        self.assertEqual([connection.answers()[0].status for connection in waiting[:5]], [200] * 5)
        self.assertEqual((self.shop.saves, len(self.shop.saved)), (before + 2, 5))

    def test_a_full_disk(self) -> None:
        """What could not be made durable is not in force either: the same request is taken when there is room again."""
        self.shop.saving = OSError("no space")
        answer = self.ask(wish())
        self.assertEqual((answer.status, answer.code), (500, "internal"))
        self.flushLoggedErrors(OSError)
        for _ in range(10):
            self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.shop.saving = None
        self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual(self.shop.saved, [])
        self.assertEqual(self.ask(wish()).status, 200)
        self.assertEqual(len(self.shop.saved), 1)

    def test_a_full_disk_renews_and_removes_nothing(self) -> None:
        """Of a webhook that is there all stays as it was, and what happened meanwhile is told."""
        first = self.ask(wish()).json
        for request in (wish(at=START + 1), wish(at=START + 2, remove=True)):
            self.shop.saving = slow = Deferred[None]()
            connection = self.shop.connect().request("POST", "/v1/webhooks", encode(request),
                                                     Content_Type="application/json")
            self.shop.node.pay(PAYMENT if request.remove else OTHER)
            self.shop.settle()
            self.shop.saving = None
            slow.errback(OSError("no space"))
            self.assertEqual([answer.status for answer in connection.answers()], [500])
            self.flushLoggedErrors(OSError)
        self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual([hook.ends_at for hook in self.shop.saved], [first["ends_at"]])
        self.assertEqual(self.shop.receiver.taken, self.shop.expected())
        self.assertEqual(self.ask(wish(at=START + 1)).status, 200)

    def test_a_full_disk_and_a_receiver_that_is_gone(self) -> None:
        """A renewal that was not made may be sent again, though the webhook has ended meanwhile."""
        self.ask(wish())
        self.shop.receiver.answer = "gone"
        self.shop.saving = slow = Deferred[None]()
        connection = self.shop.connect().request("POST", "/v1/webhooks", encode(wish(at=START + 1)),
                                                 Content_Type="application/json")
        self.shop.node.pay(PAYMENT)
        self.shop.settle()
        self.shop.saving = None
        slow.errback(OSError("no space"))
        self.assertEqual([answer.status for answer in connection.answers()], [500])
        self.flushLoggedErrors(OSError)
        self.refused(wish(), 403, "not_authorised")
        self.assertEqual(self.ask(wish(at=START + 1)).status, 200)

    def test_a_full_disk_forgets_no_removal(self) -> None:
        """A removed webhook that could not come back is still removed: what was signed before does not bring it."""
        self.ask(wish())
        self.ask(wish(at=START + 1, remove=True))
        self.shop.saving = OSError("no space")
        self.assertEqual(self.ask(wish(at=START + 2)).status, 500)
        self.flushLoggedErrors(OSError)
        self.shop.saving = None
        self.refused(wish(at=START + 1), 403, "not_authorised")
        self.assertEqual(self.ask(wish(at=START + 2)).status, 200)

    def test_told_to_come_later(self) -> None:
        """While savings are slow a request past the bound changes nothing, and neither does a second for the same."""
        self.patch(bounds, "WEBHOOK_WAITING", 1)
        self.ask(wish())
        self.shop.saving = slow = Deferred[None]()
        headers = {"Content_Type": "application/json"}
        connection = self.shop.connect().request("POST", "/v1/webhooks", encode(wish(ALICE)), **headers)
        self.refused(wish(ALICE, at=START + 1, remove=True), 503, "busy")
        self.shop.connect().request("POST", "/v1/webhooks", encode(wish(ALICE, URL + "/2")), **headers)
        self.refused(wish(at=START + 1, remove=True), 503, "busy")
        self.refused(wish(CAROL), 503, "busy")
        self.shop.saving = None
        slow.callback(None)
        self.assertEqual([answer.status for answer in connection.answers()], [200])
        self.shop.settle(bounds.WEBHOOK_SAVE)
        self.assertEqual({hook.address for hook in self.shop.saved}, {address(BOB), address(ALICE)})
        self.assertEqual(self.ask(wish(CAROL)).status, 200)
        self.assertEqual(self.ask(wish(at=START + 1, remove=True)).status, 200)
