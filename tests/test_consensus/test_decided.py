"""What a decided block does to transactions and coins, and that it does all of it or nothing (protocol §3, §5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_consensus.blocks import Chained
from tests.test_consensus.test_chain import final, ordered
from timeproto import limits
from timeproto.consensus.effects import Timer
from timeproto.model.block import Verdict
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT, Confirmed, Locked, SpentFinalized, SpentPending, kind
from timeproto.params import COIN
from timeproto.wire import messages

Case = Callable[[Chained], tuple[Sequence[Transaction], Sequence[Verdict], dict[str, Any]]]
"""Sets the scene, and tells the contents of a block that cannot be."""


def kinds(alone: Chained, tx: Transaction) -> list[str]:
    """The states of a transaction's inputs, as committed."""
    return [kind(alone.state(outpoint) or UNSPENT) for outpoint in tx.outpoints]


def status(alone: Chained, tx: Transaction) -> str | None:
    record = alone.store.transaction(tx.txid)
    return None if record is None else record.status


class Verdicts(SynchronousTestCase):
    def test_a_final_payment_that_comes_again_opens_nothing(self) -> None:
        """In a block or in none, in this life or the next: it is known by its coins, and its record is not read."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        alone.finish(tx)
        for happens in (lambda: None, alone.start, lambda: alone.decide([tx]), alone.start):
            happens()
            reading = self.patch(alone.store, "transaction", self.fail)
            ticket = alone.submit(tx)
            effects = alone.show(tx)
            self.assertEqual((alone.answer(ticket), effects.changes, effects.send), ("accepted", None, []))
            self.assertEqual(len(alone.replica.payments), 0)
            reading.restore()

    def test_an_abort_frees_every_coin_and_is_for_ever(self) -> None:
        """Both inputs are Unspent again; the dead transaction is refused, gets no vote, and its votes are nothing."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:2])
        alone.submit(tx)
        self.assertEqual(kinds(alone, tx), ["Locked", "Locked"])
        alone.decide(verdicts=[alone.verdict(tx, "abort")])
        for _ in range(2):
            self.assertEqual((kinds(alone, tx), status(alone, tx)), (["Unspent", "Unspent"], "aborted"))
            ending = alone.store.ending(tx.txid)
            assert ending is not None
            self.assertEqual((ending.height, ending.by), (1, None))
            count = len(alone.cast())
            self.assertEqual(alone.answer(alone.submit(tx)), "aborted")
            alone.show(tx)
            alone.vote(1, lock=[tx])
            alone.vote(2, lock=[tx])
            alone.tick(5)
            self.assertEqual((len(alone.cast()), kinds(alone, tx)), (count, ["Unspent", "Unspent"]))
            self.assertEqual(alone.replica.contested, 0)
            alone.start()  # and so in the next life
        self.assertEqual(alone.alarms(), [])

    def test_what_was_forgotten_and_spoken_of_again_is_ended_all_the_same(self) -> None:
        """A rival is final before the block that aborts this one comes: only votes for it are left in memory."""
        self.patch(limits, "REFUSED_CACHE", 1)
        alone = Chained(4)
        tx, rival, *others = (alone.pay(alone.coins()[:1], amount=(1 + number) * COIN) for number in range(4))
        alone.submit(tx)
        alone.show(rival)
        alone.finish(rival)  # tx is beaten
        for other in others:
            alone.show(other)  # and so are these, and what was refused before is forgotten
        alone.vote(1, lock=[tx])
        self.assertIsNone(alone.replica.payments.get(tx.txid).tx)
        alone.decide(verdicts=[alone.verdict(tx, "abort")])
        ending = alone.store.ending(tx.txid)
        assert ending is not None
        self.assertEqual((status(alone, tx), ending.height, list(alone.store.pending())), ("aborted", 1, []))

    def test_who_waits_is_told_of_the_abort(self) -> None:
        """A wallet whose answer was due hears ``aborted`` with the block's height."""
        alone = Chained(4)
        parent = alone.pay(alone.coins()[:1])
        alone.show(parent)
        tx = alone.pay([alone.change_of(parent), *alone.coins()[1:2]])
        ticket = alone.submit(tx)
        alone.decide(verdicts=[alone.verdict(tx, "abort")])
        self.assertEqual(alone.answer(ticket), "aborted")
        self.assertEqual(alone.node.replies[ticket].details["height"], 1)

    def test_a_commit_makes_final_without_a_proof(self) -> None:
        """Locked here or by a rival, the verdict decides: spent, in the block, outputs there, known as final."""
        alone = Chained(4)
        mine, theirs = alone.pay(alone.coins()[:2]), alone.pay(alone.coins()[2:3])
        rival = alone.pay(alone.coins()[2:3], amount=2_000_000)
        alone.submit(mine)
        alone.submit(rival)
        alone.show(theirs)
        block = alone.decide(ordered(mine, theirs), sorted(
            (alone.verdict(tx, "commit") for tx in (mine, theirs)), key=lambda verdict: verdict.txid))
        for tx in (mine, theirs):
            record = alone.store.transaction(tx.txid)
            assert record is not None
            self.assertEqual((record.status, record.proof, record.height), ("final", None, 1))
            for outpoint in tx.outpoints:
                self.assertEqual(alone.state(outpoint), Confirmed(tx.txid, 1, block.header.timestamp))
            self.assertEqual(alone.state(tx.output_outpoint(0)), UNSPENT)
            self.assertEqual(alone.answer(alone.submit(tx)), "accepted")
        self.assertEqual(set(alone.store.finalized(0, 9)), {mine.txid, theirs.txid})
        self.assertEqual((status(alone, rival), alone.store.ending(rival.txid).by),  # type: ignore[union-attr]
                         ("aborted", theirs.txid))
        self.assertEqual(alone.replica.unconfirmed, 0)


class Rivals(SynchronousTestCase):
    def test_only_the_block_with_the_winner_frees_the_losers_other_coins(self) -> None:
        """The loser holds two coins; the winner, final, takes one. The other stays locked until the block (§3)."""
        alone = Chained(4)
        loser = alone.pay(alone.coins()[:2])
        winner = alone.pay(alone.coins()[:1], amount=2_000_000)
        alone.submit(loser)
        final(alone, winner)
        self.assertEqual(kinds(alone, loser), ["SpentFinalized", "Locked"])
        alone.tick(10)
        self.assertEqual(kinds(alone, loser), ["SpentFinalized", "Locked"])
        alone.start()
        self.assertEqual(kinds(alone, loser), ["SpentFinalized", "Locked"])
        alone.decide([winner])
        self.assertEqual(kinds(alone, loser), ["Confirmed", "Unspent"])
        self.assertEqual(alone.store.ending(loser.txid).by, winner.txid)  # type: ignore[union-attr]
        self.assertEqual(status(alone, loser), "aborted")

    def test_a_late_rival_of_a_final_one_is_ended_with_it(self) -> None:
        """It met the winner only after that was final, and holds another coin: the block ends it all the same."""
        alone = Chained(4)
        winner = alone.pay(alone.coins()[:1])
        final(alone, winner)
        late = alone.pay(alone.coins()[:2], amount=2_000_000)
        alone.show(late)
        self.assertEqual(len(alone.replica.payments), 1)
        alone.decide([winner])
        self.assertEqual((len(alone.replica.payments), alone.replica.contested), (0, 0))
        self.assertEqual(alone.answer(alone.submit(late)), "double_spend")

    def test_what_nobody_here_voted_for_leaves_no_trace(self) -> None:
        """Rivals are free to make: none is written down for having been beaten."""
        alone = Chained(4)
        winner = alone.pay(alone.coins()[:1])
        final(alone, winner)
        losers = [alone.pay(alone.coins()[:2], amount=amount) for amount in range(2_000_000, 2_000_005)]
        alone.show(*losers)
        alone.decide([winner])
        for loser in losers:
            self.assertEqual((alone.store.transaction(loser.txid), alone.store.ending(loser.txid)), (None, None))

    def test_a_freed_coin_goes_to_who_waits_for_it_at_the_new_height(self) -> None:
        """The rival that was refused gets its lock vote in the step of the block, signed with that block's height."""
        alone = Chained(4)
        dead, rival = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[:1], amount=2_000_000)
        alone.submit(dead)
        self.assertEqual(alone.answer(alone.submit(rival)), "double_spend")
        alone.decide(verdicts=[alone.verdict(dead, "abort")])
        self.assertEqual(alone.state(dead.outpoints[0]), Locked(rival.txid, alone.now))
        cast = [(batch.height, batch.lock) for batch in alone.cast()]
        self.assertEqual(cast, [(0, (dead.txid,)), (1, (rival.txid,))])
        self.assertEqual(alone.answer(alone.submit(rival)), "accepted")

    def test_who_is_bound_by_a_commit_vote_waits_for_the_block(self) -> None:
        """Committed to T, shown R's proof: R is not final here until a block ends T, by its verdict or with R in it."""
        for how in ("abort", "contains"):
            alone = Chained(4)
            bound, winner = alone.pay(alone.coins()[:2]), alone.pay(alone.coins()[:1], amount=2_000_000)
            alone.submit(bound)
            alone.vote(1, lock=[bound])
            alone.vote(2, lock=[bound])
            self.assertEqual(kinds(alone, bound), ["SpentPending", "SpentPending"])
            alone.hear(messages.Transactions(transactions=(winner,), proofs=(alone.proof(winner, [1, 2, 3]),)))
            alone.tick(5)
            self.assertFalse(alone.is_final(winner))
            self.assertIsInstance(alone.state(bound.outpoints[0]), SpentPending)
            if how == "abort":
                alone.decide(verdicts=[alone.verdict(bound, "abort")])
            else:
                alone.decide([winner])
            self.assertTrue(alone.is_final(winner))
            state = alone.state(winner.outpoints[0])
            self.assertIsInstance(state, SpentFinalized if how == "abort" else Confirmed)
            self.assertEqual(alone.state(bound.outpoints[1]), UNSPENT)
            record = alone.store.transaction(winner.txid)
            self.assertIsNotNone(record and record.proof)
            self.assertEqual((status(alone, bound), alone.alarms()), ("aborted", []))


class Coinbases(SynchronousTestCase):
    def test_a_block_mints_fees_and_subsidy_and_the_coin_is_spent(self) -> None:
        """To its proposer; the coin exists with the block, not before, and no value comes from elsewhere."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        final(alone, tx)
        owner = alone.keys[alone.proposer()]
        interval = alone.genesis.block_interval * 1000
        block = alone.block([tx], timestamp=alone.time + interval)
        coin = block.coinbase.output_outpoint(0)
        child = alone.pay([(coin, block.coinbase.outputs[0].amount, owner)], amount=1_000_000)
        ticket = alone.submit(child)
        self.assertEqual((alone.answer(ticket), alone.state(coin)), (None, None))
        alone.decide([tx], timestamp=alone.time + interval)
        self.assertEqual(block.coinbase.outputs[0].amount, alone.genesis.params.subsidy(1) + tx.fee)
        self.assertEqual(alone.answer(ticket), "accepted")
        alone.finish(child)
        self.assertTrue(alone.is_final(child))
        alone.decide([child], timestamp=alone.time + interval)
        left = sum(tally.amount for name, tally in alone.replica.manager.tallies.items()
                   if name in ("Unspent", "Locked", "SpentPending"))
        self.assertEqual(left, alone.genesis.supply + alone.genesis.params.subsidy(1) + alone.genesis.params.subsidy(2))
        self.assertEqual(left, sum(output.amount for output in alone.unspent.values()))

    def test_an_early_block_mints_its_fees_alone(self) -> None:
        """Before a subsidy is due, by a millisecond: none, or filling blocks would mint."""
        for missing, subsidy in ((0, COIN), (1, 0)):
            alone = Chained(4)
            tx = alone.pay(alone.coins()[:1])
            final(alone, tx)
            at = alone.time + alone.genesis.block_interval * 1000 - missing
            block = alone.decide([tx], timestamp=at)
            self.assertEqual((alone.tip, alone.alarms()), (1, []))
            self.assertEqual(block.coinbase.outputs[0].amount, tx.fee + subsidy)
            left = sum(tally.amount for name, tally in alone.replica.manager.tallies.items()
                       if name in ("Unspent", "Locked", "SpentPending"))
            self.assertEqual(left, alone.genesis.supply + subsidy)

    def test_a_coinbase_is_no_payment_to_be_fetched(self) -> None:
        """It comes with its block and not by itself; it is in the list of finals of nobody."""
        alone = Chained(4)
        block = alone.decide()
        effects = alone.hear(messages.GetTransactions(txids=(block.coinbase.txid,)))
        self.assertEqual(effects.send[-1][1], messages.Transactions())
        self.assertEqual(alone.store.finalized(0, 9), [])


class Families(SynchronousTestCase):
    def test_children_of_the_dead_are_hopeless(self) -> None:
        """Whoever waited for an output of an aborted transaction is told, forgotten, and refused at once next time."""
        alone = Chained(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent), *alone.coins()[1:2]])
        alone.submit(parent)
        ticket = alone.submit(child)
        self.assertIsNone(alone.answer(ticket))
        alone.decide(verdicts=[alone.verdict(parent, "abort")])
        self.assertEqual(alone.answer(ticket), "unknown_input")
        self.assertEqual(len(alone.replica.payments), 0)
        self.assertEqual(alone.answer(alone.submit(child)), "unknown_input")
        self.assertEqual(alone.state(alone.coins()[1][0]), UNSPENT)

    def test_a_family_decided_in_one_block(self) -> None:
        """A parent by its verdict, its child by the next block's; and who waited for it is judged at once."""
        alone = Chained(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        alone.show(parent, child)
        alone.decide([parent], [alone.verdict(parent, "commit")])
        self.assertTrue(alone.voted(child)[0])
        alone.decide([child], [alone.verdict(child, "commit")])
        self.assertTrue(alone.is_final(child))

    def test_who_missed_the_votes_takes_final_children_from_blocks(self) -> None:
        """Parent and child, final elsewhere and shown without proofs, in one block: parents first, all in one step."""
        alone = Chained(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        alone.show(child, parent)
        alone.decide([parent, child])
        self.assertTrue(alone.is_final(parent) and alone.is_final(child))
        self.assertEqual((alone.tip, alone.alarms()), (1, []))
        self.assertEqual(alone.replica.unconfirmed, 0)


class Impossible(SynchronousTestCase):
    """A quorum decided what at most f liars cannot: then nothing of it is done, and nothing is voted for any more."""

    def assert_nothing_done(self, alone: Chained, name: str, *decided: Any) -> None:
        store: Any = alone.store
        before = (dict(store._coins), dict(store._transactions), dict(store._endings), store.tip(), store.summary())
        alone.hear(messages.Blocks(blocks=tuple(decided), head=9))
        self.assertEqual(len(alone.alarms()), 1, name)
        after = (store._coins, store._transactions, store._endings, store.tip(), store.summary())
        self.assertEqual(after, before, name)
        self.assertIn("assumption is broken", alone.replica.not_voting or "", name)
        late = alone.pay(alone.coins(1)[:1])
        self.assertEqual(alone.answer(alone.submit(late)), "not_voting", name)

    def test_each_of_them(self) -> None:
        """Final aborted, spent twice, twice in the block, aborted and contained, no parent, wrong figures."""

        def shown(alone: Chained, *spent: int, amount: int = 1_000_000) -> Transaction:
            tx = alone.pay([alone.coins()[at] for at in spent], amount=amount)
            alone.show(tx)
            return tx

        def aborts_a_final(alone: Chained) -> Any:
            tx = shown(alone, 0)
            alone.finish(tx)
            return [], [alone.verdict(tx, "abort")], {}

        def spends_a_spent(alone: Chained) -> Any:
            alone.finish(shown(alone, 0))
            return [shown(alone, 0, 1, amount=2_000_000)], [], {}

        def repeats(alone: Chained) -> Any:
            tx = shown(alone, 0)
            alone.finish(tx)
            alone.decide([tx])
            return [tx], [], {}

        def twice_within(alone: Chained) -> Any:
            return ordered(shown(alone, 0), shown(alone, 0, 1, amount=2_000_000)), [], {}

        def one_twice(alone: Chained) -> Any:
            tx = shown(alone, 0)
            return [tx, tx], [], {}

        def both_verdicts(alone: Chained) -> Any:
            tx = shown(alone, 0)
            return [tx], [alone.verdict(tx, "abort")], {}

        def wrong_commitment(alone: Chained) -> Any:
            return [shown(alone, 0)], [], {"commitment": "00" * 32}

        def an_orphan(alone: Chained) -> Any:
            parent = alone.pay(alone.coins()[:1])
            child = alone.pay([alone.change_of(parent)])
            alone.show(child)
            return [child], [], {}

        cases: list[Case] = [aborts_a_final, spends_a_spent, repeats, twice_within, one_twice, both_verdicts,
                             wrong_commitment, an_orphan]
        for case in cases:
            alone = Chained(4)
            transactions, verdicts, header = case(alone)
            block = alone.block(transactions, verdicts, **header)
            self.assert_nothing_done(alone, case.__name__, alone.decided(block))

    def test_the_payments_go_on_after_it(self) -> None:
        """A node that votes no more still counts, becomes final and answers."""
        alone = Chained(4)
        alone.hear(messages.Blocks(blocks=(alone.decided(alone.block(commitment="00" * 32)),), head=1))
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        alone.finish(tx)
        self.assertTrue(alone.is_final(tx))
        self.assertEqual(alone.cast(), [])


class InParts(SynchronousTestCase):
    """What a block contains is marked Confirmed in parts: here one transaction at a time."""

    def setUp(self) -> None:
        self.patch(limits, "CONFIRMED_AT_ONCE", 1)
        self.patch(limits, "CONFIRM_PARTS", 10)
        self.alone = Chained(4)

    def paid(self, count: int) -> list[Transaction]:
        """Final payments of one coin each, in the order of a block."""
        paid = [self.alone.pay([coin]) for coin in self.alone.coins()[:count]]
        final(self.alone, *paid)
        return ordered(*paid)

    def marked(self, paid: Sequence[Transaction]) -> list[int | None]:
        """The height on record of each; its coins say the same."""
        heights = []
        for tx in paid:
            record = self.alone.store.transaction(tx.txid)
            assert record is not None
            heights.append(record.height)
            self.assertEqual(kinds(self.alone, tx), ["SpentFinalized" if record.height is None else "Confirmed"])
        return heights

    def test_one_part_in_a_step_until_all_is_marked(self) -> None:
        """Each part asks for the next; nothing of it waits for a block; feeds are complete up to the height before."""
        alone = self.alone
        paid = self.paid(3)
        alone.decide(paid)
        for count in (1, 2, 3):
            self.assertEqual(self.marked(paid), [1] * count + [None] * (3 - count))
            self.assertEqual((alone.replica.height, alone.replica.unconfirmed), (1, 0))
            self.assertEqual(alone.replica.confirmed_height, int(count == 3))
            asked = [wake for _, wake in alone.node.effects[-1].timers if wake.what is Timer.CONFIRM]
            self.assertEqual(len(asked), int(count < 3))
            alone.wake(Timer.CONFIRM)
        self.assertEqual(self.marked(paid), [1, 1, 1])

    def test_it_goes_on_in_the_order_of_the_chain(self) -> None:
        """The next block adds to what is left of the one before, over restarts too."""
        alone, first = self.alone, self.paid(3)
        alone.decide(first)
        later = [alone.pay([alone.change_of(tx)]) for tx in first]
        final(alone, *later)
        later = ordered(*later)
        alone.decide(later)
        self.assertEqual((self.marked(first), self.marked(later)), ([1, 1, None], [None] * 3))
        alone.start()
        alone.tick()
        for marked, height in (([1, 1, 1], 1), ([1, 1, 1, 2], 1), ([1, 1, 1, 2, 2], 1), ([1, 1, 1, 2, 2, 2], 2)):
            alone.wake(Timer.CONFIRM)
            self.assertEqual(self.marked([*first, *later])[: len(marked)], marked)
            self.assertEqual(alone.replica.confirmed_height, height)

    def test_some_blocks_behind_at_most(self) -> None:
        """Whatever became of the timers: what is left of an older block is marked with the next."""
        self.patch(limits, "CONFIRM_BLOCKS", 2)
        first = self.paid(4)
        self.alone.decide(first)
        self.alone.decide()
        self.assertEqual(self.marked(first), [1, 1, None, None])
        self.alone.decide()
        self.assertEqual(self.marked(first), [1] * 4)
        self.assertEqual(self.alone.replica.confirmed_height, 3)

    def test_a_restart_goes_on_where_it_was(self) -> None:
        """At its first tick it asks for the next part; the contained are in no other block, and known as final."""
        alone = self.alone
        paid = self.paid(3)
        alone.decide(paid)
        alone.start()
        self.assertEqual((self.marked(paid), alone.replica.unconfirmed), ([1, None, None], 0))
        self.assertEqual([alone.answer(alone.submit(tx)) for tx in paid], ["accepted"] * 3)
        alone.tick()
        self.assertIn(Timer.CONFIRM, [wake.what for _, wake in alone.node.effects[-1].timers])
        for _ in range(2):
            alone.wake(Timer.CONFIRM)
        self.assertEqual(self.marked(paid), [1, 1, 1])

    def test_a_rival_that_comes_meanwhile_is_as_hopeless_as_later(self) -> None:
        """Its coin is given by a decided block, marked or not: it is not kept, since no block will end it any more."""
        alone = self.alone
        paid = self.paid(2)
        free, spent = alone.coins()[2], {coin[0]: coin for coin in alone.coins()[:2]}
        alone.decide(paid)
        for tx in paid:
            rival = alone.pay([spent[tx.outpoints[0]], free], amount=2 * COIN)
            self.assertEqual(alone.answer(alone.submit(rival)), "double_spend")
            self.assertEqual((len(alone.replica.payments), alone.replica.contested), (0, 0))
            self.assertEqual(alone.replica._finality.ended_at(rival), 1)
        self.assertEqual(self.marked(paid), [1, None])

    def test_what_the_block_itself_makes_final_is_marked_at_once(self) -> None:
        """It has no proof but the block: a record that names neither would prove nothing to anybody."""
        alone = self.alone
        paid = self.paid(2)
        mine = alone.pay(alone.coins()[2:3])
        alone.submit(mine)
        alone.decide(ordered(*paid, mine), [alone.verdict(mine, "commit")])
        self.assertEqual(self.marked([mine]), [1])
        self.assertEqual(self.marked(paid), [1, None])

    def test_two_that_differ_in_nothing_else_have_one_digest(self) -> None:
        """How far one has come with marking is no difference in what it knows."""
        paid = self.paid(3)
        before = self.alone.replica.state_digest()
        self.assertEqual(self.marked(paid), [None] * 3)
        self.alone.decide(paid)
        digests = {self.alone.replica.state_digest()}
        for _ in range(2):
            self.alone.wake(Timer.CONFIRM)
            digests.add(self.alone.replica.state_digest())
        self.assertEqual(len(digests), 1)
        self.assertNotEqual(digests, {before})  # the coinbase is new
