"""What a masternode is told when it asks: pure readings of the payments and the ledger, cut to fit a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from timeproto import limits
from timeproto.consensus.payments import Payments
from timeproto.model.block import BlockVote, DecidedBlock, Verdict
from timeproto.model.certificate import FinalityProof
from timeproto.model.ledger import Ledger
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages import (
    Blocks,
    GetBlocks,
    GetTransactions,
    GetVotes,
    Transactions,
    Votes,
)

T = TypeVar("T")

_PAGE_BYTES = limits.FRAME_PEER * 3 // 4


def within(items: Iterable[T], size: Callable[[T], int], room: int) -> Iterator[T]:
    """``items`` in order until there is no room left, the first always: who asked asks again for the rest."""
    for item in items:
        yield item
        room -= size(item)
        if room <= 0:
            break


def transaction_size(tx: Transaction) -> int:
    """At most how many bytes of JSON a transaction takes: a byte of an array takes up to four."""
    return 6 * len(tx.canonical) + 4 * len(tx.signature) + 400


def batch_size(batch: VoteBatch) -> int:
    """At most how many bytes of JSON a vote batch takes."""
    return 67 * (len(batch.lock) + len(batch.commit) + len(batch.abort)) + 500


def proof_size(proof: FinalityProof) -> int:
    """At most how many bytes of JSON a proof takes."""
    return sum(67 * len(vote.path) + 400 for vote in proof.votes) + 200


def verdict_size(verdict: Verdict) -> int:
    """At most how many bytes of JSON a verdict takes."""
    return sum(67 * len(vote.path) + 400 for vote in verdict.votes) + 150


def room_for_verdicts() -> int:
    """How many bytes of a block are for verdicts, beside a full list of transactions."""
    return limits.BLOCK_BYTES - 68 * limits.BLOCK_TRANSACTIONS


def block_size(decided: DecidedBlock) -> int:
    """At most how many bytes of JSON a decided block takes."""
    contents = sum(map(verdict_size, decided.block.verdicts)) + 68 * len(decided.block.transactions)
    return contents + 250 * len(decided.commit.signatures) + 4_000


def pages(items: Iterable[T], size: Callable[[T], int], most: int = limits.FETCH) -> Iterator[list[T]]:
    """``items`` in order, cut into lists that fit a frame."""
    page: list[T] = []
    room = _PAGE_BYTES
    for item in items:
        needed = size(item)
        if page and (needed > room or len(page) >= most):
            yield page
            page, room = [], _PAGE_BYTES
        page.append(item)
        room -= needed
    if page:
        yield page


def size(answer: Transactions | Votes | Blocks) -> int:
    """At most how many bytes of JSON an answer takes."""
    if isinstance(answer, Blocks):
        return sum(map(block_size, answer.blocks))
    proofs = sum(map(proof_size, answer.proofs))
    if isinstance(answer, Transactions):
        return proofs + sum(map(transaction_size, answer.transactions))
    return proofs + sum(map(batch_size, answer.batches)) + 500 * (len(answer.cancels) + len(answer.block_votes))


def transactions(
    request: GetTransactions, payments: Payments, ledger: Ledger, room: int = limits.ANSWER
) -> Iterator[Transactions]:
    """Those of the transactions asked for that are here, the first ones if they are too much for one answer; each final
    one together with its proof."""

    def found() -> Iterator[tuple[Transaction, FinalityProof | None]]:
        for txid in dict.fromkeys(request.txids):
            payment = payments.get(txid)
            if payment is not None and payment.tx is not None:
                yield payment.tx, None
            elif payment is None:
                record = ledger.transaction(txid)
                if record is not None and record.tx.signature:  # a coinbase comes with its block
                    yield record.tx, record.proof

    def pair_size(pair: tuple[Transaction, FinalityProof | None]) -> int:
        return transaction_size(pair[0]) + (proof_size(pair[1]) if pair[1] is not None else 0)

    cut = list(pages(within(found(), pair_size, room), pair_size)) or [[]]
    for page in cut:
        proofs = tuple(proof for _, proof in page if proof is not None)
        yield Transactions(id=request.id, transactions=tuple(tx for tx, _ in page), proofs=proofs)


def votes(
    request: GetVotes,
    payments: Payments,
    ledger: Ledger,
    block_votes: Callable[[str], tuple[BlockVote, ...]],
    room: int = limits.ANSWER,
) -> Iterator[Votes]:
    """All batches of one voter that concern undecided payments, or all that is known of some payments: of the first of
    them, if it is too much for one answer."""
    if request.voter is not None:
        yield from _votes_of(request.voter, request.id, payments, block_votes(request.voter))
        return
    batches: dict[str, VoteBatch] = {}
    proofs = []
    cancels = []
    for txid in dict.fromkeys(request.txids):
        if room <= 0:
            break
        payment = payments.get(txid)
        if payment is not None:
            for batch in payment.votes.batches():
                if batch.signature not in batches:
                    batches[batch.signature] = batch
                    room -= batch_size(batch)
            if payment.cancel is not None:
                cancels.append(payment.cancel)
            continue
        record = ledger.transaction(txid)
        proof = None if record is None else record.proof
        if proof is not None:
            proofs.append(proof)
            room -= proof_size(proof)
    for batch_page in pages(batches.values(), batch_size):
        yield Votes(id=request.id, batches=tuple(batch_page))
    for proof_page in pages(proofs, proof_size):
        yield Votes(id=request.id, proofs=tuple(proof_page))
    if cancels or not (batches or proofs):
        yield Votes(id=request.id, cancels=tuple(cancels))


def _votes_of(
    voter: str, request_id: int | None, payments: Payments, block_votes: tuple[BlockVote, ...]
) -> Iterator[Votes]:
    batches: dict[str, VoteBatch] = {}
    for payment in payments:
        for batch in payment.votes.batches():
            if batch.voter == voter:
                batches[batch.signature] = batch
    cut = list(pages(batches.values(), batch_size)) or [[]]
    for at, page in enumerate(cut):
        signed = () if at else block_votes
        yield Votes(id=request_id, voter=voter, more=at + 1 < len(cut), batches=tuple(page), block_votes=signed)


def blocks(request: GetBlocks, ledger: Ledger, head: int) -> Blocks:
    """The decided blocks after ``request.since`` that are committed here, as many as fit a frame."""
    page: list[DecidedBlock] = []
    room = _PAGE_BYTES
    for height in range(request.since + 1, min(head, request.since + limits.BLOCKS_PAGE) + 1):
        decided = ledger.block(height)
        if decided is None:
            break  # decided in this very step
        room -= block_size(decided)
        if page and room < 0:
            break
        page.append(decided)
    return Blocks(id=request.id, blocks=tuple(page), head=head)
