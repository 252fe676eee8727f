"""Evidence: two lock votes of one masternode for transactions that spend one coin (protocol §4).

Anybody can check it with :func:`check_evidence`, offline: it carries both transactions and both signed votes. An honest
masternode that only repeats a vote is never accused, since the two votes must be for two transactions.
"""

from __future__ import annotations

from collections.abc import Iterable

from timeproto import limits
from timeproto.consensus.vote_set import VoteSet
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import vote_is_valid
from timeproto.model.ledger import Evidence
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.vote import VoteKind


def find_evidence(
    voter: str,
    outpoint: Outpoint,
    masternodes: MasternodeSet,
    first: tuple[Transaction, VoteSet],
    second: tuple[Transaction, VoteSet],
) -> Evidence | None:
    """The evidence against ``voter`` if it lock-voted both of two transactions that spend ``outpoint``."""
    (first_tx, first_votes), (second_tx, second_votes) = sorted((first, second), key=lambda pair: pair[0].txid)
    first_vote = first_votes.signed(VoteKind.LOCK, voter)
    second_vote = second_votes.signed(VoteKind.LOCK, voter)
    if first_vote is None or second_vote is None or first_tx.txid == second_tx.txid:
        return None
    return Evidence(voter, masternodes.hash, outpoint, first_tx, first_vote, second_tx, second_vote)


class Accusations:
    """Who stands accused over which coins, so that nobody is accused of one thing twice, or more often than is kept."""

    def __init__(self, masternodes: MasternodeSet, kept: Iterable[Evidence]) -> None:
        """``kept``: the evidence of earlier lives."""
        self._masternodes = masternodes
        self._coins: dict[str, set[Outpoint]] = {}
        for evidence in kept:
            self._coins.setdefault(evidence.voter, set()).add(evidence.outpoint)

    def find(
        self, voter: str, outpoint: Outpoint, first: tuple[Transaction, VoteSet], second: tuple[Transaction, VoteSet]
    ) -> Evidence | None:
        """New evidence against ``voter``, to be kept. ``outpoint`` is the first coin where the two transactions meet:
        one coin proves it, a thousand prove no more."""
        coins = self._coins.get(voter, set())
        if outpoint in coins or len(coins) >= limits.EVIDENCE_PER_VOTER:
            return None
        evidence = find_evidence(voter, outpoint, self._masternodes, first, second)
        if evidence is not None:
            self._coins.setdefault(voter, set()).add(outpoint)
        return evidence


def check_evidence(evidence: Evidence, masternodes: MasternodeSet, genesis_hash: str) -> None:
    """Returns if the evidence holds; raises :class:`Refusal` ``bad_proof`` saying why not."""

    def bad(why: str) -> Refusal:
        return Refusal(ErrorCode.BAD_PROOF, f"the evidence against {evidence.voter} does not hold: {why}")

    if evidence.set != masternodes.hash or evidence.voter not in masternodes:
        raise bad("it names another masternode set, or a stranger")
    if evidence.first.computed_txid == evidence.second.computed_txid:
        raise bad("both votes are for one transaction")
    for tx, vote in (
        (evidence.first, evidence.first_vote),
        (evidence.second, evidence.second_vote),
    ):
        if evidence.outpoint not in tx.outpoints:
            raise bad("a transaction does not spend the coin")
        if vote.voter != evidence.voter:
            raise bad("a vote is somebody else's")
        if not vote_is_valid(vote, VoteKind.LOCK, tx.computed_txid, evidence.set, genesis_hash):
            raise bad("a vote is not signed for this transaction")
