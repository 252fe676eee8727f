"""Payments on their way: told to whom they pay, as hints, in an order that no money can be made of."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from tests.cluster import COIN, address, pay
from tests.test_network.listening import Listening, said, statuses
from tests.test_network.test_cursors import CursorCase, Reader
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Transaction
from timeproto.network import incoming
from timeproto.network.feeds import BUSY_PAUSE
from timeproto.wire import codec, messages
from timeproto.wire.messages import TransactionStatus, UTXOStateNotification, UTXOSubscribe


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Listening()

    def payment(self, coin: int = 0, **more: Any) -> Transaction:
        """Wallet 0 pays wallet 1."""
        return self.net.payment(0, coin, 1, **more)

    def rivals(self) -> list[Transaction]:
        """Two payments of one coin, the first to wallet 1 and the second to wallet 2."""
        return [self.net.payment(0, 0, to) for to in (1, 2)]

    def half_and_half(self) -> list[Transaction]:
        """Two rivals, each locked by half of the masternodes."""
        rivals = self.rivals()
        for number in range(4):
            self.net.submit(rivals[number // 2], number)
        self.net.run()
        return rivals

    def show(self) -> None:
        """Those who began to listen are shown what is on its way."""
        self.net.clock.advance(limits.INCOMING_PAUSE)

    def remembered(self) -> int:
        assert self.net.handler is not None
        within = self.net.handler._incoming
        self.assertEqual(sum(each.weight for each in within._payments.values()), within._weight)
        wanted = {(outpoint, txid) for outpoint, txids in within._wanted.items() for txid in txids}
        self.assertEqual(
            wanted, {(outpoint, each.txid) for each in within._payments.values() for outpoint in each.inputs}
        )
        return len(within._payments)


class Steps(Case):
    def test_the_payee_hears_of_every_step(self) -> None:
        """Locked, pending, final, confirmed; with the output that pays it and no other, times that never go back."""
        payee = self.net.listener(1)
        tx = self.payment()
        self.net.alone(tx)
        self.assertEqual(said(payee), ["locked"])
        self.net.lock_votes(tx, 1, 2)
        self.assertEqual(said(payee), ["locked", "pending"])
        self.net.heal()
        self.net.settle()
        self.net.pass_time(8_000)
        self.assertEqual(said(payee), ["locked", "pending", "final", "confirmed"])
        for each in statuses(payee):
            self.assertEqual((each.txid, each.conflicting_txid, each.code), (tx.txid, None, None))
            self.assertEqual([(paid.vout, paid.output) for paid in each.outputs], [(0, tx.outputs[0])])
        self.assertEqual([each.height for each in statuses(payee)], [None, None, None, 1])
        times = [each.timestamp or 0 for each in statuses(payee)[:3]]
        self.assertEqual(times, sorted(times))
        self.assertEqual(self.remembered(), 0)

    def test_begun_in_a_busy_moment(self) -> None:
        """Who could not be shown what is on its way then is shown it a little later."""
        self.net.alone(self.payment())
        payee = self.net.listener(1)
        assert self.net.handler is not None
        view = self.net.handler._incoming._view
        busy = self.patch(view, "read", lambda question: fail(Refusal(ErrorCode.BUSY, "too much is waiting here")))
        self.show()
        busy.restore()
        self.net.clock.advance(BUSY_PAUSE)
        self.assertEqual(said(payee), ["locked"])

    def test_seen_where_the_node_does_not_vote(self) -> None:
        """Known and valid, and no vote of this node's to be had."""
        payee = self.net.listener(1)
        self.net.nodes[0].replica.halt("for the test")
        tx = self.payment()
        self.net.submit(tx, 1)
        self.net.run()
        self.assertEqual(said(payee), ["seen", "final"])
        self.assertIsNone(statuses(payee)[0].timestamp)

    def test_a_child_is_told_when_its_parent_is_there(self) -> None:
        """What spends a coin that does not exist here is nothing yet."""
        payee = self.net.listener(2)
        parent = self.payment()
        child = pay(
            self.net.genesis,
            [(parent.output_outpoint(0), COIN, self.net.wallets[1])],
            [(self.net.address_of(2), COIN // 2)],
        )
        self.net.partition([0], [1, 2, 3])
        for tx in (child, parent):
            self.net.submit(tx, 0)
        self.net.run()
        self.assertEqual(said(payee), [])
        self.net.heal()
        self.net.settle()
        self.assertEqual(said(payee)[-1], "final")
        self.assertEqual({each.txid for each in statuses(payee)}, {child.txid})

    def test_a_coin_comes_before_the_word_that_it_is_final(self) -> None:
        """In whatever way it is told: live, behind a replay, to a reader who stopped (never money by a hint)."""
        payees = [self.net.listener(1) for _ in range(3)]
        payees[1].reads = False
        payees[1].backlog = limits.FEED_QUEUE + 1
        self.net.alone(self.payment())
        self.net.heal()
        self.net.settle()
        payees[1].backlog = 0
        payees[2] = self.net.listener(1, since=messages.Cursor(self.net.view.node_key, 0))
        self.net.alone(self.payment(1))
        self.net.heal()
        self.net.settle()
        for _ in range(50):
            self.net.clock.advance(limits.FEED_PAUSE / 10)
        for payee in payees:
            coins = set[str]()
            for each in payee.told:
                if isinstance(each, UTXOStateNotification):
                    coins.add(each.notification.outpoint.txid)
                elif isinstance(each, TransactionStatus) and each.status in ("final", "confirmed"):
                    self.assertIn(each.txid, coins)
            self.assertEqual(len(coins), 2)

    def test_only_who_is_paid_and_asked(self) -> None:
        """A stranger, and a payee who did not ask, hear nothing; the payer hears of its change."""
        stranger, quiet, payer = self.net.listener(2), self.net.listener(1, statuses=False), self.net.listener(0)
        tx = self.payment()
        self.net.submit(tx, 0)
        self.net.run()
        self.assertEqual((said(stranger), said(quiet)), ([], []))
        self.assertEqual(statuses(payer)[-1].outputs[0].output, tx.outputs[1])

    def test_an_outpoint_to_come(self) -> None:
        """Watched by its name before it exists."""
        tx = self.payment()
        reader = self.net.listener(outpoints=(str(tx.output_outpoint(0)),))
        self.net.submit(tx, 0)
        self.net.run()
        self.assertEqual(said(reader)[-1], "final")

    def test_several_subscriptions_and_several_outputs(self) -> None:
        """One word to a connection, with all the outputs that pay it."""
        reader = self.net.listener(1)
        more = UTXOSubscribe(id=2, subscriber_id="t", addresses=(self.net.address_of(1),), statuses=True)
        self.net.ask(more, reader)
        third = self.net.listener(2)
        to = [(self.net.address_of(number), COIN) for number in (1, 2, 1)]
        tx = pay(self.net.genesis, self.net.coins_of(0)[:1], to)
        self.net.alone(tx)
        self.assertEqual([[paid.vout for paid in each.outputs] for each in statuses(reader)], [[0, 2]])
        self.assertEqual([[paid.vout for paid in each.outputs] for each in statuses(third)], [[1]])


class Contested(Case):
    def test_a_rival_is_a_warning(self) -> None:
        """Both payees are told of each other's payment, by name, as soon as the second one is here."""
        first, second = self.net.listener(1), self.net.listener(2)
        one, two = self.rivals()
        self.net.alone(one)
        self.net.partition([0], [1], [2, 3])
        self.net.submit(two, 0)
        self.assertEqual([(each.status, each.conflicting_txid) for each in statuses(first)],
                         [("locked", None), ("locked", two.txid)])  # fmt: skip
        self.assertEqual([(each.status, each.conflicting_txid) for each in statuses(second)], [("seen", one.txid)])

    def test_refused_and_then_aborted(self) -> None:
        """The winner is final: its rival is refused and told by whom; the block with the winner ends it."""
        loser, winner = self.rivals()
        payee = self.net.listener(1)
        self.net.alone(loser)
        self.net.submit(winner, 1)
        self.net.run()
        self.net.heal()
        self.net.pass_time(8_000)
        told = [(each.status, each.code, each.conflicting_txid, each.height) for each in statuses(payee)]
        self.assertEqual(told[0], ("locked", None, None, None))
        self.assertEqual(told[-1], ("aborted", "aborted", winner.txid, 1))
        self.assertIn(("refused", "double_spend", winner.txid, None), told)
        self.assertEqual([each for each in payee.told if isinstance(each, UTXOStateNotification)], [])
        self.assertEqual(self.remembered(), 0)

    def test_refused_once_though_its_other_coin_goes_too(self) -> None:
        """The block with the winner is here, and the winner not marked yet: what takes the other coin adds nothing."""
        self.patch(limits, "CONFIRMED_AT_ONCE", 1)
        self.patch(limits, "CONFIRM_PAUSE", 1_000)
        coins = self.net.coins_of(0)
        loser = pay(self.net.genesis, coins[:2], [(self.net.address_of(1), COIN)])
        winner, late = (pay(self.net.genesis, [coin], [(self.net.address_of(2), COIN)]) for coin in coins[:2])
        first = min((self.net.payment(2, coin, 2) for coin in range(4)), key=lambda tx: tx.txid)
        self.assertLess(first.txid, winner.txid)
        payee = self.net.listener(1)
        self.net.alone(loser)
        for tx in (winner, first):
            self.net.submit(tx, 1)
        self.net.run()
        self.net.heal()
        node = self.net.nodes[0].replica
        while not node.height:
            self.net.pass_time(100)
        self.assertEqual((node.height, node.confirmed_height), (1, 0))
        self.net.submit(late, 1)
        self.net.run()
        self.assertEqual(node.confirmed_height, 0)
        self.net.pass_time(8_000)
        told = [(each.status, each.conflicting_txid) for each in statuses(payee)]
        self.assertEqual(told[-2:], [("refused", winner.txid), ("aborted", winner.txid)])

    def test_aborted_by_a_verdict(self) -> None:
        """Half and half: a block ends both, and says so with its height."""
        payees = self.net.listener(1), self.net.listener(2)
        rivals = self.half_and_half()
        self.net.pass_time(12_000)
        for payee, tx in zip(payees, rivals, strict=True):
            last = statuses(payee)[-1]
            self.assertEqual((last.txid, last.status, last.code), (tx.txid, "aborted", "aborted"))
            self.assertIsNotNone(last.height)
            self.assertEqual([each for each in payee.told if isinstance(each, UTXOStateNotification)], [])
        self.assertEqual(self.remembered(), 0)

    def test_refused_from_the_beginning(self) -> None:
        """Two coins, one of them taken by what is final: whoever begins to listen now is told."""
        coins = self.net.coins_of(0)
        loser = pay(self.net.genesis, coins[:2], [(self.net.address_of(1), COIN)])
        winner = pay(self.net.genesis, coins[:1], [(self.net.address_of(2), COIN)])
        self.net.alone(loser)
        self.net.submit(winner, 1)
        self.net.run()
        self.net.heal()
        self.net.settle(2)
        payee = self.net.listener(1)
        self.show()
        self.assertEqual([(each.status, each.conflicting_txid) for each in statuses(payee)],
                         [("refused", winner.txid)])  # fmt: skip


class Beginning(Case):
    def test_what_is_on_its_way_is_shown(self) -> None:
        """To a late one, one that comes back with a cursor, one that takes its lease up; with the time of the step."""
        tx = self.payment()
        early = self.net.listener(1, ttl_ms=600_000)
        self.net.alone(tx)
        (known,) = statuses(early)
        late = self.net.listener(1)
        back = self.net.listener(1, since=messages.Cursor(self.net.view.node_key, self.net.view.position()))
        with_cursor = UTXOSubscribe(id=1, subscriber_id="s", addresses=(self.net.address_of(1),), ttl_ms=600_000)
        token = self.net.ask(with_cursor, early).token
        assert self.net.handler is not None
        self.net.handler.connection_lost(early)
        again = self.net.listener(token=token)
        self.show()
        self.show()
        for reader in (late, back, again):
            self.assertEqual(statuses(reader), [known])

    def test_after_a_restart_of_the_node(self) -> None:
        """What it locked in an earlier life is on its way still."""
        self.net.alone(self.payment())
        self.net.restart(0)
        self.net.serve()
        payee = self.net.listener(1)
        self.show()
        self.assertEqual(said(payee), ["locked"])

    def test_pending_is_told_from_locked(self) -> None:
        """A lock certificate is here, and no proof."""
        tx = self.payment()
        self.net.alone(tx)
        self.net.lock_votes(tx, 1, 2)
        payee = self.net.listener(1)
        self.show()
        self.assertEqual(said(payee), ["pending"])
        self.assertIsNotNone(statuses(payee)[0].timestamp)

    def test_a_filter_that_grows_is_shown_what_pays_it(self) -> None:
        """Held until it is whole, nothing is shown; then everything is."""
        self.net.alone(self.payment())
        reader = self.net.listener(2, hold=True)
        self.show()
        self.assertEqual(said(reader), [])
        more = UTXOSubscribe(id=2, subscriber_id="s", addresses=(self.net.address_of(1),))
        self.net.ask(more, reader)
        self.show()
        self.assertEqual(said(reader), ["locked"])

    def test_asked_for_later(self) -> None:
        """``statuses`` alone, for a subscription that is there; not for one that is not."""
        reader = self.net.listener(1, statuses=False)
        self.net.alone(self.payment())
        self.show()
        self.assertEqual(said(reader), [])
        self.net.ask(UTXOSubscribe(id=2, subscriber_id="s", statuses=True), reader)
        self.show()
        self.assertEqual(said(reader), ["locked"])
        refused = self.net.ask(UTXOSubscribe(id=3, subscriber_id="t", statuses=True), reader)
        self.assertEqual(refused.code, "bad_field")

    def test_one_pass_for_many(self) -> None:
        """A thousand that come back at once cost ten walks through what is undecided, each a little after the other."""
        self.net.alone(self.payment())
        walks = []
        newest = self.net.view.newest_undecided
        self.patch(self.net.view, "newest_undecided", lambda limit: walks.append(limit) or newest(limit))
        encoded = self.counted()
        self.patch(limits, "INCOMING_FEEDS", 100)
        readers = [self.net.listener(1) for _ in range(1_000)]
        for done in range(1, 11):
            self.show()
            shown = [reader for reader in readers if said(reader) == ["locked"]]
            self.assertEqual((len(shown), len(walks), len(encoded)), (done * 100, done, done))
        self.show()
        self.assertEqual(len(walks), 10)
        encoded.clear()
        self.net.heal()
        self.net.settle()
        self.assertTrue(all(said(reader)[-1] == "final" for reader in readers))
        self.assertLessEqual(len(encoded), 4)

    def counted(self) -> list[Any]:
        """Everything that is encoded as a hint from now on."""
        encoded: list[Any] = []

        class Counting:
            @staticmethod
            def encode(message: Any) -> bytes:
                encoded.append(message)
                return codec.encode(message)

        self.patch(incoming, "codec", Counting)
        return encoded

    def test_no_further_than_the_bound(self) -> None:
        """The newest are shown, as many as one pass may look at."""
        self.net.partition([0], [1, 2, 3])
        transactions = [self.payment(number) for number in range(4)]
        for tx in transactions:
            self.net.submit(tx, 0)
        self.patch(limits, "INCOMING_SCAN", 2 * 3 + 2)  # one coin and two outputs each
        payee = self.net.listener(1)
        self.show()
        self.assertEqual([each.txid for each in statuses(payee)], [tx.txid for tx in transactions[:1:-1]])
        self.patch(limits, "INCOMING_SHOWN", 1)
        both = [self.net.listener(number) for number in (0, 1)]
        self.show()
        self.assertEqual([[each.txid for each in statuses(reader)] for reader in both], [[transactions[-1].txid]] * 2)


class Readers(Case):
    def test_who_does_not_read_is_told_how_things_are_when_he_does(self) -> None:
        """Nothing waits for him meanwhile, and nothing is told of the steps he missed."""
        payee = self.net.listener(1)
        self.show()
        payee.reads, payee.backlog = False, limits.FEED_QUEUE + 1
        self.net.alone(self.payment())
        for _ in range(5):
            self.show()
        self.assertEqual(said(payee), [])
        payee.reads, payee.backlog = True, 0
        self.show()
        self.assertEqual(said(payee), ["locked"])
        self.show()
        self.assertEqual(said(payee), ["locked"])

    def test_who_goes_away_while_he_is_waited_for(self) -> None:
        """Nothing is left of him, and no clock runs."""
        payee = self.net.listener(1)
        payee.reads, payee.backlog = False, limits.FEED_QUEUE + 1
        self.net.alone(self.payment())
        assert self.net.handler is not None
        self.net.handler.connection_lost(payee)
        self.show()
        self.show()
        self.assertEqual(self.net.clock.getDelayedCalls(), [])
        self.assertEqual(self.net.handler._incoming._behind, {})

    def test_silence_after_the_end(self) -> None:
        """Unsubscribed, taken up elsewhere, expired: no hint more, and what was remembered goes with the last one."""
        tx = self.payment()
        gone, moved, over = self.net.listener(1), self.net.listener(1), self.net.listener(1, ttl_ms=10_000)
        self.net.ask(messages.UTXOUnsubscribe(id=2, subscriber_id="s"), gone)
        token = self.net.ask(UTXOSubscribe(id=2, subscriber_id="s", ttl_ms=600_000), moved).token
        self.net.listener(token=token, statuses=False)
        self.net.clock.advance(11)
        for reader in (gone, moved, over):
            reader.told.clear()
        last = self.net.listener(1)
        self.net.alone(tx)
        self.assertEqual((said(gone), said(moved), said(over), said(last)), ([], [], [], ["locked"]))
        self.assertEqual(self.remembered(), 1)
        assert self.net.handler is not None
        self.net.handler.connection_lost(last)
        self.assertEqual(self.net.handler._feeds.listeners, set())
        self.net.heal()
        self.net.settle()
        self.assertEqual(self.remembered(), 0)


class Cost(Case):
    def test_nothing_at_all_while_nobody_asks(self) -> None:
        """Subscribed or not: no look-up, no memory, no clock."""
        self.net.listener(1, statuses=False)

        def never(*_: Any) -> Any:
            raise AssertionError("looked up for nobody")

        for name in ("watching", "undecided", "newest_undecided"):
            self.patch(self.net.view, name, never)
        self.half_and_half()
        self.net.pass_time(12_000)
        self.assertEqual(self.remembered(), 0)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])

    def test_no_more_is_remembered_than_may_be(self) -> None:
        """The oldest go, and are told of their next step all the same."""
        self.patch(limits, "INCOMING", 7)
        payee = self.net.listener(1)
        self.net.partition([0], [1, 2, 3])
        transactions = [self.payment(number) for number in range(4)]
        for tx in transactions:
            self.net.submit(tx, 0)
        self.assertEqual(self.remembered(), 2)
        self.net.heal()
        self.net.settle()
        final = {each.txid for each in statuses(payee) if each.status == "final"}
        self.assertEqual(final, {tx.txid for tx in transactions})


class Durable(CursorCase):
    def test_no_word_before_its_commit(self) -> None:
        """While the disk is busy nothing is told; then the coin, and then what became of the payment (W-13)."""
        self.subscribe(self.reader, addresses=(address(self.node.wallets[1]),), statuses=True)
        self.node.hold()
        self.node.handler.handle_message(Reader(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        self.assertEqual(self.reader.told, [])
        self.node.release()
        self.assertEqual([type(each).__name__ for each in self.reader.told],
                         ["UTXOStateNotification", "TransactionStatus"])  # fmt: skip
        self.assertEqual(said(self.reader), ["final"])

    def test_without_a_clock_it_is_shown_at_once(self) -> None:
        """A handler for one question, as windows and tests make it."""
        node = Node()
        from timeproto.network.utxo_handler import UTXOProtocolHandler

        handler = UTXOProtocolHandler()
        handler.setup_notification_handler(node.view)
        handler.handle_message(
            self.reader,
            UTXOSubscribe(id=1, subscriber_id="s", addresses=(address(node.wallets[0]),), statuses=True),
        )
        self.assertEqual([type(each).__name__ for each in self.reader.told], ["UTXOSubscribed"])
