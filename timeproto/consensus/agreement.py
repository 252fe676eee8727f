"""The agreement on blocks: feeds the rounds of each height, and does what they say (protocol §6).

Whatever this replica signs here is part of the step's changes, so it is durable before it leaves; and it is signed only
for a place (height, round, kind) later than the last one, whatever happened in between.
"""

from __future__ import annotations

from timeproto import limits
from timeproto.consensus import own_votes
from timeproto.consensus.block_sync import BlockSync
from timeproto.consensus.chain import Chain, Missing
from timeproto.consensus.contest import Contest
from timeproto.consensus.decided import Decisions
from timeproto.consensus.effects import Timer, Wake
from timeproto.consensus.finality import Finality
from timeproto.consensus.rounds import Await, Decide, Propose, Rounds, Say
from timeproto.consensus.utxo_state_manager import IllegalTransition
from timeproto.model.block import Block, BlockVote, BlockVoteKind, Commit, DecidedBlock, Precommit, sign_block_vote
from timeproto.model.ledger import BlockEvidence, SignState
from timeproto.wire import messages

PATIENCE = 2
"""Ticks of one height after which everybody says again what he said: messages may have been lost."""

_ORDER = {BlockVoteKind.PROPOSAL: 0, BlockVoteKind.PREVOTE: 1, BlockVoteKind.PRECOMMIT: 2}


class Agreement:
    """The chain of one replica and its part in making the next block."""

    def __init__(self, finality: Finality, contest: Contest) -> None:
        self._finality = finality
        self._contest = contest
        self.chain = Chain(finality)
        self.sync = BlockSync(finality, self.chain)
        self._decisions = Decisions(finality, self.chain)
        self._signed = finality.ledger.sign_state() or SignState(0, 0)
        self._blocks: dict[str, Block] = {}
        self._senders: dict[str, str] = {}
        self._lacking: dict[str, Missing] = {}
        self._accused: set[str] = set()
        self._fresh: list[BlockVote] = []
        self._age = 0
        self._is_awake = self._is_due = self._is_ripe = False
        self._was_full, self._decided_at = False, 0
        self._rounds = self._next_height()

    def _next_height(self) -> Rounds:
        """Everything about a height that is decided is forgotten; votes for the next one are heard from now on."""
        height = self.chain.tip.height + 1
        kept = self._signed if self._signed.height == height else None
        self._blocks, self._senders, self._lacking = {}, {}, {}
        self._age, self._is_ripe = 0, False
        rounds = Rounds(height, self._finality.masternodes, self._finality.key.public_hex, kept)
        for block in kept.blocks if kept is not None else ():
            self._blocks[block.header.hash(self._finality.genesis.hash)] = block
        return rounds

    @property
    def height(self) -> int:
        """The height that is being agreed on."""
        return self._rounds.height

    @property
    def round(self) -> int:
        return self._rounds.round

    # -- what comes in -------------------------------------------------------------------------------

    def hear_proposal(self, message: messages.BlockProposal, sender: str) -> None:
        """A block that its proposer signed for the place in ``message.vote``; the polka with it is checked already."""
        vote, header = message.vote, message.block.header
        if not self._is_here(vote, sender):
            return
        made_in = vote.round if vote.valid_round is None else vote.valid_round
        if header.proposer != self._rounds.proposer(header.round) or header.round > made_in:
            return
        if vote.voter != self._rounds.proposer(vote.round) or (vote.valid_round is None and header.round != vote.round):
            return
        self._hear(vote)
        if vote.valid_round is not None and vote.block is not None and message.polka:
            self._rounds.show_polka(vote.valid_round, vote.block)
        # One body for a round, or a liar's twenty for its own would push out what everybody else votes on.
        first = self._rounds.proposal(vote.round)
        is_first = first is not None and first.block == vote.block
        if is_first and vote.block is not None and vote.block not in self._blocks:
            self._senders[vote.block] = sender
            self._keep(vote.block, message.block)
        self._is_due = True

    def _keep(self, digest: str, block: Block) -> None:
        """Bodies of this height: the newest, this round's, and what this replica is bound to. So what a quorum
        precommitted is with f + 1 honest ones."""
        self._blocks[digest] = block
        current = self._rounds.proposal(self.round)
        bound = (digest, self._rounds.valid, self._rounds.locked, None if current is None else current.block)
        if len(self._blocks) > limits.BODIES_KEPT:
            oldest = next(each for each in self._blocks if each not in bound)
            del self._blocks[oldest]
            self._rounds.forget(oldest)
            self._senders.pop(oldest, None)
            self._lacking.pop(oldest, None)

    def hear_vote(self, vote: BlockVote, sender: str) -> None:
        if self._is_here(vote, sender):
            self._hear(vote)

    def _is_here(self, vote: BlockVote, sender: str) -> bool:
        """True for a word about this height that is not this replica's own; others lead to where blocks are."""
        if vote.voter == self._finality.key.public_hex:
            self._compare(vote)
            return False
        if vote.height != self.height:
            self.sync.heard_of(vote.height, sender, is_own=vote.voter == sender)
            return False
        return True

    def _hear(self, vote: BlockVote) -> None:
        other = self._rounds.hear(vote)
        if other is not None:
            self._accuse(BlockEvidence(vote.voter, other, vote))
        self._is_due = True
        if not self._rounds.is_started and self._rounds.voices > self._finality.masternodes.faulty:
            self._start()  # an honest one has waited for the interval

    def _accuse(self, evidence: BlockEvidence) -> None:
        if evidence.voter not in self._accused and self._finality.may_accuse(evidence.voter):
            self._accused.add(evidence.voter)
            self._finality.turn.evidence.append(evidence)
            self._finality.evidence += 1

    def _compare(self, vote: BlockVote) -> None:
        """A word signed with this replica's own key: it must remember it, unless the block is decided here."""
        if vote.height < self.height:
            return
        signed = self._signed
        place = vote.height, vote.round, _ORDER[vote.kind]
        same = [mine for mine in signed.votes if mine.place == vote.place]
        if place > _last(signed) or any(mine.block != vote.block for mine in same):
            mandate = self._finality.mandate
            if mandate.is_met or mandate.is_halted:
                own_votes.conflict(self._finality, f"a {vote.kind} for block {vote.height} in round {vote.round}")
            else:
                mandate.doubt_word(vote.height)  # who shows it may be behind: this replica is, perhaps

    def wake(self, wake: Wake) -> None:
        if wake.height != self.height:
            return
        if wake.what is Timer.CONFIRM:
            self._decisions.confirm()
            self._go_on_confirming()
            return
        self._is_due = True
        if wake.what is Timer.HEIGHT:
            self._start()
        else:
            self._rounds.timeout(wake.what, wake.round)

    def _start(self) -> None:
        """Enters the first round once this replica may vote: what it could not say then it would never say."""
        self._is_ripe = True
        if self._finality.not_voting is None:
            self._rounds.start()

    # -- time and links ------------------------------------------------------------------------------

    def link_up(self, peer: str) -> None:
        self.sync.link_up(peer)
        if self._rounds.is_started:
            self._repeat_proposal(peer)
            self._repeat_votes(peer)

    def tick(self, peers: list[str]) -> None:
        """``peers``: the masternodes that can be reached, in order."""
        if not self._is_awake:
            self._is_awake = True
            self._await_height()
            self._go_on_confirming()
        self.sync.tick(peers)
        if self._rounds.is_started:
            self._age += 1
        elif self._is_ripe:
            self._start()
        if peers:
            peer = peers[self._finality.tick % len(peers)]
            self._fetch(peer)
            if self._age > PATIENCE:
                self._repeat_votes(None)
                self._repeat_proposal(peer)  # a whole block: to each in turn
                self._hand_on(peer)
        self._is_due = True

    def _repeat_votes(self, peer: str | None) -> None:
        """This replica's words of the last two rounds again, to ``peer`` or to all."""
        if self._signed.height == self.height:
            votes = (vote for vote in self._signed.votes if vote.kind is not BlockVoteKind.PROPOSAL)
            self._finality.turn.effects.send += [(peer, vote) for vote in votes]

    def _hand_on(self, peer: str) -> None:
        """What the others said in this round: not everybody need hear everybody."""
        me = self._finality.key.public_hex
        words = [word for word in self._rounds.words() if word.voter not in (me, peer)]
        for start in range(0, len(words), limits.WORDS_PAGE):
            page = messages.Votes(block_votes=tuple(words[start : start + limits.WORDS_PAGE]))
            self._finality.turn.effects.send.append((peer, page))

    def _repeat_proposal(self, peer: str) -> None:
        """The proposal of this round, whoever made it: its proposer may be gone."""
        proposal = self._rounds.proposal(self._rounds.round)
        block = None if proposal is None else self._blocks.get(proposal.block or "")
        if proposal is not None and block is not None:
            is_valid = proposal.valid_round is not None and proposal.valid_round == self._rounds.valid_round
            polka = self._rounds.polka if is_valid and proposal.block == self._rounds.valid else ()
            if proposal.valid_round is None or polka:
                message = messages.BlockProposal(vote=proposal, block=block, polka=polka)
                self._finality.turn.effects.send.append((peer, message))

    def _await_height(self, *, is_new: bool = False) -> None:
        """What is left of the interval since the last block, by this replica's clock; nothing while there is more than
        the last block could hold, or where it began before. The clock may be wrong: after a block that came just now it
        shortens the pause by little, or with one liar's word it would make the others hurry too."""
        full = self._is_worth_it or (self._was_full and self._contest.has_verdicts)
        resumes = self._signed.height == self.height
        interval = self._finality.genesis.block_interval * 1000
        least = interval - int(limits.BLOCK_LAG * 1000) if is_new else 0
        left = min(interval, max(0, least, self.chain.tip.timestamp + interval - self._finality.turn.now))
        self._finality.turn.effects.timers.append((0 if full or resumes else left, Wake(self.height, 0, Timer.HEIGHT)))

    @property
    def _is_worth_it(self) -> bool:
        """True if so much is in line, or so much came so soon, that the next block does not wait for the interval."""
        in_line = len(self._finality.unconfirmed)
        if in_line < limits.BLOCK_WORTH:
            return False
        # By when the last block was decided here, since others decided it then too, whatever their clocks say.
        since = abs(self._finality.turn.now - self._decided_at)
        return in_line >= limits.BLOCK_TRANSACTIONS or since < limits.BLOCK_HASTE * 1000

    def _fetch(self, peer: str) -> None:
        """What blocks that are not judged yet name, and is not here."""
        for digest, block in self._blocks.items():
            if self._rounds.judged(digest) is None:
                self._finality.ask_for(self.chain.missing(block), peer)

    def votes_of(self, voter: str) -> tuple[BlockVote, ...]:
        """All that is known of one voter's words at this height."""
        return tuple(self._rounds.votes_of(voter))

    # -- what follows --------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Called at the end of every step, when all that was final or cast in it is settled."""
        finality = self._finality
        self._fresh = []
        height, most = self.height, limits.BLOCK_TRANSACTIONS
        try:
            if self.sync.advance(self._apply, most):
                self._is_due = True
            if self._lacking and any(map(self._is_here_now, self._lacking.values())):
                self._is_due = True
            if self._is_awake and not self._is_ripe and self._is_worth_it and not self.sync.is_behind:
                self._start()
                self._is_due = True
            while self._is_due:
                self._is_due = False
                self._judge()
                self._act()
        except IllegalTransition as broken:
            finality.alarm(broken)
        finality.settle()
        self.chain.prepare(finality.turn.finalized)
        if self.height != height:
            self._decided_at = finality.turn.now
            if not self.sync.is_behind:
                self._await_height(is_new=True)

    def _is_here_now(self, missing: Missing) -> bool:
        """True if the first of them has come; what was here, and is not final, is not looked at in every step."""
        txid = missing.txids[0]
        return txid in self._finality.unconfirmed or (not missing.are_here and self._finality.held(txid) is not None)

    def _judge(self) -> None:
        """What is not judged yet, for want of transactions that may be here now."""
        for digest, block in self._blocks.items():
            if self._rounds.judged(digest) is None:
                judgement = self.chain.judge(block, self._finality.turn.now)
                self._lacking.pop(digest, None)
                if not isinstance(judgement, Missing):
                    self._rounds.judge(digest, judgement)
                    continue
                self._lacking[digest] = judgement
                if digest in self._senders:  # once from whoever showed it; then time asks
                    self._finality.ask_for(judgement.txids, self._senders.pop(digest))
        # A name alone is a liar's to give. A verdict has its certificate; what is final is fetched with its proof.
        self._finality.wanted = self.sync.wanted.union(*(self._blocks[each].committed for each in self._lacking))

    def _act(self) -> None:
        actions = self._rounds.take()
        while actions:
            for action in actions:
                match action:
                    case Say():
                        self._say(action)
                    case Propose():
                        self._propose(action)
                    case Await():
                        self._await(action)
                    case Decide():
                        self._decide(action)
                        return
            actions = self._rounds.take()

    def _await(self, action: Await) -> None:
        base = limits.PROPOSE_TIME if action.what is Timer.PROPOSE else limits.VOTE_TIME
        seconds = min(base + action.round * limits.ROUND_TIME, limits.ROUND_TIME_MAX)
        wake = Wake(self.height, action.round, action.what)
        self._finality.turn.effects.timers.append((int(seconds * 1000), wake))

    def _propose(self, action: Propose) -> None:
        finality = self._finality
        if finality.not_voting is not None:
            return
        digest = action.block
        if digest is None:
            made = self.chain.build(action.round, finality.turn.now, self._contest.verdicts())
            digest = made.header.hash(finality.genesis.hash)
            self._keep(digest, made)
        block = self._blocks[digest]  # the body of what is valid here is kept, over restarts too
        vote = self._sign(BlockVoteKind.PROPOSAL, action.round, digest, action.valid_round)
        if vote is not None:
            message = messages.BlockProposal(vote=vote, block=block, polka=action.polka)
            finality.turn.effects.send.append((None, message))
            self._is_due = True

    def _say(self, action: Say) -> None:
        vote = self._sign(action.kind, action.round, action.block)
        if vote is not None:
            self._finality.turn.effects.send.append((None, vote))

    def _sign(
        self, kind: BlockVoteKind, round_: int, block: str | None, valid_round: int | None = None
    ) -> BlockVote | None:
        """The one place where a word about a block is signed: never for a place at or before the last one signed."""
        finality, rounds = self._finality, self._rounds
        if finality.not_voting is not None or (self.height, round_, _ORDER[kind]) <= _last(self._signed):
            return None
        me, set_hash = finality.key.public_hex, finality.masternodes.hash
        unsigned = BlockVote(kind, me, set_hash, self.height, round_, block, valid_round, "0" * 128)
        vote = sign_block_vote(finality.key, finality.genesis.hash, unsigned)
        rounds.hear(vote)
        before = self._signed.votes if self._signed.height == self.height else ()
        bodies = dict.fromkeys((rounds.valid, self._proposed(round_)))
        self._signed = finality.turn.sign_state = SignState(
            height=self.height,
            round=round_,
            votes=(*(mine for mine in before if mine.round >= round_ - 1 or mine in self._fresh), vote),
            locked=rounds.locked,
            locked_round=rounds.locked_round,
            valid=rounds.valid,
            valid_round=rounds.valid_round,
            polka=rounds.polka,
            blocks=tuple(self._blocks[digest] for digest in bodies if digest in self._blocks),
        )
        self._fresh.append(vote)
        return vote

    def _proposed(self, round_: int) -> str | None:
        """The block that this replica itself proposed in a round."""
        proposal = self._rounds.proposal(round_)
        return proposal.block if proposal is not None and proposal.voter == self._finality.key.public_hex else None

    def _decide(self, action: Decide) -> None:
        masternodes = self._finality.masternodes
        votes = sorted(action.precommits, key=lambda vote: vote.voter)[: masternodes.quorum]
        signatures = tuple(Precommit(vote.voter, vote.signature) for vote in votes)
        commit = Commit(self.height, action.round, action.block, masternodes.hash, signatures)
        self._apply(DecidedBlock(self._blocks[action.block], commit))
        self.sync.passed()

    def _apply(self, decided: DecidedBlock) -> None:
        self._decisions.apply(decided)
        self._finality.settle()
        self.sync.vouch()
        self._rounds = self._next_height()
        self._go_on_confirming()
        self._is_due = True
        self._was_full = self.chain.is_full_of_verdicts(decided.block)

    def _go_on_confirming(self) -> None:
        """In a moment, if anything is left; a wake for a height that has passed is nothing, so one chain goes on."""
        if self._finality.confirming:
            wake = Wake(self.height, 0, Timer.CONFIRM)
            self._finality.turn.effects.timers.append((int(limits.CONFIRM_PAUSE * 1000), wake))


def _last(signed: SignState) -> tuple[int, int, int]:
    """The last place signed, to be compared with others."""
    return max(((vote.height, vote.round, _ORDER[vote.kind]) for vote in signed.votes), default=(0, 0, -1))
