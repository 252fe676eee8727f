"""Cursors: what was missed is told from the log, each transition once, in order; or a reset says that it cannot be."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from twisted.internet.defer import fail, succeed

from tests.alone_node import Client
from tests.cluster import COIN, address, pay
from tests.test_network.test_utxo_handler import HandlerCase
from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import from_wire, holder, kind
from timeproto.network.feeds import BUSY_PAUSE
from timeproto.network.outbox import Outbox
from timeproto.wire import codec, messages
from timeproto.wire.messages import Cursor, UTXOStateNotification, UTXOSubscribe, UTXOSubscribed, UTXOWatermark


def step_of(word: UTXOStateNotification) -> tuple[str, str]:
    """The transaction that a change belongs to, and which step of it: what it spends and creates is one step."""
    change = word.notification
    if change.old_state is None:
        return change.outpoint.txid, "SpentFinalized"
    if isinstance(change.new_state, str):
        return str(holder(from_wire(change.old_state))), change.new_state
    state = from_wire(change.new_state)
    return str(holder(state)), kind(state)


class Reader(Client):
    """A connection whose reader can stop reading, and can be sent away."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = 0
        self.reads = True
        self.closed: list[Refusal] = []

    def send_payload(self, payload: bytes) -> None:
        super().send_payload(payload)
        if not self.reads:
            self.backlog += len(payload)

    def close(self, refusal: Refusal) -> None:
        self.closed.append(refusal)

    @property
    def events(self) -> list[UTXOStateNotification]:
        return [each for each in self.told if isinstance(each, UTXOStateNotification)]

    @property
    def positions(self) -> list[int]:
        return [each.cursor.position for each in self.events]


class Boxed(Reader):
    """A connection with an outbox, as over TCP; ``pieces`` were written."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.outbox.open(self)
        self.pieces = 0

    def write(self, data: bytes) -> None:
        self.pieces += 1
        while data:
            size = int.from_bytes(data[:4], "big")
            super().send_payload(data[4 : 4 + size])
            data = data[4 + size :]

    def send_payload(self, payload: bytes) -> None:
        self.outbox.write(len(payload).to_bytes(4, "big") + payload)


class CursorCase(HandlerCase):
    def setUp(self) -> None:
        super().setUp()
        self.mine = address(self.node.wallets[0])
        self.reader = Reader()

    def cursor(self, position: int, node: str | None = None) -> Cursor:
        return Cursor(node or self.node.view.node_key, position)

    def resume(self, position: int, client: Any = None, **what: Any) -> UTXOSubscribed:
        what = what or {"addresses": (self.mine,)}
        request = UTXOSubscribe(id=3, subscriber_id="s", since=self.cursor(position), **what)
        answer = self.ask(request, client or self.reader)
        self.assertIsInstance(answer, UTXOSubscribed)
        return answer  # type: ignore[no-any-return]

    def catch_up(self, turns: int = 200) -> None:
        for _ in range(turns):
            self.node.clock.advance(limits.FEED_PAUSE / 10)

    def log_of(self, addresses: set[str], after: int = 0) -> list[int]:
        """What the node's own log holds of these addresses: the truth."""
        entries = self.node.store.transitions(after, 1_000_000)
        return [each.position for each in entries if each.output.address in addresses]


class Replays(CursorCase):
    def test_what_was_missed_is_told_and_then_goes_on_live(self) -> None:
        """Exactly the transitions after the cursor, in order, each once, over the border of past and present (W-07)."""
        for number in range(3):
            self.send(self.payment(number=number))
        answer = self.resume(4)
        self.assertEqual((answer.cursor.position, answer.states, answer.reset), (4, (), False))
        self.assertEqual(self.reader.told, [])  # the answer comes first
        self.catch_up()
        self.send(self.payment(number=3))
        self.assertEqual(self.reader.positions, self.log_of({self.mine}, 4))
        self.assertGreater(len(self.reader.positions), 10)

    def test_what_is_told_later_is_told_the_same(self) -> None:
        """A replayed notification equals the live one byte for byte, with proofs and places in blocks."""
        live = Reader()
        self.subscribe(live, addresses=(self.mine,))
        for number in range(2):
            self.send(self.payment(number=number))
        self.node.make_block()
        self.resume(0)
        self.catch_up()
        told, before = ([codec.encode(each) for each in reader.events] for reader in (self.reader, live))
        self.assertEqual(told, before)
        self.assertTrue(any(each.proof is not None for each in self.reader.events))
        self.assertTrue(any(each.inclusion is not None for each in self.reader.events))

    def test_commits_during_the_replay(self) -> None:
        """The log grows while it is read, page by page: nothing is lost, nothing comes twice."""
        self.patch(limits, "REPLAY_PAGE", 4)
        self.patch(limits, "REPLAY_TURN", 2)
        self.send(self.payment())
        self.send(self.payment(number=1))
        self.resume(0)
        for number in (2, 3):
            self.node.clock.advance(0)
            self.send(self.payment(number=number))
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))

    def test_a_commit_on_its_way_is_not_told_early(self) -> None:
        """A resume while a commit is under way begins at its end, and what it changes comes once."""
        self.node.hold()
        self.node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=self.payment()))
        self.node.handler.handle_message(
            self.reader, UTXOSubscribe(id=3, subscriber_id="s", since=self.cursor(0), addresses=(self.mine,))
        )
        self.catch_up(3)
        self.assertEqual(self.reader.told, [])
        self.node.release()
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))

    def test_a_busy_moment(self) -> None:
        """As many questions wait as may: the replay goes on a little later, on the same connection."""
        for number in range(2):
            self.send(self.payment(number=number))
        self.resume(0)
        patched = self.patch(limits, "INBOX", 2)
        self.node.hold()
        self.node.handler.handle_message(Reader(), messages.TransactionBroadcast(id=1, tx=self.payment(number=3)))
        for _ in range(3):
            self.node.handler.handle_message(Reader(), messages.GetInfo(id=1))
        self.node.clock.advance(0)
        self.node.release()
        patched.restore()
        self.node.clock.advance(BUSY_PAUSE)
        self.catch_up()
        self.assertEqual((self.reader.closed, self.reader.positions), ([], self.log_of({self.mine})))

    def test_a_connection_that_is_lost_in_a_busy_moment(self) -> None:
        """Nothing is asked for it any more."""
        self.send(self.payment())
        self.resume(0)
        asked: list[Any] = []

        def busy(question: Any) -> Any:
            asked.append(question)
            return fail(Refusal(ErrorCode.BUSY, "too much is waiting here"))

        self.patch(self.node.view, "read", busy)
        self.node.clock.advance(0)
        self.node.handler.connection_lost(self.reader)
        asked.clear()
        for _ in range(5):
            self.node.clock.advance(BUSY_PAUSE)
        self.assertEqual(asked, [])

    def test_one_that_was_told_everything_is_live(self) -> None:
        """However long others who read the log have to wait: by then it would be behind again."""
        self.send(self.payment())
        bucket = self.node.handler._feeds._history._bucket
        assert bucket is not None
        bucket.take(100 * limits.REPLAY)
        self.resume(0)
        self.node.handler._feeds._history._pages.clear()  # it was looked at
        self.node.clock.advance(0)
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))
        self.assertIsNone(self.node.handler._feeds.all[self.reader].at)

    def test_the_end_of_a_replay_is_marked(self) -> None:
        """A watermark with the cursor up to which all has been told, after the last of it (S-9)."""
        self.send(self.payment())
        self.resume(0)
        self.catch_up(3)
        mark = self.reader.told[-1]
        self.assertIsInstance(mark, UTXOWatermark)
        self.assertEqual(mark.cursor, self.cursor(self.node.view.position()))
        self.assertEqual(mark.height, self.node.replica.height)

    def test_a_cursor_at_the_end(self) -> None:
        """Nothing was missed: only the mark comes, and what happens later."""
        self.send(self.payment())
        self.resume(self.node.view.position())
        self.catch_up(2)
        self.assertEqual([type(each) for each in self.reader.told], [UTXOWatermark])

    def test_only_what_is_watched(self) -> None:
        """A replay by outpoint tells that coin and no other (W-15)."""
        for number in range(3):
            self.send(self.payment(number=number))
        coin = self.coin(number=1)
        self.resume(0, outpoints=(str(coin),))
        self.catch_up()
        self.assertEqual({str(each.notification.outpoint) for each in self.reader.events}, {str(coin)})
        self.assertEqual(len(self.reader.events), 3)

    def test_by_outpoint_and_by_owner_once(self) -> None:
        """Two items that match one transition tell it once, from the log too (W-04)."""
        self.send(self.payment())
        self.resume(0, addresses=(self.mine,), outpoints=(str(self.coin()),))
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))

    def test_each_is_told_as_what_it_was_before(self) -> None:
        """``old_state`` is the state told last of that coin, over replay and live (W-14, S-3)."""
        for number in range(2):
            self.send(self.payment(number=number))
        self.resume(0)
        self.catch_up()
        self.send(self.payment(number=2))
        last: dict[str, Any] = {}
        for each in self.reader.events:
            change = each.notification
            outpoint = str(change.outpoint)
            before = last.get(outpoint, "Unspent" if change.outpoint.txid == self.node.genesis.hash else None)
            self.assertEqual(change.old_state, before)
            last[outpoint] = change.new_state

    def test_an_old_client_is_told_nothing_new(self) -> None:
        """Who asks as before is answered as before: no field, no message that it could not know."""
        self.subscribe(self.reader, addresses=(self.mine,))
        self.node.clock.advance(limits.WATERMARK * 3)
        self.send(self.payment())
        kinds = {type(each) for each in self.reader.told}
        self.assertEqual(kinds, {UTXOStateNotification})
        answer = codec.encode(self.subscribe(Client(), addresses=(self.mine,)))
        for name in (b"reset", b"reason", b"token", b"ttl_ms"):
            self.assertNotIn(name, answer)


class Resets(CursorCase):
    def assert_reset(self, answer: UTXOSubscribed, reason: str) -> None:
        self.assertEqual((answer.reset, answer.reason), (True, reason))
        self.assertEqual(answer.cursor, self.cursor(self.node.view.position()))
        self.assertEqual(
            {coin.outpoint for coin in answer.states},
            {outpoint for outpoint, _ in self.node.store.address_coins(self.mine, None, 100, spent=False)[0]},
        )
        self.reader.take()
        self.send(self.payment(number=3))
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine}, answer.cursor.position))

    def test_another_nodes_cursor(self) -> None:
        """Its positions mean nothing here: full states, and it says so (W-09)."""
        self.send(self.payment())
        since = self.cursor(1, "ab" * 32)
        self.assert_reset(
            self.ask(UTXOSubscribe(id=1, subscriber_id="s", since=since, addresses=(self.mine,)), self.reader),
            "another_node",
        )

    def test_a_cursor_from_the_future(self) -> None:
        """Never older events, and never silence (W-09)."""
        self.send(self.payment())
        self.assert_reset(self.resume(self.node.view.position() + 1), "ahead")

    def test_a_log_that_was_lost(self) -> None:
        """What follows it begins beyond it: a cursor of the old one is good nowhere there, however long it grows."""
        payments = [self.payment(number=number) for number in range(4)]
        for tx in payments[:2]:
            self.send(tx)
        lost = self.node.view.position()
        self.node.begin(log_start=1_000 * limits.REPLAY)
        self.reader = Reader()
        for tx in (payments[2], payments[3], *payments[:2]):
            self.send(tx)
        self.assert_reset(self.resume(lost), "too_long")
        self.reader = Reader()
        self.assert_reset(self.resume(1_000 * limits.REPLAY - 1), "too_old")
        self.reader = Reader()
        self.assertFalse(self.resume(1_000 * limits.REPLAY).reset)
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine}, 1_000 * limits.REPLAY))

    def test_too_long_a_way(self) -> None:
        """One entry more than may be replayed (W-08)."""
        for number in range(2):
            self.send(self.payment(number=number))
        head = self.node.view.position()
        self.patch(limits, "REPLAY", head - 1)
        self.assertFalse(self.resume(1).reset)
        self.catch_up()
        self.node.handler.connection_lost(self.reader)
        self.reader = Reader()
        self.assert_reset(self.resume(0), "too_long")

    def test_a_log_that_does_not_reach_back(self) -> None:
        """Its beginning was pruned: said at once, not found out later (W-08)."""
        for number in range(2):
            self.send(self.payment(number=number))
        whole = self.node.store.transitions
        self.patch(
            self.node.store,
            "transitions",
            lambda after, limit: [each for each in whole(after, limit) if each.position > 3],
        )
        self.assertFalse(self.resume(3).reset)
        self.catch_up()
        self.node.handler.connection_lost(self.reader)
        self.reader = Reader()
        self.assert_reset(self.resume(2), "too_old")


class SeveralSubscriptions(CursorCase):
    def test_a_replay_beside_a_live_one(self) -> None:
        """The other subscription of the connection waits, misses nothing, and is told nothing twice."""
        theirs = address(self.node.wallets[1])
        self.subscribe(self.reader, "live", addresses=(theirs,))
        for number in range(2):
            self.send(self.payment(number=number))
        before = self.reader.positions
        self.assertEqual(before, self.log_of({theirs}))
        self.reader.take()
        self.resume(0)
        self.send(self.payment(number=2))
        self.catch_up()
        head = before[-1]
        told = self.reader.positions
        self.assertEqual(told, sorted(set(told)))
        self.assertEqual(told, sorted({*self.log_of({self.mine}), *self.log_of({theirs}, head)}))

    def test_a_filter_in_several_parts_begins_as_one(self) -> None:
        """``hold`` keeps it back until the last part; then one replay tells all of it in order."""
        theirs = address(self.node.wallets[1])
        self.send(self.payment())
        for each in (self.mine, theirs):
            held = self.ask(UTXOSubscribe(id=1, subscriber_id="s", addresses=(each,), hold=True), self.reader)
            self.assertEqual(held.states, ())
        self.send(self.payment(number=1))
        self.catch_up(3)
        self.assertEqual(self.reader.positions, [])
        self.resume(2, outpoints=(str(self.coin(2)),))
        self.catch_up()
        self.assertEqual(self.reader.positions, self.log_of({self.mine, theirs}, 2))

    def test_a_long_filter_has_no_snapshot(self) -> None:
        """Held parts that are more than one request may name are not looked up at once: ``more`` says to ask."""
        self.patch(limits, "FILTER", 2)
        for each in self.node.wallets[:2]:
            self.ask(UTXOSubscribe(id=1, subscriber_id="s", addresses=(address(each),), hold=True), self.reader)
        answer = self.ask(
            UTXOSubscribe(id=1, subscriber_id="s", addresses=(address(self.node.wallets[2]),)), self.reader
        )
        self.assertEqual((answer.states, answer.more), ((), True))
        self.send(self.payment())
        self.assertEqual(self.reader.positions, self.log_of({address(each) for each in self.node.wallets}))

    def test_requests_wait_for_the_replay(self) -> None:
        """An unsubscription and a new subscription behind a replay are answered in order, after it (W-06)."""
        self.send(self.payment())
        self.resume(0)
        handle = self.node.handler.handle_message
        handle(self.reader, messages.UTXOUnsubscribe(id=8, subscriber_id="s"))
        handle(self.reader, UTXOSubscribe(id=9, subscriber_id="t", addresses=(self.mine,)))
        self.catch_up()
        kinds = [type(each).__name__ for each in self.reader.told if not isinstance(each, UTXOStateNotification)]
        self.assertEqual(kinds, ["UTXOWatermark", "UTXOUnsubscribed", "UTXOSubscribed"])
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))

    def test_a_payment_sent_during_a_replay(self) -> None:
        """Its steps come in their place in the order, its end too, and afterwards it is not watched."""
        other = Reader()
        theirs = address(self.node.wallets[1])
        self.send(self.payment())
        self.resume(0, other, addresses=(theirs,))
        tx = self.payment(number=1)
        self.ask(messages.TransactionBroadcast(id=5, tx=tx), other)
        self.catch_up()
        coin = str(tx.outpoints[0])
        self.assertEqual(len([each for each in other.events if str(each.notification.outpoint) == coin]), 3)
        self.assertEqual(other.positions, sorted(set(other.positions)))
        self.assertEqual(len(self.node.replica.manager.subscriptions), 1)

    def test_a_payment_of_what_was_told_already(self) -> None:
        """Sent during a replay, it tells nothing of its coins again that another subscription told live."""
        theirs = address(self.node.wallets[1])
        self.subscribe(self.reader, "mine", addresses=(self.mine,))
        first = self.payment()
        self.send(first)
        self.resume(0, addresses=(theirs,))
        change = Outpoint(first.txid, 1)
        spends = [(change, first.outputs[1].amount, self.node.wallets[0])]
        self.ask(
            messages.TransactionBroadcast(id=5, tx=pay(self.node.genesis, spends, [(theirs, COIN)])), self.reader
        )
        self.catch_up()
        self.assertEqual(sorted(self.reader.positions), self.log_of({self.mine, theirs}))

    def test_a_payment_sent_in_a_commit_during_a_replay(self) -> None:
        """What that commit changes of its coins is told too: it was under way, and told to nobody."""
        self.send(self.payment())
        self.resume(0, addresses=(address(self.node.wallets[1]),))
        tx = self.payment(number=1)
        self.node.hold()
        for client in (Client(), self.reader):
            self.node.handler.handle_message(client, messages.TransactionBroadcast(id=5, tx=tx))
        self.node.release()
        self.catch_up()
        told = [each.notification.outpoint for each in self.reader.events]
        self.assertEqual(told.count(tx.outpoints[0]), 3)

    def test_a_payment_refused_and_then_taken_during_a_replay(self) -> None:
        """It is watched until it is decided, also once its connection has caught up."""
        self.send(self.payment())
        self.resume(0, addresses=(address(self.node.wallets[1]),))
        tx = self.payment(number=1)
        outcomes = [fail(Refusal(ErrorCode.BUSY, "no")), succeed(messages.TransactionAccepted(txid=tx.txid))]
        submitting = self.patch(self.node.view, "submit", lambda tx: outcomes.pop(0))
        for number in range(2):
            self.ask(messages.TransactionBroadcast(id=number, tx=tx), self.reader)
        submitting.restore()
        self.catch_up()
        self.reader.take()
        self.send(tx)
        told = [each.notification.outpoint for each in self.reader.events]
        self.assertEqual(told.count(tx.outpoints[0]), 3)
        self.assertEqual(len(self.node.replica.manager.subscriptions), 1)

    def test_a_payment_refused_during_a_replay(self) -> None:
        """It is not watched, nor does it take room until the connection has caught up."""
        self.send(self.payment())
        self.resume(0)
        self.assert_refused("double_spend", messages.TransactionBroadcast(id=5, tx=self.payment(to=2)), self.reader)
        self.assertEqual(self.node.handler._feeds.all[self.reader].inputs, 0)
        self.assertEqual(len(self.node.replica.manager.subscriptions), 1)


class Together(CursorCase):
    def test_changes_of_one_transaction_come_in_a_row(self) -> None:
        """Payments of two coins, several in one commit: each one's coins, spent and created, none missing (S-8)."""
        owners = tuple(map(address, self.node.wallets))
        node, broadcast, most = self.node, self.node.handler.broadcast_state_notification, [0]

        def spy(transitions: Any, *more: Any) -> None:
            told = list(transitions)
            most[0] = max(most[0], len({each.outpoint.txid for each in told if each.old_state is None}))
            broadcast(told, *more)

        self.patch(node.handler, "broadcast_state_notification", spy)
        self.subscribe(self.reader, addresses=owners)
        payments = []
        node.hold()
        for wallet in range(len(owners)):
            for at in (0, 2):
                spends = [(self.coin(wallet, at + n), 10 * COIN, node.wallets[wallet]) for n in range(2)]
                payments.append(pay(node.genesis, spends, [(owners[wallet - 1], COIN)]))
                node.handler.handle_message(Client(), messages.TransactionBroadcast(id=1, tx=payments[-1]))
        node.release()
        self.assertGreater(most[0], 1, "each had a commit of its own")
        live = self.reader.events
        rows = [(step, {each.notification.outpoint for each in row}) for step, row in groupby(live, step_of)]
        found = dict(rows)
        self.assertEqual(len(rows), len(found))
        for tx in payments:
            whole = {*tx.outpoints, *(Outpoint(tx.txid, vout) for vout in range(len(tx.outputs)))}
            self.assertEqual(found[tx.txid, "SpentFinalized"], whole)
            self.assertEqual(found[tx.txid, "Locked"], set(tx.outpoints))
        later = Reader()
        self.resume(0, later, addresses=owners)
        self.catch_up()
        self.assertEqual(later.events, live)


class SlowReaders(CursorCase):
    def test_one_that_stops_reading_and_goes_on(self) -> None:
        """Its queue stops growing at the bound; when it reads again it is told the rest from the log (W-11)."""
        self.patch(limits, "FEED_QUEUE", 1_000)
        quick = Reader()
        for reader in (self.reader, quick):
            self.subscribe(reader, addresses=(self.mine,))
        self.reader.reads = False
        for number in range(4):
            self.send(self.payment(number=number))
            self.catch_up(30)
        self.assertLess(self.reader.backlog, 10_000)
        self.assertLess(len(self.reader.events), 4)
        self.assertEqual(quick.positions, self.log_of({self.mine}))
        self.reader.reads, self.reader.backlog = True, 0
        self.catch_up(30)
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))
        self.send(self.payment(1))
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))

    def test_a_commit_of_more_than_may_wait(self) -> None:
        """It is cut where there is no more room, the rest comes from the log: nothing twice, nothing missed (S-4)."""
        self.patch(limits, "FEED_QUEUE", 1_000)
        reader = Boxed()
        self.subscribe(reader, addresses=(self.mine,))
        feed = self.node.handler._feeds.all[reader]  # type: ignore[index]
        for number in range(4):
            self.send(self.payment(number=number))
            self.assertGreater(reader.outbox.size, limits.FEED_QUEUE)
            self.assertLess(reader.outbox.size, 5 * limits.FEED_QUEUE)
            self.assertIsNotNone(feed.at)
            self.catch_up(30)
            self.assertIsNone(feed.at)
            self.assertEqual(reader.positions, self.log_of({self.mine}))
        self.assertGreater(reader.pieces, 4)

    def test_one_that_never_reads_again_is_sent_away(self) -> None:
        """Further behind than a replay may be: told so, once, and closed."""
        self.patch(limits, "FEED_QUEUE", 100)
        self.patch(limits, "REPLAY", 8)
        self.subscribe(self.reader, addresses=(self.mine,))
        self.reader.reads = False
        for number in range(4):
            self.send(self.payment(number=number))
        self.catch_up(30)
        self.assertEqual([each.details for each in self.reader.closed], [{"limit": "replay", "value": 8}])


class Sharing(CursorCase):
    def test_a_page_is_read_and_encoded_once_for_all(self) -> None:
        """A hundred wallets resume at once: each entry is read once and each notification encoded once."""
        import timeproto.network.history as module

        for number in range(4):
            self.send(self.payment(number=number))
        encoded, asked = [], []
        whole = self.node.store.transitions

        class Counting:
            @staticmethod
            def encode(message: Any) -> bytes:
                encoded.append(message)
                return codec.encode(message)

        def transitions(after: int, limit: int) -> Any:
            asked.append(after)
            return whole(after, limit)

        self.patch(module, "codec", Counting)
        self.patch(self.node.store, "transitions", transitions)
        readers = [Reader() for _ in range(100)]
        for reader in readers:
            self.resume(0, reader)
        self.catch_up()
        truth = self.log_of({self.mine})
        self.assertTrue(all(reader.positions == truth for reader in readers))
        self.assertEqual((len(encoded), len(asked)), (len(truth), 1 + 1))  # the truth was asked for too

    def test_reading_is_slowed_over_all(self) -> None:
        """The disk is not asked for more entries a second than the bound, however many replay."""
        self.patch(limits, "REPLAY_RATE", 10)
        self.patch(limits, "REPLAY", 20)
        self.patch(limits, "REPLAY_PAGE", 10)
        self.patch(limits, "REPLAY_PAGES", 1)
        for number in range(4):
            self.send(self.payment(number=number))
        asked = []
        whole = self.node.store.transitions

        def transitions(after: int, limit: int) -> Any:
            asked.append(after)
            return whole(after, limit)

        self.patch(self.node.store, "transitions", transitions)
        head = self.node.view.position()
        readers = [Reader() for _ in range(20)]
        for reader in readers:
            self.resume(head - 19, reader)
        for _ in range(10):
            self.node.clock.advance(0.1)
        self.assertLess(len(asked), 30)
        for _ in range(2_000):
            self.node.clock.advance(0.1)
        truth = self.log_of({self.mine}, head - 19)
        self.assertTrue(all(reader.positions == truth for reader in readers))

    def test_what_is_kept_is_bounded(self) -> None:
        """Pages and payloads are forgotten, the longest unused first."""
        self.patch(limits, "REPLAY_PAGE", 2)
        self.patch(limits, "REPLAY_PAGES", 3)
        self.patch(limits, "REPLAY_BYTES", 5_000)
        for number in range(4):
            self.send(self.payment(number=number))
        self.resume(0)
        self.catch_up()
        history = self.node.handler._feeds._history
        self.assertEqual(self.reader.positions, self.log_of({self.mine}))
        self.assertLessEqual(len(history._pages), 3)
        self.assertLess(sum(len(each) for each in history._payloads.values()), 5_001)
        self.assertEqual(history._bytes, sum(len(each) for each in history._payloads.values()))
