"""When a node's no is the last word on a payment, and when it only speaks of the node.

What hangs on it is money: the coins of a payment that is over are free to be paid again.
"""

from __future__ import annotations

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import parse_outpoint
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import Belief, Lie
from timeproto.wallet.payment import Payment

ELSEWHERE = (ErrorCode.NOT_VOTING, ErrorCode.BUSY, ErrorCode.GOING_AWAY, ErrorCode.INTERNAL, ErrorCode.TIMEOUT)
"""Refusals that say something about the node, not about the payment: another node, or later."""

RULES = (
    ErrorCode.TXID_MISMATCH,
    ErrorCode.BAD_SIGNATURE,
    ErrorCode.BAD_ADDRESS,
    ErrorCode.INVALID_TRANSACTION,
    ErrorCode.DUST,
    ErrorCode.FEE_TOO_LOW,
    ErrorCode.VALUE_MISMATCH,
    ErrorCode.NOT_OWNER,
    ErrorCode.OVER_LIMIT,
)
"""What every node must refuse alike, today and tomorrow."""


async def is_final_word(refusal: Refusal, payment: Payment, belief: Belief, *, only_node: bool) -> bool:
    """True if the refusal ends the payment.

    Not if it speaks of the node rather than of the payment (a node that does not know a coin may be behind: with
    another to ask, it is asked). And of a payment that some node may have locked before, only if it breaks a rule that
    every node keeps and none accepted it, or if another transaction is proven to have spent a coin of it.
    """
    if refusal.code in ELSEWHERE or (refusal.code is ErrorCode.UNKNOWN_INPUT and not only_node):
        return False
    if not payment.may_be_known or (refusal.code in RULES and not payment.is_accepted):
        return True
    rival, coin = refusal.details.get("conflicting_txid"), parse_outpoint(refusal.details.get("outpoint"))
    if refusal.code is not ErrorCode.DOUBLE_SPEND or coin not in payment.tx.outpoints or not isinstance(rival, str):
        return False
    try:
        await belief.coin_is_spent(coin, rival)
    except (Lie, Refusal, ConnectionGone):
        return False
    return True
