"""What a masternode may write (protocol §3): every change set is read as soon as it is durable."""

from __future__ import annotations

from timeproto.consensus.evidence import check_evidence
from timeproto.errors import Refusal
from timeproto.model.certificate import check_proof
from timeproto.model.ledger import Changes, Transition
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import (
    UNSPENT,
    Confirmed,
    Locked,
    SpentFinalized,
    SpentPending,
    UTXOState,
    holder,
    kind,
)
from timeproto.model.vote import VoteKind
from timeproto.sim.chain_checks import ChainChecks
from timeproto.sim.masternode import Masternode
from timeproto.sim.promises import Broken
from timeproto.sim.scene import Scene
from timeproto.sim.trace import short
from timeproto.sim.vote_checks import VoteChecks

LEGAL = {
    (None, "Unspent"),
    ("Unspent", "Locked"),
    ("Unspent", "SpentFinalized"),
    ("Locked", "SpentPending"),
    ("Locked", "SpentFinalized"),
    ("SpentPending", "SpentFinalized"),
    ("SpentFinalized", "Confirmed"),
    ("Locked", "Unspent"),
    ("SpentPending", "Unspent"),
}
"""Every step a coin may take; the last two only by a decided block that ended its holder."""


class Figures:
    """What the checks know of one masternode's ledger."""

    __slots__ = ("fees", "height", "position", "states")

    def __init__(self) -> None:
        self.position = 0
        self.height = 0
        self.fees = 0
        self.states: dict[Outpoint, UTXOState] = {}


class LedgerChecks:
    """``spent_by`` is global: what any honest masternode holds final, by coin."""

    def __init__(self, scene: Scene, votes: VoteChecks, chain: ChainChecks) -> None:
        self.spent_by: dict[Outpoint, str] = {}
        self.final: dict[str, int] = {}
        self._genesis, self._book, self._tally = scene.genesis, scene.book, scene.tally
        self._votes = votes
        self._chain = chain
        self._figures: dict[str, Figures] = {}

    def committed(self, node: Masternode, changes: Changes) -> None:
        figures = self._figures.setdefault(node.name, Figures())
        self._votes.kept(changes.batches.values())
        before, figures.height = figures.height, self._chain.committed(node, changes, figures.height)
        self._votes.check(changes.batches.values())
        locking: dict[str, set[Outpoint]] = {}
        for step in changes.transitions:
            self._check_transition(node, figures, step)
            if isinstance(step.new_state, Locked):
                locking.setdefault(step.txid, set()).add(step.outpoint)
        for txid, outpoints in locking.items():
            if outpoints != set(self._book.entries[txid].tx.outpoints):
                raise Broken(1, "I-8", f"{short(node.name)} locked a part of {short(txid)}")
        for height in range(before, figures.height):
            self._check_released(node, figures, height + 1)
        if figures.height > before and not self._chain.is_marked(node, figures.height):
            self._tally.saw("confirmed in parts")
        for txid in changes.finalized:
            self._check_final(node, txid, figures.height)
            figures.fees += self._book.fee(txid)
        self._check_value(node, figures, changes)
        for evidence in changes.evidence:
            if evidence.voter not in self._votes.faulty:
                raise Broken(4, "I-13", f"evidence against {short(evidence.voter)}, who is honest")
            members = self._genesis.masternode_set
            try:
                check_evidence(evidence, members, self._genesis.hash, lambda tx: self._votes.endings.get(tx.txid))
            except Refusal as refusal:
                raise Broken(4, "I-13", f"{short(node.name)} keeps evidence that does not hold: {refusal}") from None

    def _check_transition(self, node: Masternode, figures: Figures, step: Transition) -> None:
        outpoint, old, new = step.outpoint, step.old_state, step.new_state
        if step.position != figures.position + 1:
            raise Broken(6, "S-1", f"{short(node.name)} logged {step.position} after {figures.position}")
        figures.position = step.position
        known = figures.states.get(outpoint, UNSPENT if outpoint.txid == self._genesis.hash else None)
        if old != known:
            raise Broken(6, "S-3", f"{short(node.name)} moved {outpoint} from {old}, and it was {known}")
        if (None if old is None else kind(old), kind(new)) not in LEGAL:
            raise Broken(2, "I-10", f"{short(node.name)} moved {outpoint} from {old} to {new}")
        if isinstance(old, Locked | SpentPending):
            if new == UNSPENT:
                if old.txid not in self._votes.endings:
                    raise Broken(1, "I-9", f"{short(node.name)} let go of {outpoint}, held for {short(old.txid)}")
            elif holder(new) != old.txid and not isinstance(new, SpentFinalized):
                raise Broken(1, "I-9", f"{short(node.name)} passed {outpoint} from {short(old.txid)} to {new}")
        if isinstance(old, SpentFinalized) and holder(new) != old.txid:
            raise Broken(2, "I-4", f"{short(node.name)} undid {short(old.txid)} at {outpoint}")
        if isinstance(new, SpentPending) and not self._votes.can_have_quorum(VoteKind.LOCK, new.txid):
            raise Broken(1, "I-5", f"{short(node.name)} pends {short(new.txid)} without a lock certificate")
        if isinstance(new, Confirmed) and self._chain.heights.get(new.txid) != new.block_height:
            raise Broken(5, "I-12", f"{short(node.name)} confirms {short(new.txid)} in a block that does not hold it")
        figures.states[outpoint] = new

    def _check_released(self, node: Masternode, figures: Figures, height: int) -> None:
        """What a block ended holds no coin any more."""
        for txid in self._chain.ended[height]:
            for outpoint in self._book.entries[txid].tx.outpoints:
                state = figures.states.get(outpoint)
                if isinstance(state, Locked | SpentPending) and state.txid == txid:
                    raise Broken(
                        7, "L-2", f"{short(node.name)} holds {outpoint} for {short(txid)}, which block {height} ended"
                    )

    def _check_final(self, node: Masternode, txid: str, height: int) -> None:
        record = node.store.transaction(txid)
        entry = self._book.entries.get(txid)
        if record is None or record.status != "final" or record.tx.txid != txid:
            raise Broken(2, "I-3", f"{short(node.name)} calls {short(txid)} final, and does not keep that")
        if entry is None or not entry.valid:
            raise Broken(3, "I-6", f"{short(node.name)} holds {short(txid)} final, which is not valid")
        proof = record.proof
        if proof is not None:
            try:
                check_proof(proof, self._genesis.masternode_set, self._genesis.hash)
            except Refusal as refusal:
                raise Broken(1, "I-5", str(refusal)) from None
        elif record.height is None or record.height > height or self._chain.heights.get(txid) != record.height:
            raise Broken(1, "I-5", f"{short(node.name)} holds {short(txid)} final without proof or block")
        for outpoint in entry.tx.outpoints:
            if self.spent_by.setdefault(outpoint, txid) != txid:
                raise Broken(1, "I-1", f"{outpoint} is spent by {short(txid)} and {short(self.spent_by[outpoint])}")
        if txid in self._votes.endings:
            raise Broken(2, "I-4", f"{short(txid)} is final and was ended by block {self._votes.endings[txid]}")
        self.final[txid] = self.final.get(txid, 0) + 1

    def _check_value(self, node: Masternode, figures: Figures, changes: Changes) -> None:
        alive = sum(
            tally.amount
            for name, tally in changes.summary.tallies.items()
            if name not in (SpentFinalized.__name__, Confirmed.__name__)
        )
        owed = figures.fees - self._chain.fees[figures.height]  # no block has paid these out yet
        minted = self._chain.minted[figures.height]
        if alive + owed != self._genesis.supply + minted:
            raise Broken(3, "I-7", f"{short(node.name)} holds {alive}, fees of {owed} wait, {minted} were minted")
