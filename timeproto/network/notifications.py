"""A transition as wallets are told it, with what proves it (protocol §7, §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from timeproto.model.block import DecidedBlock, InclusionProof, inclusion_proof
from timeproto.model.certificate import FinalityProof, KeptProof
from timeproto.model.ledger import Transition
from timeproto.model.utxo_state import Confirmed, SpentFinalized, to_wire
from timeproto.wire import messages


class Proofs:
    """What proves the transactions of one change set; a place in a block is proved only where somebody asks."""

    def __init__(self, kept: Mapping[str, KeptProof], blocks: Sequence[DecidedBlock] = ()) -> None:
        self._kept = kept
        self._spelled: FinalityProof | None = None
        self._blocks = blocks
        self._places: dict[str, tuple[DecidedBlock, int]] | None = None
        self._made: dict[str, InclusionProof] = {}

    def finality(self, txid: str) -> FinalityProof | None:
        """The proof as it is sent. The events of a transaction come together: it is spelled once for those in a row."""
        kept = self._kept.get(txid)
        if kept is None:
            return None
        if self._spelled is None or self._spelled.txid != txid:
            self._spelled = kept.spelled(txid)
        return self._spelled

    def inclusion(self, txid: str) -> InclusionProof | None:
        """The place of a transaction in one of the blocks; made once for each."""
        if txid not in self._made:
            place = self._index().get(txid)
            if place is None:
                return None
            self._made[txid] = inclusion_proof(*place)
        return self._made[txid]

    def _index(self) -> dict[str, tuple[DecidedBlock, int]]:
        if self._places is None:
            self._places = {
                txid: (decided, at)
                for decided in self._blocks
                for at, txid in enumerate((decided.block.coinbase.txid, *decided.block.transactions))
            }
        return self._places


class LookedUp(Proofs):
    """What proves one transaction, as the node's view found it later."""

    def __init__(self, txid: str, found: messages.TransactionInfo | None) -> None:
        super().__init__({})
        self._txid = txid
        self._proof = None if found is None else found.proof
        self._place = None if found is None else found.inclusion

    def finality(self, txid: str) -> FinalityProof | None:
        return self._proof if txid == self._txid else None

    def inclusion(self, txid: str) -> InclusionProof | None:
        return self._place


def is_unproven(transition: Transition) -> bool:
    """True if nothing comes with it: what a node has locked or released it says of itself."""
    return transition.old_state is not None and not isinstance(transition.new_state, SpentFinalized | Confirmed)


def notification(transition: Transition, node: str, proofs: Proofs) -> messages.UTXOStateNotification:
    """``node`` is the key of the node that tells it.

    The finality proof comes with what is final and what that created; the block's with Confirmed, and where there is no
    other: a verdict made it final, or it was minted.
    """
    txid, old, new = transition.txid, transition.old_state, transition.new_state
    change = messages.StateChange(
        outpoint=transition.outpoint,
        old_state=None if old is None else to_wire(old),
        new_state=to_wire(new),
        timestamp=transition.timestamp,
        originator=node,
    )
    proof = proofs.finality(txid) if old is None or isinstance(new, SpentFinalized) else None
    by_block = isinstance(new, Confirmed) or (proof is None and (old is None or isinstance(new, SpentFinalized)))
    return messages.UTXOStateNotification(
        notification=change,
        cursor=messages.Cursor(node, transition.position),
        output=transition.output,
        proof=proof,
        inclusion=proofs.inclusion(txid) if by_block else None,
    )
