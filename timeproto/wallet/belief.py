"""What a wallet believes: only what is proven to it against its own genesis (protocol §4, §8).

A coin exists if genesis allots it, or if the transaction that creates it is proven final and has just this output. A
coin is spent if a transaction that spends it is proven final. Everything else a node says is a claim.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.genesis import Genesis
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.wire import messages

REMEMBERED = 10_000
"""Transactions proven final that are kept, so that no proof is fetched or checked twice."""

Ask = Callable[[Any], Awaitable[Any]]


class Lie(Exception):
    """A node claimed what its proof does not bear out, or what it cannot prove."""


class Belief:
    """Checks claims. ``ask`` sends a request to the node of the moment and gives its reply."""

    def __init__(self, genesis: Genesis, ask: Ask) -> None:
        self._genesis = genesis
        self._ask = ask
        self._genesis_coins = dict(genesis.coins())
        self._final: dict[str, Transaction] = {}
        self.lies = 0

    def check(self, proof: FinalityProof | None, txid: str) -> FinalityProof:
        """The proof itself if it proves ``txid`` final; :class:`Lie` if not."""
        if proof is None:
            raise self._lie(f"no proof that {txid} is final")
        if proof.txid != txid:
            raise self._lie(f"a proof of {proof.txid} was given for {txid}")
        try:
            check_proof(proof, self._genesis.masternode_set, self._genesis.hash)
        except Refusal as refusal:
            raise self._lie(refusal.message) from None
        return proof

    async def final_transaction(self, txid: str, proof: FinalityProof | None = None) -> Transaction:
        """The transaction, proven final: from memory, or fetched with its proof. :class:`Lie` if it cannot be."""
        known = self._final.get(txid)
        if known is not None:
            return known
        if proof is not None:
            self.check(proof, txid)
        try:
            info = await self._ask(messages.GetTransaction(txid=txid))
        except Refusal as refusal:
            if refusal.code is ErrorCode.NOT_FOUND:
                raise self._lie(f"the node has no transaction {txid}") from None
            raise
        tx: Transaction = info.tx
        if tx.computed_txid != txid:
            raise self._lie(f"another transaction was given for {txid}")
        self.check(proof or info.proof, txid)
        self.remember(tx)
        return tx

    def remember(self, tx: Transaction) -> None:
        """``tx`` is proven final."""
        self._final[tx.computed_txid] = tx
        if len(self._final) > REMEMBERED:
            del self._final[next(iter(self._final))]

    async def coin_exists(self, outpoint: Outpoint, output: TxOutput, proof: FinalityProof | None = None) -> None:
        """Returns if the coin was created for good, with exactly this output; raises :class:`Lie` if not."""
        if outpoint.txid == self._genesis.hash:
            if self._genesis_coins.get(outpoint) != output:
                raise self._lie(f"genesis allots no such coin as {outpoint}")
            return
        tx = await self.final_transaction(outpoint.txid, proof)
        if outpoint.vout >= len(tx.outputs) or tx.outputs[outpoint.vout] != output:
            raise self._lie(f"the coin {outpoint} is not what its transaction says")

    async def coin_is_spent(self, outpoint: Outpoint, txid: str, proof: FinalityProof | None = None) -> Transaction:
        """The proven transaction ``txid``, if it spends the coin; :class:`Lie` if not."""
        tx = await self.final_transaction(txid, proof)
        if outpoint not in tx.outpoints:
            raise self._lie(f"{txid} does not spend {outpoint}")
        return tx

    def _lie(self, what: str) -> Lie:
        self.lies += 1
        return Lie(what)
