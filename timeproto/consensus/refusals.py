"""Refusals that name what a wallet needs to know: which coin and who has it, or which limit and when to retry."""

from __future__ import annotations

from timeproto import limits
from timeproto.consensus.payments import Payments
from timeproto.consensus.utxo_state_manager import IllegalTransition, UTXOStateManager
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.ledger import Ending
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


def not_voting(reason: str) -> Refusal:
    return Refusal(ErrorCode.NOT_VOTING, f"this node does not vote now: {reason}")


def no_room(tx: Transaction, payments: Payments) -> Refusal | None:
    """Which bound on what is undecided keeps a wallet's transaction out; None if there is room for it."""
    message = "too many payments are undecided; try again"
    if payments.seen_count >= limits.IN_FLIGHT:
        return busy(message, "in_flight", limits.IN_FLIGHT)
    if payments.seen_bytes >= limits.IN_FLIGHT_BYTES:
        return busy(message, "in_flight_bytes", limits.IN_FLIGHT_BYTES)
    full = payments.has_room_to_bring(len(tx.canonical) + len(tx.signature))
    if full is not None:
        message = "too many payments have not reached the other masternodes; try again"
        return busy(message, full, payments.share[full != "brought"])
    if payments.crowded(tx):
        message = "too many transactions want one of these coins; it waits for a verdict"
        return busy(message, "rivals_per_outpoint", limits.RIVALS_PER_OUTPOINT)
    return None


def busy(message: str, limit: str, value: int) -> Refusal:
    """Try again in a tick."""
    retry = int(limits.TICK * 1000)
    return Refusal(ErrorCode.BUSY, message, limit=limit, value=value, retry_after_ms=retry)


def aborted(txid: str, ending: Ending) -> Refusal:
    """Says which block ended the transaction, and for which rival if it was one."""
    details: dict[str, str | int] = {"txid": txid, "height": ending.height}
    if ending.by is None:
        return Refusal(ErrorCode.ABORTED, f"block {ending.height} aborted the transaction {txid}", **details)
    message = f"block {ending.height} contains {ending.by}, which spends a coin of {txid}"
    return Refusal(ErrorCode.ABORTED, message, conflicting_txid=ending.by, **details)


def already_final(txid: str) -> Refusal:
    return Refusal(ErrorCode.ALREADY_FINAL, f"the transaction {txid} is final", txid=txid)


def not_synced(reason: str) -> Refusal:
    return Refusal(ErrorCode.NOT_SYNCED, f"this node is not level with the others: {reason}")


def backlog() -> Refusal:
    return busy("too many final payments wait for a block; try again", "backlog", limits.BACKLOG)
