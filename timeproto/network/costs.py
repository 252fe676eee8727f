"""What a wallet's message costs, in units of about 25 µs of a node's work: a ping is one (docs/protocol.md).

Besides what its type costs, every message pays for its bytes and for those of its answer. The numbers are of one
order with the work, so that who pays 4,000 a second takes about a tenth of a core, whatever it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timeproto.errors import POLICY, ErrorCode
from timeproto.model.block import Block
from timeproto.wire import messages

PLAIN = 1
"""Of a message that is not named below."""
BASE: dict[type, int] = {
    messages.Handshake: 4,
    messages.TransactionBroadcast: 3,
    messages.TransactionCancel: 8,
    messages.UTXOSubscribe: 2,
    messages.GetAddressUTXOs: 2,
    messages.GetTransaction: 4,
    messages.GetFinalityProof: 4,
    messages.GetEvidence: 8,
    messages.GetTrace: 12,
    messages.GetInfo: 2,
}
RESUMED = 20
"""A subscription that goes on from a cursor, or is taken up with a token or a key: its log is read, its filter put
back, a signature checked."""
GARBAGE = 50
"""What is no message of ours, with four times the price of its bytes: it was read again to say what is wrong with it.
And a message that its sender must have known to be false."""
UNPAID = 20
"""A payment that is refused, since no fee pays for looking at it."""
REFUSED = 10
"""A request that was refused for what others cost before it."""
CONNECTION = 4
"""A new connection …"""
TLS = 60
"""… with a TLS handshake."""

WORTH_TELLING = 10
"""Least cost that an answer names, to those who want to know."""

_SIGNATURE = 64
_MORE_FOR: dict[str, int] = dict.fromkeys(
    (
        ErrorCode.INVALID_TRANSACTION.value,
        ErrorCode.BAD_ADDRESS.value,
        ErrorCode.DUST.value,
        ErrorCode.FEE_TOO_LOW.value,
        ErrorCode.VALUE_MISMATCH.value,
        ErrorCode.UNKNOWN_INPUT.value,
        ErrorCode.NOT_OWNER.value,
        ErrorCode.DOUBLE_SPEND.value,
        ErrorCode.ABORTED.value,
    ),
    UNPAID,
) | {code.value: GARBAGE for code, policy in POLICY.items() if policy.penalty}


def _paid_for(message: messages.TransactionBroadcast) -> int:
    return len(message.tx.signature) // _SIGNATURE


def _asked_for(message: messages.UTXOStateQuery) -> int:
    return 3 * len(message.outpoints) >> 3


def _watched(message: messages.UTXOSubscribe) -> int:
    resumed = not (message.since is None and message.token is None and message.owner is None)
    return of_filter(len(message.outpoints) + len(message.addresses)) + (RESUMED if resumed else 0)


def of_filter(items: int) -> int:
    """Of so many outpoints and addresses that are looked for, hashed or written down: three for each 8."""
    return 3 * items >> 3


_MORE: dict[type, Callable[[Any], int]] = {
    messages.TransactionBroadcast: _paid_for,
    messages.UTXOStateQuery: _asked_for,
    messages.UTXOSubscribe: _watched,
}


_SHOWN: dict[type, Callable[[Any], int]] = {
    messages.AddressUTXOs: lambda reply: len(reply.coins) >> 1,
    messages.UTXOSubscribed: lambda reply: len(reply.states) >> 1,
}
"""Coins in an answer were each looked up."""


def of_bytes(size: int) -> int:
    """One for each whole 4 KiB."""
    return size >> 12


def of_request(message: Any, size: int) -> int:
    """Of a message that came in ``size`` bytes, before it is answered."""
    kind = type(message)
    more = _MORE.get(kind)
    return (size >> 12) + BASE.get(kind, PLAIN) + (0 if more is None else more(message))


def of_block(block: Block) -> int:
    """Of reading one again to find a place in it: one for each 8 of its leaves and votes."""
    return len(block.transactions) + sum(1 + len(each.votes) for each in block.verdicts) >> 3


def of_reading(block: Block) -> int:
    """Of reading one to show what is in it: one for each 64 transactions, and for each 8 verdicts and votes."""
    return (len(block.transactions) >> 6) + (sum(1 + len(each.votes) for each in block.verdicts) >> 3)


def of_digest(items: int) -> int:
    """Of making the digest of a filter (network.ownership): about 1 µs an item."""
    return items >> 5


def of_reply(reply: Any, size: int) -> int:
    """Of an answer in ``size`` bytes, and of what it complains about."""
    kind = type(reply)
    if kind is messages.Error:
        return (size >> 12) + _MORE_FOR.get(reply.code, 0)
    shown = _SHOWN.get(kind)
    return (size >> 12) + (0 if shown is None else shown(reply))


def of_garbage(size: int) -> int:
    return GARBAGE + 4 * (size >> 12)
