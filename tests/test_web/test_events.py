"""Server-sent events: each transition once, in order, whoever reads how slowly (S-1, S-6, S-9 of the subscriptions)."""

from __future__ import annotations

import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import ALICE, BOB, CAROL, FEE, GENESIS, PAYMENT, VOTERS, address, build, proof_of, replace
from tests.test_web.harness import Connection, Web, read_events
from timeproto import limits
from timeproto.model.certificate import KeptProof, keep
from timeproto.model.transaction import Outpoint
from timeproto.network.notifications import Proofs
from timeproto.params import COIN
from timeproto.web import bounds, feed
from timeproto.web.feed import Feed
from timeproto.web.metrics import Metrics
from timeproto.wire import codec

KEY = VOTERS[0].public_hex
OTHER = build([(Outpoint(GENESIS.hash, 2), BOB)], [(250 * COIN - FEE, address(CAROL))])


STEPS = ("pay", "read", "pause", "resume", "forget", "reconnect", "hold", "let")


class Reader:
    """One stream and everything it was told."""

    def __init__(self, web: Web, query: str = "", **headers: str) -> None:
        self.web = web
        self.connection: Connection = web.connect().request("GET", f"/v1/events{query}", **headers)
        head, _, body = self.connection.take().partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        self.events = read_events(body) if "200 OK" in self.head else []

    def read(self) -> Reader:
        self.web.clock.advance(0)
        self.events += read_events(self.connection.take())
        return self

    def positions(self) -> list[int]:
        """Of the transitions, as their ids tell it."""
        return [int(name.partition(":")[2]) for name, event, _ in self.events if event == "transition"]

    def kinds(self) -> list[str]:
        return [event for _, event, _ in self.events]


class Live(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()

    def test_a_stream_begins_with_where_it_stands(self) -> None:
        """The first event is a watermark: everything after it will be told."""
        self.web.node.lock(PAYMENT)
        reader = Reader(self.web)
        self.assertIn("Content-Type: text/event-stream", reader.head)
        self.assertEqual(reader.events, [
            (f"{KEY}:1", "watermark", {"cursor": {"node": KEY, "position": 1}, "height": 0})])

    def test_one_that_has_not_begun_when_the_node_stops(self) -> None:
        """It is told so by an error, after which a reader asks again, and nothing is written later."""
        self.web.node.held = []
        connection = self.web.connect().request("GET", "/v1/events")
        self.web.service.stopService()
        (answer,) = connection.answers()
        self.assertEqual((answer.status, answer.code), (503, "going_away"))
        self.web.node.let_read()
        self.assertEqual((connection.take(), self.web.service.metrics.streams._value.get()), (b"", 0))

    def test_every_transition_once_in_order(self) -> None:
        """All of one commit arrive together, as the notifications that wallets get, with what proves them."""
        reader = Reader(self.web)
        proof = self.web.node.pay(PAYMENT)
        self.web.node.decide()
        reader.read()
        self.assertEqual(reader.positions(), list(range(1, self.web.node.position() + 1)))
        told = [data for _, event, data in reader.events if event == "transition"]
        self.assertEqual({each["type"] for each in told}, {"UTXOStateNotification"})
        final = [each for each in told if "SpentFinalized" in each["notification"]["new_state"]]
        self.assertEqual(len(final[0]["proof"]["votes"]), len(proof.votes))
        confirmed = [each for each in told if "Confirmed" in each["notification"]["new_state"]]
        self.assertEqual(confirmed[0]["inclusion"]["header"]["height"], 1)

    def test_lean_streams(self) -> None:
        """Without proofs the same events are a fraction of the size."""
        full, lean = Reader(self.web), Reader(self.web, "?proofs=false")
        self.web.node.pay(PAYMENT)
        full.read(), lean.read()
        self.assertEqual(full.positions(), lean.positions())
        self.assertFalse(any("proof" in data for _, _, data in lean.events))

    def test_filters(self) -> None:
        """By address, by coin, by transaction; one match of several is enough."""
        mine = Reader(self.web, f"?address={address(CAROL)}")
        coin = Reader(self.web, f"?outpoint={GENESIS.hash}:0")
        either = Reader(self.web, f"?txid={OTHER.txid}&outpoint={GENESIS.hash}:0")
        self.web.node.pay(PAYMENT)
        self.web.node.pay(OTHER)
        owners = [data["output"]["address"] for _, event, data in mine.read().events if event == "transition"]
        self.assertEqual(set(owners), {address(CAROL)})
        self.assertEqual(len(coin.read().positions()), 3)
        self.assertEqual(len(either.read().positions()), 3 + 3 + 1)

    def test_silence_is_information(self) -> None:
        """A stream with nothing to tell says up to where that is so."""
        reader = Reader(self.web, f"?address={address(CAROL)}")
        self.web.node.pay(PAYMENT)
        self.web.clock.advance(0)
        for _ in range(2):
            self.web.clock.advance(bounds.WEB_STREAM_BEAT)
        reader.read()
        self.assertEqual(reader.kinds(), ["watermark"] * 3)
        self.assertEqual(reader.events[-1][2]["cursor"]["position"], self.web.node.position())
        self.assertFalse(reader.connection.wire.is_ended)

    def test_encoded_once_for_all(self) -> None:
        """A hundred streams cost one encoding of each transition."""
        made: list[Any] = []
        readers = [Reader(self.web) for _ in range(bounds.WEB_STREAMS)]
        original = feed.notification
        self.patch(feed, "notification", lambda *each: made.append(each) or original(*each))
        self.web.node.lock(PAYMENT)
        self.assertEqual([reader.read().positions() for reader in readers], [[1]] * len(readers))
        self.assertEqual(len(made), 1)


class Resumed(SynchronousTestCase):
    def setUp(self) -> None:
        self.web = Web()
        self.web.node.pay(PAYMENT)
        self.web.node.decide()
        self.head = self.web.node.position()

    def test_from_the_last_event(self) -> None:
        """``Last-Event-ID`` and ``since`` take a stream up without a gap or an overlap."""
        for reader in (Reader(self.web, Last_Event_ID=f"{KEY}:2"), Reader(self.web, f"?since={KEY}:2")):
            self.assertEqual(reader.read().positions(), list(range(3, self.head + 1)))

    def test_the_height_is_of_what_was_told(self) -> None:
        """No block is said to be behind a reader who is about to be told of it: the watermark comes after the rest."""
        for is_kept in (True, False):
            if not is_kept:
                self.web.service.feed._recent.clear()
            reader = Reader(self.web, Last_Event_ID=f"{KEY}:2").read()
            self.assertEqual(reader.kinds(), ["transition"] * (self.head - 2) + ["watermark"])
            self.assertEqual(reader.events[-1][2]["height"], 1)
            self.assertEqual(reader.events[-1][2]["cursor"]["position"], self.head)

    def test_from_the_log(self) -> None:
        """What is not in memory any more is read from the log, with its proofs, and then it goes on live."""
        self.web.service.feed._recent.clear()
        reader = Reader(self.web, Last_Event_ID=f"{KEY}:0").read()
        self.web.node.pay(OTHER)
        reader.read()
        self.assertEqual(reader.positions(), list(range(1, self.web.node.position() + 1)))
        proven = [data for _, event, data in reader.events if event == "transition" and "proof" in data]
        self.assertEqual(len(proven), 5)
        self.assertTrue(any("inclusion" in data for _, event, data in reader.events if event == "transition"))

    def test_one_question_at_a_time(self) -> None:
        """While the log is being asked, more commits do not ask it again."""
        self.web.service.feed._recent.clear()
        reader = Reader(self.web)
        self.web.node.held = []
        for _ in range(5):
            self.web.node.tell([])
            reader.read()
        self.assertLessEqual(len(self.web.node.held), 1)
        self.web.node.let_read()
        self.web.node.pay(OTHER)
        self.assertEqual(reader.read().positions(), list(range(self.head + 1, self.web.node.position() + 1)))

    def test_gaps_are_told(self) -> None:
        """Another node's cursor, one of the future, one the log does not reach: each is a gap with where to begin."""
        for cursor, reason in ((f"{'ab' * 32}:1", "another_node"), (f"{KEY}:999", "ahead")):
            reader = Reader(self.web, Last_Event_ID=cursor)
            self.assertEqual([(event, data["reason"]) for _, event, data in reader.events], [("gap", reason)])
            self.assertEqual(reader.events[0][0], f"{KEY}:{self.head}")
        self.web.service.feed._recent.clear()
        self.web.node.pruned = 3
        reader = Reader(self.web, Last_Event_ID=f"{KEY}:1").read()
        self.assertEqual(reader.kinds(), ["gap"])
        self.assertEqual(reader.events[-1][2]["reason"], "too_old")
        self.web.node.pay(OTHER)
        self.assertEqual(reader.read().positions()[0], self.head + 1)

    def test_a_little_before_the_log_begins(self) -> None:
        """A page that asks for the last few is told of what there is; from long before it is a gap."""
        node = self.web.node
        node.begins = 1_764_000_000_000_000
        node.log = [replace(each, position=node.begins + each.position) for each in node.log]
        self.web.service.feed._recent.clear()
        reader = Reader(self.web, f"?since={KEY}:{node.position() - 60}").read()
        self.assertEqual(reader.positions(), [each.position for each in node.log])
        reader = Reader(self.web, Last_Event_ID=f"{KEY}:{node.begins - 1_000}").read()
        self.assertEqual((reader.kinds(), reader.events[-1][2]["reason"]), (["gap"], "too_old"))

    def test_no_cursor_at_all(self) -> None:
        """A malformed one is refused before the stream begins."""
        for cursor in ("1", "x:1", f"{KEY}:", f"{KEY}:-1", f"{KEY}:1:2", f"{KEY}:" + "9" * 30):
            self.assertIn("400", Reader(self.web, Last_Event_ID=cursor).head)


class Behind(SynchronousTestCase):
    """What a stream may make the node do again."""

    def setUp(self) -> None:
        self.web = Web()
        self.web.node.pay(PAYMENT)
        self.web.node.decide()
        self.all = list(range(1, self.web.node.position() + 1))

    def spent(self, reader: Reader) -> float:
        return reader.connection.channel.account.spent

    def test_a_page_is_bounded_by_its_bytes(self) -> None:
        """However large the proofs, from memory and from the log: so much at a time, and nothing is missed."""
        self.patch(bounds, "WEB_STREAM_BYTES", 2_000)
        longest = max(len(one.payload(KEY, lean=False)) for one in self.web.service.feed._recent)
        for _ in range(2):
            reader = Reader(self.web)
            written, write = list[bytes](), reader.connection.wire.writeSequence
            reader.connection.wire.writeSequence = lambda data, to=written, write=write: to.extend(data) or write(data)
            stream = next(reversed(self.web.service._api._streams))
            stream._at = 0
            stream._pump()
            self.assertEqual(reader.read().positions(), self.all)
            self.assertGreater(len(written), 3)
            self.assertLess(max(map(len, written)), 2_000 + longest + 200)
            self.web.service.feed._recent.clear()

    def test_a_transaction_is_looked_up_once(self) -> None:
        """All entries of one page that it proves share what was found; what is not wanted is not looked up at all."""
        self.web.service.feed._recent.clear()
        looked, found = list[str](), self.web.node.transaction
        self.patch(self.web.node, "transaction", lambda txid: looked.append(txid) or found(txid))
        self.assertEqual(Reader(self.web, f"?since={KEY}:0").read().positions(), self.all)
        self.assertEqual(sorted(looked), sorted({PAYMENT.txid, self.web.node.blocks[0].block.coinbase.txid}))
        looked.clear()
        Reader(self.web, f"?since={KEY}:0&address={address(CAROL)}"), Reader(self.web, f"?since={KEY}:0&proofs=false")
        self.assertEqual(looked, [])

    def test_what_was_is_paid_for(self) -> None:
        """By the entries that are read again and by the bytes; what is told as it happens is free."""
        live = Reader(self.web)
        asked = self.spent(live)
        self.web.node.pay(OTHER)
        self.web.node.decide()
        self.assertEqual(len(live.read().positions()), len(self.web.node.log) - len(self.all))
        self.assertEqual(self.spent(live), asked)
        self.assertGreater(self.spent(Reader(self.web, f"?since={KEY}:0").read()), asked)
        self.web.service.feed._recent.clear()
        nothing = Reader(self.web, f"?since={KEY}:0&txid={'ab' * 32}").read()
        self.assertEqual(self.spent(nothing), asked + len(self.web.node.log) * bounds.WEB_STREAM_READ)
        self.assertGreater(self.spent(Reader(self.web, f"?since={KEY}:0").read()), self.spent(nothing))

    def test_who_owes_waits(self) -> None:
        """The next page comes when the last is paid for; nothing is missed, and no timer is left behind."""
        self.patch(bounds, "WEB_STREAM_PAGE", 3)
        self.patch(bounds, "WEB_STREAM_READ", limits.COST_BURST // 3)
        self.web.service.feed._recent.clear()
        reader = Reader(self.web, f"?since={KEY}:0")
        self.assertEqual(reader.read().positions(), self.all[:3])
        self.web.node.pay(OTHER)
        self.assertEqual(reader.read().positions(), self.all[:3])
        for _ in range(10):
            self.web.clock.advance(limits.COST_BURST / limits.COST_PER_SECOND)
        self.assertEqual(reader.read().positions(), list(range(1, self.web.node.position() + 1)))
        self.web.service.feed._recent.clear()
        gone = Reader(self.web, f"?since={KEY}:0").read()
        self.assertIsNotNone(next(reversed(self.web.service._api._streams))._held)
        gone.connection.lose(), reader.connection.lose()
        self.successResultOf(self.web.service.stopService())
        self.assertEqual(self.web.clock.getDelayedCalls(), [])

    def test_too_far_behind(self) -> None:
        """It is said, with where to begin, and the stream goes on from there."""
        self.web.service.feed._recent.clear()
        self.patch(limits, "REPLAY", len(self.all) - 1)
        reader = Reader(self.web, f"?since={KEY}:0").read()
        self.assertEqual([(event, data.get("reason")) for _, event, data in reader.events],
                         [("gap", "too_long")])  # fmt: skip
        self.assertEqual(reader.events[-1][2]["cursor"]["position"], self.all[-1])
        self.web.node.pay(OTHER)
        self.assertEqual(reader.read().positions()[0], self.all[-1] + 1)
        near = self.web.node.position() - limits.REPLAY
        self.assertEqual(Reader(self.web, f"?since={KEY}:{near}").read().positions()[0], near + 1)


class SlowReaders(SynchronousTestCase):
    def test_who_does_not_read_costs_nothing(self) -> None:
        """Nothing is queued for a paused stream; when it reads again it misses nothing."""
        web = Web()
        reader = Reader(web)
        reader.connection.channel.pauseProducing()
        web.node.pay(PAYMENT)
        web.node.pay(OTHER)
        self.assertEqual(reader.read().positions(), [])
        reader.connection.channel.resumeProducing()
        self.assertEqual(reader.read().positions(), list(range(1, web.node.position() + 1)))

    def test_who_never_reads_is_cut_off(self) -> None:
        """The connection ends at the deadline of a stall, and its place is free."""
        web = Web()
        reader = Reader(web)
        reader.connection.channel.pauseProducing()
        web.clock.pump([1] * int(bounds.WEB_STALL + 2))
        self.assertTrue(reader.connection.wire.aborted)
        reader.connection.lose()
        self.assertEqual(web.service._api._streams, {})
        self.assertEqual(web.service.feed._listeners, {})

    def test_as_many_as_are_served(self) -> None:
        """One more is told to come later; when one leaves there is room."""
        web = Web()
        readers = [Reader(web) for _ in range(bounds.WEB_STREAMS)]
        self.assertIn("503", Reader(web).head)
        readers[0].connection.lose()
        self.assertIn("200", Reader(web).head)
        gauge = web.service.metrics.streams._value.get()
        self.assertEqual(gauge, bounds.WEB_STREAMS)

    def test_a_filter_too_long(self) -> None:
        """The refusal names the bound."""
        web = Web()
        most = [f"outpoint={'ab' * 32}%3A{999_999_999 - at}" for at in range(bounds.WEB_STREAM_FILTER)]
        self.assertIn("200", Reader(web, f"?{'&'.join(most)}").head)
        many = "&".join(["address=" + address(BOB)] * (bounds.WEB_STREAM_FILTER + 1))
        refused = web.get(f"/v1/events?{many}")
        self.assertEqual((refused.status, refused.json["details"]["limit"]), (400, "web_stream_filter"))

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from(STEPS), max_size=30))
    def test_nothing_is_lost_or_doubled(self, steps: list[str]) -> None:
        """However commits, pauses, reconnections and a forgetful memory interleave: each transition once, in order."""
        web = Web()
        reader, told = Reader(web), list[int]()
        last = f"{KEY}:0"
        coin, owner, amount = Outpoint(GENESIS.hash, 0), ALICE, 1_000 * COIN

        def collect() -> None:
            nonlocal last
            reader.read()
            told.extend(reader.positions())
            last = reader.events[-1][0] if reader.events else last
            reader.events = []

        for step in steps:
            if step == "pay":
                amount -= FEE
                tx = build([(coin, owner)], [(amount, address(owner))])
                web.node.pay(tx)
                coin = tx.output_outpoint(0)
            elif step == "read":
                collect()
            elif step == "pause":
                reader.connection.channel.pauseProducing()
            elif step == "resume":
                reader.connection.channel.resumeProducing()
            elif step == "forget":
                web.service.feed._recent.clear()
            elif step == "hold" and web.node.held is None:
                web.node.held = []
            elif step == "let":
                web.node.let_read()
            elif step == "reconnect":
                web.node.let_read()
                collect()
                reader.connection.lose()
                reader = Reader(web, Last_Event_ID=last)
        web.node.let_read()
        reader.connection.channel.resumeProducing()
        collect()
        self.assertEqual(told, list(range(1, web.node.position() + 1)))


class Memory(SynchronousTestCase):
    def test_the_feed_is_bounded(self) -> None:
        """Entries and beginnings past their bounds are forgotten, and the weight is that of what is kept."""
        web = Web()
        feed = web.service.feed
        self.patch(bounds, "FEED_KEPT", 10)
        self.patch(bounds, "LOCKS_KEPT", 3)
        self.patch(bounds, "PROOFS_COUNTED", 2)
        coin, amount = Outpoint(GENESIS.hash, 0), 1_000 * COIN
        for _ in range(8):
            amount -= FEE
            tx = build([(coin, ALICE)], [(amount, address(ALICE))])
            web.node.pay(tx)
            coin = tx.output_outpoint(0)
        self.assertEqual(len(feed._recent), 10)
        self.assertEqual(feed._weight, sum(each.weight for each in feed._recent))
        self.assertEqual(len(feed._locked), 0)
        for number in range(5):
            feed.broadcast_state_notification([replace(web.node.log[0], txid=f"{number}" * 64)], {})
        self.assertEqual(len(feed._locked), 3)
        self.assertEqual(feed.signed()[1], 2)
        self.assertEqual(set(feed.signed()[0].values()), {2})
        self.patch(bounds, "FEED_BYTES", 3_000)
        web.node.lock(PAYMENT if coin == PAYMENT.outpoints[0] else OTHER)
        self.assertLessEqual(feed._weight, 3_000)

    def test_a_proof_is_spelled_for_those_who_are_told_it(self) -> None:
        """Once for all the coins of its payment; that there is a web port costs nothing where nobody looks."""
        spelled: list[str] = []
        real = KeptProof.spelled
        self.patch(KeptProof, "spelled", lambda proof, txid: spelled.append(txid) or real(proof, txid))
        web = Web()
        web.node.pay(PAYMENT)
        self.assertEqual((web.service.feed.signed()[1], spelled), (1, []))
        reader = Reader(web, f"?since={KEY}:0")
        proven = [event for _, event, told in reader.events if "proof" in told]
        self.assertEqual((proven, spelled), (["transition"] * 3, [PAYMENT.txid]))

    def test_each_payment_of_a_commit_has_its_own_proof(self) -> None:
        """Told in any order, and again; nothing is proven of another."""
        a, b = "aa" * 32, "bb" * 32
        proofs = Proofs({txid: keep(proof_of(txid)) for txid in (a, b)})
        for txid in (a, b, b, a, a):
            self.assertEqual(proofs.finality(txid), proof_of(txid))
        self.assertIsNone(proofs.finality("cc" * 32))

    def test_a_proof_weighs_what_it_takes(self) -> None:
        """As it is kept, spelled and in JSON, whatever its votes and their paths are: the feed is bounded by that."""
        for beside in ((), tuple(f"{number:064x}" for number in range(300))):
            proof = proof_of(PAYMENT.txid, beside=beside)
            tracemalloc.start()
            try:
                held = [(kept := keep(proof), kept.spelled(PAYMENT.txid), codec.encode(proof)) for _ in range(50)]
                size = tracemalloc.get_traced_memory()[0] / len(held)
            finally:
                tracemalloc.stop()
            self.assertLess(size, feed._proof_weight(keep(proof)))

    def test_a_broken_window_does_not_stop_the_node(self) -> None:
        """The feed stands in the way of every commit: what fails in it is logged, and goes no further."""
        web = Web()
        feed = Feed(Metrics(), web.clock.seconds)
        feed.listen(lambda: 1 // 0)  # type: ignore[arg-type]
        web.node.feed = feed
        web.node.lock(PAYMENT)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
