"""Payments on their way to a wallet, as a node tells of them: hints, and never money (protocol §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.wire.messages import PaidOutput, TransactionStatus

Status = Literal["seen", "locked", "pending", "final", "confirmed", "refused", "aborted"]


@attrs.frozen
class Incoming:
    """How far a payment to a watched address is, at the node of the moment. There is no coin in it.

    ``seen``, ``locked``, ``pending``: it may become final, or never. ``refused``, ``aborted``: it will not, says the
    node. All these, with their ``outputs`` and ``amount``, are one node's word, which may be false, and be taken back.
    ``final`` is told right after the first of its coins was told as a change, and not before; ``confirmed`` when it is
    proven that the block at ``height`` contains it; from ``final`` on the ``outputs`` are those of the proven
    transaction. ``rival`` is another transaction that wants one of its coins: beware.

    ``outputs`` are those that pay the watch, ``amount`` their sum, in smallest units. ``code`` says why it ended;
    ``timestamp`` is of the step at that node, in Unix ms, if it says so.
    """

    txid: str
    status: Status
    outputs: tuple[PaidOutput, ...]
    rival: str | None = None
    code: str | None = None
    height: int | None = None
    timestamp: int | None = None

    @classmethod
    def of(cls, message: TransactionStatus, names: Callable[[Outpoint, TxOutput], bool]) -> Incoming | None:
        """What a node says, of the outputs that ``names`` is true for; None if there is none."""
        outputs = tuple(each for each in message.outputs if names(Outpoint(message.txid, each.vout), each.output))
        if not outputs:
            return None
        return cls(
            message.txid,
            message.status,
            outputs,
            message.conflicting_txid,
            message.code,
            message.height,
            message.timestamp,
        )

    @property
    def amount(self) -> int:
        return sum(each.output.amount for each in self.outputs)

    @property
    def is_final(self) -> bool:
        """True once its coins have been told, proven."""
        return self.status in ("final", "confirmed")

    @property
    def is_over(self) -> bool:
        """True if nothing more is to be expected of it."""
        return self.status in ("confirmed", "aborted")
