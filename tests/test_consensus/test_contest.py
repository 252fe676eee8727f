"""Contested transactions: who contests, who says abort and when, what a block can say of it (protocol §5)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.test_consensus.alone import Alone
from tests.test_consensus.blocks import Chained
from timeproto import limits
from timeproto.consensus.effects import Cancel
from timeproto.consensus.payments import CONTEST_TICKS
from timeproto.model.block import Verdict
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import TransactionRecord
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT, Locked
from timeproto.model.vote import VoteKind, sign_batch
from timeproto.wire import messages


def rivals(alone: Alone, number: int = 2) -> list[Transaction]:
    return [alone.pay(alone.coins()[:1], amount=1_000_000 + each) for each in range(number)]


def aborted(alone: Alone) -> list[str]:
    """Every txid that the replica abort-voted in this life, in order."""
    return [txid for batch in alone.cast() for txid in batch.abort]


def abort_votes(alone: Alone, voter: int, *transactions: Transaction) -> None:
    txids = [tx.txid for tx in transactions]
    genesis = alone.genesis
    alone.hear(sign_batch(alone.keys[voter], genesis.hash, genesis.masternode_set.hash, 0, abort=txids), voter)


def cancel_of(alone: Any, tx: Transaction, owner: SigningKey | None = None) -> messages.TransactionCancel:
    key = owner or alone.wallets[0]
    unsigned = messages.TransactionCancel(txid=tx.txid, key=key.public_hex, signature="0" * 128)
    signature = key.sign(unsigned.message(alone.genesis.hash)).hex()
    return messages.TransactionCancel(txid=tx.txid, key=key.public_hex, signature=signature)


def ask(alone: Alone, cancel: messages.TransactionCancel) -> str:
    """What a wallet that cancels is told."""
    alone.act(Cancel(cancel, "cancel"))
    answer = alone.node.replies["cancel"]
    return "accepted" if isinstance(answer, messages.CancelAccepted) else str(answer.code)


def verdicts(alone: Alone) -> list[Verdict]:
    return list(alone.replica._contest.verdicts())


class Aborting(SynchronousTestCase):
    def test_after_the_delay_and_never_before(self) -> None:
        """A rival was seen: both are aborted, once each, when ``CONTEST_DELAY`` has passed for certain."""
        self.assertGreaterEqual((CONTEST_TICKS - 1) * limits.TICK, limits.CONTEST_DELAY)
        alone = Alone(4)
        one, two = rivals(alone)
        alone.submit(one)
        alone.show(two)
        for _ in range(CONTEST_TICKS - 1):
            alone.tick()
            self.assertEqual(aborted(alone), [])
        alone.tick()
        self.assertEqual(aborted(alone), sorted([one.txid, two.txid]))
        alone.tick(20)
        self.assertEqual(len(aborted(alone)), 2)
        self.assertIsInstance(alone.state(one.outpoints[0]), Locked)  # no vote frees anything

    def test_the_uncontested_are_never_aborted(self) -> None:
        """However long they lack voters."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        alone.tick(100)
        self.assertEqual((aborted(alone), alone.replica.contested), ([], 0))

    def test_who_may_have_made_it_final_says_no_abort(self) -> None:
        """A lock certificate is held, or the commit vote is cast, or a proof is here: no abort, in no life."""
        for held in ("certificate", "commit", "proof"):
            alone = Alone(4)
            one, two = rivals(alone)
            alone.submit(one)
            if held == "commit":
                for voter in (1, 2):
                    alone.vote(voter, lock=[one])
                self.assertTrue(alone.voted(one)[1])
            alone.show(two)
            if held == "certificate":
                for voter in (1, 2, 3):
                    alone.vote(voter, lock=[two])
                one, two = two, one
            elif held == "proof":
                for voter in (1, 2):
                    alone.vote(voter, lock=[one])
                alone.hear(messages.FinalityProofs(proofs=(alone.proof(two, [1, 2, 3]),)))
            alone.tick(CONTEST_TICKS + 1)
            self.assertNotIn(one.txid, aborted(alone), held)
            self.assertEqual(two.txid in aborted(alone), held != "proof")
            alone.start()
            alone.tick(CONTEST_TICKS + 1)
            self.assertNotIn(one.txid, aborted(alone), held)

    def test_an_abort_vote_is_a_promise(self) -> None:
        """Never a commit vote after it, with all the lock votes there are, and in the next life neither."""
        alone = Alone(4)
        one, two = rivals(alone)
        alone.submit(one)
        alone.show(two)
        alone.tick(CONTEST_TICKS)
        for _ in range(2):
            for voter in (1, 2, 3):
                alone.vote(voter, lock=[one])
            self.assertFalse(alone.voted(one)[1])
            alone.start()
        for voter in (1, 2, 3):
            alone.vote(voter, commit=[one])
        self.assertTrue(alone.is_final(one))  # what a quorum commits is final all the same

    def test_f_plus_one_abort_votes_contest(self) -> None:
        """An honest one among them knows of the contest and has waited; f may all be liars. In any order of arrival."""
        for late in (False, True):
            alone = Alone(7)
            tx = alone.pay(alone.coins()[:1])
            if not late:
                alone.submit(tx)
            for voter in (1, 2):
                abort_votes(alone, voter, tx)
            alone.tick(CONTEST_TICKS)
            self.assertEqual(aborted(alone), [])
            abort_votes(alone, 3, tx)
            if late:
                alone.show(tx)
            alone.tick()
            self.assertEqual(aborted(alone), [tx.txid])

    def test_who_may_not_vote_does_not_abort(self) -> None:
        """It waits for its mandate, and then the delay is over already."""
        alone = Alone(4, voting=False)
        alone.show(*rivals(alone))
        alone.tick(10)
        self.assertEqual(aborted(alone), [])
        for peer in (1, 2):
            alone.vouch(peer)
        alone.tick()
        self.assertEqual(len(aborted(alone)), 2)

    def test_a_contest_outlives_the_process(self) -> None:
        """After a restart whoever has aborted still proves it, and aborts nothing twice."""
        alone = Alone(4)
        one, two = rivals(alone)
        alone.submit(one)
        alone.show(two)
        alone.tick(CONTEST_TICKS)
        alone.start()
        self.assertEqual(alone.replica.contested, 2)
        for voter in (1, 2):
            abort_votes(alone, voter, one, two)
        alone.tick(CONTEST_TICKS)
        self.assertEqual(aborted(alone), [])
        self.assertEqual({verdict.txid for verdict in verdicts(alone)}, {one.txid, two.txid})


class Cancelling(SynchronousTestCase):
    def test_an_owners_wish_contests_at_once_and_is_told(self) -> None:
        """Accepted, sent to all, aborted after the delay; the same again is accepted and not sent again."""
        alone = Alone(4)
        tx = alone.pay([*alone.coins()[:1], *alone.coins(1)[:1]])
        alone.submit(tx)
        cancel = cancel_of(alone, tx, alone.wallets[1])
        self.assertEqual(ask(alone, cancel), "accepted")
        self.assertIn((None, cancel), alone.node.effects[-1].send)
        self.assertEqual(ask(alone, cancel), "accepted")
        self.assertEqual(ask(alone, cancel_of(alone, tx)), "accepted")
        self.assertEqual(alone.node.effects[-1].send, [])
        alone.tick(CONTEST_TICKS)
        self.assertEqual(aborted(alone), [tx.txid])

    def test_nobody_else_can(self) -> None:
        """A stranger's wish, and a payee's, are refused; from a masternode they change nothing."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1], to=1)
        alone.submit(tx)
        foreign = cancel_of(alone, tx, alone.wallets[1])
        self.assertEqual(ask(alone, foreign), "not_owner")
        alone.hear(foreign)
        alone.hear(messages.Votes(cancels=(foreign,)))
        self.assertEqual(alone.replica.contested, 0)

    def test_what_cannot_be_cancelled_has_its_code(self) -> None:
        """Unknown, final, ended by a block."""
        alone = Chained(4)
        tx, dead = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        self.assertEqual(ask(alone, cancel_of(alone, tx)), "not_found")
        alone.show(tx, dead)
        alone.finish(tx)
        self.assertEqual(ask(alone, cancel_of(alone, tx)), "already_final")
        alone.decide([tx], [alone.verdict(dead, "abort")])
        self.assertEqual(ask(alone, cancel_of(alone, dead)), "aborted")
        self.assertEqual(ask(alone, cancel_of(alone, tx)), "already_final")

    def test_it_is_told_again_with_the_votes(self) -> None:
        """To who links up, to who asks for the votes, and to each in turn when it is late: messages get lost."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        cancel = cancel_of(alone, tx)
        ask(alone, cancel)

        def told(effects: Any) -> bool:
            return any(isinstance(each, messages.Votes) and cancel in each.cancels for _, each in effects.send)

        self.assertTrue(told(alone.vouch(2)) or any(map(told, alone.node.effects[-4:])))
        self.assertTrue(told(alone.hear(messages.GetVotes(txids=(tx.txid,)), 3)))
        alone.tick(int(limits.LATE / limits.TICK) + 3)
        self.assertTrue(any(map(told, alone.node.effects[-2:])))

    def test_it_waits_for_no_transaction(self) -> None:
        """Before its transaction a wish is nothing, and takes no room; it comes again with the votes."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        cancel = cancel_of(alone, tx)
        alone.hear(cancel)
        self.assertEqual(len(alone.replica.payments), 0)
        alone.show(tx)
        self.assertEqual(alone.replica.contested, 0)
        alone.hear(messages.Votes(cancels=(cancel,)))
        self.assertEqual(alone.replica.contested, 1)

    def test_a_cancelled_payment_that_lacks_voters_ends(self) -> None:
        """Three of four hold it, one of them for another: cancelled at one masternode, freed at all by a block."""
        cluster = Cluster(4, 3)
        cluster.settle(2)
        cluster.kill(3)
        cluster.partition([0], [1, 2])
        tx = cluster.payment(0, 0, 1)
        cluster.submit(tx, 0)
        cluster.run()
        cluster.act(cluster.nodes[0], [Cancel(cancel_of(cluster, tx), "cancel")])
        cluster.heal()
        cluster.pass_time(15_000)
        statuses = {record and record.status for record in self.records(cluster, tx)}
        self.assertEqual(len(statuses), 1)
        self.assertTrue(statuses <= {"aborted", "final"})

    def records(self, cluster: Cluster, tx: Transaction) -> list[TransactionRecord | None]:
        return [node.store.transaction(tx.txid) for node in cluster.nodes[:3]]


class WhatABlockCanSay(SynchronousTestCase):
    def test_the_verdicts_that_can_be_proved(self) -> None:
        """With an abort certificate alone: abort. With a lock certificate, also beside it: commit. Else none."""
        for locks, aborts, kind in ((1, 1, None), (1, 3, "abort"), (3, 1, "commit"), (3, 3, "commit")):
            alone = Chained(4)
            tx, rival = rivals(alone)
            alone.show(tx, rival)
            alone.tick(CONTEST_TICKS)  # locked, and aborted, by this replica
            for voter in range(1, locks):
                alone.vote(voter, lock=[tx])
            for voter in range(1, aborts):
                abort_votes(alone, voter, tx)
            mine = [verdict for verdict in verdicts(alone) if verdict.txid == tx.txid]
            self.assertEqual([verdict.kind for verdict in mine], [kind] if kind else [])
            for verdict in mine:
                verdict.check(alone.set, alone.genesis.hash)

    def test_what_may_still_become_final_by_itself_is_left_to_it(self) -> None:
        """No verdict before the delay, none on what nobody contests, none on what a proof is here for."""
        alone = Chained(4)
        tx, rival = rivals(alone)
        alone.submit(tx)
        for voter in (1, 2):
            alone.vote(voter, lock=[tx])
        alone.tick(CONTEST_TICKS)
        self.assertEqual(verdicts(alone), [])
        alone.show(rival)
        alone.tick(CONTEST_TICKS - 1)
        self.assertEqual(verdicts(alone), [])
        alone.tick()
        self.assertEqual([verdict.kind for verdict in verdicts(alone)], ["commit"])
        alone.hear(messages.FinalityProofs(proofs=(alone.proof(rival, [1, 2, 3]),)))
        self.assertEqual([verdict.txid for verdict in verdicts(alone)], [tx.txid])

    def test_a_double_spend_is_decided_everywhere(self) -> None:
        """Two and two masternodes locked each: a block ends at least one, the coins are free or spent, on all alike."""
        for seed in range(4):
            cluster = Cluster(4, seed)
            cluster.settle(2)
            pair = [cluster.payment(0, 0, 1, amount=1_000_000 + each) for each in range(2)]
            cluster.partition([0, 1], [2, 3])
            cluster.submit(pair[0], 0)
            cluster.submit(pair[1], 2)
            cluster.run()
            cluster.heal()
            cluster.pass_time(30_000)
            tips = {node.replica.tip for node in cluster.nodes}
            self.assertEqual(len(tips), 1)
            self.assertEqual({node.replica.contested for node in cluster.nodes}, {0})
            self.assertEqual(len(cluster.digests()), 1)
            self.assertEqual({len(node.replica.payments) for node in cluster.nodes}, {0})

    def test_more_rivals_than_any_node_keeps_are_all_decided(self) -> None:
        """An owner gives each masternode as many rivals as it keeps: blocks end them all, no room is lost."""
        self.patch(limits, "RIVALS_PER_OUTPOINT", 3)
        cluster = Cluster(4, 1)
        cluster.settle(2)
        for number in range(12):
            cluster.submit(cluster.payment(0, 0, 1, amount=1_000_000 + number), number % 4)
        cluster.run()
        most = limits.RIVALS_PER_OUTPOINT + 4
        for _ in range(14):
            self.assertTrue(all(node.replica.payments.seen_count <= most for node in cluster.nodes))
            cluster.pass_time(5_000)
        for node in cluster.nodes:
            self.assertEqual((len(node.replica.payments), node.replica.contested), (0, 0))
        state = cluster.nodes[0].store.coin(cluster.coins_of(0)[0][0])
        assert state is not None
        self.assertNotIsInstance(state.state, Locked)

    def test_a_thousand_votes_of_one_liar_let_nobody_in(self) -> None:
        """A voter that locks everything backs one transaction for a coin, and not the next."""
        self.patch(limits, "RIVALS_PER_OUTPOINT", 3)
        alone = Alone(7)
        many = rivals(alone, 30)
        alone.show(*many[:3])
        for tx in many[3:]:
            alone.vote(5, lock=[tx])
            alone.show(tx)
        self.assertEqual(alone.replica.payments.seen_count, 4)
        for voter, tx in ((1, many[20]), (2, many[21])):
            alone.vote(voter, lock=[tx])
            alone.show(tx)
        self.assertEqual(alone.replica.payments.seen_count, 6)
        self.assertEqual(alone.state(many[0].outpoints[0]), Locked(many[0].txid, 1_025))


class Certificates(SynchronousTestCase):
    def test_acting_on_one_is_a_blocks_business(self) -> None:
        """All abort votes there are free no coin (§5)."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        alone.submit(tx)
        for voter in (1, 2, 3):
            abort_votes(alone, voter, tx)
        alone.tick(10)
        self.assertEqual(aborted(alone), [tx.txid])
        self.assertIsInstance(alone.state(tx.outpoints[0]), Locked)
        (verdict,) = verdicts(alone)
        self.assertEqual(verdict.kind, "abort")
        alone.decide(verdicts=[alone.verdict(tx, "abort")])
        self.assertEqual(alone.state(tx.outpoints[0]), UNSPENT)
        self.assertEqual(alone.certificate(tx, VoteKind.ABORT)[0].height, 1)
