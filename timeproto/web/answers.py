"""What the HTTP API answers where no message of the wire says it already. Sums of amounts are decimal strings: they may
exceed 2^53. Times are Unix milliseconds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from timeproto.model.block import BlockHeader, Commit
from timeproto.model.canonical import I64, U32, Hex32, Noun
from timeproto.model.transaction import AddressText, Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import WireState
from timeproto.wire.messages import Count, Cursor, HostPort

Sum = Annotated[str, Meta(pattern=r"\A(0|[1-9][0-9]{0,29})\Z", description="an amount in smallest units, in decimal")]


class CoinAnswer(Noun, frozen=True):
    """A coin as this node holds it at ``cursor``."""

    cursor: Cursor
    outpoint: Outpoint
    state: WireState
    output: TxOutput


class Balance(Noun, frozen=True):
    """What an address owns: ``available`` is Unspent, ``locked`` waits for a lock certificate, ``pending`` for a proof.

    ``complete`` is false for an address with more than ``coins`` coins: then the sums are of its first ones.
    """

    available: Sum
    locked: Sum
    pending: Sum
    total: Sum
    coins: Count
    complete: bool


class AddressAnswer(Noun, frozen=True):
    address: AddressText
    cursor: Cursor
    balance: Balance


class VotesAnswer(Noun, frozen=True):
    """Masternodes by what they signed about an undecided transaction, as far as this node has heard."""

    lock: tuple[Hex32, ...]
    commit: tuple[Hex32, ...]
    abort: tuple[Hex32, ...]
    rivals: tuple[Hex32, ...]


class BlockLine(Noun, frozen=True):
    """A decided block in a list; the last three are counts."""

    height: Count
    hash: Hex32
    timestamp: I64
    proposer: Hex32
    round: U32
    transactions: Count
    verdicts: Count
    signatures: Count


class BlocksAnswer(Noun, frozen=True):
    """Blocks from the newest down; ``head`` is the last decided height."""

    head: Count
    blocks: tuple[BlockLine, ...]
    more: bool


class VerdictLine(Noun, frozen=True):
    kind: Literal["commit", "abort"]
    txid: Hex32
    voters: tuple[Hex32, ...]


class BlockAnswer(Noun, frozen=True):
    """A decided block without its verdicts' certificates; ``transactions`` are txids."""

    hash: Hex32
    header: BlockHeader
    commit: Commit
    coinbase: Transaction
    transactions: tuple[Hex32, ...]
    verdicts: tuple[VerdictLine, ...]


class MasternodeLine(Noun, frozen=True):
    """A voter as this node sees it; ``proofs`` counts its part in the newest ``counted`` finality proofs."""

    node_key: Hex32
    address: HostPort | None
    direction: Literal["outbound", "inbound", "none", "self"]
    proofs: Count
    blocks: Count


class SignedProof(Noun, frozen=True):
    """A payment and whose votes are in its proof, by their place in the list of masternodes."""

    txid: Hex32
    voters: tuple[Count, ...]


class MasternodesAnswer(Noun, frozen=True):
    """``faulty`` is how many may be Byzantine; ``counted`` proofs and ``counted_blocks`` blocks were looked at. The
    ``newest`` of those proofs, the newest last."""

    set: Hex32
    quorum: U32
    faulty: U32
    counted: Count
    counted_blocks: Count
    masternodes: tuple[MasternodeLine, ...]
    newest: tuple[SignedProof, ...]


class ContestedLine(Noun, frozen=True):
    txid: Hex32
    votes: VotesAnswer


class ContestedAnswer(Noun, frozen=True):
    """Undecided transactions that a block will commit or abort."""

    transactions: tuple[ContestedLine, ...]


class Final(Noun, frozen=True):
    """A payment that became final here: ``took_ms`` from its lock to its proof, both by this node's clock."""

    txid: Hex32
    at: I64
    took_ms: Count


class FinalityAnswer(Noun, frozen=True):
    """The newest final payments, oldest first."""

    finals: tuple[Final, ...]


class Live(Noun, frozen=True):
    """The process answers."""

    live: bool


class Ready(Noun, frozen=True):
    """Whether payments are worth sending here; ``reasons`` says why not."""

    ready: bool
    reasons: tuple[str, ...]


class Watermark(Noun, frozen=True):
    """Everything up to this cursor has been told."""

    cursor: Cursor
    height: Count


class Gap(Noun, frozen=True):
    """Why an event stream cannot be complete: begin again from the states at ``cursor``."""

    reason: Literal["another_node", "too_old", "ahead", "too_long"]
    cursor: Cursor
