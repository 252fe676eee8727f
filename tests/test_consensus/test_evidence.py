"""Evidence of double votes: found in every order, checkable by anybody, never against the honest (protocol §4)."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.examples import replace
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus.evidence import check_evidence
from timeproto.errors import Refusal
from timeproto.model.ledger import Evidence
from timeproto.model.transaction import Transaction
from timeproto.wire import messages


def found(alone: Alone) -> list[Evidence]:
    return [each for each in alone.store.evidence(limits.EVIDENCE) if isinstance(each, Evidence)]


def never(tx: Transaction) -> int | None:
    """No block ended any transaction."""
    return None


def rivals(alone: Alone, coins: int = 1, number: int = 2) -> list[Transaction]:
    """Payments of the same coins, to be signed by a masternode that has two tongues."""
    return [alone.pay(alone.coins()[:coins], amount=1_000_000 + each) for each in range(number)]


class Found(SynchronousTestCase):
    def test_in_every_order_of_arrival(self) -> None:
        """All 24 orders of two transactions and their two votes by one voter, whoever brings them (B-01)."""
        for order in itertools.permutations(range(4)):
            alone = Alone(4)
            one, two = rivals(alone)
            parts = [
                messages.Transactions(transactions=(one,)),
                messages.Transactions(transactions=(two,)),
                alone.batch(3, lock=[one]),
                alone.batch(3, lock=[two]),
            ]
            for at in order:
                alone.hear(parts[at], 2)
            kept = found(alone)
            self.assertEqual([each.voter for each in kept], [alone.keys[3].public_hex], order)
            check_evidence(kept[0], alone.genesis.masternode_set, alone.genesis.hash, never)
            self.assertEqual(alone.replica.evidence_count, 1)

    def test_in_one_batch(self) -> None:
        """Both votes under one signature are two votes."""
        alone = Alone(4)
        one, two = rivals(alone)
        alone.vote(3, lock=[one, two])
        alone.show(one, two)
        self.assertEqual(len(found(alone)), 1)
        check_evidence(found(alone)[0], alone.genesis.masternode_set, alone.genesis.hash, never)

    def test_once_for_a_voter_and_a_coin(self) -> None:
        """Three rivals for one coin, every copy twice, and another voter: one piece against each."""
        alone = Alone(7)
        three = rivals(alone, number=3)
        alone.show(*three)
        for _ in range(2):
            for voter in (3, 4):
                for tx in three:
                    alone.vote(voter, lock=[tx])
        accused = sorted(each.voter for each in found(alone))
        self.assertEqual(accused, sorted(alone.keys[voter].public_hex for voter in (3, 4)))

    def test_a_thousand_shared_coins_prove_no_more_than_one(self) -> None:
        """Evidence holds two whole transactions: a double vote over many coins may not fill the disk (L-7)."""
        alone = Alone(4, coins=50)
        one, two = rivals(alone, coins=50)
        alone.show(one, two)
        effects = alone.vote(3, lock=[one, two])
        assert effects.changes is not None
        self.assertEqual(len(effects.changes.evidence), 1)

    def test_one_liar_cannot_fill_the_book(self) -> None:
        """Against each masternode a few pieces are kept, so there is always room for the next liar."""
        alone = Alone(4, coins=limits.EVIDENCE_PER_VOTER + 5)
        pairs = [[alone.pay([coin], amount=1_000_000 + each) for each in range(2)] for coin in alone.coins()]
        for one, two in pairs:
            alone.show(one, two)
            alone.vote(3, lock=[one, two])
        self.assertEqual(len(found(alone)), limits.EVIDENCE_PER_VOTER)
        alone.vote(2, lock=pairs[0])
        self.assertEqual(found(alone)[-1].voter, alone.keys[2].public_hex)

    def test_a_restart_keeps_it_and_doubles_nothing(self) -> None:
        """The same votes heard again in the next life are no news."""
        alone = Alone(4)
        one, two = rivals(alone)
        alone.show(one, two)
        alone.vote(3, lock=[one, two])
        for _ in range(2):
            alone.start()
            self.assertEqual(alone.replica.evidence_count, 1)
            alone.show(one, two)
            alone.vote(3, lock=[one])
            alone.vote(3, lock=[two])
        self.assertEqual(len(found(alone)), 1)


class Honest(SynchronousTestCase):
    def test_a_vote_sent_again_is_no_crime(self) -> None:
        """One transaction in many batches, and a commit vote for the winner after a lock for the loser (mutant 24)."""
        alone = Alone(4)
        one, two = rivals(alone)
        alone.show(one, two)
        alone.vote(3, lock=[one])
        alone.vote(3, lock=[one], commit=[one])
        alone.vote(3, lock=[one, alone.pay(alone.coins()[1:2])])
        alone.vote(3, commit=[two])
        alone.vote(2, lock=[two])
        self.assertEqual(found(alone), [])

    def test_nobody_accuses_the_honest_across_restarts(self) -> None:
        """Contests, kills and restarts of honest masternodes: no evidence anywhere (I-13)."""
        for seed in range(6):
            cluster = Cluster(4, seed, duplicate=0.3)
            cluster.settle(2)
            for coin in range(4):
                for rival in range(3):
                    cluster.submit(cluster.payment(0, coin, 1, amount=1_000_000 + rival), (seed + rival) % 4)
                for _ in range(10):
                    cluster.deliver()
                number = cluster.random.randrange(4)
                cluster.kill(number)
                cluster.restart(number)
            cluster.settle(8)
            for node in cluster.nodes:
                self.assertEqual(node.store.evidence(10), [], f"seed {seed}")


class Transferable(SynchronousTestCase):
    def test_what_does_not_prove_it_is_refused(self) -> None:
        """Changed in any part, the evidence holds no more: nobody can be framed (I-13)."""
        alone = Alone(4, coins=4)
        one, two = rivals(alone)
        alone.show(one, two)
        alone.vote(3, lock=[one, two])
        (good,) = found(alone)
        masternodes, genesis_hash = alone.genesis.masternode_set, alone.genesis.hash
        check_evidence(good, masternodes, genesis_hash, never)
        elsewhere = alone.pay(alone.coins()[2:3])
        wrong = {
            "another voter": replace(good, voter=alone.keys[2].public_hex),
            "a stranger": replace(good, voter="00" * 32),
            "another set": replace(good, set="00" * 32),
            "one vote twice": replace(good, second=good.first, second_vote=good.first_vote),
            "another coin": replace(good, outpoint=alone.coins()[3][0]),
            "votes crossed over": replace(good, first_vote=good.second_vote, second_vote=good.first_vote),
            "a transaction nobody voted for": replace(good, first=elsewhere, outpoint=elsewhere.outpoints[0]),
            "a claimed txid": replace(good, first=replace(elsewhere, txid=good.first.txid)),
            "a commit vote": replace(good, first_vote=self.commit_vote(alone, one)),
        }
        for name, evidence in wrong.items():
            with self.assertRaises(Refusal, msg=name) as caught:
                check_evidence(evidence, masternodes, genesis_hash, never)
            self.assertEqual(caught.exception.code, "bad_proof", name)
        with self.assertRaises(Refusal):
            check_evidence(good, masternodes, "00" * 32, never)

    def commit_vote(self, alone: Alone, tx: Transaction) -> object:
        return alone.proof(tx, voters=[3]).votes[0]
