"""The bridge under too much and with what fails: what is refused, what is dropped, and how it ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.examples import replace
from tests.test_masternode.bridge import Bridge
from timeproto import limits
from timeproto.errors import IdentityConflict, Refusal, StorageError
from timeproto.model.transaction import Outpoint
from timeproto.model.vote import sign_batch
from timeproto.params import COIN
from timeproto.wire import messages


class Broken(Bridge):
    def fail_the_commit(self, error: Exception) -> Deferred[Any]:
        self.storing.open = False
        ticket = self.bridge.process_transaction(self.payment())
        self.waiting = self.bridge.process_transaction(self.payment(1))
        self.asked = self.bridge.read(lambda: 1)
        self.storing.let_go(error)
        return ticket

    def test_when_the_disk_fails_nothing_leaves(self) -> None:
        """Fatal once with the storage's error; no vote, every ticket ``not_voting``, no reading of what may not be."""
        nowhere = self.alone.pay([(Outpoint("ab" * 32, 0), 10**9, self.alone.wallets[0])])
        parked = self.bridge.process_transaction(nowhere)
        self.assertNoResult(parked)
        self.world.events.clear()
        error = StorageError("no space left")
        ticket = self.fail_the_commit(error)
        self.assertEqual(self.fatal, [error])
        self.assertEqual(self.world.events, [])
        for each in (ticket, self.waiting, parked, self.bridge.process_transaction(self.payment(2))):
            self.assertEqual(self.code(each), "not_voting")
        for answer in (self.asked, self.bridge.read(lambda: 1)):
            self.assertEqual(self.code(answer), "going_away")
        self.assertIsNone(self.alone.store.transaction(self.payment().txid))
        self.bridge.tick()
        self.hear(messages.GetFinalized(since=0))
        self.hear(messages.Transactions(transactions=(self.payment(3),)))
        self.bridge.link_up(self.alone.keys[1].public_hex)
        self.assertEqual((self.world.events, self.storing.jobs, self.fatal), ([], [], [error]))

    def test_the_end_can_be_waited_for(self) -> None:
        """After a failure the bridge is idle: a service that stops does not wait for ever."""
        self.fail_the_commit(StorageError("I/O error"))
        self.successResultOf(self.bridge.when_idle())

    def test_idle_is_after_the_last_commit(self) -> None:
        """A service may close the store when told so, not before."""
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        idle = self.bridge.when_idle()
        self.assertNoResult(idle)
        self.storing.let_go()
        self.successResultOf(idle)

    def test_after_idle_nothing_is_begun(self) -> None:
        """Whoever is told so closes the store: a timer that runs out then, or a link that goes, commits nothing."""
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        idle = self.bridge.when_idle()
        self.hear(messages.TransactionBroadcast(tx=self.payment(1)))
        self.storing.let_go()
        self.assertNoResult(idle)
        self.storing.let_go()
        self.successResultOf(idle)
        self.world.events.clear()
        self.hear(messages.TransactionBroadcast(tx=self.payment(2)))
        self.bridge.link_down(self.alone.keys[1].public_hex)
        self.bridge.tick()
        self.assertEqual(self.code(self.bridge.process_transaction(self.payment(3))), "not_voting")
        self.assertEqual((self.storing.jobs, self.world.events, self.fatal), ([], [], []))

    def test_an_error_in_a_step_stops_the_node_not_its_word(self) -> None:
        """State may be half changed: nothing of it leaves, tickets are answered, fatal is told once (P-22)."""
        self.patch(self.bridge.replica, "step", lambda inputs, now: 1 // 0)
        tickets = [self.bridge.process_transaction(self.payment(number)) for number in range(2)]
        self.bridge.tick()
        self.assertEqual([self.code(ticket) for ticket in tickets], ["not_voting"] * 2)
        self.assertEqual(len(self.fatal), 1)
        self.assertIsInstance(self.fatal[0], StorageError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.code(self.bridge.read(lambda: 1)), "going_away")
        self.successResultOf(self.bridge.when_idle())

    def test_an_error_in_a_tick_is_one_in_a_step(self) -> None:
        """Time comes by another door, and ends the same way."""
        self.patch(self.bridge.replica, "step", lambda inputs, now: 1 // 0)
        self.bridge.tick()
        self.assertEqual(len(self.fatal), 1)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_a_verify_thread_that_dies_stops_the_node(self) -> None:
        """The stage itself failing (not an input in it) ends the node, and a commit under way is let through."""
        self.verifying.open = self.storing.open = False
        first = self.bridge.process_transaction(self.payment())
        self.verifying.let_go()
        second = self.bridge.process_transaction(self.payment(1))
        self.verifying.let_go(RuntimeError("no thread"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual([self.code(first), self.code(second)], ["not_voting"] * 2)
        idle = self.bridge.when_idle()
        self.assertNoResult(idle)
        self.storing.let_go()
        self.successResultOf(idle)
        self.assertEqual(len(self.fatal), 1)
        self.assertIsNotNone(self.alone.store.transaction(self.payment().txid))

    def test_a_forgotten_vote_ends_it_before_a_word_leaves(self) -> None:
        """What the same step voted is not released (O-05, P-19), nor on the disk, or the next start would serve it."""
        genesis = self.alone.genesis
        theirs = sign_batch(self.alone.keys[0], genesis.hash, genesis.masternode_set.hash, 0, lock=["ab" * 32])
        self.verifying.open = False
        self.hear(messages.GetFinalized(since=0))
        ticket = self.bridge.process_transaction(self.payment())
        self.hear(theirs, 2)
        self.verifying.let_go()
        self.world.events.clear()
        self.verifying.let_go()
        self.assertEqual(self.world.votes(), [])
        self.assertEqual(self.code(ticket), "not_voting")
        self.assertIsInstance(self.fatal[0], IdentityConflict)
        self.assertEqual(len(self.fatal), 1)
        self.assertEqual(self.code(self.bridge.read(lambda: 1)), "going_away")
        self.assertEqual(self.bridge.get_utxo_stats()["voting"], False)
        self.assertIsNone(self.alone.store.own_votes(self.payment().txid))
        self.assertEqual(list(self.alone.store.pending()), [])


class Bounds(Bridge):
    def test_a_full_inbox_says_busy_and_drops_what_is_asked_for_again(self) -> None:
        """Wallets are told; a peer's message is counted and dropped; links are never lost (L-7)."""
        self.patch(limits, "INBOX", 5)
        self.patch(limits, "INBOX_SHARE", 5 * 8)
        self.verifying.open = False
        self.hear(messages.GetFinalized(since=0))
        for _ in range(20):
            self.hear(messages.GetFinalized(since=0))
        self.assertEqual(self.bridge.counters.dropped, 15)
        tickets = [self.bridge.process_transaction(self.payment(number)) for number in range(6)]
        failure = self.failureResultOf(tickets.pop(), Refusal)
        self.assertEqual((failure.value.code, failure.value.details["limit"]), ("busy", "inbox"))
        self.bridge.link_up(self.alone.keys[2].public_hex)
        self.verifying.open = True
        self.verifying.let_go()
        asked = [message for _, message in self.world.events if isinstance(message, messages.GetFinalized)]
        self.assertEqual((self.world.names().count("send"), len(asked)), (6 + 2, 1))

    def test_a_slow_disk_fills_the_inbox_and_nothing_behind_it(self) -> None:
        """Verified inputs wait for the commit in the inbox's room, not in one of their own."""
        self.patch(limits, "INBOX", 50)
        self.patch(limits, "INBOX_SHARE", 20)
        self.patch(limits, "STEP_INPUTS", 10)
        self.storing.open = False
        self.bridge.process_transaction(self.payment())
        for _ in range(500):
            self.hear(messages.GetFinalized(since=0))
        self.assertLessEqual(len(self.bridge._ready), 20)
        self.assertLessEqual(len(self.bridge._inbox), 50)
        self.assertGreater(self.bridge.counters.dropped, 400)
        self.storing.open = True
        self.storing.let_go()
        self.successResultOf(self.bridge.when_idle())

    def test_a_step_is_bounded_by_its_work_however_long_the_disk_takes(self) -> None:
        """Large messages that are verified meanwhile do not all go into the next step; small ones do, up to so many."""
        self.patch(limits, "STEP_INPUTS", 10)
        steps: list[list[Any]] = []
        step = self.bridge.replica.step
        self.patch(self.bridge.replica, "step", lambda inputs, now: (steps.append(inputs), step(inputs, now))[1])
        large = messages.Finalized(txids=tuple(f"{number:064x}" for number in range(9 * 32)), next=0, head=0)
        for number, (message, most, longest) in enumerate(((large, 3, 2), (messages.Votes(), 20, 10))):
            self.storing.open = False
            self.bridge.process_transaction(self.payment(number))
            steps.clear()
            for peer in (1, 2, 3):
                for _ in range(10):
                    self.hear(message, peer)
            self.assertLessEqual(len(self.bridge._ready), most)
            self.storing.open = True
            self.storing.let_go()
            self.assertEqual((sum(map(len, steps)), max(map(len, steps))), (30, longest))

    def test_votes_for_what_is_final_cost_nothing_and_hold_nobody_up(self) -> None:
        """A thousand late copies are neither verified nor piled up, and a payment among them is served at once."""
        self.patch(limits, "STEP_INPUTS", 10)
        tx = self.payment()
        self.bridge.process_transaction(tx)
        for voter in (1, 2):
            self.hear(self.alone.batch(voter, lock=[tx], commit=[tx]), voter)
        self.assertTrue(self.alone.is_final(tx))
        late = self.alone.batch(3, lock=[tx], commit=[tx])
        checked: list[Any] = []
        check = self.bridge._verifier.check
        self.patch(self.bridge._verifier, "check", lambda entries: (checked.extend(entries), check(entries))[1])
        for _ in range(1_000):
            self.hear(late, 3)
        self.assertEqual(checked, [])
        self.successResultOf(self.bridge.process_transaction(self.payment(1)))

    def test_a_lock_vote_too_many_costs_nothing(self) -> None:
        """With the certificate held it is not looked at, unless the payment is contested or the key is this node's."""
        tx, contested = self.payment(0), self.payment(1)
        rival = self.alone.pay(self.alone.coins()[1:2], amount=2 * COIN)
        for each in (tx, contested, rival):
            self.bridge.process_transaction(each)
        for voter in (1, 2):
            self.hear(self.alone.batch(voter, lock=[tx, contested]), voter)
        before = self.bridge.counters.inputs
        self.hear(self.alone.batch(3, lock=[tx]), 3)
        self.assertEqual(self.bridge.counters.inputs, before)
        self.hear(self.alone.batch(3, lock=[tx, contested]), 3)
        self.hear(self.alone.batch(3, lock=[tx], commit=[tx]), 3)
        self.assertEqual(self.bridge.counters.inputs, before + 2)
        self.assertFalse(self.bridge.replica.is_settled(self.alone.batch(0, lock=[tx])))

    def test_proofs_of_what_is_final_cost_nothing(self) -> None:
        """Everybody who was asked for votes a moment too early sends one: it is left out before it is verified."""
        tx, other = self.payment(), self.payment(1)
        self.bridge.process_transaction(tx)
        for voter in (1, 2):
            self.hear(self.alone.batch(voter, lock=[tx], commit=[tx]), voter)
        self.assertTrue(self.alone.is_final(tx))
        checked: list[Any] = []
        check = self.bridge._verifier.check
        self.patch(self.bridge._verifier, "check", lambda entries: (checked.extend(entries), check(entries))[1])
        proofs = self.alone.proof(tx), self.alone.proof(other)
        for message in (messages.Votes(proofs=proofs), messages.FinalityProofs(proofs=proofs)):
            self.hear(message, 3)
        self.assertEqual([entry.message.proofs for entry, _ in checked], [proofs[1:]] * 2)

    def test_a_garbage_signature_never_passes_as_known(self) -> None:
        """Known when it came, forgotten before it is taken: the copy with another signature is refused all the same."""
        self.patch(limits, "ORPHANS_WALLET", 3)
        parent = self.payment()
        child = self.alone.pay([self.alone.change_of(parent)])
        first = self.bridge.process_transaction(child)
        self.verifying.open = False
        owner = self.alone.wallets[0]
        pushers = [self.alone.pay([(Outpoint(f"{number:064x}", 0), 10**9, owner)]) for number in range(4)]
        self.bridge.process_transaction(self.payment(2))
        for each in pushers:
            self.bridge.process_transaction(each)
        spoilt = self.bridge.process_transaction(replace(child, signature=tuple(64 * [7])))
        self.verifying.open = True
        self.verifying.let_go()
        self.assertEqual(self.code(first), "unknown_input")
        self.assertEqual(self.code(spoilt), "bad_signature")
