"""Evidence: two lock votes of one masternode for transactions that spend one coin, or two words of it for one place in
the agreement on blocks (protocol §4, §6).

Anybody can check it with :func:`check_evidence`: it carries what was signed. An honest masternode that only repeats
itself is never accused, since the two words must differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from timeproto import limits
from timeproto.consensus.vote_set import VoteSet
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import vote_is_valid
from timeproto.model.ledger import BlockEvidence, Evidence
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.vote import VoteKind

Side = tuple[Transaction, VoteSet]
"""One of two rivals, with the votes for it."""

Ended = Callable[[Transaction], int | None]
"""The height of the block that ended a transaction, None if none did."""


def find_evidence(
    voter: str, outpoint: Outpoint, masternodes: MasternodeSet, sides: tuple[Side, Side], height: int
) -> Evidence | None:
    """The evidence against ``voter`` if it lock-voted both of two transactions that spend ``outpoint``, neither of
    which a block up to ``height`` has ended."""
    (first_tx, first_votes), (second_tx, second_votes) = sorted(sides, key=lambda side: side[0].txid)
    first_vote = first_votes.signed(VoteKind.LOCK, voter)
    second_vote = second_votes.signed(VoteKind.LOCK, voter)
    if first_vote is None or second_vote is None or first_tx.txid == second_tx.txid:
        return None
    if max(first_vote.height, second_vote.height) > height:
        return None  # blocks that are not here may have ended one before the voter turned to the other
    return Evidence(voter, masternodes.hash, outpoint, first_tx, first_vote, second_tx, second_vote)


class Accusations:
    """Who stands accused over which coins, so that nobody is accused of one thing twice, or more often than is kept."""

    def __init__(self, masternodes: MasternodeSet, kept: Iterable[Evidence | BlockEvidence]) -> None:
        """``kept``: the evidence of earlier lives."""
        self._masternodes = masternodes
        self._coins: dict[str, set[Outpoint]] = {}
        self._early: dict[str, dict[Outpoint, tuple[Side, Side]]] = {}
        self._words: dict[str, int] = {}
        for evidence in kept:
            if isinstance(evidence, BlockEvidence):
                self.may_accuse(evidence.voter)
            else:
                self._coins.setdefault(evidence.voter, set()).add(evidence.outpoint)

    def may_accuse(self, voter: str) -> bool:
        """True if one more piece about ``voter``'s words on blocks is kept; counts it."""
        count = self._words.get(voter, 0)
        self._words[voter] = count + 1
        return count < limits.EVIDENCE_PER_VOTER

    def find(
        self, voter: str, outpoint: Outpoint, sides: tuple[Side, Side], height: int, ended: Ended
    ) -> Evidence | None:
        """New evidence against ``voter``, to be kept. ``outpoint`` is the first coin where the two transactions meet:
        one coin proves it, a thousand prove no more. A block may have ended one before it came here."""
        coins = self._coins.get(voter, set())
        if outpoint in coins or len(coins) >= limits.EVIDENCE_PER_VOTER:
            return None
        evidence = find_evidence(voter, outpoint, self._masternodes, sides, height)
        if evidence is not None:
            if _is_excused(evidence, ended):
                return None
            self._coins.setdefault(voter, set()).add(outpoint)
        elif all(votes.has(VoteKind.LOCK, voter) for _, votes in sides):
            early = self._early.setdefault(voter, {})
            early[outpoint] = sides
            if len(early) > limits.EVIDENCE_PER_VOTER:
                del early[next(iter(early))]
        return evidence

    def find_again(self, height: int, ended: Ended) -> list[Evidence]:
        """New evidence of what was heard before the blocks up to ``height`` were here."""
        if not self._early:
            return []
        early, self._early = self._early, {}
        asked = [(voter, *heard) for voter, coins in early.items() for heard in coins.items()]
        found = [self.find(voter, outpoint, sides, height, ended) for voter, outpoint, sides in asked]
        return [evidence for evidence in found if evidence is not None]


def _is_excused(evidence: Evidence, ended: Ended) -> bool:
    """True if a block had ended one of the two by the time of the later vote."""
    latest = max(evidence.first_vote.height, evidence.second_vote.height)
    ends = (ended(tx) for tx in (evidence.first, evidence.second))
    return any(height is not None and height <= latest for height in ends)


def check_evidence(
    evidence: Evidence | BlockEvidence,
    masternodes: MasternodeSet,
    genesis_hash: str,
    ended: Ended,
) -> None:
    """Returns if the evidence holds; raises :class:`Refusal` ``bad_proof`` saying why not.

    ``ended`` tells the height of the block that ended a transaction, None if none did (see Knowledge.ended_at):
    whoever locked a coin for a second transaction after a block had ended the first did no wrong, and signed that
    height into its vote.
    """

    def bad(why: str) -> Refusal:
        return Refusal(ErrorCode.BAD_PROOF, f"the evidence against {evidence.voter} does not hold: {why}")

    if evidence.voter not in masternodes:
        raise bad("it names a stranger")
    if isinstance(evidence, BlockEvidence):
        words = (evidence.first, evidence.second)
        if evidence.first.place != evidence.second.place or evidence.first.block == evidence.second.block:
            raise bad("the two words do not contradict each other")
        for word in words:
            if (word.voter, word.set) != (evidence.voter, masternodes.hash) or not word.verify(genesis_hash):
                raise bad("a word is not signed by it for this masternode set")
        return
    if evidence.set != masternodes.hash:
        raise bad("it names another masternode set")
    if evidence.first.computed_txid == evidence.second.computed_txid:
        raise bad("both votes are for one transaction")
    for tx, vote in ((evidence.first, evidence.first_vote), (evidence.second, evidence.second_vote)):
        if evidence.outpoint not in tx.outpoints:
            raise bad("a transaction does not spend the coin")
        if vote.voter != evidence.voter:
            raise bad("a vote is somebody else's")
        if not vote_is_valid(vote, VoteKind.LOCK, tx.computed_txid, evidence.set, genesis_hash):
            raise bad("a vote is not signed for this transaction")
    if _is_excused(evidence, ended):
        raise bad("a block had ended one transaction by the time of the later vote")
