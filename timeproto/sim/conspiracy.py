"""What the lying masternodes of a run know together: every transaction there is, and whatever one of them heard."""

from __future__ import annotations

import random
from typing import Any

from timeproto.model.block import Block, BlockVote, BlockVoteKind, DecidedBlock, Verdict
from timeproto.model.certificate import FinalityProof, SignedVote, signed_vote
from timeproto.model.vote import VoteBatch, VoteKind
from timeproto.sim.book import Book
from timeproto.wire import messages

KEPT = 60


class Conspiracy:
    """``height`` is the highest that anybody speaks of; ``blocks`` are those proposed for it, by hash. Votes and proofs
    are kept for the whole run: a liar shows them when nobody needs them any more. ``members`` are the liars, by number:
    what one of them made up is no news to the others."""

    def __init__(self, book: Book, chance: random.Random) -> None:
        self.book = book
        self.members: set[int] = set()
        self.batches: list[VoteBatch] = []
        self.words: list[BlockVote] = []
        self.decided: list[DecidedBlock] = []
        self.blocks: dict[str, Block] = {}
        self.cancels: list[messages.TransactionCancel] = []
        self.proofs: dict[str, FinalityProof] = {}
        self._votes: dict[tuple[VoteKind, str], dict[str, VoteBatch]] = {}
        self._prevotes: dict[tuple[int, str], dict[str, BlockVote]] = {}
        self.height = 1
        self.round = 0
        self._chance = chance

    def overhear(self, message: Any) -> None:
        match message:
            case VoteBatch():
                self.batches.append(message)
                del self.batches[:-KEPT]
                for vote in message.votes():
                    self._votes.setdefault(vote, {}).setdefault(message.voter, message)
            case BlockVote():
                self._speak(message)
            case messages.BlockProposal():
                self._speak(message.vote)
                if message.vote.block is not None and message.vote.height == self.height:
                    self.blocks[message.vote.block] = message.block
            case messages.TransactionCancel():
                self.cancels.append(message)
                del self.cancels[:-KEPT]
            case messages.FinalityProofs() | messages.Transactions():
                self.proofs.update((proof.txid, proof) for proof in message.proofs)
            case messages.Votes():
                for word in (*message.batches, *message.block_votes, *message.cancels):
                    self.overhear(word)
            case messages.Blocks():
                self.decided += message.blocks
                del self.decided[:-KEPT]

    def _speak(self, vote: BlockVote) -> None:
        if vote.height > self.height:
            self.height, self.round, self.blocks, self._prevotes = vote.height, 0, {}, {}
        if vote.height == self.height:
            self.round = max(self.round, vote.round)
            if vote.kind is BlockVoteKind.PREVOTE and vote.block is not None:
                self._prevotes.setdefault((vote.round, vote.block), {}).setdefault(vote.voter, vote)
        self.words.append(vote)
        del self.words[:-KEPT]

    def some_txids(self, most: int = 4) -> tuple[str, ...]:
        txids = list(self.book.entries)
        return tuple(self._chance.sample(txids, self._chance.randint(1, min(most, len(txids))))) if txids else ()

    def signed_votes(self, count: int) -> list[SignedVote]:
        """Votes of different voters, for whatever they voted."""
        latest = {batch.voter: batch for batch in self.batches}
        votes = [signed_vote(batch, self._chance.randrange(batch.tree.size)) for batch in latest.values()]
        return votes[:count]

    def verdicts(self, quorum: int) -> list[Verdict]:
        """Every verdict on the contested that can be proved, whether or not it can still stand."""
        found = []
        for (kind, txid), batches in self._votes.items():
            is_open = txid in self.book.entries and self.book.is_contested(txid)
            if kind is not VoteKind.COMMIT and len(batches) >= quorum and is_open:
                some = list(batches.values())[:quorum]
                votes = tuple(signed_vote(batch, batch.index(kind, txid)) for batch in some)
                found.append(Verdict("commit" if kind is VoteKind.LOCK else "abort", txid, votes))
        return found

    def polkas(self, quorum: int) -> list[tuple[int, str, tuple[BlockVote, ...]]]:
        """Round, block and prevotes of every polka at this height whose block is known."""
        return [
            (round_, block, tuple(words.values())[:quorum])
            for (round_, block), words in self._prevotes.items()
            if len(words) >= quorum and block in self.blocks
        ]
