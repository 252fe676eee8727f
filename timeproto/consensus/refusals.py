"""Refusals that name what a wallet needs to know: which coin, and who has it."""

from __future__ import annotations

from timeproto.consensus.utxo_state_manager import IllegalTransition, UTXOStateManager
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import holder


def double_spend(tx: Transaction, manager: UTXOStateManager) -> Refusal:
    """Names the first coin that another transaction holds, and that transaction."""
    for outpoint in tx.outpoints:
        state = manager.get_state(outpoint)
        rival = None if state is None else holder(state)
        if rival is not None and rival != tx.txid:
            return Refusal(
                ErrorCode.DOUBLE_SPEND,
                f"the coin {outpoint} is taken by the transaction {rival}",
                conflicting_txid=rival,
                outpoint=str(outpoint),
            )
    raise IllegalTransition(f"{tx.txid} was beaten, but nobody holds its coins")


def unknown_input(tx: Transaction, manager: UTXOStateManager) -> Refusal:
    """Names the first coin that does not exist here."""
    absent = next((outpoint for outpoint in tx.outpoints if manager.get_utxo_info(outpoint) is None), tx.outpoints[0])
    return Refusal(ErrorCode.UNKNOWN_INPUT, f"there is no coin {absent} here", outpoint=str(absent))
