"""From a transaction to its finality, in every order in which the parts can arrive (protocol §4)."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus.effects import Heard, Submit
from timeproto.model.certificate import check_proof
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT, Locked, SpentFinalized, SpentPending, kind
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages


class TwoRounds(SynchronousTestCase):
    def test_a_payment_step_by_step(self) -> None:
        """Lock on receipt, commit on the lock certificate, final on q commit votes: each state in its turn."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:2])
        coin = tx.outpoints[0]
        self.assertEqual(alone.answer(alone.submit(tx)), "accepted")
        self.assertEqual(alone.voted(tx), (True, False))
        self.assertIsInstance(alone.state(coin), Locked)
        alone.vote(1, lock=[tx])
        self.assertEqual(alone.voted(tx), (True, False))
        alone.vote(2, lock=[tx])
        self.assertEqual(alone.voted(tx), (True, True))
        self.assertIsInstance(alone.state(coin), SpentPending)
        self.assertIsNone(alone.state(tx.output_outpoint(0)))
        alone.vote(1, commit=[tx])
        self.assertFalse(alone.is_final(tx))
        alone.vote(2, commit=[tx])
        self.assertTrue(alone.is_final(tx))
        self.assertEqual({kind(alone.state(each) or UNSPENT) for each in tx.outpoints}, {"SpentFinalized"})
        self.assertEqual(alone.state(tx.output_outpoint(0)), UNSPENT)
        record = alone.store.transaction(tx.txid)
        assert record is not None and record.proof is not None
        check_proof(record.proof, alone.genesis.masternode_set, alone.genesis.hash)

    def test_each_vote_is_cast_once(self) -> None:
        """Whatever comes again, there is one lock and one commit vote for a transaction in a life."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        for _ in range(3):
            alone.submit(tx)
            alone.show(tx)
            alone.vote(1, lock=[tx], commit=[tx])
            alone.vote(2, lock=[tx])
            alone.tick()
        cast = alone.cast()
        self.assertEqual(sum(tx.txid in batch.lock for batch in cast), 1)
        self.assertEqual(sum(tx.txid in batch.commit for batch in cast), 1)

    def test_a_turn_takes_one_signature(self) -> None:
        """What comes together is voted for together: transactions of several masternodes, and both kinds of votes."""
        alone = Alone(4)
        first, *others = (alone.pay([coin]) for coin in alone.coins()[:4])
        alone.show(first)
        before = len(alone.cast())
        lock = alone.batch(2, lock=[first]), alone.batch(3, lock=[first])
        shown = [messages.Transactions(transactions=(tx,)) for tx in others]
        alone.act(*(Heard(message, alone.keys[1].public_hex) for message in (*shown, *lock)))
        (batch,) = alone.cast()[before:]
        self.assertEqual(batch.lock, tuple(sorted(tx.txid for tx in others)))
        self.assertEqual(batch.commit, (first.txid,))

    def test_when_everybody_is_needed_the_own_vote_is_too(self) -> None:
        """With n = q, or with the others one short, only this replica's vote makes it final (B-13 of the original)."""
        for n in (1, 2, 3, 4):
            alone = Alone(n)
            tx = alone.pay(alone.coins()[:1])
            others = range(1, alone.quorum)
            for voter in others:
                alone.vote(voter, lock=[tx], commit=[tx])
            self.assertFalse(alone.is_final(tx), n)
            alone.show(tx) if n > 1 else alone.submit(tx)
            self.assertTrue(alone.is_final(tx), n)
            record = alone.store.transaction(tx.txid)
            assert record is not None and record.proof is not None
            self.assertIn(alone.node.key, [vote.voter for vote in record.proof.votes])

    def test_below_quorum_nothing_is_final_however_long(self) -> None:
        """q - 1 commit votes and all the time in the world: no finality, no unlocking (B-04, A-18)."""
        alone = Alone(7)
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        for voter in range(1, 4):
            alone.vote(voter, lock=[tx], commit=[tx])
        alone.tick(int(limits.EARLY_WAIT) + 10)
        self.assertFalse(alone.is_final(tx))
        self.assertEqual(alone.state(tx.outpoints[0]), Locked(tx.txid, 1_025))
        self.assertEqual(alone.voted(tx), (True, False))

    def test_commit_votes_alone_are_enough(self) -> None:
        """q commit votes prove finality even where no lock vote ever arrived (N-11)."""
        alone = Alone(7)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        for voter in range(2, 7):
            alone.vote(voter, commit=[tx])
        self.assertTrue(alone.is_final(tx))
        self.assertEqual(alone.voted(tx), (True, False))

    def test_a_certified_rival_is_committed_and_overrules_the_own_lock(self) -> None:
        """Who locked the loser commits to the winner on its certificate, and never un-votes (N-09)."""
        alone = Alone(4)
        loser, winner = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
        alone.submit(loser)
        alone.show(winner)
        self.assertEqual((alone.voted(loser), alone.voted(winner)), ((True, False), (False, False)))
        for voter in (1, 2, 3):
            alone.vote(voter, lock=[winner])
        self.assertEqual(alone.voted(winner), (False, True))
        self.assertEqual(alone.state(loser.outpoints[0]), Locked(loser.txid, 1_013))
        for voter in (1, 2):
            alone.vote(voter, commit=[winner])
        self.assertTrue(alone.is_final(winner))
        self.assertIsInstance(alone.state(loser.outpoints[0]), SpentFinalized)
        self.assertEqual(alone.answer(alone.submit(loser)), "double_spend")


class AnyOrder(SynchronousTestCase):
    def test_every_order_of_transaction_and_votes_ends_final(self) -> None:
        """All 840 orders of {tx, 3 lock votes, 3 commit votes}, n = 4: quorum is a level, not an edge (N-10)."""
        first = Alone(4)
        tx = first.pay(first.coins()[:1])
        parts: list[tuple[object, int]] = [(messages.Transactions(transactions=(tx,)), 1)]
        parts += [(first.batch(voter, lock=[tx]), voter) for voter in (1, 2, 3)]
        parts += [(first.batch(voter, commit=[tx]), voter) for voter in (1, 2, 3)]
        for order in itertools.permutations(parts):
            if [order.index(part) for part in parts[1:4]] != sorted(order.index(part) for part in parts[1:4]):
                continue  # the same with the voters' names exchanged
            alone = Alone(4)
            for message, sender in order:
                alone.hear(message, sender)
            self.assertTrue(alone.is_final(tx), order)
            self.assertEqual(len(alone.replica.payments), 0)

    @settings(max_examples=60)
    @given(st.permutations(range(10)), st.lists(st.integers(0, 9), max_size=15), st.integers(1, 10))
    def test_families_in_any_order_with_any_repeats(self, order: list[int], again: list[int], size: int) -> None:
        """Parent, child, grandchild and their votes, shuffled, repeated, in steps of any size (N-12, B-21)."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        grandchild = alone.pay([alone.change_of(child), alone.coins()[1]])
        family = [parent, child, grandchild]
        parts: list[tuple[object, int]] = [(messages.Transactions(transactions=(tx,)), 1) for tx in family]
        parts += [(alone.batch(voter, lock=family), voter) for voter in (1, 2, 3)]
        parts += [(alone.batch(voter, commit=family[::-1]), voter) for voter in (1, 2, 3)]
        parts += [(alone.batch(1, lock=[child]), 2)]
        arrivals = [parts[at] for at in [*order, *again]]
        for at in range(0, len(arrivals), size):
            chunk = arrivals[at : at + size]
            alone.act(*(Heard(message, alone.keys[sender].public_hex) for message, sender in chunk))  # type: ignore[arg-type]
        self.assertTrue(all(alone.is_final(tx) for tx in family))
        cast = alone.cast()
        for tx in family:
            self.assertLessEqual(sum(tx.txid in batch.lock for batch in cast), 1)
        log = alone.store.transitions(0, 1_000)
        self.assertEqual([entry.position for entry in log], list(range(1, len(log) + 1)))
        self.assertEqual(len({(entry.outpoint, kind(entry.new_state)) for entry in log}), len(log))

    def test_a_proof_before_its_transaction_waits_for_it(self) -> None:
        """A proof is kept, the transaction fetched from who sent it, and then it is final at once (N-11)."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        effects = alone.hear(messages.FinalityProofs(proofs=(alone.proof(tx),)), 2)
        self.assertEqual(effects.send, [(alone.keys[2].public_hex, messages.GetTransactions(txids=(tx.txid,)))])
        self.assertFalse(alone.is_final(tx))
        alone.show(tx, peer=3)
        self.assertTrue(alone.is_final(tx))

    def test_votes_of_a_proof_are_asked_for_once(self) -> None:
        """Ten mentions of one unknown transaction make one request; time repeats it, not the mentions."""
        alone = Alone(7)
        tx = alone.pay(alone.coins()[:1])
        asked = [message for voter in range(1, 7) for _, message in alone.vote(voter, lock=[tx]).send
                 if isinstance(message, messages.GetTransactions)]
        self.assertEqual(asked, [messages.GetTransactions(txids=(tx.txid,))])


class Families(SynchronousTestCase):
    def chain(self, alone: Alone, depth: int) -> list[Transaction]:
        links = [alone.pay(alone.coins()[:1], amount=1_000)]
        while len(links) < depth:
            links.append(alone.pay([alone.change_of(links[-1])], amount=1_000))
        return links

    def test_twenty_dependent_payments_without_a_block(self) -> None:
        """Each spends the change of the one before, sent before that is final (A-5, H-26)."""
        alone = Alone(1)
        links = self.chain(alone, 20)
        tickets = [alone.submit(tx) for tx in links]
        self.assertTrue(all(alone.is_final(tx) for tx in links))
        self.assertEqual([alone.answer(ticket) for ticket in tickets], ["accepted"] * 20)

    def test_children_first_all_the_way(self) -> None:
        """The chain arrives backwards: everything waits, and the root's finality releases it link by link."""
        alone = Alone(4)
        links = self.chain(alone, 20)
        alone.show(*reversed(links))
        self.assertEqual(alone.replica.payments.waiting, 19)
        alone.finish(*links)
        self.assertTrue(all(alone.is_final(tx) for tx in links))
        self.assertEqual(alone.store.finalized(0, 100), [tx.txid for tx in links])

    def test_a_deep_chain_needs_no_stack(self) -> None:
        """Three thousand waiting links become final in one step, without recursion (H-26)."""
        self.patch(limits, "ORPHANS_WALLET", 3_000)
        alone = Alone(1)
        links = self.chain(alone, 3_000)
        alone.act(*(Submit(tx, number) for number, tx in enumerate(links)))
        self.assertTrue(alone.is_final(links[-1]))

    def test_a_chain_as_long_as_may_wait(self) -> None:
        """The longest chain that one masternode's orphans may make, shown backwards, is final when its votes are in."""
        self.patch(limits, "ORPHANS_PEER", 300)
        alone = Alone(4)
        links = self.chain(alone, limits.ORPHANS_PEER + 1)
        alone.show(*reversed(links))
        alone.finish(*links)
        self.assertTrue(all(alone.is_final(tx) for tx in links))

    def test_deeper_than_may_wait_is_refused_not_lost(self) -> None:
        """A wallet that sends more dependent payments at once than may wait is told which parent is missing (H-26)."""
        self.patch(limits, "ORPHANS_WALLET", 10)
        alone = Alone(1)
        links = self.chain(alone, 15)
        alone.act(*(Submit(tx, tx.txid) for tx in links))
        alone.tick(int(limits.ORPHAN_WAIT_WALLET / limits.TICK) + 1)
        told = [alone.answer(tx.txid) for tx in links]  # type: ignore[arg-type]
        self.assertEqual(told[0], "accepted")
        self.assertEqual(set(told), {"accepted", "unknown_input"})
        again = [alone.submit(tx) for tx in links]
        self.assertEqual([alone.answer(ticket) for ticket in again], ["accepted"] * 15)

    def test_a_child_of_many_parents_is_judged_once_they_are_all_final(self) -> None:
        """Each parent's finality costs the waiting child one look, not a new judgement of all its inputs (L-10)."""
        alone = Alone(4, coins=40)
        parents = [alone.pay([coin]) for coin in alone.coins()]
        child = alone.pay([alone.change_of(parent) for parent in parents])
        alone.show(child)
        finality = alone.replica._finality
        judged: list[str] = []
        admit = finality.admit
        self.patch(finality, "admit", lambda payment: (judged.append(payment.txid), admit(payment))[1])
        alone.show(*parents)
        alone.finish(*parents)
        self.assertEqual(judged.count(child.txid), 1)
        self.assertTrue(alone.voted(child)[0])

    def test_a_wallets_orphan_is_refused_in_time(self) -> None:
        """A parent that never comes: the wallet is told ``unknown_input``, and nothing was locked."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent), alone.coins()[1]])
        ticket = alone.submit(child)
        self.assertIsNone(alone.answer(ticket))
        alone.tick(int(limits.ORPHAN_WAIT_WALLET / limits.TICK) + 1)
        self.assertEqual(alone.answer(ticket), "unknown_input")
        self.assertEqual(len(alone.replica.payments), 0)
        self.assertEqual(alone.state(alone.coins()[1][0]), UNSPENT)

    def test_a_parent_that_comes_in_time_saves_its_child(self) -> None:
        """The wallet's ticket is answered when the parent is final and the coins are locked."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        ticket = alone.submit(alone.pay([alone.change_of(parent)]))
        alone.submit(parent)
        alone.finish(parent)
        self.assertEqual(alone.answer(ticket), "accepted")

    def test_an_output_that_its_final_parent_does_not_have(self) -> None:
        """Once the parent is final a wrong index can never come true: refused for good."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        (_, amount, owner) = alone.change_of(parent)
        ticket = alone.submit(alone.pay([(parent.output_outpoint(7), amount, owner)]))
        alone.submit(parent)
        alone.finish(parent)
        self.assertEqual(alone.answer(ticket), "unknown_input")


class Rivals(SynchronousTestCase):
    def test_the_loser_is_told_who_won(self) -> None:
        """A wallet that spends a coin twice at one node: the second is refused, naming the first (H-24)."""
        alone = Alone(4)
        first, second = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
        alone.submit(first)
        ticket = alone.submit(second)
        self.assertEqual(alone.answer(ticket), "double_spend")
        self.assertEqual(alone.node.replies[ticket].details["conflicting_txid"], first.txid)
        self.assertEqual(alone.voted(second), (False, False))

    def test_a_partly_beaten_payment_counts_the_same_however_it_came(self) -> None:
        """Two replicas that know the same rivals have one digest, though one met the loser late and from a wallet."""
        early, late = Alone(4), Alone(4)
        winner = early.pay(early.coins()[:1])
        loser = early.pay(early.coins()[:2], amount=2_000_000)
        early.submit(loser)
        for alone in (early, late):
            alone.show(winner)
            alone.finish(winner)
        self.assertEqual(late.answer(late.submit(loser)), "double_spend")
        late.show(loser)
        self.assertEqual(early.replica.state_digest(), late.replica.state_digest())

    def test_a_wholly_beaten_payment_is_forgotten_also_by_the_next_life(self) -> None:
        """The loser's lock vote stays on record; the loser itself takes no room again after a restart (A-2, L-7)."""
        alone = Alone(4)
        loser, winner = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
        alone.submit(loser)
        echo = alone.cast()[0]
        alone.show(winner)
        alone.finish(winner)
        self.assertEqual(len(alone.replica.payments), 0)
        alone.start()
        self.assertEqual(len(alone.replica.payments), 0)
        self.assertEqual(alone.answer(alone.submit(loser)), "double_spend")
        effects = alone.hear(echo, 2)
        self.assertIsNone(effects.identity_conflict)

    def test_an_own_vote_is_recognised_after_its_payment_was_forgotten(self) -> None:
        """The list of refused payments is bounded; what this replica signed is not forgotten with it (O-05)."""
        self.patch(limits, "REFUSED_CACHE", 1)
        alone = Alone(4, coins=8)
        pairs = [tuple(alone.pay([coin], amount=amount) for amount in (1_000_000, 2_000_000))
                 for coin in alone.coins()[:3]]
        for loser, _ in pairs:
            alone.submit(loser)
        echoes = alone.cast()
        for _, winner in pairs:
            alone.show(winner)
            alone.finish(winner)
        alone.vote(3, lock=[pairs[0][0]])  # somebody speaks of a forgotten loser again
        for echo in echoes:
            self.assertIsNone(alone.hear(echo, 2).identity_conflict)
        self.assertIsNone(alone.replica.not_voting)

    def test_only_who_voted_for_an_invalid_transaction_is_blamed(self) -> None:
        """Passing on a transaction whose parents one has not seen is honest; voting for it is not (B-11, B-39)."""
        alone = Alone(4)
        parent = alone.pay(alone.coins()[:1])
        (outpoint, amount, owner) = alone.change_of(parent)
        inflated = alone.pay([(outpoint, amount + 1, owner)])
        alone.hear(alone.batch(3, lock=[inflated]), 1)  # handed on by an honest one, as the transaction is
        alone.show(inflated, peer=1)
        alone.show(parent, peer=2)
        blamed = []
        for voter in (1, 2, 3):
            blamed += [key for key, _ in alone.vote(voter, lock=[parent], commit=[parent]).blame]
        self.assertTrue(alone.is_final(parent))
        self.assertEqual(blamed, [alone.keys[3].public_hex])

    def test_a_broken_assumption_stops_the_votes_and_nothing_else(self) -> None:
        """A quorum for the impossible: alarm, no vote any more, but the step's other inputs are served (B-02, B-11)."""
        alone = Alone(4)
        impossible = alone.pay([(alone.coins()[0][0], alone.coins()[0][1] + 1, alone.wallets[0])])
        good, late = alone.pay(alone.coins()[1:2]), alone.pay(alone.coins()[2:3])
        for voter in (1, 2, 3):
            alone.vote(voter, lock=[impossible])
        shown = Heard(messages.Transactions(transactions=(impossible,)), alone.keys[1].public_hex)
        effects = alone.act(Submit(good, "before"), shown, Submit(late, "after"))
        self.assertIn("not valid", effects.alarm or "")
        self.assertIsNotNone(alone.replica.not_voting)
        self.assertEqual((alone.answer("before"), alone.answer("after")), ("accepted", "not_voting"))  # type: ignore[arg-type]
        record = alone.store.transaction(good.txid)
        self.assertIsNotNone(record)
        alone.act(Submit(late, "later"))
        self.assertEqual(sum(isinstance(each, VoteBatch) for _, each in alone.node.effects[-1].send), 0)
        for voter in (1, 2, 3):
            alone.vote(voter, lock=[good], commit=[good])
        self.assertTrue(alone.is_final(good))
