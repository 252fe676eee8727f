"""What the lying masternodes of a run know together: every transaction there is, and whatever one of them heard."""

from __future__ import annotations

import random
from typing import Any

from timeproto.model.block import Block, BlockVote, DecidedBlock
from timeproto.model.certificate import SignedVote, signed_vote
from timeproto.model.vote import VoteBatch
from timeproto.sim.book import Book
from timeproto.wire import messages

KEPT = 60


class Conspiracy:
    """``height`` is the highest that anybody speaks of; ``blocks`` are those proposed for it, by hash."""

    def __init__(self, book: Book, chance: random.Random) -> None:
        self.book = book
        self.batches: list[VoteBatch] = []
        self.words: list[BlockVote] = []
        self.decided: list[DecidedBlock] = []
        self.blocks: dict[str, Block] = {}
        self.height = 1
        self.round = 0
        self._chance = chance

    def overhear(self, message: Any) -> None:
        match message:
            case VoteBatch():
                self.batches.append(message)
                del self.batches[:-KEPT]
            case BlockVote():
                self._speak(message)
            case messages.BlockProposal():
                self._speak(message.vote)
                if message.vote.block is not None and message.vote.height == self.height:
                    self.blocks[message.vote.block] = message.block
            case messages.Votes():
                for batch in message.batches:
                    self.overhear(batch)
            case messages.Blocks():
                self.decided += message.blocks
                del self.decided[:-KEPT]

    def _speak(self, vote: BlockVote) -> None:
        if vote.height > self.height:
            self.height, self.round, self.blocks = vote.height, 0, {}
        if vote.height == self.height:
            self.round = max(self.round, vote.round)
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
