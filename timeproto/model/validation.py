"""The one gate: every way in (wallet, peer, proof) passes these checks (protocol §2).

:func:`check_stateless` needs nothing but the transaction and may run in a thread; :func:`check_context` needs the
coins it spends. Neither reads a clock: a transaction is valid or not, the same on every replica.
"""

from __future__ import annotations

from collections.abc import Sequence

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.address import address_of, require_address
from timeproto.model.keys import SIGNATURE_SIZE, checked_together, verify
from timeproto.model.lanes import Signed
from timeproto.model.ledger import Coin
from timeproto.model.transaction import FINAL_SEQUENCE, NULL_OUTPOINT, Transaction, sighash
from timeproto.params import MAX_AMOUNT, NetworkParams


def check_stateless(tx: Transaction, params: NetworkParams, genesis_hash: str) -> None:
    """Shape, txid, amounts, fee and signatures; raises :class:`Refusal`. Cheap checks come first."""
    check_shape(tx, params)
    signed = signed_by_owners(tx, genesis_hash)
    with checked_together(signed):
        for key, digest, signature in signed:
            if not verify(key, digest, signature):
                raise Refusal(ErrorCode.BAD_SIGNATURE, f"the signature of {key.hex()} does not fit", key=key.hex())


def signed_by_owners(tx: Transaction, genesis_hash: str) -> list[Signed]:
    """What each owner must have signed; as many as there are both keys and signatures."""
    digest = sighash(tx.canonical, genesis_hash)
    return [(key, digest, signature) for key, signature in zip(tx.keys, tx.signatures, strict=False)]


def check_shape(tx: Transaction, params: NetworkParams) -> None:
    """Everything of :func:`check_stateless` but the signatures."""
    size = len(tx.canonical) + len(tx.signature)
    if size > limits.TRANSACTION_SIZE:
        raise Refusal(
            ErrorCode.OVER_LIMIT,
            f"a transaction has at most {limits.TRANSACTION_SIZE} bytes, this one has {size}",
            limit="transaction_size",
            value=limits.TRANSACTION_SIZE,
        )
    if tx.txid != tx.computed_txid:
        raise Refusal(ErrorCode.TXID_MISMATCH, "the txid is not the hash of the transaction", txid=tx.computed_txid)
    if not tx.outputs:
        raise Refusal(ErrorCode.INVALID_TRANSACTION, "a transaction has at least one output")
    if NULL_OUTPOINT in tx.outpoints:
        raise Refusal(ErrorCode.INVALID_TRANSACTION, "only a block's own transaction mints")
    if len(set(tx.outpoints)) != len(tx.outpoints):
        raise Refusal(ErrorCode.INVALID_TRANSACTION, "a coin is spent twice in one transaction")
    for entry in tx.inputs:
        if entry.sequence != FINAL_SEQUENCE:
            raise Refusal(ErrorCode.INVALID_TRANSACTION, f"every sequence must be {FINAL_SEQUENCE}")
    spent = tx.fee
    for output in tx.outputs:
        if output.amount < params.dust:
            raise Refusal(ErrorCode.DUST, f"an output pays less than {params.dust}", value=params.dust)
        require_address(output.address, params)
        spent += output.amount
    if spent > MAX_AMOUNT:
        raise Refusal(ErrorCode.INVALID_TRANSACTION, "the outputs and the fee sum to more than 2^64 - 1")
    least = params.minimum_fee(len(tx.canonical))
    if tx.fee < least:
        raise Refusal(ErrorCode.FEE_TOO_LOW, f"the fee must be at least {least}", value=least)
    if len(tx.signature) != SIGNATURE_SIZE * len(tx.keys):
        raise Refusal(
            ErrorCode.INVALID_TRANSACTION,
            f"{len(tx.keys)} keys spend, so there must be {len(tx.keys)} signatures of {SIGNATURE_SIZE} bytes",
        )


def check_context(tx: Transaction, coins: Sequence[Coin], params: NetworkParams) -> None:
    """Ownership and sums against the coins the inputs name, in their order; raises :class:`Refusal`.

    Whether the coins are free is not asked here: that is the state manager's to say.
    """
    given, spent = 0, tx.fee
    for entry, coin in zip(tx.inputs, coins, strict=True):
        given += coin.output.amount
        if address_of(bytes(entry.script_sig), params) != coin.output.address:
            raise Refusal(
                ErrorCode.NOT_OWNER,
                f"the coin {entry.previous_output} belongs to another key",
                outpoint=str(entry.previous_output),
            )
    for output in tx.outputs:
        spent += output.amount
    if given != spent:
        raise Refusal(
            ErrorCode.VALUE_MISMATCH, f"the inputs hold {given}, the outputs and the fee take {spent}"
        )
