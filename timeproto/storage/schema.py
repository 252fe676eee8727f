"""Keys and records of the store. Big-endian numbers in keys, so that the order on disk is the order asked for.

| prefix | key | record |
|---|---|---|
| ``i`` | – | identity: format version, genesis hash, node key |
| ``s`` | – | summary, and how many there are in ``p`` and in ``q`` |
| ``c`` | txid 32, vout u32 | coin |
| ``a`` | sized address, spent u8, txid 32, vout u32 | empty: the index of coins by owner |
| ``t`` | txid 32 | transaction, status, proof; the height of its block if that made it final |
| ``h`` | txid 32 | the height of the block that contains it, u64, if it was final before |
| ``p`` | order u64 | txid of a transaction that is not final, by first commit |
| ``v`` | txid 32 | own votes: numbers of batches |
| ``b`` | number u64 | own vote batch |
| ``l`` | position u64 of the last | transitions, one after another |
| ``f`` | index u64 of the last | txids that became final one after another, 32 bytes each |
| ``e`` | number u64 | evidence, of either kind |
| ``u`` | masternode key 32 | caught up to, u64 |
| ``d`` | number u64 | block, without what was said about it: one decided, or one that what was signed last names |
| ``k`` | height u64 | decided block: its number in ``d``, and the commit |
| ``g`` | – | tip of the chain |
| ``x`` | txid 32 | ending |
| ``y`` | – | what was signed last in the agreement on a block; the numbers of its blocks in ``d`` |
| ``q`` | index u64 as in ``f`` | txid that is final and in no block yet |
| ``n`` | slot u64 | number of a commit, u64: a ring of the newest |

Records are MessagePack with field names, so that a field may be added; what every payment writes several of is packed
closer (storage.packed).
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from timeproto.errors import StorageError
from timeproto.model.block import Block, BlockHeader, Commit, Verdict
from timeproto.model.canonical import Noun, texts
from timeproto.model.ledger import (
    BlockEvidence,
    ChainTip,
    Ending,
    Evidence,
    OwnVotes,
    SignState,
    Summary,
    Tally,
)
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire.codec import pack, unpacker

FORMAT_VERSION = 6

T = TypeVar("T")

_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q")

IDENTITY = b"i"
SUMMARY = b"s"
TIP = b"g"
SIGN_STATE = b"y"


class Identity(Noun, frozen=True, forbid_unknown_fields=False):
    """Whose store this is; checked whenever it is opened. A newer one may say more: its version is what counts."""

    version: int
    genesis: str
    node_key: str


class SummaryRecord(Noun, frozen=True):
    """A summary with its unbounded numbers in decimal (MessagePack ends at 2^64), and how many transactions are listed
    as ``pending`` and how many as ``waiting`` for a block."""

    position: int
    finalized: int
    batches: int
    evidence: int
    digest: str
    tallies: dict[str, tuple[int, str]]
    pending: int
    waiting: int
    log_start: int = 0


class BlockRecord(Noun, frozen=True):
    """A block with its txids end to end: half of what they take in hex."""

    header: BlockHeader
    coinbase: Transaction
    transactions: bytes
    verdicts: tuple[Verdict, ...]


class DecidedRecord(Noun, frozen=True):
    """Which block was decided, and the precommits that did it."""

    block: int
    commit: Commit


class SignedRecord(Noun, frozen=True):
    """A sign state, and by number the blocks that are taken out of it."""

    state: SignState
    blocks: tuple[int, ...]


_identity = unpacker(Identity)
_summary = unpacker(SummaryRecord)
_own_votes = unpacker(OwnVotes)
_batch = unpacker(VoteBatch)
_evidence: Any = unpacker(Evidence | BlockEvidence)  # type: ignore[arg-type]
_block = unpacker(BlockRecord)
_decided = unpacker(DecidedRecord)
_tip = unpacker(ChainTip)
_ending = unpacker(Ending)
_signed = unpacker(SignedRecord)


def numbered(prefix: bytes, number: int) -> bytes:
    """The key of entry ``number`` of the table ``prefix``."""
    return prefix + _u64.pack(number)


def named(prefix: bytes, hexadecimal: str) -> bytes:
    """The key of a txid or masternode key in the table ``prefix``."""
    return prefix + bytes.fromhex(hexadecimal)


def number_of(value: bytes) -> int:
    try:
        return int(_u64.unpack(value)[0])
    except struct.error as error:
        raise StorageError(f"the store holds a number that cannot be read: {error}") from error


def number(value: int) -> bytes:
    return _u64.pack(value)


def coin_key(outpoint: Outpoint) -> bytes:
    return b"c" + bytes.fromhex(outpoint.txid) + _u32(outpoint.vout)


def address_prefix(address: str) -> bytes:
    raw = address.encode("utf-8")
    return b"a" + _u32(len(raw)) + raw


def address_key(address: str, spent: bool, outpoint: Outpoint) -> bytes:
    place = bytes.fromhex(outpoint.txid) + _u32(outpoint.vout)
    return address_prefix(address) + (b"\x01" if spent else b"\x00") + place


def outpoint_of_address_key(key: bytes) -> Outpoint:
    return Outpoint(key[-36:-4].hex(), int.from_bytes(key[-4:], "big"))


def pack_summary(summary: Summary, pending: int, waiting: int) -> bytes:
    tallies = {name: (tally.coins, str(tally.amount)) for name, tally in summary.tallies.items()}
    record = SummaryRecord(
        summary.position,
        summary.finalized,
        summary.batches,
        summary.evidence,
        str(summary.digest),
        tallies,
        pending,
        waiting,
        summary.log_start,
    )
    return pack(record)


def pack_block(block: Block) -> bytes:
    txids = bytes.fromhex("".join(block.transactions))
    return pack(BlockRecord(block.header, block.coinbase, txids, block.verdicts))


def read(decode: object, value: bytes, what: str) -> object:
    try:
        return decode.decode(value)  # type: ignore[attr-defined]
    except ValueError as error:
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> StorageError:
    return StorageError(f"the store holds a {what} that cannot be read: {error}")


def read_identity(value: bytes) -> Identity:
    return read(_identity, value, "identity")  # type: ignore[return-value]


def read_summary(value: bytes) -> Summary:
    record: SummaryRecord = read(_summary, value, "summary")  # type: ignore[assignment]
    return Summary(
        record.position,
        record.finalized,
        record.batches,
        record.evidence,
        int(record.digest),
        {name: Tally(coins, int(amount)) for name, (coins, amount) in record.tallies.items()},
        record.log_start,
    )


def read_listed(value: bytes) -> tuple[int, int]:
    """How many transactions the summary's moment listed as pending, and how many as waiting for a block."""
    record: SummaryRecord = read(_summary, value, "summary")  # type: ignore[assignment]
    return record.pending, record.waiting


def read_own_votes(value: bytes) -> OwnVotes:
    return read(_own_votes, value, "vote")  # type: ignore[return-value]


def read_batch(value: bytes) -> VoteBatch:
    return read(_batch, value, "vote batch")  # type: ignore[return-value]


def read_block(value: bytes) -> Block:
    record: BlockRecord = read(_block, value, "block")  # type: ignore[assignment]
    try:
        transactions = tuple(texts(record.transactions))
    except ValueError as error:
        raise unreadable("block", error) from error
    return Block(record.header, record.coinbase, transactions, record.verdicts)


def read_decided(value: bytes) -> DecidedRecord:
    return read(_decided, value, "decided block")  # type: ignore[return-value]


def read_tip(value: bytes) -> ChainTip:
    return read(_tip, value, "tip")  # type: ignore[return-value]


def read_ending(value: bytes) -> Ending:
    return read(_ending, value, "ending")  # type: ignore[return-value]


def read_signed(value: bytes) -> SignedRecord:
    return read(_signed, value, "sign state")  # type: ignore[return-value]


def read_evidence(value: bytes) -> Evidence | BlockEvidence:
    return read(_evidence, value, "piece of evidence")  # type: ignore[return-value]
