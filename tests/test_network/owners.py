"""Two nodes that can ask each other, and wallets whose leases belong to a key."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import key
from tests.test_network.listening import Listening
from tests.test_network.test_cursors import Reader
from timeproto import limits
from timeproto.model.keys import SigningKey
from timeproto.network.ownership import digest, show
from timeproto.network.requests import ConnectionGone
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import messages
from timeproto.wire.messages import Cursor, Error, Owner, UTXOSubscribe, UTXOSubscribed

MINE, THEIRS = key(5_001), key(5_002)


class Wallet(Reader):
    """A connection that was greeted: it has the node's nonce."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        Wallet.count += 1
        self.challenge: str | None = f"{Wallet.count:064x}"

    @property
    def notices(self) -> list[str]:
        return [each.event for each in self.told if isinstance(each, messages.UTXOSubscriptionNotice)]


class Link:
    """A masternode's connection, for one question: what it is sent is the answer."""

    def __init__(self, node_key: str) -> None:
        self.node_key = node_key
        self.answer: Deferred[Any] = Deferred()

    def send(self, message: Any) -> None:
        if isinstance(message, Error):
            self.answer.errback(message.refusal())
        else:
            self.answer.callback(message)


class Desk:
    """One node's side for wallets, which can ask others."""

    def __init__(self, net: Listening, number: int) -> None:
        self.view = net.view_of(number)
        self.key = self.view.node_key
        self.handler = UTXOProtocolHandler(net.clock)
        self.others: dict[str, Desk] = {}
        self.handler.setup_notification_handler(self.view, self.ask_other)

    def ask_other(self, node: str, message: Any) -> Deferred[Any]:
        other = self.others.get(node)
        return fail(ConnectionGone("not linked")) if other is None else other.asked(message, self.key)

    def asked(self, message: Any, by: str) -> Deferred[Any]:
        link = Link(by)
        self.handler.handle_message(link, message)  # type: ignore[arg-type]
        return link.answer

    def ask(self, message: Any, wallet: Wallet) -> Any:
        """The answer, taken; None if there is none yet."""
        before = len(wallet.told)
        self.handler.handle_message(wallet, message)
        return wallet.told.pop(before) if len(wallet.told) > before else None

    @property
    def leases(self) -> int:
        return len(self.handler._subscriptions._leases)


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Listening()
        self.here, self.there = Desk(self.net, 0), Desk(self.net, 1)
        self.here.others[self.there.key] = self.there
        self.there.others[self.here.key] = self.here
        self.net.handler = self.here.handler
        self.time = 1_000
        self.items = (self.net.address_of(0), self.net.address_of(1))

    def owner(
        self, wallet: Wallet, who: SigningKey = MINE, *, desk: Desk | None = None, name: str = "w",
        items: Any = None, **more: Any,
    ) -> Owner:  # fmt: skip
        """The key, shown on this connection; with ``items`` for what is to be taken up."""
        self.time += 1
        given = {
            "node": (desk or self.here).key, "nonce": wallet.challenge, "time": self.time, "name": name,
            "filter": None if items is None else digest(items),
        }  # fmt: skip
        return show(who, self.net.genesis.hash, **(given | more))

    def lease(self, wallet: Wallet, *, desk: Desk | None = None, **more: Any) -> UTXOSubscribed:
        """Named items, bound to the key."""
        name = more.pop("subscriber_id", "w")
        owner = more.pop("owner", None) or self.owner(wallet, more.pop("who", MINE), desk=desk, name=name)
        fields = {"id": 1, "addresses": self.items, "ttl_ms": 600_000} | more
        answer = (desk or self.here).ask(UTXOSubscribe(subscriber_id=name, owner=owner, **fields), wallet)
        self.assertIsInstance(answer, UTXOSubscribed)
        return answer  # type: ignore[no-any-return]

    def take_up(self, wallet: Wallet, since: Cursor | None = None, *, desk: Desk | None = None, **more: Any) -> Any:
        """By the key, and without its items."""
        name = more.pop("subscriber_id", "w")
        items = more.pop("items", self.items)
        owner = more.pop("owner", None) or self.owner(
            wallet, more.pop("who", MINE), desk=desk, name=name, items=items
        )
        request = UTXOSubscribe(id=2, subscriber_id=name, owner=owner, since=since, **more)
        return (desk or self.here).ask(request, wallet)

    def lost(self, wallet: Wallet, desk: Desk | None = None) -> None:
        (desk or self.here).handler.connection_lost(wallet)

    def pay(self, coin: int = 0) -> None:
        self.net.submit(self.net.payment(0, coin, 1), 0)
        self.net.settle(2)

    def catch_up(self) -> None:
        for _ in range(20):
            self.net.clock.advance(limits.FEED_PAUSE / 10)

    def log_of(self, addresses: Any, after: int = 0, node: int = 0) -> list[int]:
        log = self.net.nodes[node].store.transitions(after, 1_000_000)
        return [each.position for each in log if each.output.address in addresses]

    def assert_nothing_left(self, desk: Desk | None = None) -> None:
        handler = (desk or self.here).handler
        leases = handler._subscriptions._leases
        self.assertEqual((handler._subscriptions._tally.total, handler.subscription_count), (0, 0))
        self.assertEqual((leases._of, leases._of_key, leases._by_token, leases._parked), ({}, {}, {}, {}))
        self.assertEqual(len((desk or self.here).view._replica.manager.subscriptions), 0)
