"""The agreement on one block, rule by rule (arXiv 1807.04938, algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from timeproto.consensus.effects import Timer
from timeproto.consensus.rounds import Action, Await, Decide, Judgement, Propose, Rounds, Say, Step
from timeproto.model.block import BlockVote, BlockVoteKind
from timeproto.model.ledger import SignState
from timeproto.model.masternodes import MasternodeSet

PROPOSAL, PREVOTE, PRECOMMIT = BlockVoteKind.PROPOSAL, BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT
GOOD, EARLY, BAD = Judgement.GOOD, Judgement.EARLY, Judgement.BAD
KEYS = [f"{number:064x}" for number in range(7)]
HEIGHT = 28
"""A multiple of 4 and of 7, so that round r is the turn of key r modulo n."""
X, Y, Z = "aa" * 32, "bb" * 32, "cc" * 32
ME = 3


def word(kind: BlockVoteKind, voter: int, round_: int, block: str | None, valid_round: int | None = None) -> BlockVote:
    """What ``voter`` says; whether it is signed is not asked here."""
    return BlockVote(kind, KEYS[voter], "00" * 32, HEIGHT, round_, block, valid_round, "0" * 128)


class Player:
    """One masternode's rounds. What it says is heard by itself, as its shell does; ``did`` is all that came out."""

    def __init__(self, me: int = ME, n: int = 4, kept: SignState | None = None, *, start: bool = True) -> None:
        self.me = me
        self.rounds = Rounds(HEIGHT, MasternodeSet(KEYS[:n]), KEYS[me], kept)
        self.did: list[Action] = []
        if start:
            self.rounds.start()
            self.settle()

    def settle(self) -> None:
        while actions := self.rounds.take():
            for action in actions:
                self.did.append(action)
                if isinstance(action, Say):
                    self.rounds.hear(word(action.kind, self.me, action.round, action.block))

    def hear(self, *words: BlockVote) -> None:
        for each in words:
            self.rounds.hear(each)
        self.settle()

    def all_say(self, kind: BlockVoteKind, round_: int, block: str | None, voters: Iterable[int] = (0, 1, 2)) -> None:
        self.hear(*(word(kind, voter, round_, block) for voter in voters))

    def judge(self, block: str, judgement: Judgement = GOOD) -> None:
        self.rounds.judge(block, judgement)
        self.settle()

    def propose(self, round_: int, block: str, valid_round: int | None = None, judgement: Judgement = GOOD) -> None:
        """The round's proposer shows a block, which is judged at once."""
        self.rounds.judge(block, judgement)
        self.hear(word(PROPOSAL, round_ % 4, round_, block, valid_round))

    def timeout(self, what: Timer, round_: int) -> None:
        self.rounds.timeout(what, round_)
        self.settle()

    def lock(self, round_: int, block: str) -> None:
        """A round in which a polka forms, and no decision."""
        self.propose(round_, block)
        self.all_say(PREVOTE, round_, block, (0, 1))
        self.all_say(PRECOMMIT, round_, None, (0, 1))
        self.timeout(Timer.PRECOMMIT, round_)

    def said(self, round_: int | None = None) -> list[tuple[str, str | None]]:
        """(kind, block) of everything said, or of what was said in one round."""
        return [(str(each.kind), each.block) for each in self.did
                if isinstance(each, Say) and round_ in (None, each.round)]

    def awaited(self, what: Timer) -> list[int]:
        return [each.round for each in self.did if isinstance(each, Await) and each.what is what]

    @property
    def decision(self) -> Decide | None:
        return next((each for each in self.did if isinstance(each, Decide)), None)


class Proposing(SynchronousTestCase):
    def test_the_proposer_proposes_and_the_others_wait_for_it(self) -> None:
        """Round-robin over the set, from the height on; whoever it is not waits for a proposal (lines 11 to 21)."""
        for me in range(4):
            player = Player(me)
            self.assertEqual(Propose(0, None, None, ()) in player.did, me == 0)
            self.assertEqual(player.awaited(Timer.PROPOSE), [0])
        self.assertEqual([Player().rounds.proposer(round_) for round_ in range(5)], [*KEYS[:4], KEYS[0]])

    def test_nothing_happens_before_the_start(self) -> None:
        """Words are counted, none is said."""
        player = Player(0, start=False)
        player.propose(0, X)
        player.all_say(PREVOTE, 0, X, (1, 2, 3))
        self.assertEqual(player.did, [])
        player.rounds.start()
        player.settle()
        self.assertEqual(player.said(), [("prevote", X), ("precommit", X)])

    def test_what_a_quorum_wanted_is_proposed_again_with_its_polka(self) -> None:
        """The valid block and the very prevotes that made it valid (lines 15 and 16)."""
        player = Player()
        player.propose(0, X)
        player.all_say(PREVOTE, 0, X, (0, 1))
        for round_ in range(3):
            player.all_say(PRECOMMIT, round_, None)
            player.timeout(Timer.PRECOMMIT, round_)
        (proposal,) = [each for each in player.did if isinstance(each, Propose)]
        self.assertEqual((proposal.round, proposal.block, proposal.valid_round), (3, X, 0))
        self.assertEqual({vote.voter for vote in proposal.polka}, {KEYS[0], KEYS[1], KEYS[ME]})
        self.assertEqual({(vote.kind, vote.round, vote.block) for vote in proposal.polka}, {(PREVOTE, 0, X)})


class Prevoting(SynchronousTestCase):
    def test_a_good_block_is_prevoted_and_no_other(self) -> None:
        """A bad one, or a new one that is early, gets a vote for nothing; an unjudged one waits (lines 22 to 27)."""
        for judgement, block in ((GOOD, X), (EARLY, None), (BAD, None)):
            player = Player()
            player.hear(word(PROPOSAL, 0, 0, X))
            self.assertEqual(player.said(), [])
            player.judge(X, judgement)
            self.assertEqual(player.said(), [("prevote", block)])

    def test_whose_turn_it_is_not_proposes_nothing(self) -> None:
        """Also not in a round to come."""
        player = Player()
        player.judge(X)
        player.hear(word(PROPOSAL, 1, 0, X), word(PROPOSAL, 0, 1, X))
        self.assertEqual(player.said(), [])
        player.timeout(Timer.PROPOSE, 0)
        self.assertEqual(player.said(), [("prevote", None)])

    def test_time_runs_out_once_and_for_its_own_round(self) -> None:
        """After the prevote, or for another round, or before the start, the time-out is nothing (lines 57 to 60)."""
        player = Player()
        player.timeout(Timer.PROPOSE, 1)
        player.timeout(Timer.PREVOTE, 0)
        self.assertEqual(player.said(), [])
        player.timeout(Timer.PROPOSE, 0)
        player.timeout(Timer.PROPOSE, 0)
        player.propose(0, X)
        self.assertEqual(player.said(), [("prevote", None)])
        asleep = Player(start=False)
        asleep.timeout(Timer.PROPOSE, 0)
        self.assertEqual(asleep.did, [])

    def test_a_block_of_old_is_prevoted_on_its_polka_alone(self) -> None:
        """Proposed again with a round: until that polka is counted or shown nothing is said (lines 28 to 33)."""
        for how in ("counted", "shown"):
            player = Player()
            player.timeout(Timer.PRECOMMIT, 0)
            player.propose(1, X, 0)
            self.assertEqual(player.said(1), [], how)
            if how == "counted":
                player.all_say(PREVOTE, 0, X)
            else:
                # A liar prevoted X to others and Y here: the own count will never show it.
                player.all_say(PREVOTE, 0, X, (0, 1))
                player.all_say(PREVOTE, 0, Y, (2,))
                self.assertEqual(player.said(1), [])
                player.rounds.show_polka(0, X)
                player.settle()
            self.assertEqual(player.said(1), [("prevote", X)], how)

    def test_an_early_block_with_a_polka_is_not_early_any_more(self) -> None:
        """A quorum's clocks have seen its time come; this one's may be behind."""
        player = Player()
        player.timeout(Timer.PRECOMMIT, 0)
        player.rounds.show_polka(0, X)
        player.propose(1, X, 0, EARLY)
        self.assertEqual(player.said(1), [("prevote", X)])
        bad = Player()
        bad.timeout(Timer.PRECOMMIT, 0)
        bad.rounds.show_polka(0, X)
        bad.propose(1, X, 0, BAD)
        self.assertEqual(bad.said(1), [("prevote", None)])


class Locking(SynchronousTestCase):
    def test_a_polka_locks(self) -> None:
        """q prevotes for a good block in this round: precommit it, be locked to it (lines 36 to 43)."""
        player = Player()
        player.propose(0, X)
        player.all_say(PREVOTE, 0, X, (0,))
        self.assertEqual(player.said(), [("prevote", X)])
        player.all_say(PREVOTE, 0, X, (1,))
        self.assertEqual(player.said(), [("prevote", X), ("precommit", X)])
        self.assertEqual((player.rounds.locked, player.rounds.locked_round), (X, 0))
        self.assertEqual((player.rounds.valid, player.rounds.valid_round), (X, 0))

    def test_nobody_locks_what_he_does_not_know(self) -> None:
        """Unjudged, the polka waits; bad, it is nothing; early, it counts."""
        for judgement, block in ((GOOD, X), (EARLY, X), (BAD, None)):
            player = Player()
            player.timeout(Timer.PROPOSE, 0)
            player.all_say(PREVOTE, 0, X)
            self.assertEqual(player.said(), [("prevote", None)])
            player.judge(X, judgement)
            player.timeout(Timer.PREVOTE, 0)
            self.assertEqual(player.said()[1:], [("precommit", block)])

    def test_a_polka_before_the_own_prevote_waits_for_it(self) -> None:
        """The rule asks for step prevote or later."""
        player = Player()
        player.all_say(PREVOTE, 0, X)
        player.judge(X)
        self.assertEqual(player.said(), [])
        player.timeout(Timer.PROPOSE, 0)
        self.assertEqual(player.said(), [("prevote", None), ("precommit", X)])

    def test_a_late_polka_makes_valid_but_does_not_lock(self) -> None:
        """Who has precommitted nothing in the round keeps to that, and proposes the block when its turn comes."""
        player = Player(3, 7)
        player.timeout(Timer.PROPOSE, 0)
        player.all_say(PREVOTE, 0, X, (0, 1, 2, 4))
        player.timeout(Timer.PREVOTE, 0)
        player.judge(X)
        player.hear(word(PREVOTE, 5, 0, X))
        self.assertEqual(player.said(), [("prevote", None), ("precommit", None)])
        self.assertEqual((player.rounds.locked, player.rounds.valid, player.rounds.valid_round), (None, X, 0))

    def test_a_polka_for_nothing_is_a_precommit_for_nothing(self) -> None:
        """Nobody waits for what a quorum did not want (lines 44 to 46)."""
        player = Player()
        player.all_say(PREVOTE, 0, None, (0, 1))
        player.timeout(Timer.PROPOSE, 0)
        self.assertEqual(player.said(), [("prevote", None), ("precommit", None)])
        self.assertEqual(player.rounds.locked, None)

    def test_a_divided_quorum_is_waited_for_once(self) -> None:
        """q prevotes but no polka: some time for the rest, then nothing (lines 34, 35, 61 to 64)."""
        player = Player()
        player.propose(0, X)
        player.all_say(PREVOTE, 0, None, (0, 1))
        self.assertEqual(player.awaited(Timer.PREVOTE), [0])
        player.hear(word(PREVOTE, 2, 0, Y), word(PREVOTE, 2, 0, Y))
        self.assertEqual(player.awaited(Timer.PREVOTE), [0])
        player.timeout(Timer.PREVOTE, 0)
        player.timeout(Timer.PREVOTE, 0)
        self.assertEqual(player.said(), [("prevote", X), ("precommit", None)])

    def test_the_first_word_of_a_voter_stays_and_the_second_is_evidence(self) -> None:
        """A voter with two tongues counts once in each place; repeating oneself is no crime."""
        player = Player()
        player.propose(0, X)
        first = word(PREVOTE, 0, 0, X)
        self.assertIs(player.rounds.hear(first), None)
        self.assertIs(player.rounds.hear(word(PREVOTE, 0, 0, X)), None)
        self.assertEqual(player.rounds.hear(word(PREVOTE, 0, 0, Y)), first)
        self.assertEqual(player.rounds.hear(word(PREVOTE, 0, 0, None)), first)
        self.assertIs(player.rounds.hear(word(PRECOMMIT, 0, 0, Y)), None)
        self.assertIs(player.rounds.hear(word(PREVOTE, 0, 1, Y)), None)
        proposed = player.rounds.proposal(0)
        self.assertEqual(player.rounds.hear(word(PROPOSAL, 0, 0, Y)), proposed)
        self.assertIs(player.rounds.hear(word(PROPOSAL, 1, 0, Y)), None)
        player.settle()
        self.assertEqual(player.said(), [("prevote", X)])


class TheLockRule(SynchronousTestCase):
    def test_the_locked_prevote_nothing_new(self) -> None:
        """Locked to X, and Y is new: nothing. X itself, new or old, is prevoted (line 23)."""
        for block, vote in ((Y, None), (X, X)):
            player = Player()
            player.lock(0, X)
            player.propose(1, block)
            self.assertEqual(player.said(1), [("prevote", vote)])

    def test_a_later_polka_unlocks(self) -> None:
        """Y with a polka of the round of the lock or later: prevoted; and its own polka moves the lock (line 29)."""
        player = Player()
        player.lock(0, X)
        player.timeout(Timer.PROPOSE, 1)
        player.all_say(PRECOMMIT, 1, None)
        player.timeout(Timer.PRECOMMIT, 1)
        player.rounds.show_polka(1, Y)
        player.propose(2, Y, 1)
        self.assertEqual(player.said(2), [("prevote", Y)])
        self.assertEqual((player.rounds.locked, player.rounds.locked_round), (X, 0))
        player.all_say(PREVOTE, 2, Y, (0, 1))
        self.assertEqual(player.said(2), [("prevote", Y), ("precommit", Y)])
        self.assertEqual((player.rounds.locked, player.rounds.locked_round), (Y, 2))

    def test_an_earlier_polka_does_not(self) -> None:
        """Y with a polka older than the lock: nothing; X with an old polka: X, since it is the locked one."""
        for block, vote in ((Y, None), (X, X)):
            player = Player()
            player.timeout(Timer.PROPOSE, 0)
            player.all_say(PRECOMMIT, 0, None)
            player.timeout(Timer.PRECOMMIT, 0)
            player.lock(1, X)
            self.assertEqual(player.rounds.locked_round, 1)
            player.rounds.show_polka(0, block)
            player.propose(2, block, 0)
            self.assertEqual(player.said(2), [("prevote", vote)])

    def test_neither_time_nor_empty_rounds_unlock(self) -> None:
        """Twenty rounds in which everybody else wants nothing, and then somebody's new block."""
        player = Player()
        player.lock(0, X)
        for round_ in range(1, 20):
            player.timeout(Timer.PROPOSE, round_)
            player.all_say(PREVOTE, round_, None)
            player.all_say(PRECOMMIT, round_, None)
        self.assertEqual(player.rounds.round, 20)
        player.propose(20, Y)
        self.assertEqual(player.said(20), [("prevote", None)])
        self.assertEqual(player.rounds.locked, X)


class MovingOn(SynchronousTestCase):
    def test_a_quorum_of_precommits_is_waited_for_in_any_step(self) -> None:
        """Divided, they start the time-out once, and it ends the round (lines 47, 48, 65 to 67)."""
        player = Player()
        player.hear(word(PRECOMMIT, 0, 0, X), word(PRECOMMIT, 1, 0, None), word(PRECOMMIT, 2, 0, None))
        self.assertEqual(player.awaited(Timer.PRECOMMIT), [0])
        player.timeout(Timer.PRECOMMIT, 0)
        self.assertEqual((player.rounds.round, player.rounds.step), (1, Step.PROPOSE))
        self.assertEqual(player.said(), [])
        self.assertEqual(player.awaited(Timer.PROPOSE), [0, 1])

    def test_a_round_that_nobody_wants_ends_at_once(self) -> None:
        """q precommits for nothing, the own one cast: no block can be decided in it any more."""
        player = Player()
        player.all_say(PRECOMMIT, 0, None)
        self.assertEqual(player.rounds.round, 0)
        player.timeout(Timer.PROPOSE, 0)
        player.all_say(PREVOTE, 0, None, (0, 1))
        self.assertEqual(player.rounds.round, 1)

    def test_f_plus_one_in_later_rounds_are_followed(self) -> None:
        """To the round where an honest one must be, and no further (lines 55 and 56)."""
        player = Player()
        player.hear(word(PREVOTE, 0, 9, X), word(PRECOMMIT, 0, 4_000_000_000, X))
        self.assertEqual(player.rounds.round, 0)
        player.hear(word(PREVOTE, 1, 5, None))
        self.assertEqual(player.rounds.round, 5)
        player = Player(3, 7)
        player.hear(word(PREVOTE, 0, 9, X), word(PREVOTE, 1, 8, X))
        self.assertEqual(player.rounds.round, 0)
        player.hear(word(PREVOTE, 2, 3, X), word(PREVOTE, 4, 2, X))
        self.assertEqual(player.rounds.round, 3)

    def test_nothing_goes_back(self) -> None:
        """Words and time-outs of rounds gone by open none again."""
        player = Player()
        player.hear(word(PREVOTE, 0, 3, None), word(PREVOTE, 1, 3, None))
        before = player.said()
        player.propose(0, X)
        player.all_say(PREVOTE, 0, X)
        for what in (Timer.PROPOSE, Timer.PREVOTE, Timer.PRECOMMIT):
            player.timeout(what, 0)
        self.assertEqual((player.rounds.round, player.said()), (3, before))


class Deciding(SynchronousTestCase):
    def test_q_precommits_decide_with_those_precommits(self) -> None:
        """One short is not enough, another block's do not count (lines 49 to 54)."""
        player = Player()
        player.judge(X)
        player.hear(word(PRECOMMIT, 0, 0, X), word(PRECOMMIT, 1, 0, X), word(PRECOMMIT, ME, 0, Y))
        self.assertIsNone(player.decision)
        player.hear(word(PRECOMMIT, 2, 0, X))
        decision = player.decision
        assert decision is not None
        self.assertEqual((decision.round, decision.block), (0, X))
        self.assertEqual([vote.voter for vote in decision.precommits], KEYS[:3])
        self.assertTrue(player.rounds.is_decided)

    def test_nothing_and_the_unknown_and_the_bad_are_not_decided(self) -> None:
        """Precommits for nothing decide nothing; those for a block wait until it is judged; an early one is sound."""
        for judgement, block in ((GOOD, X), (EARLY, X), (BAD, None)):
            player = Player()
            player.all_say(PRECOMMIT, 0, None)
            player.all_say(PRECOMMIT, 1, X)
            self.assertIsNone(player.decision)
            player.judge(X, judgement)
            self.assertEqual(player.decision and player.decision.block, block)

    def test_an_old_round_can_still_decide(self) -> None:
        """The precommits of round 0 come in round 3; and before the start, or without ever a vote of one's own."""
        player = Player()
        player.hear(word(PREVOTE, 0, 3, None), word(PREVOTE, 1, 3, None))
        player.judge(X)
        player.all_say(PRECOMMIT, 0, X)
        self.assertEqual(player.decision and (player.decision.round, player.decision.block), (0, X))
        asleep = Player(start=False)
        asleep.judge(X)
        asleep.all_say(PRECOMMIT, 2, X)
        self.assertEqual(asleep.decision and asleep.decision.round, 2)

    def test_after_the_decision_nothing_more(self) -> None:
        """No vote, no round, no second decision."""
        player = Player()
        player.judge(X)
        player.all_say(PRECOMMIT, 0, X)
        count = len(player.did)
        player.propose(0, X)
        player.all_say(PREVOTE, 0, X)
        player.all_say(PRECOMMIT, 1, X)
        player.timeout(Timer.PRECOMMIT, 0)
        self.assertEqual(len(player.did), count)

    def test_a_forgotten_body_is_not_decided_until_it_is_back(self) -> None:
        """What is not at hand can neither be locked nor applied."""
        player = Player()
        player.judge(X)
        player.rounds.forget(X)
        player.all_say(PRECOMMIT, 0, X)
        self.assertIsNone(player.decision)
        player.judge(X)
        self.assertIsNotNone(player.decision)
