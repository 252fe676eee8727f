"""Whom this replica caught: two lock votes of one masternode for rivals are evidence, and are kept (protocol §4)."""

from __future__ import annotations

from timeproto import limits
from timeproto.consensus.evidence import Accusations
from timeproto.consensus.knowledge import Knowledge
from timeproto.consensus.payments import Payment
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.ledger import Evidence, Ledger, Summary
from timeproto.model.transaction import Outpoint


class Suspicion(Knowledge):
    """What one replica knows, and whom it holds it against."""

    def __init__(self, ledger: Ledger, genesis: Genesis, key: SigningKey, summary: Summary) -> None:
        super().__init__(ledger, genesis, key, summary)
        self._accusations = Accusations(self.masternodes, ledger.evidence(limits.EVIDENCE))

    def suspect(self, voter: str, outpoint: Outpoint, payment: Payment, rival: Payment) -> None:
        """Keeps the evidence if ``voter`` lock-voted both."""
        if voter == self.key.public_hex:
            return
        assert payment.tx is not None and rival.tx is not None
        sides = (payment.tx, payment.votes), (rival.tx, rival.votes)
        evidence = self._accusations.find(voter, outpoint, sides, self.height, self.ended_at)
        if evidence is not None:
            self._keep_evidence(evidence)

    def suspect_again(self) -> None:
        """A block came: votes that spoke of its height can be held against each other now."""
        for evidence in self._accusations.find_again(self.height, self.ended_at):
            self._keep_evidence(evidence)

    def _keep_evidence(self, evidence: Evidence) -> None:
        self.turn.evidence.append(evidence)
        self.evidence += 1

    def may_accuse(self, voter: str) -> bool:
        """True if evidence about ``voter``'s words on blocks is still kept."""
        return self._accusations.may_accuse(voter)
