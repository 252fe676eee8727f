"""A node that forgot what it signed, or shares its key, must find out before it votes (P-19, P-20, O-05)."""

from __future__ import annotations

import copy

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster, key
from tests.examples import replace
from tests.test_consensus.alone import Alone
from timeproto import limits
from timeproto.consensus import own_votes
from timeproto.consensus.effects import Heard, Tick
from timeproto.model.block import BlockVote, sign_block_vote
from timeproto.model.vote import VoteBatch, sign_batch
from timeproto.storage.memory import MemoryStore
from timeproto.wire import messages


def votes_sent(cluster: Cluster, key: str, since: int) -> list[VoteBatch]:
    """The batches ``key`` itself put on the wire after the first ``since`` messages."""
    return [message for sender, _, message in cluster.sent[since:]
            if isinstance(message, VoteBatch) and sender == message.voter == key]


def forget_a_vote(cluster: Cluster) -> None:
    """Masternode 0 votes for a payment, masternode 1 hears of it, and 0 is gone; 3 is away, so nothing is decided."""
    cluster.kill(3)
    cluster.partition([0, 1], [2])
    cluster.submit(cluster.payment(0, 0, 1), 0)
    cluster.run()
    cluster.kill(0)
    cluster.heal()


class BeforeTheFirstVote(SynchronousTestCase):
    def test_below_a_quorum_of_vouchers_no_vote_is_cast(self) -> None:
        """q - 2 peers are not enough beside oneself; with q - 1 the waiting payments are voted for at once."""
        alone = Alone(7, voting=False)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        for peer in (1, 2, 3):
            self.assertIn("of 5 masternodes", alone.replica.not_voting or "")
            self.assertEqual(alone.answer(alone.submit(tx)), "not_synced")
            alone.vouch(peer)
        self.assertEqual(alone.voted(tx), (False, False))
        alone.vouch(3)
        self.assertEqual(alone.voted(tx), (False, False))
        alone.vouch(4)
        self.assertIsNone(alone.replica.not_voting)
        self.assertEqual(alone.voted(tx), (True, False))

    def test_finality_does_not_wait_for_the_own_vote(self) -> None:
        """A node that may not vote still counts, commits to nothing, and learns what is final."""
        alone = Alone(4, voting=False)
        tx = alone.pay(alone.coins()[:1])
        alone.show(tx)
        alone.finish(tx)
        self.assertTrue(alone.is_final(tx))
        self.assertEqual(alone.cast(), [])

    def test_only_a_whole_answer_vouches(self) -> None:
        """A page with more to come, an answer about another voter, or plain votes are no voucher."""
        alone = Alone(4, voting=False)
        for peer in (1, 2, 3):
            alone.hear(messages.Finalized(txids=(), next=0, head=0), peer)
            alone.hear(messages.Votes(voter=alone.node.key, more=True), peer)
            alone.hear(messages.Votes(voter=alone.keys[2].public_hex), peer)
            alone.hear(messages.Votes(), peer)
        self.assertIsNotNone(alone.replica.not_voting)

    def test_what_is_final_elsewhere_comes_first(self) -> None:
        """A peer's finals that are not final here yet may hold a coin this node spent for them: no vote before."""
        alone = Alone(4, voting=False)
        tx, rival = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[:1], amount=2_000_000)
        for peer in (1, 2):
            alone.hear(messages.Votes(voter=alone.node.key), peer)
            alone.hear(messages.Finalized(txids=(tx.txid,), next=1, head=1), peer)
            alone.hear(messages.Blocks(blocks=(), head=0), peer)
        alone.show(rival)
        self.assertEqual(alone.voted(rival), (False, False))
        alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)), 1)
        for peer in (1, 2):
            alone.hear(messages.Finalized(txids=(tx.txid,), next=1, head=1), peer)
        self.assertIsNone(alone.replica.not_voting)
        self.assertEqual(alone.voted(rival), (False, False))


class Amnesia(SynchronousTestCase):
    def test_a_forgotten_vote_told_by_a_peer_is_an_identity_conflict(self) -> None:
        """Not a vote while it may be over soon; if it is not, that is a conflict, and there is no vote ever after."""
        for kind in ("lock", "commit", "abort"):
            alone = Alone(4, voting=False)
            tx = alone.pay(alone.coins()[:1])
            genesis, votes = alone.genesis, {kind: [tx.txid]}
            own = sign_batch(alone.keys[0], genesis.hash, genesis.masternode_set.hash, 0, **votes)
            self.assertIsNone(alone.vouch(1, batches=(own,)).identity_conflict)
            self.assertIsNone(alone.vouch(2).identity_conflict)
            self.assertIn("waiting for the end of what", alone.replica.not_voting or "")
            alone.vouch(3)
            self.assertIn(kind, self.outlast(alone) or "")
            alone.submit(tx)
            alone.show(alone.pay(alone.coins()[1:2]))
            self.assertEqual(alone.cast(), [])

    def test_a_forgotten_vote_for_what_is_final_is_none_while_it_catches_up(self) -> None:
        """A proof tells of it before there is a mandate: no vote until that payment is final here; then it votes."""
        alone = Alone(4, voting=False)
        tx, rival = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
        other = alone.pay(alone.coins()[1:2])
        proof = alone.proof(tx, voters=[0, 1, 2])
        self.assertIsNone(alone.hear(messages.FinalityProofs(proofs=(proof,)), 3).identity_conflict)
        alone.show(rival, other)
        for peer in (1, 2, 3):
            alone.vouch(peer)
        alone.tick(3)
        self.assertIn("waiting for 1 payments", alone.replica.not_voting or "")
        self.assertEqual((alone.cast(), alone.replica.is_synced), ([], False))
        self.assertEqual(alone.answer(alone.submit(other)), "not_synced")
        alone.show(tx)
        self.assertTrue(alone.is_final(tx))
        self.assertIsNone(alone.replica.not_voting)
        self.assertEqual((alone.voted(rival), alone.voted(other)), ((False, False), (True, False)))
        again = alone.hear(messages.FinalityProofs(proofs=(proof, alone.proof(tx, voters=[0, 1, 3]))), 3)
        self.assertIsNone(again.identity_conflict)  # or whoever kept a proof could end this node whenever he likes

    def test_an_unknown_vote_inside_a_proof_is_one_from_the_mandate_on(self) -> None:
        """This node knows its votes by then: another process cast that one."""
        alone = Alone(4)
        tx = alone.pay(alone.coins()[:1])
        effects = alone.hear(messages.FinalityProofs(proofs=(alone.proof(tx, voters=[0, 1, 2]),)), 1)
        self.assertIn("commit vote", effects.identity_conflict or "")
        alone.show(tx, alone.pay(alone.coins()[1:2]))
        self.assertEqual((alone.is_final(tx), alone.cast()), (True, []))

    def test_a_forgotten_vote_for_what_ends_meanwhile_is_none(self) -> None:
        """Who tells of it may be behind: it is over by the time that this node may vote."""
        alone = Alone(4, voting=False)
        tx, other = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        own = self.own(alone, lock=[tx.txid])
        alone.vouch(1, batches=(own,))
        alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)), 1)
        self.assertIsNone(alone.vouch(2).identity_conflict)
        self.assertIsNone(alone.replica.not_voting)
        alone.show(other)
        self.assertEqual(alone.voted(other), (True, False))
        self.assertIsNone(alone.hear(own, 3).identity_conflict)  # whoever kept it cannot end this node

    def test_a_forgotten_vote_for_what_is_proven_and_not_here(self) -> None:
        """The others' commit votes, or a proof, came before the transaction: it is final, so it is waited for."""
        for as_proof in (True, False):
            alone = Alone(4, voting=False)
            tx, rival = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
            other = alone.pay(alone.coins()[1:2])
            alone.vouch(1, batches=(self.own(alone, lock=[tx.txid]),))
            if as_proof:
                alone.hear(messages.FinalityProofs(proofs=(alone.proof(tx),)), 1)
            else:
                alone.finish(tx)
            self.assertIsNone(alone.vouch(2).identity_conflict)
            alone.show(rival)
            self.assertEqual(alone.cast(), [])
            self.assertIn("waiting for 1 payments", alone.replica.not_voting or "")
            alone.show(tx, other)
            self.assertIsNone(alone.replica.not_voting)
            self.assertEqual((alone.voted(rival), alone.voted(other)), ((False, False), (True, False)))

    def test_a_forgotten_vote_for_what_is_over_soon(self) -> None:
        """It was under way when the data were lost: the others make it final in a moment, and then this node votes."""
        alone = Alone(4, voting=False)
        tx, other = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        alone.vouch(1, batches=(self.own(alone, lock=[tx.txid]),))
        alone.vouch(2)
        alone.show(tx, other)
        alone.tick()
        self.assertEqual(alone.cast(), [])
        alone.finish(tx)
        self.assertIsNone(alone.replica.not_voting)
        self.assertEqual(alone.voted(other), (True, False))
        self.assertIsNone(self.outlast(alone))

    def outlast(self, alone: Alone) -> str | None:
        """What it has to say of itself when its patience is at an end."""
        before = len(alone.node.effects)
        alone.tick(own_votes.PATIENCE * alone.genesis.block_interval + 2)
        return next((each.identity_conflict for each in alone.node.effects[before:] if each.identity_conflict), None)

    def own(self, alone: Alone, **votes: list[str]) -> VoteBatch:
        """Signed with its key, and forgotten."""
        return sign_batch(alone.keys[0], alone.genesis.hash, alone.genesis.masternode_set.hash, 0, **votes)

    def test_more_proofs_than_can_be_remembered(self) -> None:
        """It is as if they had not been shown."""
        self.patch(limits, "EARLY_VOTES", 2)
        alone = Alone(4, voting=False)
        proofs = tuple(alone.proof(alone.pay([coin]), voters=[0, 1, 2]) for coin in alone.coins()[:3])
        self.assertIsNone(alone.hear(messages.FinalityProofs(proofs=proofs), 1).identity_conflict)
        self.assertIn("waiting for peers", alone.replica.not_voting or "")

    def test_a_flood_of_old_votes_ends_nobody(self) -> None:
        """More than can be remembered, and all for what is final with the others: it votes once that is here."""
        self.patch(limits, "EARLY_VOTES", 2)
        alone = Alone(4, voting=False)
        done, other = [alone.pay([coin]) for coin in alone.coins()], alone.pay(alone.coins(1)[:1], to=0)
        flood = self.own(alone, lock=[tx.txid for tx in done], commit=[tx.txid for tx in done])
        self.assertIsNone(alone.hear(flood, 3).identity_conflict)
        for tx in done:
            alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)), 1)
        self.assertIsNone(alone.hear(flood, 3).identity_conflict)
        for peer in (1, 2):
            self.assertIsNone(alone.vouch(peer).identity_conflict)
        alone.show(other)
        self.assertEqual(alone.voted(other), (True, False))
        self.assertIsNone(alone.hear(messages.Votes(voter=alone.node.key), 3).identity_conflict)
        self.assertIsNone(alone.replica.not_voting)

    def test_who_was_cut_short_vouches_again(self) -> None:
        """A vote that matters came while others took all the room: it votes for nothing before it asked again."""
        self.patch(limits, "EARLY_VOTES", 2)
        for is_forgotten in (True, False):
            alone = Alone(4, voting=False)
            done, open_ = [alone.pay([coin]) for coin in alone.coins()[:2]], alone.pay(alone.coins()[2:3])
            alone.hear(self.own(alone, lock=[tx.txid for tx in done]), 3)
            alone.vouch(1, batches=(self.own(alone, lock=[open_.txid]),))
            alone.hear(messages.Transactions(transactions=tuple(done), proofs=tuple(map(alone.proof, done))), 1)
            self.assertIsNone(alone.vouch(2).identity_conflict)
            alone.show(open_)
            self.assertEqual((alone.cast(), alone.replica.is_synced), ([], False))
            asked = [to for to, message in alone.act(Tick()).send if isinstance(message, messages.GetVotes)
                     and message.voter == alone.node.key]
            self.assertEqual(set(asked), {alone.keys[1].public_hex})
            if not is_forgotten:
                alone.hear(messages.Transactions(transactions=(open_,), proofs=(alone.proof(open_),)), 1)
            alone.vouch(1, batches=(self.own(alone, lock=[open_.txid]),))
            self.assertEqual(self.outlast(alone) is not None, is_forgotten)
            self.assertEqual(alone.replica.not_voting is not None, is_forgotten)

    def test_a_proof_that_comes_with_the_last_voucher(self) -> None:
        """In one step: what it makes final is over when the vote for it is judged."""
        alone = Alone(4, voting=False)
        tx = alone.pay(alone.coins()[:1])
        alone.vouch(1, batches=(self.own(alone, lock=[tx.txid]),))
        alone.show(tx)
        peer = alone.keys[2].public_hex
        alone.hear(messages.Finalized(txids=(), next=0, head=0), 2)
        alone.hear(messages.Blocks(blocks=(), head=0), 2)
        effects = alone.act(
            Heard(messages.FinalityProofs(proofs=(alone.proof(tx),)), peer),
            Heard(messages.Votes(voter=alone.node.key), peer),
        )
        self.assertIsNone(effects.identity_conflict)
        self.assertIsNone(alone.replica.not_voting)
        self.assertTrue(alone.is_final(tx))

    def test_words_about_a_block_are_judged_when_it_has_caught_up(self) -> None:
        """What it said of a block that is decided elsewhere is over by then; of one that is not, it is a conflict."""
        for ahead in (False, True):
            cluster = Cluster(4, 3)
            cluster.settle(2)
            for _ in range(3):
                cluster.pass_time(6_000)
            lost, peer = cluster.nodes[0].key, cluster.nodes[1].key
            old = next(message for _, _, message in cluster.sent
                       if isinstance(message, BlockVote) and message.voter == lost and message.height == 2)
            word = sign_block_vote(key(1), cluster.genesis.hash, replace(old, height=1_000)) if ahead else old
            cluster.kill(0)
            node = cluster.restart(0, MemoryStore())
            self.assertEqual(node.replica.height, 0)
            heard = Heard(messages.Votes(block_votes=(word,)), peer)
            self.assertIsNone(cluster.act(node, [heard]).identity_conflict)
            cluster.settle(20)
            told = [each.identity_conflict for each in node.effects if each.identity_conflict]
            self.assertEqual((len(told) > 0, node.replica.not_voting is not None), (ahead, ahead))

    def test_a_word_about_a_decided_block_ends_nobody(self) -> None:
        """It can sign nothing there again, whether it remembers what it signed or not."""
        cluster = Cluster(4, 3)
        cluster.settle(2)
        for _ in range(3):
            cluster.pass_time(6_000)
        key = cluster.nodes[0].key
        old = [message for _, _, message in cluster.sent if isinstance(message, BlockVote) and message.voter == key]
        cluster.kill(0)
        node = cluster.restart(0, MemoryStore())
        while node.replica.not_voting is not None:
            cluster.deliver()
        heard = Heard(messages.Votes(block_votes=tuple(old[:4])), cluster.nodes[1].key)
        self.assertIsNone(cluster.act(node, [heard]).identity_conflict)

    def test_who_is_halted_ends(self) -> None:
        """An alarm is not forgotten for a proof or a vote."""
        alone = Alone(4, voting=False)
        alone.replica.halt("the disk is full")
        tx = alone.pay(alone.coins()[:1])
        proof = alone.proof(tx, voters=[0, 1, 2])
        self.assertIsNotNone(alone.hear(messages.FinalityProofs(proofs=(proof,)), 1).identity_conflict)
        self.assertIsNotNone(alone.hear(self.own(alone, lock=[tx.txid]), 3).identity_conflict)

    def test_a_lost_data_directory_comes_back_from_the_others(self) -> None:
        """The key is left, everything is final elsewhere and half of it by this node's votes: one start is enough."""
        for seed in range(10):
            cluster = Cluster(4, seed)
            cluster.settle(2)
            for coin in range(4):
                cluster.submit(cluster.payment(0, coin, 1), coin)
            cluster.settle(4)
            cluster.kill(0)
            cluster.pass_time(10_000)
            node = cluster.restart(0, MemoryStore())
            cluster.settle(8)
            self.assertEqual([each.identity_conflict for each in node.effects if each.identity_conflict], [])
            self.assertIsNone(node.replica.not_voting, f"seed {seed}")
            paid = cluster.payment(1, 0, 2)
            cluster.submit(paid, 0)
            cluster.settle(3)
            self.assertEqual(cluster.final(paid.txid), [True] * 4, f"seed {seed}")
            self.assertTrue(any(paid.txid in batch.lock for batch in votes_sent(cluster, node.key, 0)))
            self.assertEqual(len(cluster.digests()), 1, f"seed {seed}")

    def test_a_lost_data_directory_and_a_peer_that_is_behind(self) -> None:
        """It holds a vote for what has been final with the others for long, and says so first."""
        for seed in (2, 7, 14, 20):
            cluster = Cluster(4, seed)
            cluster.settle(2)
            for coin in range(2):
                cluster.submit(cluster.payment(0, coin, 1), coin)
            for _ in range(cluster.random.randrange(10, 40)):
                cluster.deliver()
            cluster.partition([0, 1, 2], [3])
            cluster.settle(4)
            cluster.kill(0)
            cluster.pass_time(5_000)
            cluster.heal()
            node = cluster.restart(0, MemoryStore())
            cluster.settle(8)
            self.assertEqual([each.identity_conflict for each in node.effects if each.identity_conflict], [])
            self.assertIsNone(node.replica.not_voting, f"seed {seed}")

    def test_own_votes_that_are_remembered_are_no_conflict(self) -> None:
        """Echoes of everything this node ever signed, undecided or final, in this life or the last."""
        alone = Alone(4)
        done, open_ = alone.pay(alone.coins()[:1]), alone.pay(alone.coins()[1:2])
        alone.submit(done)
        alone.finish(done)
        alone.submit(open_)
        echoes = alone.cast()
        record = alone.store.transaction(done.txid)
        assert record is not None and record.proof is not None
        for life in range(2):
            for echo in echoes:
                self.assertIsNone(alone.hear(echo, 2).identity_conflict)
            again = alone.hear(messages.FinalityProofs(proofs=(record.proof, alone.proof(done, voters=[0, 1, 2]))), 2)
            self.assertIsNone(again.identity_conflict)
            if not life:
                alone.start(voting=False)
        self.assertEqual(alone.cast(), [])

    def test_an_old_backup_is_found_out_before_it_votes(self) -> None:
        """Data from yesterday, put back while peers hold today's votes: no batch of the new life leaves (O-11)."""
        for seed in range(10):
            cluster = Cluster(4, seed)
            cluster.settle(2)
            backup = copy.deepcopy(cluster.nodes[0].store)
            forget_a_vote(cluster)
            since = len(cluster.sent)
            node = cluster.restart(0, backup)
            cluster.submit(cluster.payment(0, 0, 2), 0)
            cluster.submit(cluster.payment(1, 0, 2), 1)
            cluster.settle(16)
            conflict = [effects.identity_conflict for effects in node.effects if effects.identity_conflict]
            self.assertTrue(conflict, f"seed {seed}")
            self.assertEqual(votes_sent(cluster, node.key, since), [], f"seed {seed}")

    def test_an_empty_data_directory_is_an_old_backup(self) -> None:
        """The key without its data: found out the same way, not a silent fresh start (P-20)."""
        cluster = Cluster(4, 1)
        cluster.settle(2)
        forget_a_vote(cluster)
        node = cluster.restart(0, MemoryStore())
        cluster.settle(16)
        self.assertTrue(any(effects.identity_conflict for effects in node.effects))

    def test_a_backup_that_missed_only_finals_catches_up_and_votes(self) -> None:
        """Nothing undecided was forgotten: after catching up there is nothing to contradict, unless a proof tells."""
        for seed in range(10):
            cluster = Cluster(4, seed)
            cluster.settle(2)
            backup = copy.deepcopy(cluster.nodes[3].store)
            cluster.kill(3)
            paid = cluster.payment(0, 0, 1)
            cluster.submit(paid, 0)
            cluster.settle(3)
            node = cluster.restart(3, backup)
            rival = cluster.payment(0, 0, 2)
            ticket = cluster.submit(rival, 3)
            cluster.settle(5)
            self.assertEqual(cluster.final(paid.txid), [True] * 4, f"seed {seed}")
            self.assertEqual(cluster.refusal(ticket), "not_synced")
            self.assertIsNone(node.replica.not_voting)
            self.assertFalse(any(rival.txid in batch.lock for batch in votes_sent(cluster, node.key, 0)))

    def test_two_processes_with_one_key_find_out(self) -> None:
        """A twin votes elsewhere with this node's key: its first vote that comes by stops this one (O-05)."""
        alone = Alone(4)
        theirs = sign_batch(alone.keys[0], alone.genesis.hash, alone.genesis.masternode_set.hash, 0, lock=["ab" * 32])
        self.assertIn("another process uses the key", alone.hear(theirs, 2).identity_conflict or "")
        tx = alone.pay(alone.coins()[:1])
        self.assertEqual(alone.answer(alone.submit(tx)), "not_voting")
