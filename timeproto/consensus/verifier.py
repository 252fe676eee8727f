"""The verify stage: every signature that comes in is checked here, before the replica sees it.

What does not hold is taken out of its message and counted against the masternode that sent it: an honest one never
sends a bad signature. Votes that were verified before are recognised and not verified again; they still go on,
since the replica may have had to forget them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import attrs
import msgspec

from timeproto import limits
from timeproto.consensus.answers import room_for_verdicts, verdict_size
from timeproto.consensus.effects import Cancel, Heard, Input, Submit, Ticket
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import Block, BlockVote, DecidedBlock, check_commit
from timeproto.model.canonical import sha256
from timeproto.model.certificate import FinalityProof, check_proof
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SIGNATURE_SIZE, checked_together, verify
from timeproto.model.lanes import Signed
from timeproto.model.transaction import Transaction
from timeproto.model.validation import check_stateless, signed_by_owners
from timeproto.model.vote import VoteBatch
from timeproto.wire import messages

Known = Mapping[str, Transaction]
"""Transactions by txid that the replica holds: whatever equals one of them was verified before."""

NONE_KNOWN: Known = {}


@attrs.define
class Verified:
    """What one run of the stage found: ``inputs`` in their order, whom to answer or blame, and what this code could not
    judge for a fault of its own."""

    inputs: list[Input] = attrs.field(factory=list)
    refused: list[tuple[Ticket, Refusal]] = attrs.field(factory=list)
    blame: list[tuple[str, Refusal]] = attrs.field(factory=list)
    faults: list[Exception] = attrs.field(factory=list)


class Verifier:
    """Used by one thread at a time; what it remembers is bounded."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._masternodes = genesis.masternode_set
        self._batches: dict[str, bytes] = {}
        self._words: dict[str, BlockVote] = {}
        self._cancels: dict[tuple[str, str, str], None] = {}
        self._refusals: dict[bytes, Refusal] = {}

    def check(self, entries: Sequence[tuple[Input, Known]]) -> Verified:
        """Each entry is an input and the transactions in it that the replica holds already."""
        verified = Verified()
        with checked_together(self._ahead(entries)):
            for entry, known in entries:
                try:
                    self._check(entry, known, verified)
                except Exception as fault:
                    # Nothing was decided yet, so what cannot be judged is left out and the node lives.
                    verified.faults.append(fault)
                    if isinstance(entry, Submit):
                        refusal = Refusal(ErrorCode.INTERNAL, "the node failed to verify the transaction")
                        verified.refused.append((entry.ticket, refusal))
        return verified

    def _ahead(self, entries: Sequence[tuple[Input, Known]]) -> Iterator[Signed]:
        """The signatures of what comes most, one in each: looked at together, eight take the time of two.

        What costs nothing where it is judged, since it was judged before or for another reason than its signature,
        costs nothing here: anybody can send a lot of it."""
        batches: set[str] = set()
        for entry, known in entries:
            with suppress(Exception):  # it is met again where it is judged
                match entry:
                    case Submit():
                        yield from self._of_transactions([entry.tx], known)
                    case Heard(message=VoteBatch() as batch):
                        if batch.signature not in batches and self._is_new(batch):
                            batches.add(batch.signature)
                            yield batch.signed(self._genesis.hash)
                    case Heard(message=messages.Transactions() as message):
                        yield from self._of_transactions(message.transactions, known)
                    case Heard(message=messages.TransactionBroadcast() as message):
                        yield from self._of_transactions([message.tx], known)

    def _of_transactions(self, transactions: Iterable[Transaction], known: Known) -> Iterator[Signed]:
        for tx in transactions:
            if len(tx.signature) != SIGNATURE_SIZE or known.get(tx.txid) == tx or tx.txid != tx.computed_txid:
                continue
            if not self._refusals or _same(tx) not in self._refusals:
                yield from signed_by_owners(tx, self._genesis.hash)

    def _is_new(self, batch: VoteBatch) -> bool:
        if batch.set != self._masternodes.hash or batch.voter not in self._masternodes:
            return False
        return not self._was_seen(batch)

    def _was_seen(self, batch: VoteBatch) -> bool:
        seen = self._batches.get(batch.signature)
        return seen is not None and seen == _contents(batch)

    def _check(self, entry: Input, known: Known, verified: Verified) -> None:
        if isinstance(entry, Heard):
            self._check_heard(entry, known, verified)
        elif isinstance(entry, Submit):
            refusal = self._problem_with(entry.tx, known)
            if refusal is None:
                verified.inputs.append(entry)
            else:
                verified.refused.append((entry.ticket, refusal))
        elif isinstance(entry, Cancel):
            if self._is_signed(entry.cancel):
                verified.inputs.append(entry)
            else:
                refusal = Refusal(ErrorCode.BAD_SIGNATURE, "the cancel is not signed by its key", key=entry.cancel.key)
                verified.refused.append((entry.ticket, refusal))
        else:
            verified.inputs.append(entry)

    def _check_heard(self, entry: Heard, known: Known, verified: Verified) -> None:
        message, sender = entry.message, entry.sender
        faults: list[Refusal] = []
        checked: messages.AnyMessage | None = message
        match message:  # the most frequent first: each case is a comparison
            case VoteBatch():
                checked = self._good_batch(message, faults)
            case BlockVote():
                # A proposal comes with its block.
                checked = message if message.kind != "proposal" and self._good_word(message, faults) else None
            case messages.TransactionBroadcast():
                checked = message if self._good_transactions([message.tx], known, faults) else None
            case messages.Transactions():
                checked = msgspec.structs.replace(
                    message,
                    transactions=self._good_transactions(message.transactions, known, faults),
                    proofs=self._good_proofs(message.proofs, faults),
                )
            case messages.Votes():
                batches = (self._good_batch(batch, faults) for batch in message.batches)
                checked = msgspec.structs.replace(
                    message,
                    batches=tuple(batch for batch in batches if batch is not None),
                    proofs=self._good_proofs(message.proofs, faults),
                    cancels=tuple(cancel for cancel in message.cancels if self._good_cancel(cancel, faults)),
                    block_votes=tuple(vote for vote in message.block_votes if self._good_word(vote, faults)),
                )
            case messages.TransactionCancel():
                checked = message if self._good_cancel(message, faults) else None
            case messages.BlockProposal():
                checked = message if self._good_proposal(message, faults) else None
            case messages.Blocks():
                blocks = tuple(decided for decided in message.blocks if self._good_block(decided, faults))
                checked = msgspec.structs.replace(message, blocks=blocks)
            case messages.FinalityProofs():
                checked = messages.FinalityProofs(proofs=self._good_proofs(message.proofs, faults))
            case messages.UTXOStateNotification():
                if message.proof is not None and not self._good_proofs([message.proof], faults):
                    checked = None
            case _:
                pass  # nothing in it is signed
        if checked is not None:
            verified.inputs.append(entry if checked is message else Heard(checked, sender))
        if faults:
            verified.blame += [(sender, fault) for fault in faults]

    def _good_transactions(
        self, transactions: Iterable[Transaction], known: Known, faults: list[Refusal]
    ) -> tuple[Transaction, ...]:
        good = []
        for tx in transactions:
            refusal = self._problem_with(tx, known)
            if refusal is None:
                good.append(tx)
            else:
                faults.append(Refusal(ErrorCode.BAD_SIGNATURE, f"an invalid transaction came: {refusal.message}"))
        return tuple(good)

    def _problem_with(self, tx: Transaction, known: Known) -> Refusal | None:
        """Why the transaction is not valid by itself, from memory if the same bytes were refused before."""
        if known.get(tx.txid) == tx:  # the same to the last byte: the txid does not cover the signatures
            return None
        refusal = self._refusals.get(_same(tx)) if self._refusals else None
        if refusal is None:
            try:
                check_stateless(tx, self._genesis.params, self._genesis.hash)
            except Refusal as found:
                refusal = self._refusals[_same(tx)] = _anew(found)
                if len(self._refusals) > limits.REFUSED_CACHE:
                    del self._refusals[next(iter(self._refusals))]
        return None if refusal is None else _anew(refusal)

    def _good_batch(self, batch: VoteBatch, faults: list[Refusal]) -> VoteBatch | None:
        """The batch, None if it does not hold. Of one seen before no more is kept than a hash: whole batches outlive
        what they vote for, and a busy node had its memory full of them."""
        if self._was_seen(batch):
            return batch
        if batch.set != self._masternodes.hash or batch.voter not in self._masternodes:
            faults.append(Refusal(ErrorCode.BAD_VOTE, "a vote batch names a stranger or another masternode set"))
            return None
        if not verify(*batch.signed(self._genesis.hash)):
            faults.append(Refusal(ErrorCode.BAD_VOTE, f"a vote batch is not signed by its voter {batch.voter}"))
            return None
        self._batches[batch.signature] = _contents(batch)
        if len(self._batches) > limits.VERIFIED_WORDS:
            del self._batches[next(iter(self._batches))]
        return batch

    def _good_proofs(self, proofs: Iterable[FinalityProof], faults: list[Refusal]) -> tuple[FinalityProof, ...]:
        good = []
        for proof in proofs:
            try:
                check_proof(proof, self._masternodes, self._genesis.hash)
            except Refusal as refusal:
                faults.append(refusal)
            else:
                good.append(proof)
        return tuple(good)

    def _is_signed(self, cancel: messages.TransactionCancel) -> bool:
        """A copy of one seen before costs nothing: any key's cancel of any txid holds, so nobody is blamed for many."""
        same = cancel.txid, cancel.key, cancel.signature  # the id is the asker's
        if same in self._cancels:
            return True
        message = cancel.message(self._genesis.hash)
        if not verify(bytes.fromhex(cancel.key), message, bytes.fromhex(cancel.signature)):
            return False
        self._cancels[same] = None
        if len(self._cancels) > limits.VERIFIED_WORDS:
            del self._cancels[next(iter(self._cancels))]
        return True

    def _good_cancel(self, cancel: messages.TransactionCancel, faults: list[Refusal]) -> bool:
        if self._is_signed(cancel):
            return True
        faults.append(Refusal(ErrorCode.BAD_SIGNATURE, f"a cancel is not signed by its key {cancel.key}"))
        return False

    def _good_word(self, vote: BlockVote, faults: list[Refusal]) -> bool:
        """One word in the agreement on a block; a copy of one seen before costs nothing."""
        if self._words.get(vote.signature) == vote:
            return True
        if vote.set != self._masternodes.hash or vote.voter not in self._masternodes:
            faults.append(Refusal(ErrorCode.BAD_VOTE, "a word about a block names a stranger or another set"))
            return False
        if not vote.verify(self._genesis.hash):
            faults.append(Refusal(ErrorCode.BAD_VOTE, f"a word about a block is not signed by its voter {vote.voter}"))
            return False
        self._words[vote.signature] = vote
        if len(self._words) > limits.VERIFIED_WORDS:
            del self._words[next(iter(self._words))]
        return True

    def _good_proposal(self, message: messages.BlockProposal, faults: list[Refusal]) -> bool:
        """The proposer's word is for this block, all that it holds, and the polka is one for it."""
        vote, header = message.vote, message.block.header
        if vote.kind != "proposal" or (vote.height, vote.block) != (header.height, header.hash(self._genesis.hash)):
            faults.append(Refusal(ErrorCode.BAD_PROOF, "a proposal does not name its block"))
            return False
        if not self._good_word(vote, faults) or not self._good_contents(message.block, faults):
            return False
        if vote.valid_round is None and not message.polka:
            return True
        place = (vote.height, vote.valid_round, "prevote")
        polka = {word.voter: word for word in message.polka if word.place == place and word.block == vote.block}
        if len(polka) < self._masternodes.quorum or len(polka) != len(message.polka):
            faults.append(Refusal(ErrorCode.BAD_PROOF, "a proposal does not show the polka that it names"))
            return False
        return all(self._good_word(word, faults) for word in polka.values())

    def _good_contents(self, block: Block, faults: list[Refusal]) -> bool:
        """What the header stands for and nothing else: another body under an honest hash would be judged in its place.
        And no larger than the honest make them, or it could not be handed on with its commit."""
        if not block.is_whole:
            faults.append(Refusal(ErrorCode.BAD_PROOF, f"the contents of block {block.header.height} are not its own"))
            return False
        if sum(map(verdict_size, block.verdicts)) > room_for_verdicts():
            faults.append(Refusal(ErrorCode.BAD_PROOF, f"the verdicts of block {block.header.height} are too large"))
            return False
        try:
            for verdict in block.verdicts:
                verdict.check(self._masternodes, self._genesis.hash)
        except Refusal as refusal:
            faults.append(refusal)
            return False
        return True

    def _good_block(self, decided: DecidedBlock, faults: list[Refusal]) -> bool:
        """A decided block: its commit, and all that it holds."""
        block = decided.block
        try:
            check_commit(block.header, decided.commit, self._masternodes, self._genesis.hash)
        except Refusal as refusal:
            faults.append(refusal)
            return False
        return self._good_contents(block, faults)


def _same(tx: Transaction) -> bytes:
    """What only the same bytes have in common: the txid does not cover the signatures, and it may be a lie."""
    return sha256(tx.canonical + bytes.fromhex(tx.txid) + bytes(tx.signature))


def _anew(refusal: Refusal) -> Refusal:
    """The same refusal without its traceback, which would keep the transaction in memory with it."""
    return Refusal(refusal.code, refusal.message, **refusal.details)


def _contents(batch: VoteBatch) -> bytes:
    """A hash of all that its signature is for, in a tenth of the time that its tree takes."""
    parts = [batch.voter, batch.set, str(batch.height)]
    for kind, txids in batch.lists():
        parts += (kind.name, *txids)
    return sha256(" ".join(parts).encode("ascii"))
