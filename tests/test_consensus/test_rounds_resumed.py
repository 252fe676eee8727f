"""The agreement on one block in another life, and with ten thousand rounds to remember."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_consensus.test_rounds import HEIGHT, KEYS, ME, PRECOMMIT, PREVOTE, PROPOSAL, Player, X, Y, word
from timeproto import limits
from timeproto.consensus.effects import Timer
from timeproto.consensus.rounds import AHEAD, Propose, Step
from timeproto.model.block import BlockVote
from timeproto.model.ledger import SignState


def kept(*votes: BlockVote, **more: Any) -> SignState:
    """What was signed last, as it is read back from the disk."""
    return SignState(HEIGHT, max(vote.round for vote in votes), votes, **more)


class AnotherLife(SynchronousTestCase):
    def test_after_a_proposal_it_is_not_made_again(self) -> None:
        """It is prevoted when it is judged; the round goes on."""
        player = Player(0, kept=kept(word(PROPOSAL, 0, 0, X)))
        self.assertFalse(any(isinstance(each, Propose) for each in player.did))
        player.judge(X)
        self.assertEqual(player.said(), [("prevote", X)])

    def test_after_a_prevote_there_is_no_second(self) -> None:
        """Not on the proposal, not on its time-out; a polka still locks, and the own prevote counts for it."""
        player = Player(kept=kept(word(PREVOTE, ME, 2, X)))
        self.assertEqual((player.rounds.round, player.rounds.step), (2, Step.PREVOTE))
        player.propose(2, X)
        player.timeout(Timer.PROPOSE, 2)
        self.assertEqual(player.said(), [])
        player.all_say(PREVOTE, 2, X, (0, 1))
        self.assertEqual(player.said(), [("precommit", X)])

    def test_after_a_precommit_there_is_no_second(self) -> None:
        """Another polka of that round changes no word; the own precommit counts towards the decision."""
        votes = word(PREVOTE, ME, 2, X), word(PRECOMMIT, ME, 2, X)
        player = Player(kept=kept(*votes, locked=X, locked_round=2, valid=X, valid_round=2))
        player.judge(X)
        player.all_say(PREVOTE, 2, X)
        self.assertEqual(player.said(), [])
        player.all_say(PRECOMMIT, 2, X, (0, 1))
        self.assertEqual(player.decision and player.decision.block, X)

    def test_a_lock_outlives_its_process(self) -> None:
        """Locked to X before the crash: Y, new in the next round, gets nothing."""
        votes = word(PREVOTE, ME, 0, X), word(PRECOMMIT, ME, 0, X)
        player = Player(kept=kept(*votes, locked=X, locked_round=0, valid=X, valid_round=0))
        player.all_say(PRECOMMIT, 0, None)
        player.timeout(Timer.PRECOMMIT, 0)
        player.propose(1, Y)
        self.assertEqual(player.said(1), [("prevote", None)])

    def test_the_polka_of_before_is_still_one(self) -> None:
        """Its votes may never be heard again: what the proposer proposes with it, it prevotes itself."""
        polka = tuple(word(PREVOTE, voter, 0, X) for voter in (0, 1, ME))
        votes = word(PREVOTE, ME, 2, None), word(PRECOMMIT, ME, 2, None)
        player = Player(kept=kept(*votes, locked=X, locked_round=0, valid=X, valid_round=0, polka=polka))
        player.judge(X)
        player.all_say(PRECOMMIT, 2, None, (0, 1))
        proposal = player.did[-2]
        self.assertEqual(proposal, Propose(3, X, 0, polka))
        player.hear(word(PROPOSAL, ME, 3, X, 0))
        self.assertEqual(player.said(3), [("prevote", X)])

    def test_another_heights_words_bind_nobody(self) -> None:
        """The state of the block before says nothing about this one."""
        old = SignState(HEIGHT - 1, 5, (), locked=X, locked_round=5, valid=X, valid_round=5)
        player = Player(0, kept=old)
        self.assertIn(Propose(0, None, None, ()), player.did)
        self.assertEqual((player.rounds.round, player.rounds.locked), (0, None))

    def test_who_resumes_in_the_middle_of_a_round_needs_no_lost_timer(self) -> None:
        """In each step, the words of the others bring it on."""
        for votes in ([word(PREVOTE, ME, 1, None)], [word(PREVOTE, ME, 1, None), word(PRECOMMIT, ME, 1, None)]):
            player = Player(kept=kept(*votes))
            player.hear(word(PREVOTE, 0, 1, None), word(PREVOTE, 1, 1, X))
            player.timeout(Timer.PREVOTE, 1)
            player.hear(word(PRECOMMIT, 0, 1, None), word(PRECOMMIT, 1, 1, X))
            player.timeout(Timer.PRECOMMIT, 1)
            self.assertEqual((player.rounds.round, player.rounds.step), (2, Step.PROPOSE))


class Bounded(SynchronousTestCase):
    def count(self, player: Player) -> int:
        return sum(len(list(player.rounds.votes_of(key))) for key in KEYS[:4])

    def test_a_liar_cannot_fill_it(self) -> None:
        """Words for ten thousand rounds, two for each place: kept are those of a few rounds, one for each place."""
        player = Player()
        for round_ in range(0, 100_000, 10):
            for block in (X, Y):
                player.hear(word(PREVOTE, 0, round_, block), word(PRECOMMIT, 0, round_, block),
                            word(PROPOSAL, 0, round_, block))
        self.assertLessEqual(self.count(player), 3 * (AHEAD + 1))
        self.assertEqual(player.rounds.round, 0)

    def test_many_rounds_keep_the_last_ones(self) -> None:
        """After 300 rounds of everybody: so many rounds of words, and no trace of the others."""
        player = Player()
        for round_ in range(300):
            player.rounds.show_polka(round_, X)
            player.timeout(Timer.PROPOSE, round_)
            player.all_say(PREVOTE, round_, None)
            player.all_say(PRECOMMIT, round_, None)
        self.assertEqual(player.rounds.round, 300)
        self.assertLessEqual(self.count(player), 4 * 3 * (limits.ROUNDS_KEPT + AHEAD))
        for name, value in vars(player.rounds).items():
            if isinstance(value, dict | set | list):
                self.assertLessEqual(len(value), 3 * limits.ROUNDS_KEPT, name)

    def test_who_left_the_window_finds_back(self) -> None:
        """Words too far ahead are not kept, but tell where the others are; said again there, they count."""
        player = Player()
        far = 3 * limits.ROUNDS_KEPT
        for _ in range(2):
            player.propose(far, X)
            player.all_say(PREVOTE, far, X)
        self.assertEqual(player.rounds.round, far)
        self.assertEqual(player.said(far), [("prevote", X), ("precommit", X)])
