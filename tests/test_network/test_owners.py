"""Leases that belong to a key: taken up anywhere by whoever has the key, and by nobody else, whatever he overhears."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import key
from tests.test_network.listening import Listening
from tests.test_network.owners import MINE, THEIRS, Case, Wallet
from tests.test_network.test_cursors import Reader
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.network import ownership
from timeproto.network.budget import Budgets
from timeproto.network.handshake import HandshakeMachine
from timeproto.network.ownership import digest, show
from timeproto.network.requests import ConnectionGone
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import messages
from timeproto.wire.messages import Cursor, UTXOSubscribe, UTXOSubscribed


class Staying(Case):
    """One node, many connections."""

    def test_over_connections_and_addresses(self) -> None:
        """What was missed comes, once, then it goes on: with the key alone, from wherever the connection comes."""
        first = Wallet()
        answer = self.lease(first)
        self.assertEqual((answer.token, answer.ttl_ms), (None, 600_000))
        self.pay()
        seen = first.positions
        self.lost(first)
        self.pay(1)
        second = Wallet()
        answer = self.take_up(second, Cursor(self.here.key, seen[-1]))
        self.assertEqual((answer.reset, answer.token, answer.states), (False, None, ()))
        self.catch_up()
        self.pay(2)
        self.assertEqual(seen + second.positions, self.log_of(self.items))

    def test_taken_from_the_connection_that_is_dead_and_does_not_know_it(self) -> None:
        """The old one is told that it has moved, and hears nothing more."""
        old, new = Wallet(), Wallet()
        self.lease(old)
        self.assertIsInstance(self.take_up(new), UTXOSubscribed)
        self.assertEqual(old.notices, ["moved"])
        old.told.clear()
        self.pay()
        self.assertEqual((old.told, len(new.events) > 0), ([], True))
        self.assertEqual(self.here.handler.subscription_count, 1)

    def test_announced_renewed_and_over(self) -> None:
        """A notice when a quarter is left; ``ttl_ms`` alone renews it; its end is told, and then it is no more."""
        wallet = Wallet()
        self.lease(wallet, ttl_ms=100_000)
        self.net.clock.advance(80)
        self.assertEqual(wallet.notices, ["expiring"])
        renewed = self.here.ask(UTXOSubscribe(id=3, subscriber_id="w", ttl_ms=100_000), wallet)
        self.assertEqual((renewed.ttl_ms, renewed.token), (100_000, None))
        self.net.clock.advance(101)
        self.assertEqual(wallet.notices, ["expiring", "expiring", "expired"])
        wallet.told.clear()
        self.pay()
        self.assertEqual(wallet.events, [])
        self.assertEqual(self.take_up(wallet).code, "not_found")
        self.assert_nothing_left()

    def test_it_ends_while_nobody_is_there(self) -> None:
        """And whoever comes too late begins anew, with its items and its cursor: nothing is missed by that either."""
        wallet = Wallet()
        cursor = self.lease(wallet, ttl_ms=100_000).cursor
        self.lost(wallet)
        self.pay()
        self.net.clock.advance(101)
        self.assert_nothing_left()
        again = Wallet()
        self.assertEqual(self.take_up(again, cursor).code, "not_found")
        self.lease(again, since=cursor)
        self.catch_up()
        self.assertEqual(again.positions, self.log_of(self.items, cursor.position))

    def test_without_a_time_it_is_granted_the_longest(self) -> None:
        """And keeps what is left of it when it is taken up."""
        wallet, again = Wallet(), Wallet()
        answer = self.lease(wallet, ttl_ms=None)
        self.assertEqual(answer.ttl_ms, limits.LEASE * 1000)
        self.net.clock.advance(100)
        self.assertEqual(self.take_up(again).ttl_ms, (limits.LEASE - 100) * 1000)

    def test_naming_items_begins_anew(self) -> None:
        """What was left here is not added to: the owner says what it is now."""
        old, new = Wallet(), Wallet()
        self.lease(old)
        self.lost(old)
        answer = self.lease(new, addresses=(self.net.address_of(2),))
        self.assertEqual({each.output.address for each in answer.states}, {self.net.address_of(2)})
        self.pay()
        self.assertEqual(new.events, [])
        self.assertEqual((self.here.leases, self.here.handler._subscriptions._tally.total), (1, 1))

    def test_what_is_here_is_an_old_filter(self) -> None:
        """Grown elsewhere since: it is not taken up by mistake, and stays until it is named anew."""
        wallet, again = Wallet(), Wallet()
        self.lease(wallet)
        self.lost(wallet)
        grown = (*self.items, self.net.address_of(2))
        self.assertEqual(self.take_up(again, items=grown).code, "not_found")
        self.lease(again, addresses=grown)
        self.assertEqual(self.here.leases, 1)
        self.lost(again)
        self.assertIsInstance(self.take_up(Wallet(), items=grown), UTXOSubscribed)

    def test_the_digest_is_of_all_that_was_named(self) -> None:
        """Page by page, held or not, in any order and either spelling of an outpoint."""
        wallet = Wallet()
        coins = [outpoint for outpoint, _ in self.net.genesis.coins()]
        spelled = tuple({"txid": each.txid, "vout": each.vout} for each in coins[4:])
        self.lease(wallet, addresses=(), outpoints=tuple(map(str, coins[:4])), hold=True)
        self.here.ask(UTXOSubscribe(id=2, subscriber_id="w", outpoints=spelled), wallet)
        self.here.ask(UTXOSubscribe(id=3, subscriber_id="w", addresses=self.items), wallet)
        self.lost(wallet)
        again = Wallet()
        self.assertIsInstance(self.take_up(again, items=[*self.items, *reversed(coins)]), UTXOSubscribed)
        self.assertEqual(self.take_up(Wallet(), items=self.items).code, "not_found")

    def test_a_token_before_is_none_after(self) -> None:
        """Whoever knew it cannot take away what belongs to a key."""
        wallet, thief = Wallet(), Wallet()
        request = UTXOSubscribe(id=1, subscriber_id="w", addresses=self.items, ttl_ms=600_000)
        token = self.here.ask(request, wallet).token
        self.assertIsNone(self.lease(wallet, addresses=()).token)
        stolen = self.here.ask(UTXOSubscribe(id=2, subscriber_id="w", token=token), thief)
        self.assertEqual((stolen.code, wallet.notices), ("not_found", []))

    def test_what_makes_no_sense(self) -> None:
        """Items, or a token, beside what is to be taken up."""
        wallet = Wallet()
        coins = (f"{'ab' * 32}:0",)
        for more in ({"addresses": self.items}, {"outpoints": coins}, {"token": "ab" * 32}, {"hold": True}):
            self.assertEqual(self.take_up(wallet, **more).code, "bad_field")
        self.assert_nothing_left()


class Stealing(Case):
    """Whoever hears everything, and has any key but the one, gets nothing (W-01, W-02)."""

    def setUp(self) -> None:
        super().setUp()
        self.mine, self.thief = Wallet(), Wallet()
        self.heard = UTXOSubscribe(
            id=1, subscriber_id="w", addresses=self.items, ttl_ms=600_000, owner=self.owner(self.mine)
        )
        self.here.ask(self.heard, self.mine)
        self.taking = self.owner(self.mine, items=self.items)

    def unharmed(self) -> None:
        """The owner is told all, and nothing of a theft; the thief hears nothing of the owner's."""
        self.assertEqual(self.mine.notices, [])
        before = len(self.thief.events)
        self.pay()
        self.assertEqual(self.mine.positions, self.log_of(self.items))
        self.assertEqual(len(self.thief.events), before)

    def test_what_was_overheard(self) -> None:
        """Word for word, on another connection: to make it, to take it up, again, in any state of the lease."""
        for request in (self.heard, replace(self.heard, addresses=(), owner=self.taking)):
            for _ in range(2):
                self.assertEqual(self.here.ask(request, self.thief).code, "not_authorised")
        self.unharmed()
        self.lost(self.mine)
        taking = replace(self.heard, addresses=(), owner=self.taking)
        self.assertEqual(self.here.ask(taking, self.thief).code, "not_authorised")
        self.net.clock.advance(601)
        self.assertEqual(self.here.ask(self.heard, self.thief).code, "not_authorised")

    def test_at_another_node(self) -> None:
        """What was shown to one node is nothing at another: not even if that one gives the same nonce."""
        self.thief.challenge = self.mine.challenge
        since = Cursor(self.here.key, 0)
        for request in (self.heard, UTXOSubscribe(id=1, subscriber_id="w", owner=self.taking, since=since)):
            self.assertEqual(self.there.ask(request, self.thief).code, "not_authorised")
        self.unharmed()

    def test_every_part_is_signed(self) -> None:
        """Another name, time, filter, node, nonce, network, purpose or key under the same signature."""
        wallet = Wallet()
        good = self.owner(wallet, items=self.items)
        genesis = self.net.genesis.hash
        changed = [replace(good, time=good.time + 1), replace(good, filter=None), replace(good, filter="ab" * 32),
                   replace(good, key=THEIRS.public_hex)]  # fmt: skip
        changed += [
            self.owner(wallet, items=self.items, **other)
            for other in ({"node": "ab" * 32}, {"nonce": "ab" * 32}, {"name": "v"})
        ]
        changed.append(show(MINE, "ab" * 32, self.here.key, wallet.challenge or "", "w", time=9, filter=good.filter))
        elsewhere = good.message(genesis, self.here.key, wallet.challenge or "", "w").replace(b"/lease/", b"/tx/")
        changed.append(replace(good, signature=MINE.sign(elsewhere).hex()))
        for owner in changed:
            self.assertEqual(self.take_up(wallet, owner=owner).code, "not_authorised", owner)
        self.assertEqual(self.take_up(wallet, owner=good, subscriber_id="v").code, "not_authorised")
        self.unharmed()
        self.assertIsInstance(self.take_up(wallet, owner=good), UTXOSubscribed)

    def test_without_a_handshake(self) -> None:
        """There is no nonce then that it could be shown for."""
        self.thief.challenge = None
        self.assertEqual(self.here.ask(self.heard, self.thief).code, "not_authorised")
        without = Reader()
        without_any = self.here.ask(self.heard, without)  # type: ignore[arg-type]
        self.assertEqual(without_any.code, "not_authorised")
        self.unharmed()

    def test_another_key_is_another_world(self) -> None:
        """The same name under a thief's own key is the thief's own; what there is under mine, he cannot tell."""
        answers = [
            self.take_up(self.thief, who=THEIRS), self.take_up(self.thief, who=THEIRS, subscriber_id="never"),
            self.here.ask(messages.UTXOUnsubscribe(id=2, subscriber_id="w"), self.thief),
        ]  # fmt: skip
        self.assertEqual({each.code for each in answers}, {"not_found"})
        self.assertEqual(answers[0].message, answers[1].message)
        self.lease(self.thief, who=THEIRS, addresses=(self.net.address_of(2),))
        self.here.ask(messages.UTXOUnsubscribe(id=3, subscriber_id="w"), self.thief)
        self.unharmed()

    def test_a_connection_cannot_pass_off_one_key_for_another(self) -> None:
        """A name that belongs to one key on this connection is not given to a second."""
        wallet = Wallet()
        self.lease(wallet, who=THEIRS)
        self.assertEqual(self.take_up(wallet).code, "not_found")
        named = UTXOSubscribe(id=1, subscriber_id="w", addresses=self.items, owner=self.owner(wallet))
        self.assertEqual(self.here.ask(named, wallet).code, "not_found")
        self.mine.told.clear()
        self.lost(wallet)
        self.assertEqual(self.mine.notices, [])


class Bounds(Case):
    def test_one_key_has_its_share(self) -> None:
        """Of what waits the oldest goes; what is in use is not taken away, and the limit is named."""
        self.patch(limits, "LEASES_KEY", 2)
        first, second, third = Wallet(), Wallet(), Wallet()
        self.lease(first, subscriber_id="a")
        self.lost(first)
        self.lease(second, subscriber_id="b")
        self.lease(third, subscriber_id="c")
        self.assertEqual(self.take_up(Wallet(), subscriber_id="a").code, "not_found")
        more = UTXOSubscribe(
            id=1, subscriber_id="d", addresses=self.items, owner=self.owner(first, name="d")
        )
        refused = self.here.ask(more, first)
        self.assertEqual((refused.code, refused.details), ("over_limit", {"limit": "leases_key", "value": 2}))
        self.lease(first, who=THEIRS, subscriber_id="d")
        self.lease(second, subscriber_id="b", addresses=(self.net.address_of(2),))
        self.assertEqual(self.here.leases, 3)

    def test_what_made_room_for_itself_counts_once(self) -> None:
        """Named again where there is no room for both, of a block or of all: what is watched goes on being counted."""
        self.patch(limits, "FILTERS_BLOCK", 3)
        self.patch(limits, "FILTERS_NODE", 3)
        budgets, tally = Budgets(self.net.clock), self.here.handler._subscriptions._tally
        for host in ("192.0.2.1", "192.0.2.1", "127.0.0.1", "127.0.0.1"):
            wallet = Wallet()
            wallet.account = budgets.open(host)  # type: ignore[attr-defined]
            self.lease(wallet)
            self.assertEqual((tally.total, self.here.leases), (2, 1))
            self.lost(wallet)
        self.net.clock.advance(limits.LEASE)
        self.assert_nothing_left()
        self.assertEqual(tally._blocks, {})

    def test_no_more_are_asked_for_than_may_be(self) -> None:
        """What is too many at once is not found."""
        self.patch(limits, "HANDOVERS", 2)
        cursor = self.lease(Wallet()).cursor
        asked: list[Deferred[Any]] = []
        self.patch(self.there.handler._handovers, "_ask", lambda *_: asked.append(Deferred()) or asked[-1])
        wallets = [Wallet() for _ in range(3)]
        answers = [self.take_up(wallet, cursor, desk=self.there) for wallet in wallets]
        self.assertEqual(answers[:2], [None, None])
        self.assertEqual(answers[2].code, "not_found")
        for each in asked:
            each.errback(ConnectionGone("gone"))
        self.assertIsNone(self.take_up(Wallet(), cursor, desk=self.there))
        self.net.clock.advance(limits.HANDOVER_TIME)
        self.assertEqual(self.there.handler._handovers._waiting, 0)

    def test_a_thousand_that_come_and_go(self) -> None:
        """With keys of their own or one for all, here and there: nothing is left when their time is over."""
        cursor = Cursor(self.here.key, 0)
        for number in range(1_000):
            desk, wallet = (self.here, self.there)[number % 2], Wallet()
            if number % 3:
                self.take_up(wallet, cursor, desk=desk, who=key(6_000 + number % 7))
            else:
                self.lease(wallet, desk=desk, who=key(6_000 + number % 7), addresses=self.items[: 1 + number % 2])
            if number % 5 == 0:
                desk.ask(messages.UTXOUnsubscribe(id=1, subscriber_id="w"), wallet)
            self.lost(wallet, desk)
            cursor = Cursor(desk.key, 1)
        self.net.clock.advance(limits.LEASE + 1)
        for desk in (self.here, self.there):
            self.assert_nothing_left(desk)
        self.assertEqual([call for call in self.net.clock.getDelayedCalls() if call.active()], [])

    def test_a_digest_is_made_once(self) -> None:
        """Not for every one who asks, only when the filter has grown."""
        made: list[Any] = []
        from timeproto.network import filters

        self.patch(filters, "digest", lambda items: made.append(items) or digest(items))
        self.lease(Wallet())
        self.assertEqual(made, [])
        for _ in range(5):
            self.assertIsInstance(self.take_up(Wallet()), UTXOSubscribed)
        self.assertEqual(len(made), 1)

    def test_a_digest_is_paid_for(self) -> None:
        """By whoever asks, if it has to be made, by the number of items; and who owes too much is refused before."""
        wallet, paid = Wallet(), list[float]()

        class Account:
            block = None

            def pay(self, cost: float) -> None:
                paid.append(cost)
                if len(paid) == 3:
                    raise Refusal(ErrorCode.OVER_LIMIT, "no")

            def add(self, message: Any, cost: int) -> None:
                """What is put back of a filter has its price too (test_leases)."""

        wallet.account = Account()  # type: ignore[attr-defined]
        coins = tuple(f"{number:064x}:0" for number in range(320))
        self.lease(wallet, outpoints=coins, addresses=())
        for _ in range(2):
            self.assertIsInstance(self.take_up(wallet, items=coins), UTXOSubscribed)
        self.assertEqual(self.take_up(wallet, items=coins).code, "over_limit")
        self.assertEqual(paid, [10, 0, 0])

    def test_without_a_clock_nothing_is_leased(self) -> None:
        """The subscription is the connection's, as long as that lasts; and the key must be right all the same."""
        handler = UTXOProtocolHandler()
        handler.setup_notification_handler(self.here.view)
        self.here.handler = handler
        wallet = Wallet()
        self.assertIsNone(self.lease(wallet).ttl_ms)
        self.lost(wallet)
        self.assertEqual(self.take_up(Wallet()).code, "not_found")


class Nonces(SynchronousTestCase):
    def test_each_connection_has_its_own(self) -> None:
        """The nonce is what the handshake showed the other end, and there is none before it."""
        net = Listening(1)
        found = set()
        for number in range(3):
            machine = HandshakeMachine(
                genesis=net.genesis, key=key(1), dialled=False, nonce=bytes([number]) * 32, binding=b""
            )
            self.assertIsNone(machine.challenge)
            hello = messages.Handshake(
                version=1, network="devnet", genesis=net.genesis.hash, role="wallet", node_key=None, listen=None,
                capabilities=(), nonce="ab" * 32,
            )  # fmt: skip
            answer = machine.hear_handshake(hello)[0]
            assert isinstance(answer, messages.Handshake)
            self.assertEqual(answer.nonce, machine.challenge)
            found.add(machine.challenge)
        self.assertEqual(len(found), 3)

    def test_digests(self) -> None:
        """Of a set: order does not count, every item does, and where one ends and the next begins."""
        one, two = Outpoint("ab" * 32, 1), Outpoint("ab" * 32, 12)
        self.assertEqual(digest([one, two, "A"]), digest(["A", two, one]))
        self.assertEqual(len({digest(each) for each in ([], [one], [two], [one, two], ["A", "B"], ["AB"])}), 6)
        self.assertTrue(ownership.is_shown(
            show(MINE, "ab" * 32, "cd" * 32, "ef" * 32, "w", time=1, filter=None), "ab" * 32, "cd" * 32, "ef" * 32, "w"
        ))  # fmt: skip
