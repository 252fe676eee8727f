"""What proves entries of the transition log that is read again: each transaction is looked up once for all of them."""

from __future__ import annotations

from timeproto.model.ledger import Transition
from timeproto.network.notifications import LookedUp, Proofs, is_unproven
from timeproto.web.view import NodeView

BARE = Proofs({})
"""Nothing is proven."""


class LogProofs:
    """The proofs of one page of the log; used inside ``view.read`` only."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._known: dict[str, Proofs] = {}

    def __len__(self) -> int:
        """How many transactions were looked up."""
        return len(self._known)

    def of(self, entry: Transition) -> Proofs:
        """What is to be sent with one entry."""
        if is_unproven(entry):
            return BARE
        txid = entry.txid
        if txid not in self._known:
            self._known[txid] = LookedUp(txid, self._view.transaction(txid))
        return self._known[txid]
