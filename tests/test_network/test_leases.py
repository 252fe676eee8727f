"""Leases: a subscription that outlives its connection, for whoever has its token, and until its time is over."""

from __future__ import annotations

import itertools
from typing import Any

from tests.cluster import address
from tests.test_network.test_cursors import CursorCase, Reader
from timeproto import limits
from timeproto.network.budget import Budgets
from timeproto.network.quota import Keys
from timeproto.network.utxo_handler import UTXOProtocolHandler
from timeproto.wire import messages
from timeproto.wire.messages import UTXOSubscribe, UTXOSubscribed, UTXOSubscriptionNotice

TTL = 600_000


class LeaseCase(CursorCase):
    def lease(self, client: Any = None, name: str = "s", ttl_ms: int = TTL, **what: Any) -> UTXOSubscribed:
        what = what or {"addresses": (self.mine,)}
        answer = self.ask(UTXOSubscribe(id=1, subscriber_id=name, ttl_ms=ttl_ms, **what), client or self.reader)
        self.assertIsInstance(answer, UTXOSubscribed)
        return answer  # type: ignore[no-any-return]

    def take_up(self, token: str | None, client: Any, since: int | None = None, name: str = "s") -> Any:
        cursor = None if since is None else self.cursor(since)
        return self.ask(UTXOSubscribe(id=2, subscriber_id=name, token=token, since=cursor), client)

    def notices(self, reader: Reader) -> list[tuple[str, int]]:
        return [(each.event, each.cursor.position) for each in reader.told if isinstance(each, UTXOSubscriptionNotice)]

    def assert_nothing_left(self) -> None:
        handler = self.node.handler
        self.assertEqual((len(self.node.replica.manager.subscriptions), handler.subscription_count), (0, 0))
        self.assertEqual((handler._subscriptions._tally.total, len(handler._subscriptions._leases)), (0, 0))


class Tokens(LeaseCase):
    def test_resumed_with_nothing_but_the_token(self) -> None:
        """The filter is the node's to remember; what was missed is told, then it goes on (W-07, W-16)."""
        token = self.lease(addresses=(self.mine,), outpoints=(str(self.coin(1)),)).token
        self.send(self.payment())
        seen = self.reader.positions
        self.node.handler.connection_lost(self.reader)
        self.assertEqual(len(self.node.replica.manager.subscriptions), 0)
        self.send(self.payment(number=1))
        self.send(self.payment(1))
        again = Reader()
        answer = self.take_up(token, again, since=seen[-1])
        self.assertEqual((answer.reset, answer.token), (False, token))
        self.catch_up()
        self.send(self.payment(number=2))
        coin = str(self.coin(1))
        truth = [
            each.position
            for each in self.node.store.transitions(seen[-1], 1_000)
            if each.output.address == self.mine or str(each.outpoint) == coin
        ]
        self.assertEqual(again.positions, truth)

    def test_without_a_cursor_it_begins_with_a_snapshot(self) -> None:
        """Somebody who only wants to know how things are now."""
        token = self.lease().token
        self.node.handler.connection_lost(self.reader)
        self.send(self.payment())
        again = Reader()
        answer = self.take_up(token, again)
        self.assertEqual((len(answer.states), answer.reset), (4, False))
        self.catch_up(2)
        self.assertEqual(again.positions, [])

    def test_a_token_is_not_guessed_and_not_told_apart(self) -> None:
        """A wrong one, one of another name, one that is over: the same answer (W-01, W-02)."""
        token = self.lease().token
        assert token is not None
        thief = Reader()
        answers = [self.take_up(each, thief, name=name) for each, name in (("ab" * 32, "s"), (token, "other"))]
        self.ask(messages.UTXOUnsubscribe(id=2, subscriber_id="s"), self.reader)
        answers.append(self.take_up(token, thief))
        self.assertEqual([each.code for each in answers], ["not_found"] * 3)
        self.assertEqual(len({each.message for each in answers}), 1)
        self.assertNotIn(token, repr(self.node.handler._subscriptions._leases.__dict__))
        self.assert_nothing_left()

    def test_tokens_differ_and_stay(self) -> None:
        """Each subscription has its own; renewing or resuming does not change it."""
        first, second = self.lease(name="a").token, self.lease(name="b").token
        self.assertNotEqual(first, second)
        self.assertEqual(self.lease(name="a").token, first)

    def test_taken_from_a_connection_that_still_has_it(self) -> None:
        """A half-open connection keeps nobody out; it is told, and nothing after that comes to it (S-11)."""
        token = self.lease().token
        self.send(self.payment())
        at = self.node.view.position()
        again = Reader()
        self.take_up(token, again, since=at)
        self.assertEqual(self.notices(self.reader), [("moved", at)])
        self.reader.take()
        self.catch_up()
        self.send(self.payment(number=1))
        self.assertEqual(self.reader.told, [])
        self.assertEqual(again.positions, self.log_of({self.mine}, at))
        self.node.handler.connection_lost(self.reader)
        self.assertEqual(self.node.handler.subscription_count, 1)

    def test_a_cursor_before_the_snapshot(self) -> None:
        """What the snapshot showed is not told again, though the cursor of the other items is older (S-3)."""
        theirs = address(self.node.wallets[1])
        token = self.lease().token
        self.send(self.payment(2, to=2))
        before = self.node.view.position()
        self.send(self.payment(1, to=1))
        later = self.lease(addresses=(theirs,)).cursor.position
        self.node.handler.connection_lost(self.reader)
        self.send(self.payment())
        again = Reader()
        self.take_up(token, again, since=before)
        self.catch_up()
        self.assertEqual(again.positions, sorted({*self.log_of({self.mine}, before), *self.log_of({theirs}, later)}))

    def test_taken_up_in_pieces(self) -> None:
        """With more that is held back it begins when the rest does, and then all of it, with no word before (S-4)."""
        theirs = address(self.node.wallets[1])
        token = self.lease().token
        self.node.handler.connection_lost(self.reader)
        again = Reader()
        self.ask(UTXOSubscribe(id=2, subscriber_id="s", token=token, addresses=(theirs,), hold=True), again)
        self.node.clock.advance(limits.WATERMARK + 1)
        self.assertEqual(again.told, [])
        answer = self.ask(UTXOSubscribe(id=3, subscriber_id="s", outpoints=(str(self.coin(2)),)), again)
        self.assertEqual(len(answer.states), 9)
        before = self.node.view.position()
        self.send(self.payment())
        self.assertEqual(again.positions, self.log_of({self.mine, theirs}, before))

    def test_what_is_put_back_is_paid_for(self) -> None:
        """As much as naming it again would cost: a token, a cursor and a digest are short, and the filter is long."""
        budgets = Budgets(self.node.clock)

        def spent(request: UTXOSubscribe, reader: Any = None) -> float:
            reader = reader or Reader()
            reader.account = account = budgets.open("127.0.0.1")
            self.assertIsInstance(self.ask(request, reader), UTXOSubscribed)
            return account.spent

        many = tuple(f"{'11' * 32}:{number}" for number in range(800))
        token = self.lease(outpoints=many).token
        for _ in range(2):
            reader = Reader()
            self.assertEqual(spent(UTXOSubscribe(id=1, subscriber_id="s", token=token), reader), 300)
        self.assertEqual(spent(UTXOSubscribe(id=1, subscriber_id="s", since=self.cursor(0)), reader), 0)
        self.catch_up()
        self.assertEqual(spent(UTXOSubscribe(id=1, subscriber_id="s", since=self.cursor(99)), reader), 300)

    def test_a_reset_shows_the_whole_filter(self) -> None:
        """A token with a cursor that leads nowhere: full states of all its items."""
        token = self.lease().token
        self.lease(addresses=(address(self.node.wallets[1]),))
        self.node.handler.connection_lost(self.reader)
        answer = self.take_up(token, Reader(), since=99)
        self.assertEqual((answer.reset, answer.reason, len(answer.states)), (True, "ahead", 8))

    def test_held_beside_a_replay(self) -> None:
        """Taken up in pieces, it is told nothing before it has begun, whatever the connection catches up with."""
        token = self.lease().token
        self.node.handler.connection_lost(self.reader)
        again = Reader()
        self.subscribe(again, "other", addresses=(address(self.node.wallets[1]),))
        self.ask(UTXOSubscribe(id=2, subscriber_id="s", token=token, hold=True), again)
        again.backlog = limits.FEED_QUEUE + 1
        self.send(self.payment())
        again.backlog = 0
        self.catch_up()
        self.assertEqual(again.positions, self.log_of({address(self.node.wallets[1])}))
        again.take()
        self.ask(UTXOSubscribe(id=3, subscriber_id="s", since=self.cursor(0)), again)
        self.catch_up()
        self.assertEqual(again.positions, self.log_of({self.mine}))


class Time(LeaseCase):
    def test_announced_ended_and_silent(self) -> None:
        """A notice when a quarter is left, one at the end, and nothing after it (W-18, S-11)."""
        self.lease(ttl_ms=100_000)
        self.node.clock.advance(74)
        self.assertEqual(self.notices(self.reader), [])
        self.node.clock.advance(2)
        self.assertEqual(self.notices(self.reader), [("expiring", 0)])
        notice = next(each for each in self.reader.told if isinstance(each, UTXOSubscriptionNotice))
        self.assertTrue(23_000 <= (notice.in_ms or 0) <= 25_000)
        self.send(self.payment())
        self.node.clock.advance(25)
        self.assertEqual(self.notices(self.reader)[-1], ("expired", self.node.view.position()))
        told = len(self.reader.events)
        self.assertEqual(told, len(self.log_of({self.mine})))
        self.send(self.payment(number=1))
        self.assertEqual(len(self.reader.events), told)
        self.assert_nothing_left()

    def test_renewed_in_time(self) -> None:
        """``ttl_ms`` alone is enough; the time begins anew and nothing is told again."""
        self.lease(ttl_ms=100_000)
        self.node.clock.advance(90)
        answer = self.ask(UTXOSubscribe(id=5, subscriber_id="s", ttl_ms=100_000), self.reader)
        self.assertEqual((answer.ttl_ms, answer.states), (100_000, ()))
        self.node.clock.advance(70)
        self.send(self.payment())
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))
        self.node.clock.advance(40)
        self.assertEqual([event for event, _ in self.notices(self.reader)], ["expiring", "expiring", "expired"])

    def test_renewed_behind_a_replay(self) -> None:
        """What was asked in time is in time, however long the reader takes; without it the lease is over (W-18)."""
        for number in range(3):
            self.send(self.payment(number=number))
        for is_renewed in (True, False):
            reader = Reader()
            self.lease(reader, ttl_ms=100_000, since=self.cursor(0), addresses=(self.mine,))
            reader.backlog = limits.FEED_QUEUE + 1
            self.node.clock.advance(90)
            request = UTXOSubscribe(id=7, subscriber_id="s", ttl_ms=100_000)
            if not is_renewed:
                request = UTXOSubscribe(id=7, subscriber_id="t", addresses=(self.mine,))
            self.node.handler.handle_message(reader, request)
            self.node.clock.advance(20)
            reader.backlog = 0
            self.catch_up()
            self.node.clock.advance(limits.LEASE_LEAST)
            self.assertEqual(reader.positions, self.log_of({self.mine}))
            self.assertFalse([each for each in reader.told if isinstance(each, messages.Error)])
            self.assertEqual("expired" in [event for event, _ in self.notices(reader)], not is_renewed)

    def test_over_behind_a_replay_that_its_connection_left(self) -> None:
        """Whatever waited there to be answered: it is not kept for its wallet."""
        self.send(self.payment())
        self.lease(ttl_ms=100_000, since=self.cursor(0), addresses=(self.mine,))
        self.reader.backlog = limits.FEED_QUEUE + 1
        self.node.handler.handle_message(self.reader, UTXOSubscribe(id=7, subscriber_id="s", ttl_ms=100_000))
        self.node.clock.advance(80)
        self.node.clock.advance(25)
        self.assertEqual([event for event, _ in self.notices(self.reader)], ["expiring"])
        self.node.handler.connection_lost(self.reader)
        self.node.clock.advance(limits.LEASE_LEAST)
        self.assert_nothing_left()

    def test_it_goes_on_running_while_nobody_is_there(self) -> None:
        """Left for longer than granted: forgotten. The token is worth nothing then, and nobody is told of it."""
        token = self.lease(ttl_ms=100_000).token
        self.node.handler.connection_lost(self.reader)
        self.node.clock.advance(101)
        self.assert_nothing_left()
        self.assertEqual(self.take_up(token, Reader(), since=0).code, "not_found")

    def test_no_longer_and_no_shorter_than_the_bounds(self) -> None:
        """What is granted is told."""
        self.assertEqual(self.lease(name="long", ttl_ms=2**52).ttl_ms, int(limits.LEASE * 1000))
        self.assertEqual(self.lease(name="short", ttl_ms=1).ttl_ms, int(limits.LEASE_LEAST * 1000))

    def test_the_moment_of_the_answer_costs_nothing(self) -> None:
        """What is left is told in whole milliseconds: some microseconds between grant and answer are not one."""
        moments = itertools.count()
        self.patch(self.node.clock, "seconds", lambda: self.node.clock.rightNow + next(moments) * 2e-5)
        self.assertEqual(self.lease(ttl_ms=600_000).ttl_ms, 600_000)

    def test_its_end_in_a_commit(self) -> None:
        """The time is up while a commit is under way: the end comes after it, and says how far it was told."""
        self.lease(ttl_ms=100_000)
        self.node.hold()
        self.node.handler.handle_message(Reader(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        self.node.clock.advance(101)
        self.assertEqual(self.notices(self.reader), [])
        self.node.release()
        positions = self.reader.positions
        self.assertGreaterEqual(len(positions), 1)
        events = [event for event, _ in self.notices(self.reader)]
        self.assertEqual(events[-1], "expired")
        self.assertLessEqual(positions[-1], self.notices(self.reader)[-1][1])
        self.assert_nothing_left()

    def test_announced_in_a_commit(self) -> None:
        """Behind a commit it may be over, or renewed: then nothing is announced; else what is left by then."""
        ends: dict[str, Any] = {
            "over": messages.UTXOUnsubscribe(id=9, subscriber_id="s"),
            "renewed": UTXOSubscribe(id=9, subscriber_id="s", ttl_ms=TTL),
            "as it was": messages.GetInfo(id=9),
        }
        readers = {name: Reader() for name in ends}
        for reader in readers.values():
            self.lease(reader, ttl_ms=100_000)
        self.node.clock.advance(70)
        self.node.hold()
        self.node.handler.handle_message(Reader(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        for name, reader in readers.items():
            self.node.handler.handle_message(reader, ends[name])
        for _ in range(2):
            self.node.clock.advance(10)
        self.node.release()
        announced = {
            name: [each.in_ms for each in reader.told if isinstance(each, UTXOSubscriptionNotice)]
            for name, reader in readers.items()
        }
        self.assertEqual(announced, {"over": [], "renewed": [], "as it was": [10_000]})

    def in_a_busy_moment(self, seconds: float) -> None:
        """So much time passes while a commit is under way and as many questions wait as may."""
        self.node.hold()
        self.node.handler.handle_message(Reader(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        patched = self.patch(limits, "INBOX", 2)
        for _ in range(3):
            self.node.handler.handle_message(Reader(), messages.GetInfo(id=1))
        self.node.clock.advance(seconds)
        self.node.release()
        patched.restore()

    def test_a_watermark_in_a_busy_moment(self) -> None:
        """What could not be asked then is asked a little later, and from then on as before."""
        self.lease()
        self.in_a_busy_moment(limits.WATERMARK)
        self.reader.told.clear()
        self.node.clock.advance(2)
        for _ in range(3):
            self.node.clock.advance(limits.WATERMARK)
        self.assertEqual([type(each) for each in self.reader.told], [messages.UTXOWatermark] * 4)

    def test_its_end_in_a_busy_moment(self) -> None:
        """It comes a little later."""
        self.lease(ttl_ms=100_000)
        self.node.clock.advance(76)
        self.node.handler.connection_lost(self.reader)
        self.in_a_busy_moment(25)
        self.assertEqual(len(self.node.handler._subscriptions._leases), 1)
        self.node.clock.advance(2)
        self.assert_nothing_left()

    def test_silence_is_information(self) -> None:
        """An idle feed is told from time to time that there was nothing to tell; one encoding for all."""
        others = [Reader() for _ in range(3)]
        for reader in (self.reader, *others):
            self.lease(reader)
        self.send(self.payment(1, to=2))
        self.node.clock.advance(limits.WATERMARK)
        for reader in (self.reader, *others):
            (mark,) = reader.told
            self.assertEqual(mark.cursor, self.cursor(self.node.view.position()))
            self.node.handler.connection_lost(reader)
        self.node.clock.advance(limits.WATERMARK)
        self.assertIsNone(self.node.handler._subscriptions._beat)

    def test_no_watermark_beside_what_has_not_begun(self) -> None:
        """It would say that all was told of that too: at the end of another's replay, and from time to time."""
        token = self.lease().token
        self.node.handler.connection_lost(self.reader)
        again = Reader()
        self.send(self.payment())
        self.ask(UTXOSubscribe(id=2, subscriber_id="s", token=token, hold=True), again)
        theirs = (address(self.node.wallets[1]),)
        self.ask(UTXOSubscribe(id=3, subscriber_id="other", since=self.cursor(0), addresses=theirs), again)
        self.catch_up()
        self.node.clock.advance(limits.WATERMARK)
        self.assertEqual(again.told, again.events)
        self.ask(UTXOSubscribe(id=4, subscriber_id="s", since=self.cursor(0)), again)
        self.catch_up()
        self.node.clock.advance(limits.WATERMARK)
        marks = [each for each in again.told if isinstance(each, messages.UTXOWatermark)]
        self.assertEqual(len(marks), 2)

    def test_a_node_without_a_clock_grants_none(self) -> None:
        """It says so by giving no token; the subscription lasts as long as the connection."""
        handler = UTXOProtocolHandler()
        handler.setup_notification_handler(self.node.view)
        handler.handle_message(
            self.reader, UTXOSubscribe(id=1, subscriber_id="s", ttl_ms=TTL, addresses=(self.mine,))
        )
        (answer,) = self.reader.told
        self.assertEqual((answer.token, answer.ttl_ms), (None, None))


class Bounds(LeaseCase):
    def test_a_node_watches_no_more_than_it_can(self) -> None:
        """Named, with when to come again; a connection's own room is another limit (W-03)."""
        self.patch(limits, "FILTERS_NODE", 5)
        many = tuple(f"{'11' * 32}:{number}" for number in range(6))
        error = self.assert_refused("busy", UTXOSubscribe(id=1, subscriber_id="s", outpoints=many), self.reader)
        assert error.details is not None
        self.assertEqual((error.details["limit"], error.details["value"]), ("filters_node", 5))
        self.assertIn("retry_after_ms", error.details)
        self.subscribe(self.reader, outpoints=many[:5])
        self.assert_refused("busy", UTXOSubscribe(id=1, subscriber_id="s", outpoints=many[5:]), Reader())
        self.node.handler.connection_lost(self.reader)
        self.subscribe(Reader(), outpoints=many[1:])

    def reader_from(self, host: str) -> Reader:
        reader = Reader()
        reader.account = self.budgets.open(host)  # type: ignore[attr-defined]
        return reader

    def watch(self, reader: Reader, first: int, count: int, **more: Any) -> Any:
        coins = tuple(f"{'11' * 32}:{number}" for number in range(first, first + count))
        return self.ask(UTXOSubscribe(id=1, subscriber_id="s", outpoints=coins, **more), reader)

    def test_one_address_block_has_its_share(self) -> None:
        """However many connections it has; not the loopback, where a proxy is many people, nor who has a key (W-03)."""
        self.patch(limits, "FILTERS_BLOCK", 5)
        keys = Keys(self.node.clock)
        self.budgets = Budgets(self.node.clock, keys)
        one, two, other = (self.reader_from(host) for host in ("192.0.2.1", "192.0.2.1", "192.0.2.2"))
        self.watch(one, 0, 4)
        error = self.watch(two, 4, 2)
        self.assertEqual((error.code, error.details), ("over_limit", {"limit": "filters_block", "value": 5}))
        self.assertIsInstance(self.watch(two, 4, 1), UTXOSubscribed)
        for reader in (other, self.reader_from("127.0.0.1"), keyed := self.reader_from("192.0.2.1")):
            if reader is keyed:
                keyed.account.use(keys.mint("shop", 1, 0))  # type: ignore[attr-defined]
                self.assertIsInstance(self.watch(reader, 0, 6), UTXOSubscribed)
            self.assertIsInstance(self.watch(reader, 0, 5), UTXOSubscribed)
        self.node.handler.connection_lost(one)
        self.assertIsInstance(self.watch(two, 4, 5), UTXOSubscribed)
        for reader in (two, other, keyed):
            self.node.handler.connection_lost(reader)
        self.assertEqual(self.node.handler._subscriptions._tally._blocks, {})

    def test_leases_that_wait_are_of_their_blocks_share(self) -> None:
        """They make room for who comes from there, move to where they are taken up, and crowd out nobody else's."""
        self.patch(limits, "FILTERS_BLOCK", 5)
        self.patch(limits, "PARKED_BLOCK", 2)
        self.budgets = Budgets(self.node.clock)
        tokens = []
        for host in ("192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1"):
            reader = self.reader_from(host)
            tokens.append(self.watch(reader, 0, 2, ttl_ms=TTL).token)
            self.node.handler.connection_lost(reader)
        kinds = [type(self.take_up(token, self.reader_from("192.0.2.1"), since=0)).__name__ for token in tokens[1:3]]
        self.assertEqual(kinds, ["Error", "UTXOSubscribed"])  # the oldest of the block went
        self.assertIsInstance(self.watch(self.reader_from("192.0.2.1"), 0, 3), UTXOSubscribed)  # and the next for this
        self.assertEqual(self.take_up(tokens[3], Reader(), since=0).code, "not_found")
        error = self.take_up(tokens[0], self.reader_from("192.0.2.1"), since=0)
        self.assertEqual(error.details, {"limit": "filters_block", "value": 5})
        self.assertIsInstance(self.take_up(tokens[0], self.reader_from("192.0.2.8"), since=0), UTXOSubscribed)
        self.assertEqual(self.node.handler._subscriptions._tally._blocks, {"192.0.2.1": 5, "192.0.2.8": 2})
        self.assertEqual(self.node.handler._subscriptions._leases._parked_of, {})

    def test_what_is_named_again_counts_once(self) -> None:
        """Also if it is held back the second time: a node's count of what it watches does not drift, nor a digest."""
        coins = tuple(str(self.coin(number=number)) for number in range(3))
        self.subscribe(self.reader, outpoints=coins[:1])
        self.subscribe(self.reader, outpoints=coins[:1], hold=True)
        (subscription,) = self.node.handler._feeds.of(self.reader).names.values()
        self.assertEqual((len(subscription), self.node.handler._subscriptions._tally.total), (1, 1))
        before = subscription.digest
        self.subscribe(self.reader, outpoints=coins[1:2])
        self.assertNotEqual(subscription.digest, before)
        self.subscribe(self.reader, outpoints=coins, hold=True)
        self.assertEqual((len(subscription), self.node.handler._subscriptions._tally.total), (3, 3))
        self.node.handler.connection_lost(self.reader)
        self.assert_nothing_left()

    def test_no_more_subscriptions_than_it_can(self) -> None:
        """Over all connections."""
        self.patch(limits, "SUBSCRIPTIONS_NODE", 2)
        for number in range(2):
            self.subscribe(Reader(), str(number), addresses=(self.mine,))
        error = self.assert_refused("busy", UTXOSubscribe(id=1, subscriber_id="s", addresses=(self.mine,)), Reader())
        assert error.details is not None
        self.assertEqual(error.details["limit"], "subscriptions_node")

    def test_who_is_here_goes_before_who_is_not(self) -> None:
        """A lease that waits for its wallet makes room, the oldest first."""
        self.patch(limits, "FILTERS_NODE", 3)
        tokens = []
        for number in range(2):
            reader = Reader()
            tokens.append(self.lease(reader, outpoints=(str(self.coin(number=number)),)).token)
            self.node.handler.connection_lost(reader)
        self.subscribe(self.reader, outpoints=(str(self.coin(1)), str(self.coin(1, 1))))
        self.assertEqual(self.take_up(tokens[0], Reader(), since=0).code, "not_found")
        self.assertIsInstance(self.take_up(tokens[1], Reader(), since=0), UTXOSubscribed)

    def test_the_oldest_that_comes_back_is_not_refused(self) -> None:
        """With more than it had: the next oldest makes room, of all or of its block, and none if there is no other."""
        self.budgets = Budgets(self.node.clock)
        for limit in ("FILTERS_NODE", "FILTERS_BLOCK"):
            patched = self.patch(limits, limit, 6)
            tokens = []
            for first in (0, 2, 4):
                reader = self.reader_from("192.0.2.1")
                tokens.append(self.watch(reader, first, 2, ttl_ms=TTL).token)
                self.node.handler.connection_lost(reader)
            reader = self.reader_from("192.0.2.1")
            self.assertIsInstance(self.watch(reader, 6, 1, token=tokens[0]), UTXOSubscribed)
            kinds = [type(self.take_up(token, Reader(), since=0)).__name__ for token in tokens[1:]]
            self.assertEqual(kinds, ["Error", "UTXOSubscribed"])
            self.node.handler.connection_lost(reader)
            self.assertIsInstance(self.watch(self.reader_from("192.0.2.1"), 7, 4, token=tokens[0]), messages.Error)
            self.node.clock.advance(TTL / 1000 + 1)
            patched.restore()

    def test_no_more_wait_than_may(self) -> None:
        """The oldest of too many is forgotten."""
        self.patch(limits, "PARKED", 2)
        tokens = []
        for _ in range(3):
            reader = Reader()
            tokens.append(self.lease(reader).token)
            self.node.handler.connection_lost(reader)
        kinds = [type(self.take_up(token, Reader(), since=0)).__name__ for token in tokens]
        self.assertEqual(kinds, ["Error", "UTXOSubscribed", "UTXOSubscribed"])

    def test_a_connection_has_its_own_room(self) -> None:
        """A lease taken up counts against it, items and all; nothing is done if there is none."""
        token = self.lease(outpoints=tuple(str(self.coin(number=number)) for number in range(3))).token
        self.node.handler.connection_lost(self.reader)
        self.patch(limits, "FILTERS_CONNECTION", 4)
        full = Reader()
        self.subscribe(full, "mine", outpoints=(str(self.coin(1)), str(self.coin(1, 1))))
        self.assertEqual(self.take_up(token, full, since=0).code, "over_limit")
        self.assertIsInstance(self.take_up(token, Reader(), since=0), UTXOSubscribed)

    def test_too_many_requests_behind_a_replay(self) -> None:
        """They wait in line for their turn, and the line is short."""
        self.send(self.payment())
        self.resume(0)
        for number in range(limits.SUBSCRIPTIONS + 1):
            request = UTXOSubscribe(id=number, subscriber_id="s", addresses=(self.mine,))
            self.node.handler.handle_message(self.reader, request)
        (refused,) = [each for each in self.reader.told if isinstance(each, messages.Error)]
        self.assertEqual((refused.code, refused.id), ("busy", limits.SUBSCRIPTIONS))
        self.node.handler.connection_lost(self.reader)
        self.catch_up(3)
        self.assert_nothing_left()

    def test_a_thousand_that_come_and_go(self) -> None:
        """Leased or not, resumed or not, in the middle of a replay or not: nothing of them is left at the end."""
        self.send(self.payment())
        token = None
        for number in range(1_000):
            reader = Reader()
            if number % 3 == 2:
                self.take_up(token, reader, since=0)
            else:
                token = self.lease(reader).token or token
            if number % 2:
                self.catch_up(1)
            if number % 7 == 0:
                self.node.handler.handle_message(reader, messages.UTXOUnsubscribe(id=1, subscriber_id="s"))
            self.node.handler.connection_lost(reader)
        self.node.clock.advance(TTL / 1000 + 1)
        self.assert_nothing_left()
        self.assertEqual([call for call in self.node.clock.getDelayedCalls() if call.active()], [])
