"""One replica's part in agreeing on blocks: what it says, when it is silent, and liars who want it confused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import Cluster
from tests.examples import replace
from tests.test_consensus.blocks import PRECOMMIT, PREVOTE, PROPOSAL, Chained
from tests.test_consensus.test_chain import final
from timeproto import limits
from timeproto.consensus.agreement import PATIENCE
from timeproto.consensus.effects import Heard, LinkUp, Tick, Timer
from timeproto.consensus.evidence import check_evidence
from timeproto.model.block import Block, BlockVote
from timeproto.model.ledger import BlockEvidence
from timeproto.wire import messages


def others_turn(alone: Chained, since: int = 0, but: int | None = None) -> tuple[int, int]:
    """(round, masternode): the next round from ``since`` in which it is neither this replica's turn nor ``but``'s."""
    return next((round_, alone.proposer(round_)) for round_ in range(since, since + 9)
                if alone.proposer(round_) not in (0, but))


def skip_to(alone: Chained, round_: int) -> None:
    """f + 1 others are in that round already."""
    if round_:
        alone.say(PREVOTE, round_, None, [1, 2])


def block_evidence(alone: Chained) -> list[BlockEvidence]:
    return [each for each in alone.store.evidence(99) if isinstance(each, BlockEvidence)]


class AHeight(SynchronousTestCase):
    def test_a_round_from_proposal_to_block(self) -> None:
        """Prevote, precommit, decided: each word is sent to all once; the next height waits for its interval."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        final(alone, tx)
        alone.begin()
        block = alone.block([tx])
        alone.propose(block)
        digest = alone.hash(block)
        self.assertEqual(alone.said(), [("prevote", 0, digest)])
        alone.say(PREVOTE, 0, block, [1, 2])
        self.assertEqual(alone.said(), [("prevote", 0, digest), ("precommit", 0, digest)])
        alone.say(PRECOMMIT, 0, block, [1])
        self.assertEqual(alone.tip, 0)
        alone.say(PRECOMMIT, 0, block, [2])
        self.assertEqual(alone.tip, 1)
        kept = alone.store.block(1)
        assert kept is not None
        self.assertEqual(kept.block, block)
        self.assertEqual(len(kept.commit.signatures), alone.quorum)
        (timer,) = [timer for timer in alone.node.effects[-1].timers if timer[1].what is Timer.HEIGHT]
        self.assertEqual((timer[1].height, 0 < timer[0] <= alone.genesis.block_interval * 1_000), (2, True))
        alone.passed(block, [tx])
        self.assertEqual(alone.said(), [])

    def test_its_own_proposal_is_for_everybody(self) -> None:
        """On its turn: a block of what is final, with its word, and its prevote behind it."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        final(alone, tx)
        mine = alone.round_of(0)
        alone.begin()
        skip_to(alone, mine)
        (message,) = [message for effects in alone.node.effects for to, message in effects.send
                      if to is None and isinstance(message, messages.BlockProposal)]
        self.assertEqual(message.block.transactions, (tx.txid,))
        digest = message.vote.block
        self.assertEqual(alone.said()[-2:], [("proposal", mine, digest), ("prevote", mine, digest)])
        alone.say(PREVOTE, mine, message.block, [3])
        alone.say(PRECOMMIT, mine, message.block, [1, 2, 3])
        self.assertEqual(alone.tip, 1)

    def test_what_it_lacks_it_fetches_and_then_votes(self) -> None:
        """Once from whoever showed the block, and then of the others in turn."""
        alone = Chained(4)
        tx = alone.pay(alone.coins()[:1])
        alone.begin()
        block = alone.block([tx])
        effects = alone.propose(block)
        asked = messages.GetTransactions(txids=(tx.txid,))
        self.assertIn((alone.keys[alone.proposer()].public_hex, asked), effects.send)
        self.assertEqual(alone.said(), [])
        effects = alone.act(Tick())
        self.assertIn(asked, [message for _, message in effects.send])
        alone.hear(messages.Transactions(transactions=(tx,), proofs=(alone.proof(tx),)))
        self.assertEqual(alone.said(), [("prevote", 0, alone.hash(block))])

    def test_f_plus_one_voices_begin(self) -> None:
        """An honest one has waited for the interval: whoever's clock is slow need not."""
        alone = Chained(4)
        block = alone.block()
        alone.propose(block)
        self.assertEqual(alone.said(), [])
        alone.say(PREVOTE, 0, block, [next(each for each in alone.others if each != alone.proposer())])
        self.assertEqual(alone.said(), [("prevote", 0, alone.hash(block))])

    def test_time_outs_end_a_silent_round(self) -> None:
        """Growing with each round, up to their bound; a timer of another height is nothing."""
        alone = Chained(4)
        alone.begin()
        waits = []
        for round_ in range(3):
            alone.wake(Timer.PROPOSE, round_)
            alone.say(PREVOTE, round_, None, [1, 2])
            alone.say(PRECOMMIT, round_, None, [1, 2])
        for effects in alone.node.effects:
            waits += [milliseconds for milliseconds, wake in effects.timers if wake.what is Timer.PROPOSE]
        self.assertEqual(waits, [2_000, 2_500, 3_000, 3_500])
        before = alone.said()
        alone.decide()
        alone.wake(Timer.PROPOSE, 3)
        self.assertEqual((alone.said(), len(before) >= 6), ([], True))


class Silence(SynchronousTestCase):
    def test_who_may_not_vote_says_nothing_and_follows(self) -> None:
        """No word while the mandate is not met, decided blocks are applied all the same; then it begins."""
        alone = Chained(4, voting=False)
        alone.begin()
        block = alone.block()
        alone.propose(block)
        skip_to(alone, alone.round_of(0))
        alone.say(PRECOMMIT, 0, block)
        self.assertEqual((alone.said(), alone.tip), ([], 1))
        alone.passed(block)
        alone.begin()
        alone.tick(3)
        self.assertEqual(alone.said(), [])
        for peer in (1, 2):
            alone.vouch(peer)
        alone.tick()
        alone.propose(alone.block())
        self.assertEqual(len(alone.said()), 1 + (alone.proposer() == 0))

    def test_what_it_casts_with_its_mandate_is_signed_before_it_proposes(self) -> None:
        """The block that is its last condition is decided, and so much is in line that it proposes in the same step."""
        self.patch(limits, "BLOCK_WORTH", 2)
        alone = Chained(4, voting=False)
        tx, rival = (alone.pay(alone.coins()[:1], amount=amount) for amount in (1_000_000, 2_000_000))
        chain = []
        while not chain or alone.proposer() != 0:
            block = alone.block()
            chain.append(alone.decided(block))
            alone.passed(block)
        for peer in alone.others:
            alone.act(LinkUp(alone.keys[peer].public_hex))
            alone.hear(messages.Blocks(blocks=(), head=len(chain)), peer)
            alone.hear(messages.Finalized(txids=(), next=0, head=0), peer)
            alone.hear(messages.Votes(voter=alone.node.key), peer)
        alone.show(tx, rival)
        for voter in (1, 2):
            alone.vote(voter, lock=[tx])
        paid = tuple(alone.pay([coin]) for coin in alone.coins()[1:3])
        alone.hear(messages.Transactions(transactions=paid, proofs=tuple(map(alone.proof, paid))))
        alone.tick(4)
        self.assertEqual((alone.cast(), alone.said()), ([], []))
        alone.hear(messages.Blocks(blocks=tuple(chain), head=len(chain)))
        self.assertIsNone(alone.replica.not_voting)
        self.assertEqual(alone.said()[0][:2], (str(PROPOSAL), 0))
        sent = [message for _, message in alone.node.effects[-1].send]
        proposals = [message for message in sent if isinstance(message, messages.BlockProposal)]
        self.assertEqual([[each.txid for each in proposal.block.verdicts] for proposal in proposals], [[tx.txid]])

    def test_a_word_of_its_own_that_it_does_not_know_ends_it(self) -> None:
        """Another process has its key, or its data are old: told in an answer, or by the way (O-05)."""
        for kind in (PROPOSAL, PREVOTE, PRECOMMIT):
            for how in ("answer", "by the way"):
                alone = Chained(4)
                word = alone.word(kind, 0, alone.round_of(0), "ab" * 32)
                if how == "by the way" and kind is PROPOSAL:
                    block = alone.block(round_=word.round)
                    effects = alone.hear(alone.proposal(block, word.round), 2)
                else:
                    said: Any = messages.Votes(block_votes=(word,)) if how == "answer" else word
                    effects = alone.hear(said, 2)
                self.assertIn(str(kind), effects.identity_conflict or "", how)
                alone.begin()
                alone.propose(alone.block())
                self.assertEqual(alone.said(), [])

    def test_its_own_words_that_it_remembers_are_no_conflict(self) -> None:
        """Echoes in this life, in the next, and of heights gone by."""
        alone = Chained(4)
        alone.begin()
        block = alone.block()
        alone.propose(block)
        alone.say(PREVOTE, 0, block, [1, 2])
        echoes = [alone.word(PREVOTE, 0, 0, block), alone.word(PRECOMMIT, 0, 0, block)]
        for _ in range(2):
            for echo in echoes:
                self.assertIsNone(alone.hear(echo, 2).identity_conflict)
            alone.start()
        alone.decide()
        for echo in echoes:
            self.assertIsNone(alone.hear(echo, 2).identity_conflict)


class Patience(SynchronousTestCase):
    def test_what_was_said_is_said_again(self) -> None:
        """After a while votes to all at each tick, the proposal to each in turn; all of it to whoever links up."""
        alone = Chained(4)
        for peer in (1, 2, 3):
            alone.vouch(peer)
        alone.begin()
        block = alone.block()
        alone.propose(block)
        mine = alone.word(PREVOTE, 0, 0, block)
        alone.tick(PATIENCE)
        self.assertEqual(len(alone.said()), 1)
        shown = set()
        for _ in range(4):
            effects = alone.act(Tick())
            self.assertIn((None, mine), effects.send)
            proposals = [(to, each) for to, each in effects.send if isinstance(each, messages.BlockProposal)]
            shown |= {to for to, each in proposals if each.block == block}
        self.assertEqual(shown, {key.public_hex for key in alone.keys[1:]})
        effects = alone.vouch(2)
        handed = [message for each in alone.node.effects[-4:] for to, message in each.send
                  if to == alone.keys[2].public_hex]
        self.assertIn(mine, handed)
        self.assertIn(alone.proposal(block), handed)

    def test_what_others_said_is_handed_on(self) -> None:
        """While a round does not end each peer in turn is shown the others' words: it may not hear who said them."""
        alone = Chained(4)
        alone.begin()
        block = alone.block()
        alone.say(PREVOTE, 0, block, [1, 2])
        alone.tick(PATIENCE)
        since = len(alone.node.effects)
        alone.tick(3)
        shown = {}
        for effects in alone.node.effects[since:]:
            for to, message in effects.send:
                if isinstance(message, messages.Votes) and message.block_votes:
                    shown[to] = {(word.voter, word.kind, word.block) for word in message.block_votes}
        keys, digest = [key.public_hex for key in alone.keys], alone.hash(block)
        first, second = ((keys[voter], PREVOTE, digest) for voter in (1, 2))
        self.assertEqual(shown, {keys[1]: {second}, keys[2]: {first}, keys[3]: {first, second}})

    def test_a_round_of_silence_is_not_repeated_for_ever(self) -> None:
        """Of many rounds, only the words of the last two are said again."""
        alone = Chained(4)
        alone.begin()
        for round_ in range(6):
            alone.wake(Timer.PROPOSE, round_)
            alone.say(PREVOTE, round_, None, [1, 2, 3])
            alone.say(PRECOMMIT, round_, None, [1, 2, 3])
        alone.tick(PATIENCE + 1)
        again = [message for to, message in alone.node.effects[-1].send if isinstance(message, BlockVote)]
        self.assertEqual({vote.round for vote in again}, {4, 5})


class Liars(SynchronousTestCase):
    def test_a_proposer_with_two_tongues_is_shown_and_gone_past(self) -> None:
        """Two blocks for one round: evidence that anybody can check, once; and the next round decides."""
        alone = Chained(4)
        round_, liar = others_turn(alone)
        alone.begin()
        skip_to(alone, round_)
        one, two = (alone.block(round_=round_, timestamp=alone.now + each) for each in range(2))
        for block in (one, two, one, two):
            alone.propose(block, round_)
        (evidence,) = block_evidence(alone)
        self.assertEqual(evidence.voter, alone.keys[liar].public_hex)
        check_evidence(evidence, alone.set, alone.genesis.hash, lambda tx: None)
        self.assertEqual(alone.said()[-1], ("prevote", round_, alone.hash(one)))
        later, _ = others_turn(alone, round_ + 1, liar)
        skip_to(alone, later)
        good = alone.block(round_=later)
        alone.propose(good, later)
        alone.say(PREVOTE, later, good)
        alone.say(PRECOMMIT, later, good)
        self.assertEqual(alone.tip, 1)

    def test_two_words_of_a_voter_are_evidence_once(self) -> None:
        """Whoever brings them, in whatever message; in the next life they are no news."""
        alone = Chained(4)
        words = [alone.word(PREVOTE, 3, 0, each) for each in (None, "ab" * 32, "cd" * 32)]
        alone.hear(words[0], 3)
        alone.hear(messages.Votes(block_votes=tuple(words)), 1)
        alone.hear(words[1], 3)
        self.assertEqual([each.voter for each in block_evidence(alone)], [alone.keys[3].public_hex])
        self.assertEqual(alone.replica.evidence_count, 1)

    def test_a_flood_of_bodies_pushes_out_nothing_that_counts(self) -> None:
        """Twenty blocks for one round, one for each round to come, before a polka: it is decided, little is kept."""
        alone = Chained(4)
        round_, honest = others_turn(alone)
        alone.begin()
        skip_to(alone, round_)
        good = alone.block(round_=round_)
        alone.propose(good, round_)
        for later in range(round_ + 1, round_ + 5):
            for number in range(20):
                if alone.proposer(later) not in (0, honest):
                    block = self.naming(alone.block(round_=later, timestamp=alone.now + number), 20 * later + number)
                    alone.propose(block, later)
        agreement: Any = alone.replica._agreement
        self.assertLessEqual(len(agreement._blocks), 1 + 4)
        self.assertEqual(alone.replica._finality.wanted, frozenset())
        alone.say(PREVOTE, round_, good)
        alone.say(PRECOMMIT, round_, good)
        self.assertEqual(alone.tip, 1)

    def naming(self, block: Block, number: int) -> Block:
        """The same with fifty transactions that nobody has."""
        named = replace(block, transactions=tuple(f"{number:032x}{each:032x}" for each in range(50)))
        return replace(named, header=replace(named.header, root=named.tree.root.hex()))

    def test_bodies_are_bounded_and_what_binds_stays(self) -> None:
        """A hundred rounds of proposals that nobody wants: the locked block is still at hand, and decides."""
        alone = Chained(4)
        round_, _ = others_turn(alone)
        alone.begin()
        skip_to(alone, round_)
        good = alone.block(round_=round_)
        alone.propose(good, round_)
        alone.say(PREVOTE, round_, good, [1, 2])
        for later in range(round_ + 1, round_ + 60):
            skip_to(alone, later)
            if alone.proposer(later) != 0:
                alone.propose(alone.block(round_=later), later)
        agreement: Any = alone.replica._agreement
        self.assertLessEqual(len(agreement._blocks), limits.BODIES_KEPT)
        self.assertIn(alone.hash(good), agreement._blocks)
        alone.say(PRECOMMIT, round_, good)
        self.assertEqual(alone.tip, 1)
        self.assertEqual(alone.alarms(), [])

    def test_another_body_under_the_honest_hash_comes_first(self) -> None:
        """A liar hands on a changed copy before the proposer's own arrives: the true one is judged and voted for."""
        alone = Chained(4)
        alone.begin()
        good = alone.proposal(alone.block(timestamp=alone.time + alone.genesis.block_interval * 1000))
        coinbase = replace(good.block.coinbase, outputs=())
        for bad in (replace(good.block, coinbase=coinbase), replace(good.block, transactions=("ab" * 32,))):
            effects = alone.hear(replace(good, block=bad), 3)
            self.assertEqual([key for key, _ in effects.blame], [alone.keys[3].public_hex])
        alone.hear(good, alone.proposer())
        self.assertEqual(alone.said(), [("prevote", 0, good.vote.block)])

    def test_proposals_out_of_place_are_nothing(self) -> None:
        """Not their signer's turn; made by or for another's turn; an old block as new; made after its polka."""
        alone = Chained(4)
        alone.begin()
        turn = alone.proposer()
        stranger = next(each for each in alone.others if each != turn)
        block = alone.block()
        wrong = [
            alone.proposal(block, 0, voter=stranger),
            alone.proposal(alone.block(proposer=stranger)),
            alone.proposal(alone.block(round_=4), 0),
            alone.proposal(alone.block(round_=1), 2, 0),
        ]
        for message in wrong:
            alone.hear(message, stranger)
        self.assertEqual((alone.said(), dict(alone.replica._agreement._blocks)), ([], {}))

    def test_a_word_of_another_height_is_no_word_here(self) -> None:
        """Of one gone by: its speaker is shown the blocks, once in a tick. Of one to come: its blocks are asked for."""
        alone = Chained(4)
        alone.decide()
        key = alone.keys[2].public_hex
        for height, kind in ((1, messages.Blocks), (5, messages.GetBlocks)):
            alone.tick(2)
            sent = []
            for round_ in range(5):
                word = alone.word(PREVOTE, 2, round_, None, height=height)
                sent += [message for to, message in alone.hear(word, 2).send if to == key]
            self.assertEqual([type(message) for message in sent], [kind])

    def test_no_word_makes_it_fail(self) -> None:
        """The largest and smallest numbers, at every height and round, from the void: no exception, no alarm."""
        alone = Chained(4)
        alone.begin()
        numbers = (0, 1, 2, 2**31, 2**32 - 1)
        for height in (0, 1, 2, 2**63, 2**64 - 1):
            for round_ in numbers:
                for kind in (PREVOTE, PRECOMMIT):
                    alone.hear(alone.word(kind, 3, round_, "ab" * 32, height=height), 3)
        for since in (0, 1, 2**64 - 1):
            alone.hear(messages.GetBlocks(since=since), 3)
            alone.hear(messages.Blocks(blocks=(), head=since), 3)
        for what in Timer:
            for round_ in numbers:
                alone.wake(what, round_)
        self.assertEqual((alone.alarms(), alone.replica.not_voting), ([], None))


class Together(SynchronousTestCase):
    def test_four_make_blocks_with_one_gone(self) -> None:
        """Whoever is away: the others go on, and the one that comes back has every block."""
        for gone in range(4):
            cluster = Cluster(4, gone)
            cluster.settle(2)
            cluster.pass_time(6_000)
            cluster.kill(gone)
            cluster.submit(cluster.payment(0, 0, 1), (gone + 1) % 4)
            cluster.pass_time(30_000)
            height = cluster.nodes[(gone + 1) % 4].replica.height
            self.assertGreaterEqual(height, 4)
            cluster.restart(gone)
            cluster.pass_time(12_000)
            self.assertEqual(len({node.replica.tip for node in cluster.nodes}), 1)
            self.assertGreater(cluster.nodes[gone].replica.height, height)

    def test_much_that_comes_soon_does_not_wait_for_the_interval(self) -> None:
        """With enough in line the height begins in that step, and not before."""
        self.patch(limits, "BLOCK_WORTH", 2)
        alone = Chained(1, coins=6)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        alone.tick()
        alone.begin()
        for tx in payments[:3]:
            alone.submit(tx)
        self.assertEqual((alone.tip, alone.replica.unconfirmed), (2, 1))
        alone.submit(payments[3])
        self.assertEqual((alone.tip, alone.replica.unconfirmed), (3, 0))

    def test_what_comes_slowly_waits_until_a_block_is_full(self) -> None:
        """The same number later than some seconds after the last block is worth no early one; a full one is."""
        self.patch(limits, "BLOCK_WORTH", 2)
        self.patch(limits, "BLOCK_TRANSACTIONS", 4)
        alone = Chained(1, coins=6)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        alone.tick()
        alone.begin()
        self.assertEqual(alone.tip, 1)
        alone.now += int(limits.BLOCK_HASTE * 1000)
        for number, tx in enumerate(payments[:4]):
            self.assertEqual((alone.tip, alone.replica.unconfirmed), (1, number))
            alone.submit(tx)
        self.assertEqual((alone.tip, alone.replica.unconfirmed), (2, 0))

    def test_who_is_behind_begins_nothing(self) -> None:
        """However much is in line: the others are further on."""
        self.patch(limits, "BLOCK_WORTH", 2)
        alone = Chained(4)
        alone.tick()
        for peer in (1, 2):
            alone.hear(messages.Blocks(blocks=(), head=5), peer)
        final(alone, *[alone.pay([coin]) for coin in alone.coins()[:2]])
        alone.tick(3)
        self.assertEqual(alone.replica.unconfirmed, 2)
        self.assertFalse(alone.replica._agreement._rounds.is_started)

    def test_backlogs_do_not_wait_for_the_interval(self) -> None:
        """With more in line than a block holds the next height begins at once."""
        self.patch(limits, "BLOCK_TRANSACTIONS", 2)
        self.patch(limits, "BLOCK_WORTH", 2)
        alone = Chained(1, coins=6)
        payments = [alone.pay([coin]) for coin in alone.coins()]
        for tx in payments:
            alone.submit(tx)
        alone.tick()
        timers = [each for each in alone.node.effects[-1].timers if each[1].what is Timer.HEIGHT]
        self.assertEqual([(milliseconds, wake.height) for milliseconds, wake in timers][1:], [(0, 2)])
        alone.begin()
        self.assertEqual((alone.tip, alone.replica.unconfirmed), (2, 2))

    def test_a_fast_clock_hurries_nobody(self) -> None:
        """After a block it waits nearly the interval, however late it is by the own clock; only a new life does not."""
        alone = Chained(4)
        interval = alone.genesis.block_interval * 1_000
        least = interval - int(limits.BLOCK_LAG * 1_000)
        for late, expected in ((0, interval), (1_000, interval - 1_000), (600_000, least), (-600_000, interval)):
            block = alone.block(timestamp=alone.time + 100)
            alone.now = block.header.timestamp + late - 1
            alone.hear(messages.Blocks(blocks=(alone.decided(block),), head=alone.height))
            alone.passed(block)
            (timer,) = [timer for timer in alone.node.effects[-1].timers if timer[1].what is Timer.HEIGHT]
            self.assertEqual((timer[1].height, timer[0]), (alone.height, expected))
        alone.start()
        alone.now = alone.time + 600_000
        (timer,) = alone.act(Tick()).timers
        self.assertEqual((timer[1].height, timer[0]), (alone.height, 0))

    def test_a_page_of_blocks_sets_one_timer(self) -> None:
        """Who catches up waits for the height after the last of them, not for each that is decided already."""
        alone = Chained(4)
        page = []
        for _ in range(5):
            block = alone.block()
            page.append(alone.decided(block))
            alone.passed(block)
        effects = alone.hear(messages.Blocks(blocks=tuple(page), head=5))
        self.assertEqual([wake.height for _, wake in effects.timers], [6])

    def test_one_step_takes_words_in_any_order(self) -> None:
        """Proposal, prevotes and precommits in one step, backwards: decided in it."""
        alone = Chained(4)
        alone.begin()
        block = alone.block()
        words: list[tuple[Any, int]] = [(alone.word(kind, voter, 0, block), voter)
                                        for kind in (PRECOMMIT, PREVOTE) for voter in alone.others]
        words.append((alone.proposal(block), alone.proposer()))
        alone.act(*(Heard(message, alone.keys[voter].public_hex) for message, voter in words))
        self.assertEqual(alone.tip, 1)
