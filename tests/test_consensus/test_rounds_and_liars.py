"""n rounds machines, f liars, and a network that does what it likes: never two blocks, and in the end one.

The machines are the real ones; what stands around each (judging, keeping, repeating) does no more than its shell
promises.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.test_consensus.test_rounds import HEIGHT, KEYS, PRECOMMIT, PREVOTE, PROPOSAL, word
from timeproto.consensus.rounds import Await, Decide, Judgement, Propose, Rounds, Say
from timeproto.model.block import BlockVote
from timeproto.model.ledger import SignState
from timeproto.model.masternodes import MasternodeSet, quorum

BAD = "ff" * 32
"""A block that everybody finds bad. Names of others begin with their proposer."""


class Honest:
    """One machine, its disk, and what it has to do with blocks: it judges one when it sees it."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.disk: SignState | None = None
        self.said: list[tuple[BlockVote, frozenset[BlockVote]]] = []
        self.decided: str | None = None
        self.timers: list[Await] = []
        self.start()

    def start(self) -> None:
        """A new life: nothing is left but the disk, and what it said itself."""
        self.rounds = Rounds(HEIGHT, self.world.set, KEYS[self.number], self.disk)
        self.timers = []
        for block in {vote.block for vote, _ in self.said} - {None}:
            self.see(block or "")
        self.rounds.start()
        self.settle()

    def see(self, block: str) -> None:
        early = self.world.chance.random() < 0.1 and not block.startswith(f"{self.number:02x}")
        if self.rounds.judged(block) is None:
            good = Judgement.EARLY if early else Judgement.GOOD
            self.rounds.judge(block, Judgement.BAD if block == BAD else good)

    def hear(self, vote: BlockVote, polka: frozenset[BlockVote]) -> None:
        if self.decided is not None:
            return
        if vote.kind is PROPOSAL and vote.block is not None:
            if vote.valid_round is not None:
                self.rounds.show_polka(vote.valid_round, vote.block)
            self.see(vote.block)
        self.rounds.hear(vote)
        self.settle()

    def settle(self) -> None:
        while self.decided is None and (actions := self.rounds.take()):
            for action in actions:
                if isinstance(action, Say):
                    self.say(word(action.kind, self.number, action.round, action.block))
                elif isinstance(action, Propose):
                    block = action.block or f"{self.number:02x}{action.round:062x}"
                    self.see(block)
                    vote = word(PROPOSAL, self.number, action.round, block, action.valid_round)
                    self.say(vote, frozenset(action.polka))
                elif isinstance(action, Await):
                    self.timers.append(action)
                elif isinstance(action, Decide):
                    self.world.check(action)
                    self.decided = action.block
                    return

    def say(self, vote: BlockVote, polka: frozenset[BlockVote] = frozenset()) -> None:
        """Kept before it is sent, as the shell does it; never a second word for one place."""
        assert vote.place not in {mine.place for mine, _ in self.said}, f"{self.number} said two things: {vote}"
        self.said.append((vote, polka))
        self.rounds.hear(vote)
        rounds = self.rounds
        recent = tuple(mine for mine, _ in self.said if mine.round >= vote.round - 1)
        locked, valid = (rounds.locked, rounds.locked_round), (rounds.valid, rounds.valid_round, rounds.polka)
        self.disk = SignState(HEIGHT, vote.round, recent, *locked, *valid)
        self.world.send(vote, polka)

    def serve(self) -> None:
        """The oldest timer runs out."""
        if self.timers:
            timer = self.timers.pop(0)
            self.rounds.timeout(timer.what, timer.round)
            self.settle()

    def repeat(self) -> None:
        """Its words of the last two rounds it spoke in, as patience makes it do."""
        last = max((vote.round for vote, _ in self.said), default=0)
        for vote, polka in self.said:
            if vote.round >= last - 1:
                self.world.send(vote, polka)


class World:
    """The first f masternodes are liars; everything they and chance do comes from the seed."""

    def __init__(self, seed: int, n: int) -> None:
        self.chance = random.Random(seed)
        self.n, self.liars = n, list(range((n - 1) // 3))
        self.set = MasternodeSet(KEYS[:n])
        self.wire: list[tuple[int, BlockVote, frozenset[BlockVote]]] = []
        self.spoken: set[BlockVote] = set()
        self.decisions: set[str | None] = set()
        self.honest: list[Honest] = []
        for number in range(len(self.liars), n):
            self.honest.append(Honest(self, number))

    def send(self, vote: BlockVote, polka: frozenset[BlockVote], to: int | None = None) -> None:
        self.spoken.add(vote)
        for other in range(len(self.liars), self.n) if to is None else [to]:
            if KEYS[other] != vote.voter:
                self.wire.append((other, vote, polka))

    def node(self, number: int) -> Honest:
        return self.honest[number - len(self.liars)]

    def check(self, decision: Decide) -> None:
        voters = {vote.voter for vote in decision.precommits}
        assert len(voters) >= quorum(self.n)
        assert {(vote.kind, vote.round, vote.block) for vote in decision.precommits} == {
            (PRECOMMIT, decision.round, decision.block)
        }
        self.decisions.add(decision.block)
        assert len(self.decisions) == 1 and BAD not in self.decisions, f"decided {self.decisions}"

    def deliver(self) -> None:
        if self.wire:
            at = self.chance.randrange(len(self.wire))
            to, vote, polka = self.wire[at]
            if self.chance.random() < 0.9:  # or it comes again
                self.wire[at] = self.wire[-1]
                self.wire.pop()
            self.node(to).hear(vote, polka)

    def lie(self) -> None:
        """A liar says anything for a round near the others', to one of them: votes for and against everything, other
        blocks to each, an old block with any polka that can be shown."""
        chance = self.chance
        liar = chance.choice(self.liars)
        to = chance.choice(self.honest)
        round_ = max(0, to.rounds.round + chance.randint(-1, 1))
        blocks = sorted({vote.block for vote in self.spoken if vote.block is not None}) or [BAD]
        own = f"{liar:02x}{chance.randrange(3):062x}"
        kind = chance.choice([PREVOTE, PREVOTE, PRECOMMIT, PRECOMMIT, PROPOSAL])
        if kind is not PROPOSAL:
            block = chance.choice([None, own, BAD, chance.choice(blocks), chance.choice(blocks)])
            self.send(word(kind, liar, round_, block), frozenset(), to.number)
            return
        valid = [(at, block, polka) for at, block, polka in self.polkas() if at < round_]
        if valid and chance.random() < 0.5:
            at, block, polka = chance.choice(valid)
            self.send(word(PROPOSAL, liar, round_, block, at), polka, to.number)
        else:
            self.send(word(PROPOSAL, liar, round_, chance.choice([own, own, BAD])), frozenset(), to.number)

    def polkas(self) -> list[tuple[int, str, frozenset[BlockVote]]]:
        """Every polka that can be shown, with the liars' own prevotes for whatever they like."""
        votes: dict[tuple[int, str], set[str]] = {}
        for vote in self.spoken:
            if vote.kind is PREVOTE and vote.block is not None and vote.voter not in KEYS[: len(self.liars)]:
                votes.setdefault((vote.round, vote.block), set()).add(vote.voter)
        found = []
        for (round_, block), voters in sorted(votes.items()):
            if len(voters) + len(self.liars) >= quorum(self.n):
                everybody = voters | set(KEYS[: len(self.liars)])
                polka = frozenset(word(PREVOTE, KEYS.index(voter), round_, block) for voter in everybody)
                found.append((round_, block, polka))
        return found

    def storm(self, steps: int) -> None:
        """Anything, in any order; some die and start again."""
        chance = self.chance
        for _ in range(steps):
            match chance.randrange(12):
                case 0 | 1 | 2:
                    self.lie()
                case 3:
                    chance.choice(self.honest).serve()
                case 4 if chance.random() < 0.2:
                    node = chance.choice(self.honest)
                    self.wire = [each for each in self.wire if each[0] != node.number]
                    if node.decided is None:
                        node.start()
                case 5 if chance.random() < 0.1:
                    self.wire = chance.sample(self.wire, len(self.wire) // 2)
                case 6:
                    chance.choice(self.honest).repeat()
                case _:
                    self.deliver()

    def calm(self, most: int) -> int:
        """From now on everything arrives in time, and the liars go on; returns how many time-outs it took."""
        for patience in range(most):
            for node in self.honest:
                node.repeat()
            for _ in range(2):
                self.lie()
            while self.wire:
                to, vote, polka = self.wire.pop(0)
                self.node(to).hear(vote, polka)
            if self.decisions:
                return patience
            for node in self.honest:
                node.serve()
        raise AssertionError("nothing was decided")


class AgainstLiars(SynchronousTestCase):
    @settings(max_examples=120)
    @given(st.integers(0, 2**32))
    def test_four(self, seed: int) -> None:
        """One liar of four: never two blocks, and one in the end; nobody honest says two things in any of its lives."""
        world = World(seed, 4)
        world.storm(300)
        world.calm(60)

    @settings(max_examples=30)
    @given(st.integers(0, 2**32))
    def test_seven(self, seed: int) -> None:
        """Two liars of seven."""
        world = World(seed, 7)
        world.storm(700)
        world.calm(60)

    def test_the_storm_is_one(self) -> None:
        """Otherwise nothing was shown: some runs decide in the storm and some after it, in early rounds and in late."""
        early = late = high = 0
        for seed in range(25):
            world = World(seed, 4)
            world.storm(300)
            early += bool(world.decisions)
            late += not world.decisions
            world.calm(60)
            high += max(node.rounds.round for node in world.honest) > 3
        self.assertGreater(min(early, late, high), 2, (early, late, high))
