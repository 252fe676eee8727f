"""What a wallet believes: only what is proven to it against its own genesis (protocol §4, §8).

A coin exists if genesis allots it, or if the transaction that creates it is proven final and has just this output. A
coin is spent if a transaction that spends it is proven final. Votes prove that, and so does a place in a decided block.
A transaction has ended if a decided block holds the verdict, or a rival of it. Everything else a node says is a claim.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Any

from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import InclusionProof, check_inclusion, transaction_leaf, verdict_leaf
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.genesis import Genesis
from timeproto.model.keys import Remembered
from timeproto.model.ledger import Coin
from timeproto.model.transaction import NULL_OUTPOINT, Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import UNSPENT, Confirmed, SpentFinalized, UTXOState, holder
from timeproto.model.validation import check_context, check_stateless
from timeproto.wire import messages

REMEMBERED, PARTS = 10_000, 300_000
"""Transactions proven final that are kept, so that no proof is fetched or checked twice, and how many outputs those
have in all, an input counted as six: an output takes 210 bytes of memory, an input with its key and signature 1,200."""

PLACES = 1_000
"""Places in blocks that are kept likewise: a payment of a thousand coins is told Confirmed a thousand times."""

SIGNATURES = 1_000
"""Signatures that hold are kept too: each is for a batch of votes, or for a block, and so for many payments."""

RULES = (
    ErrorCode.TXID_MISMATCH,
    ErrorCode.BAD_SIGNATURE,
    ErrorCode.BAD_ADDRESS,
    ErrorCode.INVALID_TRANSACTION,
    ErrorCode.DUST,
    ErrorCode.FEE_TOO_LOW,
    ErrorCode.VALUE_MISMATCH,
    ErrorCode.NOT_OWNER,
)
"""What every node must refuse alike, today and tomorrow. ``over_limit`` is none of them: connections have limits too,
and a transaction over its own is refused before it leaves."""

Ask = Callable[[Any], Awaitable[Any]]


class Lie(Exception):
    """A node claimed what its proof does not bear out, or what it cannot prove."""

    does = "lies"


class Silence(Lie):
    """A node keeps to itself what another one shows."""

    does = "keeps something back"


class Unserved(Silence):
    """A node refuses what others may do, or is slow at it: nothing is wrong with that if it is not for ever."""

    does = "does not serve this wallet"


Proof = FinalityProof | InclusionProof
"""What proves a transaction final: q commit votes, or its place in a decided block."""


class Aborted(Refusal):
    """Proven: a decided block ended the transaction for ever. ``height`` is the block's; ``rival`` the transaction in
    it that spends one of its coins, None if the block holds a verdict; ``spent`` are those coins of it."""

    def __init__(self, txid: str, height: int, rival: str | None, spent: frozenset[Outpoint] = frozenset()) -> None:
        details: dict[str, str | int] = {"txid": txid, "height": height}
        why = f"block {height} aborted the transaction {txid}"
        if rival is not None:
            details["conflicting_txid"] = rival
            why = f"block {height} contains {rival}, which spends a coin of {txid}"
        super().__init__(ErrorCode.ABORTED, why, **details)
        self.height = height
        self.rival = rival
        self.spent = spent


class DoubleSpend(Refusal):
    """Proven: ``rival`` has spent coins of the transaction for ever, so that it can never be final; ``spent`` are those
    coins of it."""

    def __init__(self, outpoint: Outpoint, rival: str, spent: frozenset[Outpoint]) -> None:
        why = f"the coin {outpoint} is spent for ever by {rival}"
        super().__init__(ErrorCode.DOUBLE_SPEND, why, conflicting_txid=rival, outpoint=str(outpoint))
        self.rival = rival
        self.spent = spent


class _Final:
    """The transactions proven final last."""

    def __init__(self) -> None:
        self._txs: dict[str, Transaction] = {}
        self._parts = 0

    def get(self, txid: str) -> Transaction | None:
        return self._txs.get(txid)

    def put(self, tx: Transaction) -> None:
        if tx.computed_txid not in self._txs:
            self._txs[tx.computed_txid] = tx
            self._parts += _parts(tx)
        while len(self._txs) > REMEMBERED or self._parts > PARTS:
            self._parts -= _parts(self._txs.pop(next(iter(self._txs))))


def _parts(tx: Transaction) -> int:
    return 6 * len(tx.inputs) + len(tx.outputs)


class Belief:
    """Checks claims. ``ask`` sends a request to the node of the moment and gives its reply."""

    def __init__(self, genesis: Genesis, ask: Ask) -> None:
        self._genesis = genesis
        self.ask = ask
        self._genesis_coins = dict(genesis.coins())
        self._final = _Final()
        self._places: dict[tuple[bytes, InclusionProof], None] = {}
        self._signatures = Remembered(SIGNATURES)
        self.lies = 0

    def of(self, ask: Ask) -> Belief:
        """The same belief, where another node is asked; its lies are counted apart."""
        other = copy.copy(self)
        other.ask, other.lies = ask, 0
        return other

    def check(self, proof: Proof | None, txid: str) -> Proof:
        """The proof itself if it proves ``txid`` final; :class:`Lie` if not."""
        if proof is None:
            raise self._lie(f"no proof that {txid} is final")
        if isinstance(proof, InclusionProof):
            self._check_entry(proof, transaction_leaf(txid))
            return proof
        if proof.txid != txid:
            raise self._lie(f"a proof of {proof.txid} was given for {txid}")
        try:
            check_proof(proof, self._genesis.masternode_set, self._genesis.hash, self._signatures)
        except Refusal as refusal:
            raise self._lie(refusal.message) from None
        return proof

    def _check_entry(self, place: InclusionProof | None, leaf: bytes) -> None:
        if place is None:
            raise self._lie("no proof of what a block is said to hold")
        if (leaf, place) in self._places:
            return
        try:
            check_inclusion(place, leaf, self._genesis.masternode_set, self._genesis.hash, self._signatures)
        except Refusal as refusal:
            raise self._lie(refusal.message) from None
        self._places[leaf, place] = None
        if len(self._places) > PLACES:
            del self._places[next(iter(self._places))]

    async def claimed(self, txid: str) -> Transaction:
        """The transaction of this txid, signed, whatever became of it; :class:`Refusal` ``not_found`` if the node has
        none."""
        info = await self.ask(messages.GetTransaction(txid=txid))
        tx = self.named(txid, info.tx)
        if NULL_OUTPOINT not in tx.outpoints:  # a block's own is signed by nobody
            try:
                check_stateless(tx, self._genesis.params, self._genesis.hash)
            except Refusal as refusal:  # the txid says nothing of the signatures
                raise self._lie(f"what was given for {txid} is no payment: {refusal.message}") from None
        return tx

    def named(self, txid: str, tx: Transaction) -> Transaction:
        """``tx`` itself if ``txid`` is what it hashes to, and what it calls itself; :class:`Lie` if not."""
        if tx.txid != txid or tx.computed_txid != txid:
            raise self._lie(f"another transaction was given for {txid}")
        return tx

    async def confirmed(self, txid: str, height: int | None = None, place: InclusionProof | None = None) -> int:
        """The height of the decided block that holds ``txid``; :class:`Lie` if that is not proven, or not ``height``.

        Raises :class:`Refusal` ``not_found`` if the node says that no block holds it yet, :class:`Aborted` if one is
        proven to have ended it.
        """
        if place is None:
            info = await self.ask(messages.GetTransaction(txid=txid))
            if info.status == "aborted" and height is None:
                raise await self._ended(self.named(txid, info.tx), info)
            place = info.inclusion if info.status == "final" else None
            if place is None and height is None:
                raise Refusal(ErrorCode.NOT_FOUND, f"no block contains {txid} yet", txid=txid)
        self._check_entry(place, transaction_leaf(txid))
        assert place is not None  # it was checked
        if height not in (None, place.header.height):
            raise self._lie(f"{txid} stands in block {place.header.height}, not {height}")
        return place.header.height

    async def end_of(self, tx: Transaction) -> Aborted | None:
        """How a block ended ``tx``, proven; None if the node does not say that one did. :class:`Lie` if it is false."""
        info = await self.ask(messages.GetTransaction(txid=tx.txid))
        return await self._ended(tx, info) if info.status == "aborted" else None

    async def _ended(self, tx: Transaction, info: messages.TransactionInfo) -> Aborted:
        rival, spent = info.conflicting_txid, frozenset[Outpoint]()
        self._check_entry(info.inclusion, verdict_leaf("abort", tx.txid) if rival is None else transaction_leaf(rival))
        if rival is not None:
            other = await self.final_transaction(rival, info.inclusion)
            spent = frozenset(other.outpoints) & frozenset(tx.outpoints)
            if rival == tx.txid or not spent:
                raise self._lie(f"{rival} spends no coin of {tx.txid}")
        assert info.inclusion is not None  # it was checked
        return Aborted(tx.txid, info.inclusion.header.height, rival, spent)

    async def final_proof(self, txid: str) -> Proof:
        """The proof of what is final by now, verified; :class:`Refusal` ``not_found`` if it is not."""
        try:
            reply = await self.ask(messages.GetFinalityProof(txid=txid))
        except Refusal as refusal:
            if refusal.code is not ErrorCode.NOT_FOUND:
                raise
            info = await self.ask(messages.GetTransaction(txid=txid))
            if info.status != "final" or info.inclusion is None:
                raise refusal from None
            return self.check(info.inclusion, txid)  # a block made it final: there are no votes to show
        return self.check(reply.proofs[0] if reply.proofs else None, txid)

    async def final_transaction(self, txid: str, proof: Proof | None = None) -> Transaction:
        """The transaction, proven final: from memory, or fetched with its proof. :class:`Lie` if it cannot be."""
        known = self._final.get(txid)
        if known is not None:
            return known
        if proof is not None:
            self.check(proof, txid)
        try:
            info = await self.ask(messages.GetTransaction(txid=txid))
        except Refusal as refusal:
            if refusal.code is ErrorCode.NOT_FOUND:
                raise self._lie(f"the node has no transaction {txid}") from None
            raise
        tx = self.named(txid, info.tx)
        self.check(proof or info.proof or info.inclusion, txid)
        self.remember(tx)
        return tx

    def proven(self, txid: str) -> Transaction | None:
        """The transaction if it was proven final not long ago."""
        return self._final.get(txid)

    def remember(self, tx: Transaction) -> None:
        """``tx`` is proven final."""
        self._final.put(tx)

    async def coin_exists(self, outpoint: Outpoint, output: TxOutput, proof: Proof | None = None) -> None:
        """Returns if the coin was created for good, with exactly this output; raises :class:`Lie` if not."""
        if await self.output_of(outpoint, proof) != output:
            raise self._lie(f"the coin {outpoint} is not what was told of it")

    async def output_of(self, outpoint: Outpoint, proof: Proof | None = None) -> TxOutput:
        """What was created at ``outpoint`` for good; :class:`Lie` if that is nothing, or cannot be proven."""
        if outpoint.txid == self._genesis.hash:
            allotted = self._genesis_coins.get(outpoint)
            if allotted is None:
                raise self._lie(f"genesis allots no such coin as {outpoint}")
            return allotted
        tx = await self.final_transaction(outpoint.txid, proof)
        if outpoint.vout >= len(tx.outputs):
            raise self._lie(f"the transaction {outpoint.txid} has no output {outpoint.vout}")
        return tx.outputs[outpoint.vout]

    async def breaks_a_rule(self, tx: Transaction) -> bool:
        """True if no node may ever take ``tx``, by what is proven: its own bytes, and the coins that it spends.

        :class:`Lie`, :class:`Refusal` or :class:`ConnectionGone` if the coins cannot be had."""
        params = self._genesis.params
        try:
            check_stateless(tx, params, self._genesis.hash)
        except Refusal as refusal:
            return refusal.code in RULES
        coins = [Coin(await self.output_of(outpoint), UNSPENT) for outpoint in tx.outpoints]
        try:  # apart from the questions, for what a node says of them proves nothing
            check_context(tx, coins, params)
        except Refusal as refusal:
            return refusal.code in RULES
        return False

    async def coin_is_spent(self, outpoint: Outpoint, txid: str, proof: Proof | None = None) -> Transaction:
        """The proven transaction ``txid``, if it spends the coin; :class:`Lie` if not."""
        tx = await self.final_transaction(txid, proof)
        if outpoint not in tx.outpoints:
            raise self._lie(f"{txid} does not spend {outpoint}")
        return tx

    async def loss_of(self, tx: Transaction, outpoint: Outpoint, rival: str, proof: Proof | None = None) -> DoubleSpend:
        """What ends ``tx``: that ``rival`` spends this coin of it, proven; :class:`Lie` if that is not so."""
        if outpoint not in tx.outpoints or rival == tx.txid:
            raise self._lie(f"{rival} takes no coin from {tx.txid}")
        other = await self.coin_is_spent(outpoint, rival, proof)
        return DoubleSpend(outpoint, rival, frozenset(other.outpoints) & frozenset(tx.outpoints))

    async def is_proven(self, outpoint: Outpoint, output: TxOutput, state: UTXOState, proof: Proof | None) -> bool:
        """True if the coin exists and, where it is said to be spent, is; :class:`Lie` if a proof is false or lacking.

        Locked and SpentPending are what a node says of itself: nothing proves them, and nothing hangs on them."""
        if isinstance(state, Confirmed):
            place = proof if isinstance(proof, InclusionProof) else None
            await self.confirmed(state.txid, state.block_height, place)
        if isinstance(state, SpentFinalized | Confirmed):
            await self.coin_is_spent(outpoint, state.txid, proof)
            await self.coin_exists(outpoint, output)  # what it was, and whose, is a claim too
            return True
        await self.coin_exists(outpoint, output, proof)
        return holder(state) is None

    def _lie(self, what: str) -> Lie:
        self.lies += 1
        return Lie(what)
