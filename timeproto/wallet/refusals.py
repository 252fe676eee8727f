"""When a node's no is the last word on a payment, and when it only speaks of the node.

What hangs on it is money: the coins of a payment that is over are free to be paid again.
"""

from __future__ import annotations

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.transaction import Transaction, parse_outpoint
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.belief import RULES, Belief, Lie
from timeproto.wallet.payment import Payment
from timeproto.wire import codec, messages

ELSEWHERE = (
    ErrorCode.NOT_VOTING,
    ErrorCode.NOT_SYNCED,
    ErrorCode.BUSY,
    ErrorCode.GOING_AWAY,
    ErrorCode.INTERNAL,
    ErrorCode.TIMEOUT,
)
"""Refusals that say something about the node, not about the payment: another node, or later."""

UNSURE = (ErrorCode.GOING_AWAY, ErrorCode.INTERNAL, ErrorCode.TIMEOUT)
"""Those of them after which nobody knows whether the node locked the coins before it said so."""


def require_frame(tx: Transaction) -> None:
    """Returns if ``tx`` fits a wallet's frame. Nodes hang up on a longer one, each time that it is sent."""
    if len(codec.encode(messages.TransactionBroadcast(tx=tx, id=2**53 - 1))) > limits.FRAME_WALLET:
        raise Refusal(
            ErrorCode.FRAME_TOO_LARGE,
            "the transaction is too long for a wallet's frame: pay in parts",
            limit="frame_wallet",
            value=limits.FRAME_WALLET,
        )


async def final_word(refusal: Refusal, payment: Payment, belief: Belief, *, only_node: bool) -> Refusal | None:
    """What ends the payment: the refusal, or the proven ``Aborted`` or ``DoubleSpend``; None if nothing does.

    Nothing if it speaks of the node rather than of the payment (a node that does not know a coin may be behind: with
    another to ask, it is asked). And of a payment that some node may have locked before, only if we see ourselves that
    it breaks a rule which every node keeps, or if another transaction is proven to have spent a coin of it. That a
    block has ended it must be proven in any case.
    """
    if refusal.code in ELSEWHERE or (refusal.code is ErrorCode.UNKNOWN_INPUT and not only_node):
        return None
    if refusal.code is ErrorCode.ABORTED:
        try:  # an honest node can always prove this one
            return await belief.end_of(payment.tx)
        except (Lie, Refusal, ConnectionGone):
            return None
    if not (payment.may_be_known or payment.asking):
        payment.may_be_known = not payment.take_back()
        return None if payment.may_be_known else refusal
    if refusal.code in RULES:
        try:  # to say so is easy, and the coins would be paid again while the payment becomes final
            return refusal if not payment.is_accepted and await belief.breaks_a_rule(payment.tx) else None
        except (Lie, Refusal, ConnectionGone):
            return None
    rival, coin = refusal.details.get("conflicting_txid"), parse_outpoint(refusal.details.get("outpoint"))
    if refusal.code is not ErrorCode.DOUBLE_SPEND or coin is None or not isinstance(rival, str):
        return None
    try:
        return await belief.loss_of(payment.tx, coin, rival)
    except (Lie, Refusal, ConnectionGone):
        return None
