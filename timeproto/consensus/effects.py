"""What goes into a replica and what comes out: plain values (protocol: "decide purely, act thinly")."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum, auto
from typing import Any

import attrs

from timeproto.errors import Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.ledger import (
    BlockEvidence,
    ChainTip,
    Changes,
    Ending,
    Evidence,
    OwnVotes,
    SignState,
    TransactionRecord,
)
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages import AnyMessage, TransactionCancel

Ticket = Hashable
"""The shell's handle of a request that waits for its answer."""


class Timer(Enum):
    """What a replica waits for in the agreement on a block."""

    HEIGHT = auto()
    """The next height may begin."""
    PROPOSE = auto()
    """The proposal of the round."""
    PREVOTE = auto()
    PRECOMMIT = auto()
    CONFIRM = auto()
    """More of the last block may be marked Confirmed."""


@attrs.frozen
class Submit:
    """A wallet's transaction; its stateless validity is checked already."""

    tx: Transaction
    ticket: Ticket


@attrs.frozen
class Heard:
    """A message of the masternode ``sender``. Every signature and proof in it is checked already; what did not
    hold was taken out."""

    message: AnyMessage
    sender: str


@attrs.frozen
class LinkUp:
    """The masternode ``key`` can be reached."""

    key: str


@attrs.frozen
class LinkDown:
    key: str


@attrs.frozen
class Tick:
    """``limits.TICK`` seconds have passed: time to ask again for what is missing."""


@attrs.frozen
class Cancel:
    """An owner's signed wish that a transaction end; its signature is checked already."""

    cancel: TransactionCancel
    ticket: Ticket


@attrs.frozen
class Wake:
    """A timer of the agreement on the block at ``height`` has run out: see consensus.rounds for ``what``."""

    height: int
    round: int
    what: Timer


Input = Submit | Cancel | Heard | LinkUp | LinkDown | Tick | Wake


@attrs.define
class Effects:
    """What a step decided. The shell commits ``changes`` first; nothing else happens before that is durable.

    ``send`` holds (key, message) in order, key None for every linked masternode. ``replies`` answer tickets.
    ``timers`` holds (milliseconds, wake): each is an input again after that time, by a clock that is never set.
    ``blame`` names masternodes that sent what they must have known to be false. ``alarm`` says that the protocol's
    assumption is broken, ``identity_conflict`` that this replica's key signed what it does not remember: in both cases
    it votes no more. ``seen`` are transactions that were judged valid, and are not locked here. ``blocks`` are the
    decided blocks, by height, that the transitions of ``changes`` came about by: the new ones, and those of which more
    is marked Confirmed.
    """

    changes: Changes | None = None
    send: list[tuple[str | None, AnyMessage]] = attrs.field(factory=list)
    replies: list[tuple[Ticket, Any | Refusal]] = attrs.field(factory=list)
    timers: list[tuple[int, Wake]] = attrs.field(factory=list)
    blame: list[tuple[str, Refusal]] = attrs.field(factory=list)
    alarm: str | None = None
    identity_conflict: str | None = None
    seen: list[Transaction] = attrs.field(factory=list)
    blocks: dict[int, DecidedBlock] = attrs.field(factory=dict)


@attrs.define
class Turn:
    """What a running step has decided so far; ``now`` is its time in Unix ms. ``relay`` goes to every peer."""

    now: int
    effects: Effects = attrs.field(factory=Effects)
    relay: list[Transaction] = attrs.field(factory=list)
    transactions: dict[str, TransactionRecord] = attrs.field(factory=dict)
    own_votes: dict[str, OwnVotes] = attrs.field(factory=dict)
    batches: dict[int, VoteBatch] = attrs.field(factory=dict)
    finalized: list[str] = attrs.field(factory=list)
    evidence: list[Evidence | BlockEvidence] = attrs.field(factory=list)
    blocks: list[DecidedBlock] = attrs.field(factory=list)
    tip: ChainTip | None = None
    endings: dict[str, Ending] = attrs.field(factory=dict)
    sign_state: SignState | None = None

    @property
    def is_idle(self) -> bool:
        """True if nothing was decided that must be kept."""
        return not (
            self.transactions
            or self.batches
            or self.own_votes
            or self.finalized
            or self.evidence
            or self.tip
            or self.endings
            or self.sign_state
        )

    def answer(self, ticket: Ticket, answer: Any | Refusal) -> None:
        self.effects.replies.append((ticket, answer))
