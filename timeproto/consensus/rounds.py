"""Agreement on one block: Tendermint's algorithm as a pure state machine (arXiv 1807.04938, algorithm 1; protocol §6).

A round is a proposal, prevotes for it, precommits for it. A quorum of prevotes (a *polka*) locks a replica to the
block: in later rounds it prevotes nothing else unless a later polka shows that a quorum moved on. A quorum of
precommits decides. The rules are levels: :meth:`Rounds.take` asks all of them again after whatever arrived, in any
order.

It signs nothing, keeps nothing and knows no block but by its hash: what is to be done comes out as values.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, IntEnum, auto

import attrs

from timeproto import limits
from timeproto.consensus.effects import Timer
from timeproto.model.block import BlockVote, BlockVoteKind
from timeproto.model.ledger import SignState
from timeproto.model.masternodes import MasternodeSet

AHEAD = 4
"""Rounds beyond the current one whose votes are kept; of later ones only that a voter was there."""

LAST = 2**31
"""No word for a later round is heard: nobody honest gets there, and rounds must fit their field."""

_PROPOSAL, _PREVOTE, _PRECOMMIT = BlockVoteKind.PROPOSAL, BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT


class Step(IntEnum):
    PROPOSE = 0
    PREVOTE = 1
    """The prevote of the round is cast."""
    PRECOMMIT = 2


class Judgement(Enum):
    """What a replica thinks of a block."""

    GOOD = auto()
    EARLY = auto()
    """Good, but its time is too far ahead of this replica's clock: not to be prevoted when it is new."""
    BAD = auto()


@attrs.frozen
class Say:
    """Sign this, keep it, send it, and let it be heard here too."""

    kind: BlockVoteKind
    round: int
    block: str | None


@attrs.frozen
class Propose:
    """It is this replica's turn: ``block`` again, with its ``polka`` of ``valid_round``, or a new one if None."""

    round: int
    block: str | None
    valid_round: int | None
    polka: tuple[BlockVote, ...]


@attrs.frozen
class Await:
    """Call :meth:`Rounds.timeout` after a while."""

    what: Timer
    round: int


@attrs.frozen
class Decide:
    """q precommits of ``round`` for ``block``: it is decided, for ever."""

    round: int
    block: str
    precommits: tuple[BlockVote, ...]


Action = Say | Propose | Await | Decide


class Rounds:
    """The agreement at one ``height``. The first copy of a voter's word stays; a second, other one is evidence."""

    def __init__(self, height: int, masternodes: MasternodeSet, me: str, kept: SignState | None = None) -> None:
        """``kept``: what this replica signed at this height in an earlier life."""
        self.height = height
        self.round = 0
        self.step = Step.PROPOSE
        self.locked: str | None = None
        self.locked_round: int | None = None
        self.valid: str | None = None
        self.valid_round: int | None = None
        self.polka: tuple[BlockVote, ...] = ()
        self.is_started = False
        self.is_decided = False
        self._masternodes = masternodes
        self._me = me
        self._proposals: dict[int, BlockVote] = {}
        self._votes: dict[tuple[int, BlockVoteKind], dict[str, BlockVote]] = {}
        self._shown: set[tuple[int, str]] = set()
        self._judged: dict[str, Judgement] = {}
        self._heard_in: dict[str, int] = {}
        self._once: set[tuple[int, str]] = set()
        self._out: list[Action] = []
        if kept is not None and kept.height == height:
            self._resume(kept)

    def _resume(self, kept: SignState) -> None:
        self.round = kept.round
        self.locked, self.locked_round = kept.locked, kept.locked_round
        self.valid, self.valid_round, self.polka = kept.valid, kept.valid_round, kept.polka
        if self.valid is not None and self.valid_round is not None:
            self.show_polka(self.valid_round, self.valid)  # the votes themselves may never be heard again
        for vote in kept.votes:
            self.hear(vote)
        kinds = {vote.kind for vote in kept.votes if vote.round == kept.round}
        if _PRECOMMIT in kinds:
            self.step = Step.PRECOMMIT
        elif _PREVOTE in kinds:
            self.step = Step.PREVOTE

    # -- what comes in -------------------------------------------------------------------------------

    def start(self) -> None:
        """Enter the first round, or the one of an earlier life."""
        if not self.is_started:
            self.is_started = True
            self._enter(self.round, resumed=self.step is not Step.PROPOSE)

    def hear(self, vote: BlockVote) -> BlockVote | None:
        """Count a word of this height whose signature holds; returns the voter's other word for the same place."""
        if vote.round > LAST:
            return None
        self._heard_in[vote.voter] = max(vote.round, self._heard_in.get(vote.voter, 0))
        if not self.round - limits.ROUNDS_KEPT < vote.round <= self.round + AHEAD:
            return None
        if vote.kind is _PROPOSAL:
            if vote.voter != self.proposer(vote.round):
                return None
            first = self._proposals.setdefault(vote.round, vote)
        else:
            first = self._votes.setdefault((vote.round, vote.kind), {}).setdefault(vote.voter, vote)
        return None if first.block == vote.block else first

    def show_polka(self, round_: int, block: str) -> None:
        """q prevotes of ``round_`` for ``block`` were shown: counted here or not, they are there."""
        self._shown.add((round_, block))

    def judge(self, block: str, judgement: Judgement) -> None:
        self._judged[block] = judgement

    def forget(self, block: str) -> None:
        """The block is not at hand any more: nothing follows from it until it is judged again."""
        self._judged.pop(block, None)

    def timeout(self, what: Timer, round_: int) -> None:
        if round_ != self.round or not self.is_started or self.is_decided:
            return
        if what is Timer.PROPOSE and self.step is Step.PROPOSE:
            self._cast(_PREVOTE, None)
        elif what is Timer.PREVOTE and self.step is Step.PREVOTE:
            self._cast(_PRECOMMIT, None)
        elif what is Timer.PRECOMMIT:
            self._enter(self.round + 1)

    def take(self) -> list[Action]:
        """What follows from all that came in, in order; call again after it was done, until nothing follows."""
        if not self._out and not self.is_decided:
            while self._decide() or (self.is_started and self._advance()):
                if self._out:
                    break  # what is said counts at once: it is heard before the rules are asked again
        out, self._out = self._out, []
        return out

    # -- what is known -------------------------------------------------------------------------------

    def proposer(self, round_: int) -> str:
        """Round-robin over (height, round)."""
        keys = self._masternodes.keys
        return keys[(self.height + round_) % len(keys)]

    def proposal(self, round_: int) -> BlockVote | None:
        return self._proposals.get(round_)

    def judged(self, block: str) -> Judgement | None:
        return self._judged.get(block)

    @property
    def voices(self) -> int:
        """How many masternodes have spoken at this height."""
        return len(self._heard_in)

    def votes_of(self, voter: str) -> Iterator[BlockVote]:
        """Everything kept of one voter."""
        yield from (vote for vote in self._proposals.values() if vote.voter == voter)
        yield from (votes[voter] for votes in self._votes.values() if voter in votes)

    def words(self) -> Iterator[BlockVote]:
        """The prevotes and precommits of this round, and of the one before."""
        for (round_, _), votes in self._votes.items():
            if round_ in (self.round - 1, self.round):
                yield from votes.values()

    # -- the rules -----------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """One rule that applies, if any does; true if one did."""
        return self._skip() or self._prevote() or self._lock() or self._give_up() or self._move_on() or self._wait()

    def _decide(self) -> bool:
        """Lines 49 to 54: q precommits of any round for one block that is good."""
        for (round_, kind), votes in self._votes.items():
            if kind is not _PRECOMMIT or len(votes) < self._masternodes.quorum:
                continue
            for block in dict.fromkeys(vote.block for vote in votes.values()):
                mine = tuple(vote for vote in votes.values() if vote.block == block)
                if block is not None and len(mine) >= self._masternodes.quorum and self._is_sound(block):
                    self.is_decided = True
                    self._out.append(Decide(round_, block, mine))
                    return True
        return False

    def _skip(self) -> bool:
        """Lines 55 and 56: f + 1 are in later rounds, so an honest one is."""
        if max(self._heard_in.values(), default=0) <= self.round:
            return False
        later = sorted((round_ for round_ in self._heard_in.values() if round_ > self.round), reverse=True)
        if len(later) <= self._masternodes.faulty:
            return False
        self._enter(later[self._masternodes.faulty])
        return True

    def _prevote(self) -> bool:
        """Lines 22 to 33: for the proposal, unless it is bad or we are locked to another that it does not outdate."""
        proposal = self._proposals.get(self.round)
        if self.step is not Step.PROPOSE or proposal is None or proposal.block is None:
            return False
        block, valid_round = proposal.block, proposal.valid_round
        judgement = self._judged.get(block)
        if judgement is None:
            return False
        if valid_round is None:
            good = judgement is Judgement.GOOD and self.locked in (None, block)
        elif self._is_shown(valid_round, block) or self._has_polka(valid_round, block):
            outdated = self.locked_round is None or self.locked_round <= valid_round
            good = judgement is not Judgement.BAD and (outdated or self.locked == block)
        else:
            return False
        self._cast(_PREVOTE, block if good else None)
        return True

    def _lock(self) -> bool:
        """Lines 36 to 43: a polka for a good block locks, once for each round."""
        if self.step is Step.PROPOSE or (self.round, "lock") in self._once:
            return False
        for vote in self._votes.get((self.round, _PREVOTE), {}).values():
            block = vote.block
            if block is not None and self._is_sound(block) and self._has_polka(self.round, block):
                self._once.add((self.round, "lock"))
                self.valid, self.valid_round = block, self.round
                votes = self._votes[self.round, _PREVOTE].values()
                self.polka = tuple(vote for vote in votes if vote.block == block)
                if self.step is Step.PREVOTE:
                    self.locked, self.locked_round = block, self.round
                    self._cast(_PRECOMMIT, block)
                return True
        return False

    def _give_up(self) -> bool:
        """Lines 44 to 46: a quorum found nothing to prevote."""
        if self.step is Step.PREVOTE and self._has_polka(self.round, None):
            self._cast(_PRECOMMIT, None)
            return True
        return False

    def _move_on(self) -> bool:
        """A quorum precommitted nothing: no block can be decided in this round any more, so nobody need wait."""
        if self.step is Step.PRECOMMIT and self._count(_PRECOMMIT, None) >= self._masternodes.quorum:
            self._enter(self.round + 1)
            return True
        return False

    def _wait(self) -> bool:
        """Lines 34, 35, 47 and 48: a quorum has voted, but not for one thing."""
        quorum = self._masternodes.quorum
        for what, kind, due in (
            (Timer.PREVOTE, _PREVOTE, self.step is Step.PREVOTE),
            (Timer.PRECOMMIT, _PRECOMMIT, True),
        ):
            mark = self.round, kind.value
            if due and mark not in self._once and len(self._votes.get((self.round, kind), ())) >= quorum:
                self._once.add(mark)
                self._out.append(Await(what, self.round))
                return True
        return False

    # -- within --------------------------------------------------------------------------------------

    def _enter(self, round_: int, *, resumed: bool = False) -> None:
        """Lines 11 to 21."""
        self.round = round_
        oldest = round_ - limits.ROUNDS_KEPT
        self._votes = {key: votes for key, votes in self._votes.items() if key[0] > oldest}
        self._proposals = {at: proposal for at, proposal in self._proposals.items() if at > oldest}
        named = {(proposal.valid_round, proposal.block) for proposal in self._proposals.values()}
        self._shown = {key for key in self._shown if key[0] > oldest or key in named}
        self._once = {key for key in self._once if key[0] > oldest}
        if resumed:
            return
        self.step = Step.PROPOSE
        if self.proposer(round_) == self._me and round_ not in self._proposals:
            self._out.append(Propose(round_, self.valid, self.valid_round, self.polka if self.valid else ()))
        self._out.append(Await(Timer.PROPOSE, round_))

    def _cast(self, kind: BlockVoteKind, block: str | None) -> None:
        self.step = Step.PREVOTE if kind is _PREVOTE else Step.PRECOMMIT
        self._out.append(Say(kind, self.round, block))

    def _has_polka(self, round_: int, block: str | None) -> bool:
        return self._count(_PREVOTE, block, round_) >= self._masternodes.quorum

    def _count(self, kind: BlockVoteKind, block: str | None, round_: int | None = None) -> int:
        votes = self._votes.get((self.round if round_ is None else round_, kind), {}).values()
        return sum(vote.block == block for vote in votes)

    def _is_shown(self, round_: int, block: str) -> bool:
        """A polka was shown, or is the one this replica proposes with: however long ago, it outdates locks for ever."""
        return (round_, block) in self._shown or (round_, block) == (self.valid_round, self.valid)

    def _is_sound(self, block: str) -> bool:
        return self._judged.get(block) in (Judgement.GOOD, Judgement.EARLY)
