"""What honest masternodes may say about blocks: the rules of Tendermint, read off what leaves them (protocol §6).

As with payments, whatever a faulty masternode could have signed counts as signed.
"""

from __future__ import annotations

from typing import Any

from timeproto.model.block import BlockVote, BlockVoteKind
from timeproto.model.ledger import SignState
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.scene import Scene
from timeproto.sim.trace import short
from timeproto.wire import messages

_PROPOSAL, _PREVOTE, _PRECOMMIT = BlockVoteKind.PROPOSAL, BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT


class RoundChecks:
    def __init__(self, scene: Scene) -> None:
        self._genesis, self._faulty, self._tally = scene.genesis, scene.faulty, scene.tally
        self._quorum = scene.genesis.masternode_set.quorum
        self._said: dict[tuple[str, int, int, str], BlockVote] = {}
        self._taken: set[str] = set()
        self._voters: dict[tuple[str, int, int, str | None], set[str]] = {}
        self._locked: dict[tuple[str, int], BlockVote] = {}
        self._decidable: dict[int, str] = {}

    def kept(self, node: Masternode, state: SignState | None) -> None:
        """What an honest masternode has made durable counts as signed."""
        for vote in () if state is None else state.votes:
            before = self._said.setdefault((vote.voter, *vote.place), vote)
            if before is vote:
                self._take(vote)
            elif before != vote:
                raise Broken(4, "I-2", f"{short(vote.voter)} signed two words for {vote.place}: {before} and {vote}")

    def _take(self, vote: BlockVote) -> None:
        if vote.signature in self._taken:
            return
        self._taken.add(vote.signature)
        self._voters.setdefault((vote.kind, vote.height, vote.round, vote.block), set()).add(vote.voter)
        if vote.kind is _PROPOSAL:
            self._check_proposal(vote)
        elif vote.kind is _PREVOTE:
            self._check_prevote(vote)
        else:
            self._check_precommit(vote)

    def sent(self, node: Masternode, message: Any) -> None:
        match message:
            case BlockVote():
                self._check_sent(node, message)
            case messages.BlockProposal():
                self._check_sent(node, message.vote)
                for vote in message.polka:
                    self._check_sent(node, vote)
            case messages.Votes():
                for vote in message.block_votes:
                    self._check_sent(node, vote)

    def _check_sent(self, node: Masternode, vote: BlockVote) -> None:
        said = self._said.get((vote.voter, *vote.place))
        if said is vote or said == vote:
            return
        if vote.voter == node.name:
            raise Broken(4, "I-3", f"{short(node.name)} sent a {vote.kind} that it did not keep: {vote.place}")
        if vote.voter not in self._faulty or not vote.verify(self._genesis.hash):
            raise Broken(4, "I-14", f"{short(node.name)} hands on a word that {short(vote.voter)} did not sign")

    def _can_have_quorum(self, kind: BlockVoteKind, height: int, round_: int, block: str | None) -> bool:
        return len(self._voters.get((kind, height, round_, block), ())) + len(self._faulty) >= self._quorum

    def _check_proposal(self, vote: BlockVote) -> None:
        keys = self._genesis.masternode_set.keys
        if keys[(vote.height + vote.round) % len(keys)] != vote.voter:
            raise Broken(5, "I-12", f"{short(vote.voter)} proposes out of turn: {vote.place}")
        if vote.valid_round is not None:
            self._tally.saw("proposed again")
            if not self._can_have_quorum(_PREVOTE, vote.height, vote.valid_round, vote.block):
                raise Broken(5, "I-5", f"{short(vote.voter)} names a polka that cannot be: {vote.place}")

    def _check_prevote(self, vote: BlockVote) -> None:
        """Whoever is locked prevotes another block only if a quorum moved on since."""
        locked = self._locked.get((vote.voter, vote.height))
        if vote.round > 0:
            self._tally.count("words in later rounds")
        if locked is None or vote.block is None or locked.block == vote.block or locked.round >= vote.round:
            return
        rounds = range(locked.round, vote.round)
        if not any(self._can_have_quorum(_PREVOTE, vote.height, each, vote.block) for each in rounds):
            raise Broken(
                5, "I-11", f"{short(vote.voter)} is locked to {short(locked.block)} since round {locked.round} of block"
                f" {vote.height}, and prevotes {short(vote.block)} in round {vote.round}",
            )
        self._tally.saw("lock moved")

    def _check_precommit(self, vote: BlockVote) -> None:
        if vote.block is None:
            return
        if not self._can_have_quorum(_PREVOTE, vote.height, vote.round, vote.block):
            raise Broken(5, "I-5", f"{short(vote.voter)} precommits without a polka: {vote.place}")
        locked = self._locked.get((vote.voter, vote.height))
        if locked is not None and locked.block != vote.block:
            self._tally.saw("lock moved")
        if locked is None or locked.round <= vote.round:
            self._locked[vote.voter, vote.height] = vote
        can_be = self._can_have_quorum(_PRECOMMIT, vote.height, vote.round, vote.block)
        if can_be and self._decidable.setdefault(vote.height, vote.block) != vote.block:
            raise Broken(5, "I-11", f"two blocks can be decided at height {vote.height}")
