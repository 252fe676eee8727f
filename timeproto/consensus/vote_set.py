"""The votes for one transaction, counted by voter, each once, in one masternode set (protocol §4).

A vote is kept as a reference into the signed batch that carried it; the Merkle path that proves it alone is
made only when a certificate is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import attrs

from timeproto.consensus.retained import Kept
from timeproto.model.certificate import KeptProof, KeptVote, SignedVote, kept_vote, signed_vote
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.vote import ABORT, COMMIT, LOCK, VoteBatch, VoteKind


@attrs.define(eq=False)
class OwnBatch:
    """This replica's batch of the running turn: its votes count at once, its signature follows at the turn's end.

    ``signed`` is None until then, and no certificate is built before.
    """

    signed: VoteBatch | None = None


Carrier = Kept | OwnBatch
"""Whose batch a vote came in."""


class VoteSet:
    """Votes of three kinds for one txid. Whoever is not in the set does not exist here."""

    __slots__ = ("_masternodes", "_votes", "txid")

    def __init__(self, txid: str, masternodes: MasternodeSet) -> None:
        self.txid = txid
        self._masternodes = masternodes
        self._votes: dict[VoteKind, dict[int, Carrier]] = {LOCK: {}, COMMIT: {}, ABORT: {}}

    def add(self, kind: VoteKind, voter: str, carrier: Carrier) -> bool:
        """Count the vote; False if the voter is a stranger or was counted already. The first copy stays."""
        member = self._masternodes.index(voter)
        if member is None:
            return False
        votes = self._votes[kind]
        if member in votes:
            return False
        votes[member] = carrier
        return True

    def count(self, kind: VoteKind) -> int:
        return len(self._votes[kind])

    @property
    def holders(self) -> int:
        """How many have the transaction, as their votes show: who has locked it, or wants it to end."""
        return len(self._votes[LOCK].keys() | self._votes[ABORT].keys())

    def has_quorum(self, kind: VoteKind) -> bool:
        """A level, not an edge: ask again whenever anything arrives."""
        return len(self._votes[kind]) >= self._masternodes.quorum

    def has(self, kind: VoteKind, voter: str) -> bool:
        return self._masternodes.index(voter) in self._votes[kind]

    def voters(self, kind: VoteKind) -> list[str]:
        """The keys of those who cast this vote, in the order of the set."""
        return [self._masternodes.keys[member] for member in sorted(self._votes[kind])]

    def signed(self, kind: VoteKind, voter: str) -> SignedVote | None:
        """One voter's vote with its proof, None if there is none (or it is not signed yet)."""
        member = self._masternodes.index(voter)
        carrier = self._votes[kind].get(-1 if member is None else member)
        batch = None if carrier is None else carrier.signed
        return None if batch is None else signed_vote(batch, batch.index(kind, self.txid))

    def remove(self, kind: VoteKind, kept: Kept) -> None:
        """Count the vote no more, if it is this batch that carried it: there is no room for it."""
        member = self._masternodes.index(kept.signed.voter)
        if member is not None and self._votes[kind].get(member) is kept:
            del self._votes[kind][member]

    def carriers(self) -> Iterator[Carrier]:
        """What carried every vote counted here: once for each of them."""
        return chain.from_iterable(map(dict.values, self._votes.values()))

    def batches(self) -> Iterator[VoteBatch]:
        """Every signed batch that carries a vote counted here, each once."""
        signed = (carrier.signed for carrier in self.carriers())
        yield from {batch.signature: batch for batch in signed if batch is not None}.values()

    def certificate(self, kind: VoteKind) -> tuple[SignedVote, ...]:
        """Exactly q votes of ``kind``, of the members that come first in the set; :class:`ValueError` if there are
        fewer that are signed."""
        return tuple([vote.spelled() for vote in self._certificate(kind)])

    def _certificate(self, kind: VoteKind) -> tuple[KeptVote, ...]:
        votes, needed = self._votes[kind], self._masternodes.quorum
        proved: list[KeptVote] = []
        for member in sorted(votes):
            batch = votes[member].signed
            if batch is not None:
                proved.append(kept_vote(batch, batch.index(kind, self.txid)))
                if len(proved) == needed:
                    return tuple(proved)
        raise ValueError(f"{len(proved)} {kind.name} votes make no certificate, {needed} do")

    def proof(self) -> KeptProof:
        """The finality proof: a certificate of commit votes."""
        return KeptProof(self._masternodes.raw_hash, self._certificate(COMMIT))
