"""What a replica remembers: the records, the change set of one step, and the seam behind which they are kept.

The replica reads through :class:`Ledger` and *returns* :class:`Changes`; it never writes. The shell makes a
change set durable with :meth:`Store.commit`, all of it or none, before anything of that step leaves the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import attrs
from msgspec import field

from timeproto.model.block import Block, BlockVote, DecidedBlock
from timeproto.model.canonical import Noun
from timeproto.model.certificate import FinalityProof, KeptProof, SignedVote
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import UTXOState
from timeproto.model.vote import VoteBatch


class Coin(Noun, frozen=True):
    """An output and its state here."""

    output: TxOutput
    state: UTXOState


class Transition(Noun, frozen=True):
    """One entry of the transition log: ``old_state`` is None for a coin just created; ``timestamp`` Unix ms.

    ``position`` counts without gaps from where the log begins (consensus.replica.found); ``txid`` is the transaction
    that caused it.
    """

    position: int
    outpoint: Outpoint
    output: TxOutput
    old_state: UTXOState | None
    new_state: UTXOState
    txid: str
    timestamp: int


class Times(Noun, frozen=True, omit_defaults=True):
    """When a transaction came how far here, in Unix ms; None: it did not, or it is not known.

    ``pending`` is when its lock certificate was held, ``ended`` when a block ended it.
    """

    seen: int | None = None
    locked: int | None = None
    pending: int | None = None
    final: int | None = None
    ended: int | None = None


class TransactionRecord(Noun, frozen=True, omit_defaults=True):
    """A transaction this replica voted for (``pending``), holds final (``final``), or saw ended (``aborted``).

    A final one has its proof (``kept``), unless a block made it final; ``height`` is its block's, None while it is in
    none. Of an aborted one the :class:`Ending` says why. ``times`` is None in what older versions wrote, and of a
    coinbase.
    """

    tx: Transaction
    status: Literal["pending", "final", "aborted"]
    kept: KeptProof | None = field(default=None, name="proof")
    height: int | None = None
    times: Times | None = None

    @property
    def proof(self) -> FinalityProof | None:
        """The proof as it is sent, made anew each time."""
        return None if self.kept is None else self.kept.spelled(self.tx.txid)


class Ending(Noun, frozen=True):
    """A transaction ended for ever by the block at ``height``: by a verdict, or (``by``) for a rival it contains."""

    height: int
    by: str | None = None


class OwnVotes(Noun, frozen=True):
    """Which of this replica's batches, by number, carry its votes for one transaction."""

    lock: int | None = None
    commit: int | None = None
    abort: int | None = None


class ChainTip(Noun, frozen=True):
    """The last decided block, or genesis at height 0; ``timestamp`` in Unix ms.

    ``minted`` is how many blocks had a subsidy, and ``due`` the time (Unix ms) from which on a block has the next one;
    ``commitment`` the product of the chain's unspent coins (model.muhash), in hex.
    """

    height: int
    hash: str
    timestamp: int
    minted: int
    due: int
    commitment: str


class SignState(Noun, frozen=True):
    """What this replica signed last in the agreement on the block at ``height``, and what it is bound to.

    ``votes`` are those of ``round`` and the one before, as they were sent. ``locked`` and ``valid`` name blocks with
    their rounds (None: no such round), ``polka`` is the quorum of prevotes behind ``valid``; ``blocks`` are the bodies
    of what it may have to propose again.
    """

    height: int
    round: int
    votes: tuple[BlockVote, ...] = ()
    locked: str | None = None
    locked_round: int | None = None
    valid: str | None = None
    valid_round: int | None = None
    polka: tuple[BlockVote, ...] = ()
    blocks: tuple[Block, ...] = ()


class Evidence(Noun, frozen=True, tag="LockEvidence", tag_field="type"):
    """Two lock votes of one voter for transactions that spend one ``outpoint``: transferable, self-contained."""

    voter: str
    set: str
    outpoint: Outpoint
    first: Transaction
    first_vote: SignedVote
    second: Transaction
    second_vote: SignedVote


class BlockEvidence(Noun, frozen=True, tag="BlockEvidence", tag_field="type"):
    """Two signed words of one voter for one place in the agreement on blocks: transferable, self-contained."""

    voter: str
    first: BlockVote
    second: BlockVote


class Tally(Noun, frozen=True):
    """How many coins, and the sum of their amounts."""

    coins: int = 0
    amount: int = 0


class Summary(Noun, frozen=True):
    """Running figures, committed with every change set so that they are always of the same moment.

    ``position``: last entry of the transition log, which begins after ``log_start``; ``finalized``: length of the list
    of final txids; ``batches``: number of own vote batches signed; ``digest``: see consensus.digest; ``tallies``: by
    state name.
    """

    position: int
    finalized: int
    batches: int
    evidence: int
    digest: int
    tallies: dict[str, Tally]
    log_start: int = 0


@attrs.define
class Changes:
    """What one step makes durable, at once. Keys overwrite; nothing is ever deleted. Of a transaction that is final
    already nothing changes any more but the height of its block.

    ``batches`` are this replica's signed batches by number; ``finalized`` extends the list of final txids
    (the first one has index ``summary.finalized - len(finalized)``). ``caught_up`` notes, by masternode, up to where
    its list of final txids is known here. ``blocks`` follow the chain; ``tip`` comes with them.
    """

    summary: Summary
    coins: dict[Outpoint, Coin] = attrs.field(factory=dict)
    transactions: dict[str, TransactionRecord] = attrs.field(factory=dict)
    own_votes: dict[str, OwnVotes] = attrs.field(factory=dict)
    batches: dict[int, VoteBatch] = attrs.field(factory=dict)
    transitions: list[Transition] = attrs.field(factory=list)
    finalized: list[str] = attrs.field(factory=list)
    evidence: list[Evidence | BlockEvidence] = attrs.field(factory=list)
    caught_up: dict[str, int] = attrs.field(factory=dict)
    blocks: list[DecidedBlock] = attrs.field(factory=list)
    tip: ChainTip | None = None
    endings: dict[str, Ending] = attrs.field(factory=dict)
    sign_state: SignState | None = None


class Ledger(Protocol):
    """What was committed, and nothing else. Every read sees whole change sets."""

    def summary(self) -> Summary | None:
        """None in a store that holds nothing yet."""

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def transaction(self, txid: str) -> TransactionRecord | None: ...

    def own_votes(self, txid: str) -> OwnVotes | None: ...

    def batch(self, number: int) -> VoteBatch | None: ...

    def pending(self) -> Iterable[TransactionRecord]:
        """Every transaction that is neither final nor ended, in the order of its first commit."""

    def unconfirmed(self) -> Iterable[TransactionRecord]:
        """Every final transaction that no block is known to contain, in the order they became final here. The last
        block may contain some: they are not marked Confirmed yet."""

    def ending(self, txid: str) -> Ending | None:
        """How a transaction ended for ever, None if it did not."""

    def tip(self) -> ChainTip | None:
        """The last decided block; None in a store that holds nothing yet."""

    def block(self, height: int) -> DecidedBlock | None: ...

    def sign_state(self) -> SignState | None:
        """What was signed last in the agreement on a block."""

    def finalized(self, since: int, limit: int) -> list[str]:
        """Up to ``limit`` final txids from index ``since``, in the order they became final here."""

    def transitions(self, after: int, limit: int) -> list[Transition]:
        """Up to ``limit`` transitions with a position greater than ``after``, in order."""

    def caught_up(self) -> dict[str, int]:
        """By masternode key: every txid of its list of finals before this index is final here too."""

    def evidence(self, limit: int, since: int = 0) -> list[Evidence | BlockEvidence]:
        """Up to ``limit`` pieces from number ``since``, in the order they were found."""


    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        """A page of an address's coins and whether there are more.

        First the coins not spent for ever (Unspent, Locked, SpentPending) in order of outpoint; with ``spent``
        the others after them. ``after`` is the last outpoint of the page before, None for the first page.
        """


class Store(Ledger, Protocol):
    """A ledger that can be written. Blocking: :meth:`commit` is called from a thread, one call at a time."""

    def commit(self, changes: Changes) -> None:
        """Durable when it returns, all of it or none; raises :class:`timeproto.errors.StorageError`."""

    def close(self) -> None: ...
