"""What the next block may hold, and what it must be: made again by other code, and spoilt in one place at a time."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.test_consensus.blocks import Chained, replace
from timeproto import limits
from timeproto.consensus.answers import block_size, room_for_verdicts, verdict_size
from timeproto.consensus.chain import Chain, Missing, in_order
from timeproto.consensus.rounds import Judgement
from timeproto.model.block import Block, coin_member, make_coinbase
from timeproto.model.muhash import MuHash
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteKind
from timeproto.params import COIN
from timeproto.wire import codec

GOOD, EARLY, BAD = Judgement.GOOD, Judgement.EARLY, Judgement.BAD


def chain_of(alone: Chained) -> Chain:
    return alone.replica._agreement.chain


def final(alone: Chained, *transactions: Transaction) -> None:
    """Shown and voted for: final here, and in no block."""
    alone.show(*transactions)
    alone.finish(*transactions)
    assert all(alone.is_final(tx) for tx in transactions)


def ordered(*transactions: Transaction) -> list[Transaction]:
    """Parents first, and else by txid."""
    by_txid = {tx.txid: tx for tx in transactions}
    order = in_order({tx.txid: [outpoint.txid for outpoint in tx.outpoints] for tx in transactions})
    return [by_txid[txid] for txid in order]


class Building(SynchronousTestCase):
    def test_the_same_knowledge_gives_the_same_bytes(self) -> None:
        """Two replicas that learned the same in other orders build one block; and it is the one the test makes."""
        blocks = []
        for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
            alone = Chained(4)
            parent = alone.pay(alone.coins()[:1])
            family = [parent, alone.pay([alone.change_of(parent)]), *(alone.pay([coin]) for coin in alone.coins()[1:3])]
            for at in order:
                alone.show(family[at])
            for at in order:
                alone.finish(family[at])
            alone.finish(*family)
            block = chain_of(alone).build(0, 5_000, ())
            self.assertEqual(block, alone.block(ordered(*family), proposer=0, timestamp=5_000))
            self.assertEqual(chain_of(alone).judge(block, 5_000), GOOD)
            blocks.append(codec.encode(alone.proposal(block, voter=0)))
        self.assertEqual(*blocks)

    def test_parents_first_and_then_the_lowest(self) -> None:
        """The one order there is, whatever the order of the question."""
        parents = {"d": ["a"], "b": [], "a": ["z"], "e": ["d", "b"], "c": ["e"]}
        self.assertEqual(in_order(parents), ["a", "b", "d", "e", "c"])
        self.assertEqual(in_order(dict(reversed(parents.items()))), ["a", "b", "d", "e", "c"])

    @given(st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=30), st.integers(0, 30))
    def test_a_beginning_of_the_order_is_in_order(self, needed: list[list[int]], size: int) -> None:
        """So a block that is cut at its bound can be checked without what was cut off."""
        parents = {f"{at * 7 % 31:02}": [f"{each * 7 % 31:02}" for each in each_of if each < at]
                   for at, each_of in enumerate(needed)}
        first = in_order(parents)[:size]
        self.assertEqual(in_order({txid: parents[txid] for txid in first}), first)

    def test_time_goes_on_even_if_the_clock_does_not(self) -> None:
        """A proposer whose clock is behind the parent's time takes the least time there is."""
        alone = Chained(4)
        self.assertEqual(chain_of(alone).build(0, 9_000, ()).header.timestamp, 9_000)
        self.assertEqual(chain_of(alone).build(0, -5, ()).header.timestamp, chain_of(alone).tip.timestamp + 1)

    def test_too_many_go_into_the_next_one(self) -> None:
        """As many as a block holds, parents first; the rest is not lost."""
        self.patch(limits, "BLOCK_TRANSACTIONS", 3)
        alone = Chained(4, coins=4)
        first = [alone.pay([coin]) for coin in alone.coins()]
        first.append(alone.pay([alone.change_of(first[0])]))
        for tx in first:
            final(alone, tx)
        block = chain_of(alone).build(0, 5_000, ())
        self.assertEqual(block.transactions, tuple(tx.txid for tx in ordered(*first[:3])))
        self.assertEqual(chain_of(alone).judge(block, 5_000), GOOD)
        alone.decide(ordered(*first[:3]))
        self.assertEqual(
            chain_of(alone).build(0, 9_000, ()).transactions, tuple(tx.txid for tx in ordered(*first[3:]))
        )

    def test_nobody_is_held_back_by_its_txid(self) -> None:
        """First what a verdict commits, with its parents, then who has been final for longest, whatever txids come."""
        self.patch(limits, "BLOCK_TRANSACTIONS", 3)
        alone = Chained(4, coins=9)
        payments = sorted((alone.pay([coin]) for coin in alone.coins()), key=lambda tx: tx.txid, reverse=True)
        for tx in payments[1:7]:
            final(alone, tx)
        block = chain_of(alone).build(0, 5_000, ())
        self.assertEqual(block.transactions, tuple(tx.txid for tx in ordered(*payments[1:4])))
        child = alone.pay([alone.change_of(payments[6])])
        alone.show(child, payments[0])
        verdicts = [alone.verdict(tx, "commit") for tx in (child, payments[0])]
        block = chain_of(alone).build(0, 5_000, verdicts)
        self.assertEqual(block.transactions, tuple(tx.txid for tx in ordered(child, payments[0], payments[6])))
        self.assertEqual(sorted(block.committed), sorted((child.txid, payments[0].txid)))
        self.assertEqual(chain_of(alone).judge(block, 5_000), GOOD)
        self.patch(limits, "BLOCK_TRANSACTIONS", 1)
        block = chain_of(alone).build(0, 5_000, verdicts[:1])  # it and its parent are more than a block holds
        self.assertEqual((block.transactions, block.verdicts), ((payments[1].txid,), ()))

    def test_verdicts_take_no_more_room_than_there_is(self) -> None:
        """By number and by bytes; a commit verdict whose transaction is cut off waits with it."""
        alone = Chained(4, coins=6)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        alone.show(*payments)
        verdicts = [alone.verdict(tx, "abort") for tx in payments]
        self.assertEqual(len(chain_of(alone).build(0, 5_000, verdicts).verdicts), 6)
        self.patch(limits, "BLOCK_VERDICTS", 4)
        self.assertEqual(len(chain_of(alone).build(0, 5_000, verdicts).verdicts), 4)
        self.patch(limits, "BLOCK_BYTES", 68 * limits.BLOCK_TRANSACTIONS + 2 * verdict_size(verdicts[0]) + 10)
        block = chain_of(alone).build(0, 5_000, verdicts)
        self.assertEqual([verdict.txid for verdict in block.verdicts], sorted(tx.txid for tx in payments[:2]))
        self.patch(limits, "BLOCK_TRANSACTIONS", 1)
        self.patch(limits, "BLOCK_BYTES", 10**6)
        commits = [alone.verdict(tx, "commit") for tx in payments]
        block = chain_of(alone).build(0, 5_000, commits)
        lowest = min(tx.txid for tx in payments[:4])
        self.assertEqual((block.transactions, [verdict.txid for verdict in block.verdicts]), ((lowest,), [lowest]))

    def test_sizes_are_no_less_than_the_json(self) -> None:
        """What a proposer counts is at least what goes over the wire, for long paths too."""
        alone = Chained(4)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        verdict = alone.verdict(payments[0], "abort")
        votes = tuple(replace(vote, height=2**64 - 1, index=2**32 - 1, size=2**32 - 1, path=("ab" * 32,) * 14)
                      for vote in verdict.votes)
        long = replace(verdict, votes=votes)
        for verdicts in ((verdict,), (long,), (verdict, long) * 20):
            block = alone.block(payments[1:], verdicts)
            bare = len(codec.encode(alone.proposal(replace(block, verdicts=()))))
            whole = len(codec.encode(alone.proposal(block)))
            self.assertLessEqual(whole - bare, sum(map(verdict_size, verdicts)))
            self.assertLessEqual(len(codec.encode(alone.decided(block))) + 100, block_size(alone.decided(block)))
        self.assertGreater(room_for_verdicts(), verdict_size(long))


class Judging(SynchronousTestCase):
    def judge(self, alone: Chained, block: Block, now: int | None = None) -> Judgement | Missing:
        return chain_of(alone).judge(block, alone.now if now is None else now)

    def test_every_field_of_the_header_counts(self) -> None:
        """One thing changed and nothing else made right: bad; but for the time and the round, which are free."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        final(alone, tx)
        good = alone.block([tx])
        self.assertEqual(self.judge(alone, good), GOOD)
        tip = chain_of(alone).tip
        wrong: dict[str, list[Any]] = {
            "height": [0, 2, 2**64 - 1],
            "parent": ["00" * 32, self.hash_of(alone, good)],
            "timestamp": [tip.timestamp, tip.timestamp - 1, -(2**63)],
            "proposer": [alone.keys[(alone.proposer() + 1) % 4].public_hex],
            "root": ["00" * 32],
            "set": ["00" * 32],
            "commitment": ["00" * 32, chain_of(alone).commitment],
        }
        for field, values in wrong.items():
            for value in values:
                block = replace(good, header=replace(good.header, **{field: value}))
                self.assertEqual(self.judge(alone, block), BAD, (field, value))
        for field, value in (("timestamp", tip.timestamp + 1), ("round", 7)):
            block = replace(good, header=replace(good.header, **{field: value}))
            self.assertEqual(self.judge(alone, block), GOOD, field)

    def hash_of(self, alone: Chained, block: Block) -> str:
        return alone.hash(block)

    def test_each_fault_of_the_contents_is_bad(self) -> None:
        """Right figures, wrong contents: order, repetition, parents, double spends, verdicts, fees, payee."""
        alone = Chained(4, coins=8)
        old = alone.pay(alone.coins()[7:])
        final(alone, old)
        last = alone.decide([old])
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        other = alone.pay(alone.coins()[1:2])
        final(alone, parent, other)
        final(alone, child)
        contested = [alone.pay(alone.coins()[2:3], amount=amount) for amount in (1_000_000, 2_000_000)]
        spoilt = alone.pay([alone.coins()[0], alone.coins()[4]], amount=3_000_000)
        alone.show(*contested, spoilt)
        one, two = (alone.verdict(tx, "commit") for tx in contested)
        aborts = sorted((alone.verdict(tx, "abort") for tx in contested), key=lambda verdict: verdict.txid)
        good = ordered(parent, child, other)
        self.assertEqual(self.judge(alone, alone.block(good)), GOOD)
        self.assertEqual(self.judge(alone, alone.block(ordered(*good, contested[0]), [one])), GOOD)
        self.assertEqual(self.judge(alone, alone.block(good, aborts)), GOOD)
        exchange = {parent.txid: child, child.txid: parent}
        swapped = [exchange.get(tx.txid, tx) for tx in good]
        lower = sorted([parent, other], key=lambda tx: tx.txid)
        bad = {
            "a child first": alone.block(swapped),
            "not the lowest first": alone.block(lower[::-1]),
            "twice": alone.block([*good, good[-1]]),
            "a parent left out": alone.block(ordered(child, other)),
            "in the chain already": alone.block(ordered(*good, old)),
            "the coinbase before": alone.block([*good, last.coinbase]),
            "committed but not there": alone.block(good, [one]),
            "aborted and there": alone.block(ordered(*good, contested[0]), [alone.verdict(contested[0], "abort")]),
            "both rivals": alone.block(ordered(*good, *contested), sorted([one, two], key=lambda each: each.txid)),
            "spends what is spent": alone.block(ordered(*good, spoilt), [alone.verdict(spoilt, "commit")]),
            "aborts what is final": alone.block(good, [alone.verdict(parent, "abort")]),
            "verdicts out of order": alone.block(good, aborts[::-1]),
            "a verdict twice": alone.block(good, [aborts[0], aborts[0]]),
        }
        for name, block in bad.items():
            self.assertEqual(self.judge(alone, block), BAD, name)
        for name, coinbase in self.wrong_coinbases(alone, alone.block(good).coinbase.outputs[0].amount).items():
            self.assertEqual(self.judge(alone, self.with_coinbase(alone, good, coinbase)), BAD, name)

    def wrong_coinbases(self, alone: Chained, amount: int) -> dict[str, Transaction]:
        params, owner, height = alone.genesis.params, alone.keys[alone.proposer()].public_hex, alone.height
        return {
            "a unit more": make_coinbase(height, amount + 1, owner, params),
            "a unit less": make_coinbase(height, amount - 1, owner, params),
            "another payee": make_coinbase(height, amount, alone.keys[(alone.proposer() + 1) % 4].public_hex, params),
            "another height": make_coinbase(height + 1, amount, owner, params),
        }

    def with_coinbase(self, alone: Chained, transactions: list[Transaction], coinbase: Transaction) -> Block:
        """A block whose root and commitment are right for that coinbase."""
        block = replace(alone.block(transactions), coinbase=coinbase)
        coins = alone.coins_after([coinbase, *transactions])
        commitment = MuHash().replace(added=(coin_member(*coin) for coin in coins.items())).digest
        return replace(block, header=replace(block.header, root=block.tree.root.hex(), commitment=commitment))

    def test_what_was_ended_gets_no_second_verdict(self) -> None:
        """Aborted once: neither committed nor aborted again; nor is a rival of what the chain contains."""
        alone = Chained(4)
        aborted, loser = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2], amount=2_000_000)
        winner = alone.pay(alone.coins()[1:2])
        alone.show(aborted, loser, winner)
        final(alone, winner)
        alone.decide([winner], [alone.verdict(aborted, "abort")])
        self.assertEqual(alone.tip, 1)
        for verdict in ("abort", "commit"):
            for tx in (aborted, loser):
                contents = [tx] if verdict == "commit" else []
                block = alone.block(contents, [alone.verdict(tx, verdict)])
                self.assertNotEqual(self.judge(alone, block), GOOD, verdict)

    def test_what_is_not_here_is_missing_not_bad(self) -> None:
        """Unknown, here but not final, or committed with a parent that is not: asked for, and judged again."""
        alone = Chained(4)
        parent = alone.pay(alone.coins()[:1])
        child = alone.pay([alone.change_of(parent)])
        unknown = alone.block([parent])
        self.assertEqual(self.judge(alone, unknown), Missing((parent.txid,)))
        alone.show(parent, child)
        self.assertEqual(self.judge(alone, unknown), Missing((parent.txid,), are_here=True))
        committed = alone.block([parent, child], sorted([alone.verdict(parent, "commit"),
                                alone.verdict(child, "commit")], key=lambda verdict: verdict.txid))
        self.assertEqual(self.judge(alone, committed), Missing((parent.txid,), are_here=True))
        alone.finish(parent)
        self.assertEqual(self.judge(alone, unknown), GOOD)
        self.assertEqual(self.judge(alone, alone.block([parent, child], [alone.verdict(child, "commit")])), GOOD)

    def test_ten_seconds_ahead_and_no_more(self) -> None:
        """Later than that is early, not bad; the least time that the parent allows is never early."""
        alone = Chained(4)
        block = alone.block(timestamp=50_000)
        self.assertEqual(self.judge(alone, block, 40_000), GOOD)
        self.assertEqual(self.judge(alone, block, 39_999), EARLY)
        alone.decide(timestamp=10**12)
        self.assertEqual(self.judge(alone, alone.block(timestamp=10**12 + 1), 0), GOOD)
        self.assertEqual(self.judge(alone, alone.block(timestamp=10**12 + 2), 0), EARLY)

    def test_judging_changes_nothing(self) -> None:
        """Good and bad blocks leave the commitment, the tip and what is built next as they were."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        final(alone, tx)
        chain = chain_of(alone)
        before = (chain.tip, chain.commitment, chain.build(0, 5_000, ()))
        for block in (alone.block([tx]), alone.block([tx], commitment="00" * 32), alone.block()):
            self.judge(alone, block)
        self.assertEqual((chain.tip, chain.commitment, chain.build(0, 5_000, ())), before)


class TheSubsidy(SynchronousTestCase):
    def minted(self, block: Block, fees: int = 0) -> int:
        """What its coinbase pays beyond the fees."""
        return sum(output.amount for output in block.coinbase.outputs) - fees

    def decide(self, alone: Chained, time: int, *transactions: Transaction) -> int:
        """What the next block mints, by the test's reckoning; and the replica takes it, and counts as the test does."""
        block = alone.decide(transactions, timestamp=time)
        tip = chain_of(alone).tip
        self.assertEqual((tip.hash, tip.minted, tip.due), (alone.hash(block), alone.minted, alone.due))
        return self.minted(block, sum(tx.fee for tx in transactions))

    def test_one_for_each_interval(self) -> None:
        """However soon one block follows the other, with fees or without, after a new life; what is overdue, once."""
        alone = Chained(4)
        self.assertEqual(alone.genesis.block_interval, 5)
        payments = {6_500: alone.pay(alone.coins()[:1]), 15_000: alone.pay(alone.coins()[1:2])}
        minted = []
        times = 5_000, 6_500, 8_000, 9_999, 10_300, 11_000, 15_000, 40_000, 40_001, 44_999, 45_000, 45_001
        for time in times:
            alone.start()
            transactions = [payments[time]] if time in payments else []
            if transactions:
                final(alone, *transactions)
            if not time % 500:  # else the proposer would say that the subsidy is due
                block = chain_of(alone).build(0, time, ())
                self.assertEqual(block, alone.block(transactions, proposer=0, timestamp=time))
            if self.decide(alone, time, *transactions):
                minted.append(time)
        self.assertEqual(minted, [5_000, 10_300, 15_000, 40_000, 40_001, 45_000])

    @settings(max_examples=25)
    @given(st.lists(st.integers(1, 12_000), min_size=1, max_size=25))
    def test_none_is_lost_and_none_is_made_up(self, gaps: list[int]) -> None:
        """As many as intervals have passed at most; and if no interval passed without a block, all of them."""
        alone = Chained(4)
        interval = alone.genesis.block_interval * 1000
        minted = []
        for gap in gaps:
            minted.append(self.decide(alone, alone.time + gap) // COIN)
            self.assertLessEqual(sum(minted), sum(gaps[: len(minted)]) // interval)
        if max(gaps) <= interval:
            self.assertEqual(sum(minted), sum(gaps) // interval)

    def test_they_are_halved_by_their_number(self) -> None:
        """And not by the height: blocks that come early bring no halving nearer."""
        alone = Chained(4)
        self.patch(type(alone.genesis.params), "subsidy", lambda params, number: 1_000 >> (number - 1) // 2)
        paid = [self.decide(alone, time) for time in range(2_500, 30_001, 2_500)]
        self.assertEqual(paid, [0, 1_000, 0, 1_000, 0, 500, 0, 500, 0, 250, 0, 250])

    def test_a_clock_a_little_behind_costs_nothing(self) -> None:
        """Less than a second before a subsidy is due the block says that it is, if its parent's time allows it."""
        alone = Chained(4)
        self.decide(alone, 5_000)
        for now, said in ((8_999, 8_999), (9_000, 10_000), (9_999, 10_000), (10_000, 10_000), (10_700, 10_700)):
            block = chain_of(alone).build(0, now, ())
            self.assertEqual((block.header.timestamp, self.minted(block) > 0), (said, said >= 10_000))
        self.decide(alone, 9_990)
        for now, said in ((8_999, 9_991), (9_000, 10_000)):  # by the clocks of the others it may be seconds ahead
            self.assertEqual(chain_of(alone).build(0, now, ()).header.timestamp, said)
        self.decide(alone, 10_000)
        self.assertEqual(chain_of(alone).build(0, 9_500, ()).header.timestamp, 10_001)

    def test_neither_too_soon_nor_left_out(self) -> None:
        """A coinbase that takes the subsidy an instant before it is due is bad, and so is one that does not take it."""
        alone = Chained(4)
        self.decide(alone, 5_000)
        self.decide(alone, 9_000)
        for time, is_due in ((9_999, False), (10_000, True)):
            good = alone.block(timestamp=time)
            self.assertEqual((self.minted(good) > 0, chain_of(alone).judge(good, time)), (is_due, GOOD))
            alone.due, due = (time + 1 if is_due else time), alone.due
            bad = alone.block(timestamp=time)
            alone.due = due
            self.assertEqual((self.minted(bad) > 0, chain_of(alone).judge(bad, time)), (not is_due, BAD))


class TheCommitment(SynchronousTestCase):
    @settings(max_examples=15)
    @given(st.integers(0, 2**32))
    def test_it_is_that_of_the_coins_from_scratch(self, seed: int) -> None:
        """Chains of payments, verdicts, restarts: the running commitment is always one made anew from all coins."""
        chance = random.Random(seed)
        alone = Chained(4, coins=3)
        purse = alone.coins() + alone.coins(1)
        for _ in range(5):
            made: list[Transaction] = []
            for _ in range(chance.randint(0, 4)):
                coin = purse.pop(chance.randrange(len(purse)))
                tx = alone.pay([coin], to=chance.randrange(2), amount=1_000_000)
                final(alone, tx)
                made.append(tx)
                purse.append((tx.output_outpoint(1), tx.outputs[1].amount, coin[2]))
            verdicts = []
            if chance.random() < 0.5:
                dead = alone.pay([chance.choice(purse)], amount=2_000_000)
                alone.show(dead)
                verdicts = [alone.verdict(dead, "abort")]
            alone.decide(ordered(*made), verdicts, round_=chance.randrange(3))
            if chance.random() < 0.3:
                alone.start()
            scratch = MuHash().replace(added=(coin_member(*coin) for coin in alone.unspent.items()))
            self.assertEqual(alone.replica.commitment, scratch.digest)
            self.assertEqual((alone.replica.tip.height, alone.replica.tip.hash), (alone.height - 1, alone.parent))
        self.assertEqual(alone.alarms(), [])

    def test_what_is_ready_changes_nothing(self) -> None:
        """A block's commitment is the same with the products of all its payments at hand, of one, of none."""
        for at_hand in (limits.RECORDS_AT_HAND, 1, 0):
            self.patch(limits, "RECORDS_AT_HAND", at_hand)
            alone = Chained(4)
            parent, other = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
            family = [parent, other, alone.pay([alone.change_of(parent)])]
            final(alone, *family)
            chain = chain_of(alone)
            self.assertEqual(len(chain._moved), min(at_hand, 3))
            block, spoilt = alone.block(ordered(*family)), alone.block(ordered(*family), commitment="00" * 32)
            self.assertEqual((chain.judge(block, 5_000), chain.judge(spoilt, 5_000)), (GOOD, BAD))
            alone.decide(ordered(*family))
            self.assertEqual((alone.replica.commitment, len(chain._moved)), (block.header.commitment, 0))

    def test_nobody_votes_without_a_reason(self) -> None:
        """The certificates made here are the protocol's: lock votes commit, abort votes abort."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        for kind, vote in (("commit", VoteKind.LOCK), ("abort", VoteKind.ABORT)):
            verdict = alone.verdict(tx, kind)
            self.assertEqual(verdict.votes, alone.certificate(tx, vote))
            verdict.check(alone.set, alone.genesis.hash)
