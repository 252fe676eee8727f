"""A node with webhooks, the shop that they tell, and the signed words of a wallet that asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, fail, succeed

from tests.examples import BOB, GENESIS, address
from tests.test_web.harness import START, Web
from tests.test_web.node import KEYS, FakeNode
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.web.hooks import Hook, Kept, WebhookDelivery, WebhookQuestion, WebhookRequest
from timeproto.web.targets import Targets
from timeproto.web.webhooks import Webhooks

URL = "https://shop.example/paid"


class Receiver:
    """Implements webhooks.Poster: a shop that takes, refuses or hangs, as told."""

    def __init__(self) -> None:
        self.answer: Any = "delivered"
        self.hangs = ""
        self.most = 1_000
        self.asked: list[tuple[str, WebhookDelivery, Mapping[str, str]]] = []
        self.taken: list[int] = []
        self.hanging: list[Deferred[Any]] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Deferred[Any]:
        delivery = msgspec.json.decode(body, type=WebhookDelivery)
        self.asked.append((url, delivery, headers))
        self.body = body
        if self.answer == "hang" or (self.hangs and url.startswith(self.hangs)):
            self.hanging.append(Deferred())
            return self.hanging[-1]
        if len(delivery.events) > self.most:
            return succeed("timeout")
        if self.answer == "delivered":
            self.taken += [event.cursor.position for event in delivery.events]
        return succeed(self.answer)


class Shop(Web):
    """A node with webhooks; ``kept`` is what a crash leaves behind."""

    def __init__(self, kept: Kept | None = None, node: Any = None, **options: Any) -> None:
        self.receiver = Receiver()
        self.kept = kept or Kept()
        self.saving: Any = None
        self.saves = 0
        options = {"configured": [(address(BOB), URL)], "wallets": True, "targets": Targets()} | options

        def make(feed: Any, metrics: Any) -> Webhooks:
            return Webhooks(
                clock=self.clock, view=self.node, feed=feed, metrics=metrics, poster=self.receiver, kept=self.kept,
                save=self.save, now=self.clock.seconds, random=lambda count: b"\x80" + bytes(count - 1), **options,
            )  # fmt: skip

        super().__init__(node=node, make_webhooks=make)

    @property
    def saved(self) -> list[Hook]:
        return list(self.kept.hooks)

    def save(self, kept: Kept) -> Deferred[None]:
        self.saves += 1
        if isinstance(self.saving, Deferred):
            return self.saving
        if self.saving is not None:
            return fail(self.saving)
        self.kept = kept
        return succeed(None)

    def settle(self, seconds: float = 0) -> None:
        self.clock.pump([0] * 40 + [seconds] + [0] * 40)

    def crash(self, **options: Any) -> Shop:
        """The node again, with its log and what was saved."""
        again = Shop(self.kept, self.node, **options)
        again.clock.advance(self.clock.seconds() - again.clock.seconds())
        return again

    def expected(self, owner: SigningKey = BOB) -> list[int]:
        return [each.position for each in self.node.log if each.output.address == address(owner)]

    def numbers(self) -> dict[str, float]:
        families = text_string_to_metric_families(self.get("/metrics").body.decode("utf-8"))
        return {
            sample.name + str(sample.labels.get("outcome", "")): sample.value
            for family in families for sample in family.samples if "webhook" in sample.name
        }  # fmt: skip


def wish(
    key: SigningKey = BOB, url: str = URL, at: float = START, *, genesis: Genesis = GENESIS, node: str = KEYS[0],
    **changes: Any,
) -> WebhookRequest:  # fmt: skip
    """A signed request of a wallet, to the fake node unless another is named."""
    unsigned = WebhookRequest(address(key, genesis.network), url, key.public_hex, int(at * 1000), "0" * 128)
    unsigned = msgspec.structs.replace(unsigned, **changes)
    signature = key.sign(unsigned.signed_bytes(genesis.hash, node)).hex()
    return msgspec.structs.replace(unsigned, signature=signature)


def question(
    key: SigningKey = BOB, at: float = START, *, genesis: Genesis = GENESIS, node: str = KEYS[0]
) -> WebhookQuestion:
    """A signed question of a wallet for its webhooks."""
    unsigned = WebhookQuestion(address(key, genesis.network), key.public_hex, int(at * 1000), "0" * 128)
    signature = key.sign(unsigned.signed_bytes(genesis.hash, node)).hex()
    return msgspec.structs.replace(unsigned, signature=signature)


class HeldNode(FakeNode):
    """A node that cannot be read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.held = []
