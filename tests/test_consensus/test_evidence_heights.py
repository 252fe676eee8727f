"""Locking a coin anew after a block freed it is honest, before that it is a lie: the heights tell which (§4, §6)."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.examples import replace
from tests.test_consensus.blocks import PRECOMMIT, PREVOTE, PROPOSAL, Chained
from timeproto import limits
from timeproto.consensus.evidence import check_evidence
from timeproto.errors import Refusal
from timeproto.model.ledger import BlockEvidence, Evidence
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch, sign_batch
from timeproto.wire import messages

LIAR = 3


def kept(world: Chained) -> list[Evidence | BlockEvidence]:
    return world.store.evidence(limits.EVIDENCE)


def rivals(world: Chained, number: int = 2) -> list[Transaction]:
    return [world.pay(world.coins()[:1], amount=1_000_000 + each) for each in range(number)]


def lock(world: Chained, height: int, *transactions: Transaction, voter: int = LIAR) -> VoteBatch:
    """A lock vote that says how many blocks its voter had then."""
    txids = [tx.txid for tx in transactions]
    return sign_batch(world.keys[voter], world.genesis.hash, world.set.hash, height, lock=txids)


class Heights(SynchronousTestCase):
    def refused(self, world: Chained, evidence: Evidence | BlockEvidence, ended: dict[str, int]) -> str:
        error = self.assertRaises(Refusal, self.check, world, evidence, ended)
        self.assertEqual(error.code, "bad_proof")
        return str(error.message)

    def check(self, world: Chained, evidence: Evidence | BlockEvidence, ended: dict[str, int]) -> None:
        check_evidence(evidence, world.set, world.genesis.hash, lambda tx: ended.get(tx.txid))

    def test_a_lock_after_the_end_of_the_first_is_honest(self) -> None:
        """Block 1 aborts or beats the first, the second is locked at height 1: in no order of arrival evidence."""
        for beaten in (False, True):
            for order in itertools.permutations(range(5)):
                world = Chained(4)
                one, two = rivals(world)
                winner = world.pay(world.coins()[:1], amount=5_000_000) if beaten else None
                if winner is None:
                    block = world.block(verdicts=[world.verdict(one, "abort", (0, 1, 2))])
                else:
                    world.show(winner)
                    block = world.block([winner])
                parts = [
                    messages.Transactions(transactions=(one,)),
                    messages.Transactions(transactions=(two,)),
                    lock(world, 0, one),
                    lock(world, 1, two),
                    messages.Blocks(blocks=(world.decided(block, (1, 2, 3)),), head=1),
                ]
                for at in order:
                    world.hear(parts[at], 2)
                self.assertEqual(world.tip, 1)
                self.assertEqual((kept(world), world.alarms()), ([], []), order)

    def test_two_locks_before_the_end_are_a_lie(self) -> None:
        """Both at a height at which no block had ended either: evidence, and it holds after the block came too."""
        for order in itertools.permutations(range(4)):
            world = Chained(4)
            one, two = rivals(world)
            parts = [
                messages.Transactions(transactions=(one,)),
                messages.Transactions(transactions=(two,)),
                lock(world, 0, one),
                lock(world, 0, two),
            ]
            for at in order:
                world.hear(parts[at], 2)
            world.decide(verdicts=[world.verdict(one, "abort", (0, 1, 2))])
            (evidence,) = kept(world)
            self.check(world, evidence, {one.txid: 1})

    def test_a_height_to_come_puts_it_off(self) -> None:
        """Who signs a height that nobody has reached is accused when the chain gets there, unless a block ended one."""
        for ended in (False, True):
            world = Chained(4)
            one, two = rivals(world)
            world.show(one, two)
            world.hear(lock(world, 0, one), LIAR)
            world.hear(lock(world, 2, two), LIAR)
            world.decide()
            self.assertEqual(kept(world), [])
            world.decide(verdicts=[world.verdict(one, "abort", (0, 1, 2))] if ended else ())
            found = kept(world)
            self.assertEqual(len(found), 0 if ended else 1)
            self.assertEqual(world.replica.evidence_count, len(found))
            for evidence in found:
                self.check(world, evidence, {})
            world.decide()
            self.assertEqual(kept(world), found)

    def test_the_check_asks_for_the_end(self) -> None:
        """Evidence that ignores a block between the two votes frames the honest: it does not hold."""
        world = Chained(4)
        one, two = rivals(world)
        world.show(one, two)
        world.hear(lock(world, 0, one), LIAR)
        world.hear(lock(world, 0, two), LIAR)
        (evidence,) = kept(world)
        assert isinstance(evidence, Evidence)
        for height, ended, holds in (
            (0, {}, True), (3, {}, True), (3, {"first": 4}, True), (3, {"first": 3}, False), (3, {"second": 1}, False),
            (0, {"first": 1}, True), (0, {"first": 0}, False),
        ):
            later = Chained(4)
            later.show(one, two)
            for _ in range(height):
                later.decide()
            later.hear(lock(later, 0, evidence.first), LIAR)
            later.hear(lock(later, height, evidence.second), LIAR)
            (found,) = kept(later)
            ends = {getattr(evidence, side).txid: at for side, at in ended.items()}
            if holds:
                self.check(later, found, ends)
            else:
                self.assertIn("had ended", self.refused(later, found, ends))

    def test_what_a_replica_says_of_endings(self) -> None:
        """A verdict's height, or that of the block with a rival; nothing for what is undecided or contained."""
        world = Chained(4)
        one, two = rivals(world)
        other, winner = world.pay(world.coins()[1:2]), world.pay(world.coins()[1:2], amount=5)
        self.assertIsNotNone(winner)
        world.show(one, two, other)
        known = world.replica._finality
        self.assertEqual([known.ended_at(tx) for tx in (one, two, other)], [None] * 3)
        world.decide()
        world.decide(verdicts=[world.verdict(one, "abort", (1, 2, 3))])
        self.assertEqual([known.ended_at(tx) for tx in (one, two, other)], [2, None, None])
        world.decide([other], [world.verdict(other, "commit", (1, 2, 3))])
        self.assertEqual([known.ended_at(tx) for tx in (one, two, other)], [2, None, None])
        self.assertEqual(known.ended_at(winner), 3)


class InTheWild(SynchronousTestCase):
    def test_the_honest_are_never_accused_over_blocks(self) -> None:
        """Contests that blocks end, freed coins spent again, restarts: no evidence against anybody, anywhere."""
        for seed in range(3):
            cluster = Cluster(4, seed, duplicate=0.2)
            cluster.settle(2)
            for attempt in range(3):
                for coin in range(3):
                    for rival in range(3):
                        amount = 1_000_000 + 10 * attempt + rival
                        cluster.submit(cluster.payment(0, coin, 1, amount=amount), (seed + rival) % 4)
                cluster.pass_time(8_000)
                number = cluster.random.randrange(4)
                cluster.kill(number)
                cluster.restart(number)
                cluster.pass_time(8_000)
            self.assertGreater(min(node.replica.height for node in cluster.nodes), 2)
            for node in cluster.nodes:
                self.assertEqual(node.store.evidence(10), [], f"seed {seed}")


class AboutBlocks(SynchronousTestCase):
    def evidence(self, world: Chained) -> BlockEvidence:
        world.begin()
        block = world.block()
        world.hear(world.word(PREVOTE, LIAR, 0, block), LIAR)
        world.hear(world.word(PREVOTE, LIAR, 0, None), LIAR)
        (found,) = kept(world)
        assert isinstance(found, BlockEvidence)
        return found

    def test_two_words_for_one_place(self) -> None:
        """Of each kind, whoever brings them, in either order; anybody can check it."""
        for kind in (PROPOSAL, PREVOTE, PRECOMMIT):
            for swap in (False, True):
                world = Chained(4)
                world.begin()
                round_ = world.round_of(LIAR)
                one, two = world.block(round_=round_, proposer=LIAR), world.block(
                    round_=round_, proposer=LIAR, timestamp=world.now + 5)
                for block in ((two, one) if swap else (one, two)):
                    if kind is PROPOSAL:
                        vote = world.word(kind, LIAR, round_, block)
                        world.hear(messages.BlockProposal(vote=vote, block=block, polka=()), 2)
                    else:
                        world.hear(world.word(kind, LIAR, round_, block), 2)
                (found,) = kept(world)
                self.assertEqual((found.voter, world.replica.evidence_count), (world.keys[LIAR].public_hex, 1))
                check_evidence(found, world.set, world.genesis.hash, lambda _: None)

    def test_the_same_word_again_is_none(self) -> None:
        """Nor are words for different places."""
        world = Chained(4)
        world.begin()
        block = world.block()
        for _ in range(3):
            for kind in (PREVOTE, PRECOMMIT):
                for round_ in (0, 1):
                    world.hear(world.word(kind, LIAR, round_, block if kind is PREVOTE else None), LIAR)
        self.assertEqual(kept(world), [])

    def test_one_liar_fills_no_disk(self) -> None:
        """A liar who does nothing else: one piece in each life of the replica, and a few in all its lives."""
        world = Chained(4)
        for life in range(limits.EVIDENCE_PER_VOTER + 3):
            world.start()
            for _ in range(2):
                for round_ in range(3):
                    for block in (None, "11" * 32, "22" * 32):
                        world.hear(world.word(PREVOTE, LIAR, round_, block), LIAR)
                world.decide()
            self.assertEqual(len(kept(world)), min(life + 1, limits.EVIDENCE_PER_VOTER))
        for block in (None, "11" * 32):
            world.hear(world.word(PREVOTE, 2, 0, block), 2)
        self.assertEqual(kept(world)[-1].voter, world.keys[2].public_hex)

    def test_what_does_not_prove_it_is_refused(self) -> None:
        """Changed in any part, it holds no more: nobody can be framed."""
        world = Chained(4)
        good = self.evidence(world)
        genesis = world.genesis.hash
        check_evidence(good, world.set, genesis, lambda _: None)
        other = world.word(PREVOTE, LIAR, 1, None)
        wrong = {
            "another voter": replace(good, voter=world.keys[2].public_hex),
            "a stranger": replace(good, voter="00" * 32),
            "one word twice": replace(good, second=good.first),
            "the same word signed again": replace(good, second=replace(good.first, signature="0" * 128)),
            "another round": replace(good, second=other),
            "another kind": replace(good, second=world.word(PRECOMMIT, LIAR, 0, None)),
            "another height": replace(good, second=world.word(PREVOTE, LIAR, 0, None, height=2)),
            "a changed word": replace(good, second=replace(good.second, block="11" * 32)),
            "another's word": replace(good, second=world.word(PREVOTE, 2, 0, None)),
            "another set": replace(good, first=replace(good.first, set="00" * 32)),
        }
        for name, evidence in wrong.items():
            with self.assertRaises(Refusal, msg=name) as caught:
                check_evidence(evidence, world.set, genesis, lambda _: None)
            self.assertEqual(caught.exception.code, "bad_proof", name)
        self.assertRaises(Refusal, check_evidence, good, world.set, "00" * 32, lambda _: None)
