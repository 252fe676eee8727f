"""The bridge: nothing leaves before its commit, nobody reads between commits, and a failing stage ends it cleanly."""

from __future__ import annotations

import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from tests.alone_node import AtOnce
from tests.strategies import noun
from tests.test_consensus.test_contest import cancel_of
from tests.test_masternode.bridge import Bridge, Hold
from timeproto import limits
from timeproto.consensus.effects import Tick
from timeproto.consensus.verifier import Verifier
from timeproto.errors import ConfigurationError
from timeproto.masternode.integration import MasternodeUTXOIntegration
from timeproto.masternode.pace import LOOK, Pace
from timeproto.masternode.service import _FOR_REPLICA
from timeproto.masternode.timers import Timers
from timeproto.masternode.usage import Usage
from timeproto.model.certificate import check_proof
from timeproto.model.ledger import Transition
from timeproto.model.utxo_state import kind
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages


class Order(Bridge):
    def test_nothing_leaves_before_its_commit_returned(self) -> None:
        """No vote, no relay, no answer, no notification while the disk is busy; then all, peers first (P-02, I-3)."""
        self.storing.open = False
        ticket = self.bridge.process_transaction(self.payment())
        self.assertEqual(self.world.events, [])
        self.assertNoResult(ticket)
        self.assertIsNone(self.alone.store.transaction(self.payment().txid))
        self.storing.let_go()
        self.assertEqual(self.successResultOf(ticket), messages.TransactionAccepted(txid=self.payment().txid))
        self.assertEqual(self.world.names(), ["broadcast", "broadcast", "told"])
        self.assertIsInstance(self.world.events[0][1], messages.Transactions)
        self.assertIsInstance(self.world.events[1][1], VoteBatch)

    def test_what_comes_during_a_commit_is_the_next_batch(self) -> None:
        """A hundred payments while one commit is under way: one more commit, one vote batch, one frame (A-27)."""
        self.storing.open = False
        first = self.bridge.process_transaction(self.payment(0))
        tickets = [self.bridge.process_transaction(self.payment(number)) for number in range(1, 9)]
        self.storing.let_go()
        self.successResultOf(first)
        self.assertEqual(len(self.storing.jobs), 1)
        self.assertEqual(len(self.world.votes()), 1)
        self.storing.let_go()
        for ticket in tickets:
            self.successResultOf(ticket)
        self.assertEqual([len(batch.lock) for batch in self.world.votes()], [1, 8])
        self.assertEqual(self.bridge.counters.commits, 2)

    def test_what_is_read_together_is_one_turn(self) -> None:
        """What the reactor has read from several sockets is one step, once all are read; what comes then the next."""
        clock = Clock()
        self.build(self.alone.replica, pace=Pace(clock, lambda: None))
        payments = [self.payment(number) for number in range(3)]
        for turn in (payments[:2], payments[2:]):
            for peer, tx in enumerate(turn, 1):
                self.hear(messages.Transactions(transactions=(tx,)), peer)
            self.assertEqual(len(clock.getDelayedCalls()), 1)
            clock.advance(0)
        self.assertEqual([len(batch.lock) for batch in self.world.votes()], [2, 1])
        self.assertEqual(self.bridge.counters.steps, 2)

    def busy(self, clock: Clock) -> Pace:
        """The pace on a machine that has been full for long."""
        pace = Pace(clock, lambda: Usage(taken=1.0, own=1.0))
        for _ in range(100):
            clock.advance(LOOK)
            pace.gather(lambda: None)
        clock.advance(pace.wait)
        return pace

    def test_on_a_busy_machine_more_gathers(self) -> None:
        """What comes within the wait is one step, counted from the first."""
        clock = Clock()
        pace = self.busy(clock)
        self.build(self.alone.replica, pace=pace)
        for number in range(3):
            self.hear(messages.TransactionBroadcast(tx=self.payment(number)))
            clock.advance(pace.wait / 4)
        self.assertEqual(self.bridge.counters.steps, 0)
        clock.advance(pace.wait / 2)
        self.assertEqual((self.bridge.counters.steps, self.bridge.counters.inputs), (1, 3))

    def test_what_is_a_step_already_waits_for_nothing_more(self) -> None:
        """A busy node that has more than a step's worth works on it, and does not rest between two steps of it."""
        self.patch(limits, "STEP_INPUTS", 4)
        clock = Clock()
        pace = self.busy(clock)
        self.build(self.alone.replica, pace=pace)
        self.verifying.open, wait = False, pace.wait
        for number in range(9):
            self.hear(messages.TransactionBroadcast(tx=self.payment(number)))
        for _ in range(2):
            self.verifying.let_go()
        self.assertEqual((self.bridge.counters.steps, self.bridge.counters.inputs), (2, 8))
        self.assertEqual(self.verifying.jobs, [])  # the ninth, for which others may come
        clock.advance(wait)
        self.verifying.let_go()
        self.assertEqual(self.bridge.counters.inputs, 9)

    def test_commits_are_released_in_their_order(self) -> None:
        """Positions of what wallets are told have no gap and no step back over many commits."""
        for number in range(6):
            tx = self.payment(number)
            self.bridge.process_transaction(tx)
            for voter in (1, 2, 3):
                self.hear(self.alone.batch(voter, lock=[tx], commit=[tx]), voter)
        positions = [transition.position for transition in self.world.told()]
        self.assertEqual(positions, list(range(1, len(positions) + 1)))
        self.assertGreater(len(positions), 20)

    def test_finality_is_told_with_its_proof(self) -> None:
        """SpentFinalized and the new coins carry the proof of the change set that made them."""
        tx = self.payment()
        self.bridge.process_transaction(tx)
        for voter in (1, 2):
            self.hear(self.alone.batch(voter, lock=[tx], commit=[tx]), voter)
        proofs = {kind(step.new_state): proof for name, (step, proof) in
                  [(name, value) for name, value in self.world.events if name == "told"]}
        self.assertIsNone(proofs["Locked"])
        self.assertEqual(proofs["SpentFinalized"], proofs["Unspent"])
        check_proof(proofs["Unspent"].spelled(tx.txid), self.alone.genesis.masternode_set, self.alone.genesis.hash)
        self.assertEqual(self.bridge.counters.proven, 1)

    def test_a_step_without_changes_needs_no_commit(self) -> None:
        """A question of a peer is answered from what is committed."""
        self.hear(messages.GetFinalized(since=0))
        self.assertEqual(self.world.names(), ["send"])
        self.assertEqual(self.bridge.counters.commits, 0)

    def test_one_tick_follows_a_stall(self) -> None:
        """Thirty seconds on a slow disk are not thirty rounds of asking afterwards (P-09)."""
        taken: list[Any] = []
        step = self.bridge.replica.step
        self.patch(self.bridge.replica, "step", lambda inputs, now: (taken.extend(inputs), step(inputs, now))[1])
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        for _ in range(30):
            self.bridge.tick()
        self.storing.let_go()
        self.assertEqual(taken.count(Tick()), 1)


class Reads(Bridge):
    def test_a_query_between_two_commits_waits(self) -> None:
        """What is in memory may not be durable yet: nobody is shown it (I-17)."""
        coin = self.payment().outpoints[0]
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        answer = self.bridge.read(lambda: kind(self.bridge.replica.manager.get_state(coin)))  # type: ignore[arg-type]
        self.assertNoResult(answer)
        self.storing.let_go()
        self.assertEqual(self.successResultOf(answer), "Locked")

    def test_a_query_at_a_boundary_is_answered_at_once(self) -> None:
        """Also while signatures are being verified."""
        self.verifying.open = False
        self.bridge.process_transaction(self.payment())
        self.assertEqual(self.successResultOf(self.bridge.read(lambda: 7)), 7)

    def test_what_is_seen_is_told_after_what_was_decided(self) -> None:
        """A rival that comes in the same step as a lock: wallets hear of it last, and all of it is on disk."""
        first, second = self.payment(amount=1_000_000), self.payment(amount=2_000_000)
        self.storing.open = False
        self.bridge.process_transaction(first)
        self.bridge.process_transaction(second)
        self.assertEqual(self.world.events, [])
        while self.storing.jobs:
            self.storing.let_go()
        wallets = [(name, what) for name, what in self.world.events if name in ("told", "seen")]
        self.assertEqual([name for name, _ in wallets], ["told", "seen"])
        self.assertEqual(wallets[-1][1].txid, second.txid)

    def test_subscribe_races(self) -> None:
        """Snapshot and notifications meet without gap or overlap, at every moment of a payment (W-05)."""
        tx, seen = self.payment(), []
        coin = tx.outpoints[0]
        manager = self.bridge.replica.manager

        def subscribe() -> None:
            name = f"subscriber {len(seen)}"
            manager.add_subscription(name, [coin])
            seen.append((name, manager.get_state(coin), manager.position))

        heard: dict[str, list[Transition]] = {}

        def notify(transitions: Any, proofs: Any, blocks: Any) -> None:
            for transition, watchers in manager.notify_subscribers(transitions):
                for watcher in watchers:
                    heard.setdefault(str(watcher), []).append(transition)

        self.world.broadcast_state_notification = notify  # type: ignore[method-assign]
        self.storing.open = False
        self.bridge.read(subscribe)
        ticket = self.bridge.process_transaction(tx)
        ticket.addCallback(lambda _: self.bridge.read(subscribe))  # in the middle of a release
        for voter in (1, 2):
            self.bridge.read(subscribe)
            self.hear(self.alone.batch(voter, lock=[tx]), voter)
            self.bridge.read(subscribe)
            self.hear(self.alone.batch(voter, commit=[tx]), voter)
        while self.storing.jobs:
            self.storing.let_go()
            self.bridge.read(subscribe)
        self.assertTrue(self.alone.is_final(tx))
        self.assertGreater(len(seen), 6)
        for name, state, position in seen:
            for transition in heard.get(name, []):
                self.assertEqual((transition.old_state, transition.position > position), (state, True), name)
                state = transition.new_state
            self.assertEqual(kind(state), "SpentFinalized", name)  # type: ignore[arg-type]

    def test_a_failing_question_fails_alone(self) -> None:
        """Its asker gets the error; the one after it its answer."""
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        bad, good = self.bridge.read(lambda: 1 // 0), self.bridge.read(lambda: 8)
        self.storing.let_go()
        self.failureResultOf(bad, ZeroDivisionError)
        self.assertEqual(self.successResultOf(good), 8)

    def test_whoever_has_gone_is_not_answered(self) -> None:
        """A cancelled question is not asked, a cancelled ticket not fired."""
        self.storing.open = False
        ticket = self.bridge.process_transaction(self.payment())
        asked: list[int] = []
        answer = self.bridge.read(lambda: asked.append(1))
        answer.cancel()
        ticket.cancel()
        self.failureResultOf(answer, CancelledError)
        self.failureResultOf(ticket, CancelledError)
        self.storing.let_go()
        self.assertEqual((asked, len(self.world.votes()), self.fatal), ([], 1, []))

    def test_questions_that_wait_are_bounded(self) -> None:
        """A disk that hangs does not make a heap of questions (L-7)."""
        self.patch(limits, "INBOX", 5)
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        answers = [self.bridge.read(lambda: 1) for _ in range(6)]
        self.assertEqual(self.code(answers[5]), "busy")
        self.storing.let_go()
        self.assertEqual([self.successResultOf(each) for each in answers[:5]], [1] * 5)


class Single(Bridge):
    masternodes = 1

    def test_a_lone_masternode_tells_before_it_reads(self) -> None:
        """Accepted and final in one step: who reads on being accepted does not overtake the notifications."""
        order: list[str] = []
        ticket = self.bridge.process_transaction(self.payment())
        self.successResultOf(ticket)
        self.world.events.clear()
        self.world.broadcast_state_notification = lambda *_: order.append("told")  # type: ignore[method-assign]
        self.verifying.open = False
        second = self.bridge.process_transaction(self.payment(1))
        second.addCallback(lambda _: self.bridge.read(lambda: order.append("read")))
        self.verifying.let_go()
        self.assertEqual(order, ["told", "read"])


class AnyWords(Bridge):
    @settings(max_examples=300)
    @given(st.lists(st.tuples(st.sampled_from(sorted(_FOR_REPLICA, key=lambda each: each.__name__)).flatmap(noun),
                              st.integers(1, 3)), max_size=6))
    def test_no_message_of_a_masternode_can_stop_the_node(self, words: list[tuple[Any, int]]) -> None:
        """Whatever is well-formed and passes the verify stage leaves the replica standing (P-22, L-8)."""
        self.setUp()
        for message, peer in words:
            self.hear(message, peer)
            self.bridge.tick()
        self.assertEqual(self.fatal, [])
        self.successResultOf(self.bridge.process_transaction(self.payment()))


class OnTheSpot(Bridge):
    def test_little_is_checked_on_the_spot_and_much_elsewhere(self) -> None:
        """One payment need not wait for a thread; a page of them must not keep the reactor."""
        self.patch(limits, "STEP_INPUTS", 8)
        here, elsewhere = Hold(), Hold()
        here.open = elsewhere.open = False
        self.bridge._at_once, self.bridge._offload = here, elsewhere
        payments = tuple(self.payment(0, amount=1_000 + each) for each in range(limits.STEP_INPUTS))
        self.hear(messages.TransactionBroadcast(tx=payments[0]))
        self.assertEqual((len(here.jobs), len(elsewhere.jobs)), (1, 0))
        self.hear(messages.Transactions(transactions=payments))
        here.let_go()
        self.assertEqual((len(here.jobs), len(elsewhere.jobs)), (0, 1))
        elsewhere.let_go()
        self.assertEqual(self.alone.replica.payments.seen_count, len(payments))

    def test_many_signatures_are_much_whatever_they_weigh(self) -> None:
        """A page of cancels is one message, and those of a liar may all be one that holds (L-8)."""
        self.patch(limits, "STEP_INPUTS", 3)
        elsewhere = Hold()
        elsewhere.open = False
        self.bridge._at_once, self.bridge._offload = Hold(), elsewhere
        cancels = [cancel_of(self.alone, self.payment(0, amount=1_000 + number)) for number in range(4)]
        self.hear(messages.Votes(cancels=tuple(cancels[:3])))
        self.assertEqual(elsewhere.jobs, [])
        self.hear(messages.Votes(cancels=tuple(cancels)))
        self.assertEqual(len(elsewhere.jobs), 1)
        elsewhere.let_go()
        elsewhere.open = True
        self.hear(messages.Votes(cancels=tuple(cancels[:3])))
        self.assertEqual(self.bridge._inbox._checks, 0)

    def test_little_is_committed_on_the_spot_and_much_elsewhere(self) -> None:
        """By the number of transitions; however much waits, one step after another, and none within another."""
        self.patch(limits, "COMMIT_AT_ONCE", 2)
        here, elsewhere, deepest = Hold(), Hold(), 0
        self.build(self.alone.replica, commit_at_once=here)
        self.storing = elsewhere
        self.bridge._offload_commits, self.verifying.open = elsewhere, False
        step = self.bridge.replica.step

        def counted(*given: Any) -> Any:
            nonlocal deepest
            deepest = max(deepest, sum(frame.function == "_advance" for frame in inspect.stack(0)))
            return step(*given)

        self.patch(self.bridge.replica, "step", counted)
        self.patch(limits, "STEP_INPUTS", 1)
        for number in range(5):
            self.hear(messages.TransactionBroadcast(tx=self.payment(number)))
        elsewhere.open, self.verifying.open = False, True
        self.verifying.let_go()
        self.assertEqual((self.bridge.counters.commits, len(elsewhere.jobs), deepest), (5, 0, 1))
        large = self.alone.pay(self.alone.coins()[5:8])
        self.hear(messages.TransactionBroadcast(tx=large))
        self.assertEqual((self.bridge.counters.commits, len(elsewhere.jobs)), (6, 1))


class Wiring(Bridge):
    def test_a_missing_or_wrong_collaborator_stops_the_start(self) -> None:
        """Named in one sentence, before anything is accepted (B-12 of the original)."""

        class Deaf:
            def send(self, *_: Any) -> None: ...

        for peers, wallets, words in (
            (Deaf(), self.world, "peers cannot broadcast, send_utxo_notification_to_peer, penalize"),
            (self.world, Deaf(), "wallets cannot broadcast_state_notification"),
            (None, self.world, "peers cannot send"),
        ):
            with self.assertRaises(ConfigurationError) as caught:
                self.bridge.initialize(peers=peers, wallets=wallets)  # type: ignore[arg-type]
            self.assertIn(words, str(caught.exception))

    def test_nothing_is_accepted_before_the_ends_are_connected(self) -> None:
        """A bridge to nowhere says so instead of swallowing."""
        bridge = MasternodeUTXOIntegration(
            replica=self.alone.replica, store=self.alone.store, verifier=Verifier(self.alone.genesis),
            offload=Hold(), pace=AtOnce(), timers=Timers(Clock()), now=lambda: 1, fatal=self.fatal.append,
        )
        for call in (bridge.tick, lambda: self.fail_to_post(bridge)):
            self.assertRaises(ConfigurationError, call)

    def fail_to_post(self, bridge: MasternodeUTXOIntegration) -> None:
        bridge.handle_network_message(messages.GetFinalized(since=0), self.alone.keys[1].public_hex)

    def test_statistics_agree_with_the_replica(self) -> None:
        """What a status page shows is counted in one place."""
        self.bridge.process_transaction(self.payment())
        stats = self.bridge.get_utxo_stats()
        self.assertEqual((stats["in_flight"], stats["waiting"], stats["final"], stats["voting"]), (1, 0, 0, True))
        self.assertEqual(stats["states"]["Locked"].coins, 1)
