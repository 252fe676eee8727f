"""Catching up with the chain: whatever a liar says of it, in whatever order blocks and transactions come (§9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.examples import replace
from tests.test_consensus.blocks import PRECOMMIT, PREVOTE, Chained
from timeproto import limits
from timeproto.consensus.effects import Effects, Tick
from timeproto.model.block import DecidedBlock, Precommit
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import Confirmed
from timeproto.storage.memory import MemoryStore
from timeproto.wire import messages


def sent(effects: Effects, kind: type) -> list[tuple[str | None, Any]]:
    return [(to, message) for to, message in effects.send if isinstance(message, kind)]


class Behind(Chained):
    """A replica at genesis; what the others decided meanwhile is in ``chain``."""

    def __init__(self, payments: Sequence[int] = (), **more: Any) -> None:
        """``payments``: how many each block contains; each spends the last one's change."""
        super().__init__(4, **more)
        self.chain: list[DecidedBlock] = []
        self.paid: list[list[Transaction]] = []
        coin = self.coins()[0]
        for count in payments:
            made = []
            for _ in range(count):
                made.append(self.pay([coin], amount=2_000))
                coin = self.change_of(made[-1])
            block = self.block(made)
            self.chain.append(self.decided(block))
            self.passed(block, made)
            self.paid.append(made)

    @property
    def everything(self) -> list[Transaction]:
        return [tx for made in self.paid for tx in made]

    def blocks(self, numbers: Iterable[int], head: int | None = None, peer: int = 1) -> Effects:
        """``peer`` shows the blocks of these heights."""
        page = tuple(self.chain[number - 1] for number in numbers)
        return self.hear(messages.Blocks(blocks=page, head=len(self.chain) if head is None else head), peer)

    def is_level(self) -> bool:
        return self.tip == len(self.chain) and self.replica.tip.hash == self.parent


class Asking(SynchronousTestCase):
    def test_a_link_asks_for_what_follows_the_tip(self) -> None:
        """Whoever is linked is asked, with this replica's height; again with each link."""
        world = Behind([0, 0])
        world.blocks([1, 2])
        world.vouch(2)
        asked = [sent(each, messages.GetBlocks) for each in world.node.effects[-4:]]
        self.assertIn([(world.keys[2].public_hex, messages.GetBlocks(since=2))], asked)

    def test_page_after_page(self) -> None:
        """While its head is ahead, the same peer is asked on, each time after the last block there is."""
        world = Behind([0] * 7)
        for first in (1, 3, 5):
            effects = world.blocks([first, first + 1])
            self.assertEqual(sent(effects, messages.GetBlocks), [(world.keys[1].public_hex,
                                                                 messages.GetBlocks(since=first + 1))])
        effects = world.blocks([7])
        self.assertEqual(sent(effects, messages.GetBlocks), [])
        self.assertTrue(world.is_level())

    def test_time_asks_whoever_is_ahead(self) -> None:
        """An answer may be lost: each tick asks again, and nobody who has no more."""
        world = Behind([0] * 3)
        world.blocks([], head=3, peer=2)
        for _ in range(3):
            asked = sent(world.act(Tick()), messages.GetBlocks)
            self.assertEqual(asked, [(world.keys[2].public_hex, messages.GetBlocks(since=0))])
        world.blocks([1, 2, 3], peer=1)
        self.assertEqual(sent(world.act(Tick()), messages.GetBlocks), [])

    def test_a_word_about_a_later_height_leads_to_its_blocks(self) -> None:
        """Who votes on block 4 has block 3: it is asked once, not for each of its words."""
        world = Behind([0] * 3)
        for round_, expected in ((0, 1), (1, 0), (2, 0)):
            effects = world.hear(world.word(PREVOTE, 2, round_, None, height=4), 2)
            asked = sent(effects, messages.GetBlocks)
            self.assertEqual(asked, [(world.keys[2].public_hex, messages.GetBlocks(since=0))] * expected)

    def test_a_word_about_an_older_height_is_answered(self) -> None:
        """Its speaker missed a block: it is shown what follows, once in a tick; who only repeats others is not."""
        world = Behind([0] * 3)
        world.blocks([1, 2, 3])
        old = world.word(PRECOMMIT, 2, 0, None, height=2)
        (answer,) = sent(world.hear(old, 2), messages.Blocks)
        self.assertEqual((answer[0], [each.block.header.height for each in answer[1].blocks], answer[1].head),
                         (world.keys[2].public_hex, [2, 3], 3))
        self.assertEqual(sent(world.hear(old, 2), messages.Blocks), [])
        self.assertEqual(sent(world.hear(old, 1), messages.Blocks), [])
        world.act(Tick())
        self.assertEqual(len(sent(world.hear(old, 2), messages.Blocks)), 1)

    def test_a_word_that_comes_when_the_block_is_decided_is_not(self) -> None:
        """Of n precommits the last come late, from those who have the block too; who says it again later has not."""
        world = Behind([0] * 3)
        world.blocks([1, 2, 3])
        late = world.word(PRECOMMIT, 2, 0, None, height=3)
        for _ in range(2):
            self.assertEqual(sent(world.hear(late, 2), messages.Blocks), [])
            world.act(Tick())
        ((_, answer),) = sent(world.hear(late, 2), messages.Blocks)
        self.assertEqual([each.block.header.height for each in answer.blocks], [3])

    def test_blocks_that_are_decided_here_are_no_news(self) -> None:
        """Nobody makes it check the commits of old ones again; what it lacks, and the head, are left as they came."""
        world = Behind([0] * 4)
        world.blocks([1, 2])
        old = messages.Blocks(blocks=tuple(world.chain[:2]), head=9)
        mixed = messages.Blocks(blocks=tuple(world.chain), head=9)
        self.assertEqual(world.replica.news(old), messages.Blocks(blocks=(), head=9))
        self.assertEqual(world.replica.news(mixed), messages.Blocks(blocks=tuple(world.chain[2:]), head=9))
        self.assertIs(world.replica.news(empty := messages.Blocks(blocks=(), head=9)), empty)


class Serving(SynchronousTestCase):
    def pages(self, world: Behind, since: int) -> list[int]:
        ((_, answer),) = sent(world.hear(messages.GetBlocks(since=since), 3), messages.Blocks)
        self.assertEqual(answer.head, world.tip)
        return [each.block.header.height for each in answer.blocks]

    def test_from_any_height(self) -> None:
        """What follows, as it was decided; nothing past the end, however far somebody asks."""
        world = Behind([0, 1, 0, 0])
        world.show(*world.everything)
        world.blocks([1, 2, 3, 4])
        self.assertTrue(world.is_level())
        for since, expected in ((0, [1, 2, 3, 4]), (2, [3, 4]), (4, []), (5, []), (2**64 - 1, [])):
            self.assertEqual(self.pages(world, since), expected)
        ((_, answer),) = sent(world.hear(messages.GetBlocks(since=0), 3), messages.Blocks)
        self.assertEqual(list(answer.blocks), world.chain)

    def test_a_page_has_an_end(self) -> None:
        """No more than a page, in a frame; the head tells that there is more."""
        self.patch(limits, "BLOCKS_PAGE", 3)
        world = Behind([0] * 8)
        for first in (1, 4, 7):
            world.blocks(range(first, min(first + 3, 9)))
        self.assertEqual([self.pages(world, since) for since in (0, 3, 6, 7)], [[1, 2, 3], [4, 5, 6], [7, 8], [8]])


class Applying(SynchronousTestCase):
    def test_in_any_order(self) -> None:
        """Blocks that come before their parents wait for them; each is applied once."""
        for order in ([3, 2, 1], [2, 3, 1], [2, 1, 1, 3], [1, 3, 3, 2]):
            world = Behind([0] * 3)
            for at, height in enumerate(order):
                world.blocks([height], peer=1 + at % 3)
            self.assertTrue(world.is_level(), order)
            committed = [block.block.header.height for effects in world.node.effects if effects.changes is not None
                         for block in effects.changes.blocks]
            self.assertEqual(committed, [1, 2, 3])

    def test_a_gap_stays_a_gap(self) -> None:
        """Without block 2 nothing is applied after 1, and block 2 is what is asked for."""
        world = Behind([0] * 4)
        world.blocks([1, 3, 4])
        self.assertEqual(world.tip, 1)
        asked = sent(world.act(Tick()), messages.GetBlocks)
        self.assertIn((world.keys[1].public_hex, messages.GetBlocks(since=1)), asked)
        world.blocks([2])
        self.assertTrue(world.is_level())

    def test_a_block_waits_for_its_transactions(self) -> None:
        """They are fetched from whoever showed the block, and make it final although nobody showed a vote."""
        world = Behind([2, 0])
        effects = world.blocks([1, 2], peer=2)
        wanted = [message.txids for to, message in sent(effects, messages.GetTransactions)
                  if to == world.keys[2].public_hex]
        self.assertEqual(wanted, [tuple(tx.txid for tx in world.everything)])
        self.assertEqual(world.tip, 0)
        world.show(world.everything[0], peer=3)
        self.assertEqual(world.tip, 0)
        world.show(world.everything[1], peer=3)
        self.assertTrue(world.is_level())
        for tx in world.everything:
            self.assertTrue(world.is_final(tx))
            self.assertIsNone(world.store.transaction(tx.txid).proof)
            self.assertIsInstance(world.state(tx.outpoints[0]), Confirmed)
        self.assertEqual(world.replica.commitment, world.chain[-1].block.header.commitment)

    def test_the_transactions_may_be_here_first(self) -> None:
        """Undecided, then contained: no vote of this replica's is needed."""
        world = Behind([3])
        world.show(*world.everything)
        world.blocks([1])
        self.assertTrue(world.is_level())

    def test_time_asks_others_for_the_transactions(self) -> None:
        """Who showed the block may be gone or lie: every peer is asked in turn."""
        world = Behind([1])
        world.blocks([1], peer=2)
        asked: set[str | None] = set()
        for _ in range(4):
            for to, message in sent(world.act(Tick()), messages.GetTransactions):
                self.assertEqual(message.txids, (world.everything[0].txid,))
                asked.add(to)
        self.assertEqual(asked, {world.keys[peer].public_hex for peer in world.others})

    def test_a_whole_chain_of_payments_in_pages(self) -> None:
        """Pages of blocks, transactions that trickle in backwards: the end is the same as for who was there."""
        self.patch(limits, "BLOCKS_PAGE", 4)
        world = Behind([2, 0, 3, 1, 0, 2, 2, 1, 1, 3])
        waiting = list(world.everything)
        for _ in range(60):
            since = world.tip
            world.blocks(range(since + 1, min(since + 4, len(world.chain)) + 1), peer=1 + since % 3)
            if waiting:
                world.show(waiting.pop(), peer=2)
            world.act(Tick())
        for tx in world.everything:
            world.show(tx, peer=3)
        self.assertTrue(world.is_level())
        self.assertEqual(world.alarms(), [])

    def test_who_completes_a_proof_between_two_blocks_finishes_once(self) -> None:
        """The first block lets this replica vote, and its commit vote makes final what the second one contains."""
        world = Behind([0, 1, 0], voting=False)
        (tx,) = world.everything
        for peer in world.others:
            world.hear(messages.Finalized(txids=(), next=0, head=0), peer)
            world.hear(messages.Votes(voter=world.node.key), peer)
            world.blocks([], head=1, peer=peer)
        world.show(tx)
        world.vote(1, lock=[tx], commit=[tx])
        world.vote(2, lock=[tx], commit=[tx])
        self.assertFalse(world.is_final(tx))
        world.blocks([2, 3, 1])
        self.assertTrue(world.voted(tx)[1])
        self.assertTrue(world.is_level())
        record = world.store.transaction(tx.txid)
        assert record is not None
        self.assertIsNotNone(record.proof)
        self.assertEqual(record.height, 2)
        self.assertEqual((world.replica.final_count, world.replica.unconfirmed), (1, 0))
        self.assertEqual((list(world.store.unconfirmed()), world.alarms()), ([], []))

    def test_what_was_caught_up_outlives_a_restart(self) -> None:
        """The next life goes on from there."""
        world = Behind([1, 0])
        world.show(*world.everything)
        world.blocks([1, 2])
        world.start()
        self.assertTrue(world.is_level())
        self.assertEqual(world.replica.commitment, world.chain[-1].block.header.commitment)


class Liars(SynchronousTestCase):
    def test_one_head_is_no_height(self) -> None:
        """One peer that claims a billion blocks keeps nobody from being in sync; two cannot both lie."""
        world = Behind([0])
        world.blocks([1])
        self.assertTrue(world.replica.is_synced)
        world.blocks([], head=10**9, peer=3)
        world.hear(world.word(PREVOTE, 3, 0, None, height=10**12), 3)
        self.assertTrue(world.replica.is_synced)
        world.blocks([], head=3, peer=2)
        self.assertFalse(world.replica.is_synced)

    def test_a_liars_head_does_not_keep_from_voting(self) -> None:
        """A starting replica waits for the blocks of a quorum; the one whose blocks never come is not among it."""
        world = Behind([0, 0], voting=False)
        for peer, head in ((3, 10**9), (1, 2), (2, 2)):
            world.hear(messages.Finalized(txids=(), next=0, head=0), peer)
            world.hear(messages.Votes(voter=world.node.key), peer)
            world.blocks([], head=head, peer=peer)
        self.assertIn("blocks", world.replica.not_voting or "")
        world.blocks([1])
        self.assertIsNotNone(world.replica.not_voting)
        world.blocks([2])
        self.assertIsNone(world.replica.not_voting)

    def test_its_first_head_is_the_goal(self) -> None:
        """A peer that decides faster than this replica catches up does not hold it off for ever."""
        world = Behind([0] * 4, voting=False)
        for peer in world.others:
            world.hear(messages.Finalized(txids=(), next=0, head=0), peer)
            world.hear(messages.Votes(voter=world.node.key), peer)
            world.blocks([], head=1, peer=peer)
        world.blocks([1], head=4)
        self.assertIsNone(world.replica.not_voting)

    def test_what_is_not_decided_is_not_taken(self) -> None:
        """Too few precommits, forged ones, another body, a verdict without votes: dropped, and its sender blamed."""
        world = Behind([0, 0])
        good = world.chain[0]
        signatures = good.commit.signatures
        faults = {
            "too few": replace(good, commit=replace(good.commit, signatures=signatures[:-1])),
            "forged": replace(good, commit=replace(good.commit, signatures=tuple(
                Precommit(each.voter, "0" * 128) for each in signatures))),
            "another round": replace(good, commit=replace(good.commit, round=1)),
            "another's commit": replace(good, commit=world.chain[1].commit),
            "another body": replace(good, block=replace(good.block, transactions=("11" * 32,))),
            "another coinbase": replace(good, block=replace(good.block, coinbase=replace(
                good.block.coinbase, timestamp=1))),
        }
        for name, fault in faults.items():
            effects = world.hear(messages.Blocks(blocks=(fault,), head=1))
            self.assertEqual([(who, str(why.code)) for who, why in effects.blame],
                             [(world.keys[1].public_hex, "bad_proof")], name)
            self.assertEqual(world.tip, 0, name)
        world.blocks([1, 2], peer=2)
        self.assertTrue(world.is_level())

    def test_blocks_far_ahead_are_not_kept(self) -> None:
        """No more than a page beyond the tip waits here."""
        self.patch(limits, "BLOCKS_PAGE", 4)
        world = Behind([0] * 12)
        for height in range(12, 1, -1):
            world.blocks([height])
        world.blocks([1])
        self.assertEqual(world.tip, 4)

    def test_a_block_that_cannot_follow_is_an_alarm(self) -> None:
        """More than f liars signed it: nothing of it is applied, and this replica votes no more, but does not fall."""
        world = Behind()
        bad = world.block(commitment="11" * 32)
        world.hear(messages.Blocks(blocks=(world.decided(bad),), head=1))
        self.assertEqual((world.tip, len(world.alarms())), (0, 1))
        self.assertIsNotNone(world.replica.not_voting)
        world.act(Tick())

    def test_a_block_with_what_was_ended_is_an_alarm(self) -> None:
        """What is over is not fetched any more, so a decided block that names it must not be waited for."""
        world = Chained(4)
        tx = world.pay(world.coins()[:1])
        world.show(tx)
        world.decide(verdicts=[world.verdict(tx, "abort", (0, 1, 2))])
        block = world.block([tx])
        world.hear(messages.Blocks(blocks=(world.decided(block),), head=2))
        self.assertEqual(world.tip, 1)
        self.assertIn("which is ended", world.alarms()[-1])
        self.assertIsNotNone(world.replica.not_voting)


class Together(SynchronousTestCase):
    def test_who_was_cut_off_catches_up(self) -> None:
        """Many blocks with payments later, over small pages: the same chain, the same coins, and it votes again."""
        self.patch(limits, "BLOCKS_PAGE", 3)
        cluster = Cluster(4, 3, duplicate=0.1)
        cluster.settle(2)
        cluster.partition([0, 1, 2], [3])
        for coin in range(4):
            cluster.submit(cluster.payment(0, coin, 1), coin % 3)
            cluster.pass_time(15_000)
        behind, ahead = cluster.nodes[3].replica, cluster.nodes[0].replica
        self.assertGreater(ahead.height, behind.height + 6)
        cluster.heal()
        cluster.pass_time(25_000)
        self.assertLessEqual(ahead.height - behind.height, 1)
        for height in range(1, behind.height + 1):
            headers = {node.store.block(height).block.header for node in cluster.nodes}  # type: ignore[union-attr]
            self.assertEqual(len(headers), 1)
        self.assertEqual(len(cluster.digests()), 1)

    def test_who_lost_everything_catches_up(self) -> None:
        """An empty disk under an old key: the whole chain comes back before a word is said."""
        cluster = Cluster(4, 4)
        cluster.settle(2)
        for coin in range(2):
            cluster.submit(cluster.payment(0, coin, 1), coin)
            cluster.pass_time(10_000)
        cluster.kill(2)
        cluster.pass_time(10_000)
        node = cluster.restart(2, MemoryStore())
        self.assertEqual(node.replica.height, 0)
        cluster.pass_time(20_000)
        self.assertGreater(node.replica.height, 2)
        self.assertLessEqual(max(each.replica.height for each in cluster.nodes) - node.replica.height, 1)
        self.assertEqual([node.store.block(1), node.store.block(2)],
                         [cluster.nodes[0].store.block(1), cluster.nodes[0].store.block(2)])
