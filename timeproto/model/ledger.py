"""What a replica remembers: the records, the change set of one step, and the seam behind which they are kept.

The replica reads through :class:`Ledger` and *returns* :class:`Changes`; it never writes. The shell makes a
change set durable with :meth:`Store.commit`, all of it or none, before anything of that step leaves the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol

import attrs

from timeproto.model.canonical import Noun
from timeproto.model.certificate import FinalityProof, SignedVote
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import UTXOState
from timeproto.model.vote import VoteBatch


class Coin(Noun, frozen=True):
    """An output and its state here."""

    output: TxOutput
    state: UTXOState


class Transition(Noun, frozen=True):
    """One entry of the transition log: ``old_state`` is None for a coin just created; ``timestamp`` Unix ms.

    ``position`` counts from 1 without gaps; ``txid`` is the transaction that caused it.
    """

    position: int
    outpoint: Outpoint
    output: TxOutput
    old_state: UTXOState | None
    new_state: UTXOState
    txid: str
    timestamp: int


class TransactionRecord(Noun, frozen=True):
    """A transaction this replica voted for (``pending``) or holds proven final (``final``, with the proof)."""

    tx: Transaction
    status: Literal["pending", "final"]
    proof: FinalityProof | None = None


class OwnVotes(Noun, frozen=True):
    """Which of this replica's batches, by number, carry its votes for one transaction."""

    lock: int | None = None
    commit: int | None = None


class Evidence(Noun, frozen=True):
    """Two lock votes of one voter for transactions that spend one ``outpoint``: transferable, self-contained."""

    voter: str
    set: str
    outpoint: Outpoint
    first: Transaction
    first_vote: SignedVote
    second: Transaction
    second_vote: SignedVote


class Tally(Noun, frozen=True):
    """How many coins, and the sum of their amounts."""

    coins: int = 0
    amount: int = 0


class Summary(Noun, frozen=True):
    """Running figures, committed with every change set so that they are always of the same moment.

    ``position``: last entry of the transition log; ``finalized``: length of the list of final txids;
    ``batches``: number of own vote batches signed; ``digest``: see consensus.digest; ``tallies``: by state name.
    """

    position: int
    finalized: int
    batches: int
    evidence: int
    digest: int
    tallies: dict[str, Tally]


@attrs.define
class Changes:
    """What one step makes durable, at once. Keys overwrite; nothing is ever deleted.

    ``batches`` are this replica's signed batches by number; ``finalized`` extends the list of final txids
    (the first one has index ``summary.finalized - len(finalized)``). ``caught_up`` notes, by masternode, up to where
    its list of final txids is known here.
    """

    summary: Summary
    coins: dict[Outpoint, Coin] = attrs.field(factory=dict)
    transactions: dict[str, TransactionRecord] = attrs.field(factory=dict)
    own_votes: dict[str, OwnVotes] = attrs.field(factory=dict)
    batches: dict[int, VoteBatch] = attrs.field(factory=dict)
    transitions: list[Transition] = attrs.field(factory=list)
    finalized: list[str] = attrs.field(factory=list)
    evidence: list[Evidence] = attrs.field(factory=list)
    caught_up: dict[str, int] = attrs.field(factory=dict)

    def is_empty(self) -> bool:
        """True if committing this would change nothing."""
        return not (
            self.coins
            or self.transactions
            or self.own_votes
            or self.batches
            or self.finalized
            or self.evidence
            or self.caught_up
        )


class Ledger(Protocol):
    """What was committed, and nothing else. Every read sees whole change sets."""

    def summary(self) -> Summary | None:
        """None in a store that holds nothing yet."""

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def transaction(self, txid: str) -> TransactionRecord | None: ...

    def own_votes(self, txid: str) -> OwnVotes | None: ...

    def batch(self, number: int) -> VoteBatch | None: ...

    def pending(self) -> Iterable[TransactionRecord]:
        """Every transaction that is not final, in the order of its first commit."""

    def finalized(self, since: int, limit: int) -> list[str]:
        """Up to ``limit`` final txids from index ``since``, in the order they became final here."""

    def transitions(self, after: int, limit: int) -> list[Transition]:
        """Up to ``limit`` transitions with a position greater than ``after``, in order."""

    def caught_up(self) -> dict[str, int]:
        """By masternode key: every txid of its list of finals before this index is final here too."""

    def evidence(self, limit: int) -> list[Evidence]: ...

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
