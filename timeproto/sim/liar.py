"""A Byzantine masternode: a real replica inside, and everything that goes out of it bent.

What it signs beside its replica's words it signs with its own key, as anybody with the key could. Each liar draws its
habits from the seed, and all liars of a run share one :class:`~timeproto.sim.conspiracy.Conspiracy`.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec

from timeproto.consensus.effects import Effects
from timeproto.consensus.replica import Replica
from timeproto.model.block import Block, BlockVote, BlockVoteKind, sign_block_vote
from timeproto.model.vote import VoteBatch, sign_batch
from timeproto.sim.bad_blocks import BadBlocks
from timeproto.sim.conspiracy import Conspiracy
from timeproto.sim.disk import Disk
from timeproto.sim.events import MILLISECOND
from timeproto.sim.masternode import Masternode, Watch
from timeproto.sim.mischief import Mischief
from timeproto.sim.network import Parcel
from timeproto.sim.scene import Scene
from timeproto.sim.signatures import Signer
from timeproto.wire import messages

replace = msgspec.structs.replace

HABITS = (
    "silent", "withholds", "favours", "late", "equivocates", "divides", "bad blocks", "false answers", "mischief",
)


class Liar(Masternode):
    """Stands where an honest masternode does, for the network and for the faults."""

    def __init__(
        self,
        number: int,
        signer: Signer,
        disk: Disk,
        scene: Scene,
        *,
        chance: random.Random,
        watch: Watch,
        shared: Conspiracy,
        lies: random.Random,
    ) -> None:
        super().__init__(number, signer, disk, scene, chance=chance, watch=watch)
        self.shared = shared
        shared.members.add(number)
        habits = lies.sample(HABITS[1:], lies.randint(2, 4)) if lies.random() > 0.3 else list(HABITS[1:])
        self.habits = {"silent"} if lies.random() < 0.1 else set(habits)
        self._lies = lies
        self._tally = scene.tally
        self._favourites: set[int] = set()
        self._blocks = BadBlocks(shared.book, lies)
        self._mischief = Mischief(self._signer, self._genesis, shared, lies)
        for habit in sorted(self.habits):
            scene.tally.fault(f"liar: {habit}")

    def make_replica(self) -> Replica:
        """One that does not mind that its key signs what it does not know."""
        replica = super().make_replica()
        replica._finality.mandate.halt = lambda reason: None  # type: ignore[method-assign]
        others = [number for number in self.peers if number != self.number]
        self._favourites = set(self._lies.sample(others, self._lies.randint(1, len(others))))
        return replica

    # -- in ------------------------------------------------------------------------------------------

    def hear(self, parcel: Parcel, sender: int) -> None:
        if sender not in self.shared.members:
            self.shared.overhear(parcel.message)
        super().hear(parcel, sender)
        if self.alive and "mischief" in self.habits:
            self._make_mischief(0.03)

    def _tick(self, life: int) -> None:
        if life == self.life and "mischief" in self.habits:
            self._make_mischief(0.9)
        super()._tick(life)

    def _make_mischief(self, likely: float) -> None:
        if self._lies.random() < likely:
            peers = list(self.links.values())
            for message in self._mischief.some():
                self._tally.fault("mischief")
                targets = self._lies.sample(peers, self._lies.randint(1, len(peers))) if peers else []
                for receiver in targets:
                    self._post_to(receiver, message)

    # -- out -----------------------------------------------------------------------------------------

    def _release(self, effects: Effects) -> None:
        effects.identity_conflict = effects.alarm = None
        super()._release(effects)

    def _send(self, message: Any, receivers: list[int]) -> None:
        self._watch.sent(self, message)
        self.shared.overhear(message)
        if "silent" in self.habits:
            return
        versions = self._versions(message)
        # A bad block that nobody gets harms nobody: most of them go out whole, and at once.
        is_bold = isinstance(message, messages.BlockProposal) and self._lies.random() < 0.8
        for place, receiver in enumerate(receivers):
            if not is_bold and "withholds" in self.habits and self._lies.random() < 0.4:
                continue
            favoured = is_bold or "favours" not in self.habits or receiver in self._favourites
            if not favoured and self._lies.random() < 0.9:
                continue
            for version in versions[place % len(versions)]:
                self._post_to(receiver, version, at_once=is_bold)

    def _post_to(self, receiver: int, message: Any, *, at_once: bool = False) -> None:
        parcel = self.network.office.parcel(message)
        if "late" in self.habits and not at_once and self._lies.random() < 0.5:
            delay = self._lies.randint(100, 3_000) * MILLISECOND
            self._events.after(delay, self.network.post, self.number, receiver, parcel)
        else:
            self.network.post(self.number, receiver, parcel)

    def _versions(self, message: Any) -> list[list[Any]]:
        """What to tell instead: each entry is for other receivers than the next."""
        match message:
            case BlockVote() | messages.BlockProposal() if "divides" in self.habits and self._lies.random() < 0.4:
                return self._divided(message)
            case VoteBatch() if "equivocates" in self.habits:
                return self._two_votes(message)
            case BlockVote() if "equivocates" in self.habits:
                return self._two_words(message)
            case messages.BlockProposal():
                return self._proposals(message)
            case messages.Blocks() | messages.Finalized() | messages.Votes() | messages.Transactions():
                if "false answers" in self.habits and self._lies.random() < 0.6:
                    self._tally.fault("false answer")
                    return [[self._mischief.false_answer(message)]]
        return [[message]]

    def _two_votes(self, batch: VoteBatch) -> list[list[Any]]:
        """The rivals too, and against what is for, to the other half."""
        book = self.shared.book
        rivals = {rival for txid in batch.lock if txid in book.entries for rival in book.rivals(txid)}
        said = {*batch.lock, *batch.commit, *batch.abort} | rivals
        lists = {
            kind: [txid for txid in sorted(said) if self._lies.random() < 0.7] for kind in ("lock", "commit", "abort")
        }
        if not any(lists.values()):
            return [[batch]]
        self._tally.fault("two votes")
        other = sign_batch(self._signer, self._genesis.hash, batch.set, batch.height, **lists)
        return self._lies.choice(([[batch], [other]], [[batch, other]], [[other]], [[other], [batch, other]]))

    def _two_words(self, vote: BlockVote) -> list[list[Any]]:
        """Another block, or none, to the other half."""
        known: list[str | None] = [None, *self.shared.blocks]
        others = [block for block in known if block != vote.block]
        if not others:
            return [[vote]]
        self._tally.fault("two words")
        other = self._word(replace(vote, block=self._lies.choice(others)))
        return self._lies.choice(([[vote], [other]], [[vote, other]], [[other]]))

    def _divided(self, message: Any) -> list[list[Any]]:
        """A proposal to a part of them; a word to one, and "none" or nothing to the rest: so that few are locked."""
        self._tally.fault("divided word")
        others = len(self.peers) - 1
        versions: list[list[Any]] = [[] for _ in range(others)]
        if isinstance(message, BlockVote):
            none = self._word(replace(message, block=None))
            versions = [self._lies.choice(([], [none])) for _ in range(others)]
        for place in self._lies.sample(range(others), self._lies.randint(1, max(1, others - 1))):
            versions[place] = [message]
        return versions

    def _word(self, vote: BlockVote) -> BlockVote:
        return sign_block_vote(self._signer, self._genesis.hash, vote)

    def _proposals(self, message: messages.BlockProposal) -> list[list[Any]]:
        versions: list[list[Any]] = [[message]]
        if message.vote.voter != self.name:
            return versions
        if "equivocates" in self.habits:
            self._tally.fault("two proposals")
            other = self._supported(message, self._blocks.other_good(self.replica, message.block))
            versions = self._lies.choice(([[message], other], versions))
        if "bad blocks" in self.habits and self._lies.random() < 0.8:
            self._tally.fault("bad block")
            quorum = self._genesis.masternode_set.quorum
            proved, votes = self.shared.verdicts(quorum), self.shared.signed_votes(quorum)
            bad = self._supported(message, self._blocks.spoilt(self.replica, message.block, votes, proved))
            versions = self._lies.choice(([bad], [bad], [*versions, bad], [[*bad, *versions[0]]]))
        again = self._again(message)
        if again and self._lies.random() < 0.5:
            versions = self._lies.choice(([*versions, again], [again]))
        return versions

    def _again(self, message: messages.BlockProposal) -> list[Any]:
        """A block of an earlier round with the polka that it had, whatever a later one has; or with half of another."""
        quorum = self._genesis.masternode_set.quorum
        polkas = [polka for polka in self.shared.polkas(quorum) if polka[0] < message.vote.round]
        if not polkas or message.vote.height != self.shared.height:
            return []
        self._tally.fault("old polka")
        round_, digest, words = self._lies.choice(polkas)
        if self._lies.random() < 0.3:
            words = (*words[1:], *self._lies.choice(polkas)[2][:1])
        vote = self._word(replace(message.vote, block=digest, valid_round=round_))
        return [messages.BlockProposal(vote=vote, block=self.shared.blocks[digest], polka=words)]

    def _supported(self, message: messages.BlockProposal, block: Block) -> list[Any]:
        """``block`` instead, under words of the liar's own: its proposal, its prevote and its precommit."""
        digest = block.header.hash(self._genesis.hash)
        vote = replace(message.vote, height=block.header.height, block=digest, valid_round=None)
        self.shared.blocks[digest] = block
        proposal = messages.BlockProposal(vote=self._word(vote), block=block)
        kinds = BlockVoteKind.PREVOTE, BlockVoteKind.PRECOMMIT
        return [proposal, *(self._word(replace(vote, kind=kind)) for kind in kinds)]
