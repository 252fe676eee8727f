"""What goes into a replica and what comes out: plain values (protocol: "decide purely, act thinly")."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import attrs

from timeproto.errors import Refusal
from timeproto.model.ledger import Changes, Evidence, OwnVotes, TransactionRecord
from timeproto.model.transaction import Transaction
from timeproto.model.vote import VoteBatch
from timeproto.wire.messages import AnyMessage

Ticket = Hashable
"""The shell's handle of a request that waits for its answer."""


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


Input = Submit | Heard | LinkUp | LinkDown | Tick


@attrs.define
class Effects:
    """What a step decided. The shell commits ``changes`` first; nothing else happens before that is durable.

    ``send`` holds (key, message) in order, key None for every linked masternode. ``replies`` answer tickets. ``blame``
    names masternodes that sent what they must have known to be false. ``alarm`` says that the protocol's assumption is
    broken, ``identity_conflict`` that this replica's key signed what it does not remember: in both cases it votes
    no more.
    """

    changes: Changes | None = None
    send: list[tuple[str | None, AnyMessage]] = attrs.field(factory=list)
    replies: list[tuple[Ticket, Any | Refusal]] = attrs.field(factory=list)
    blame: list[tuple[str, Refusal]] = attrs.field(factory=list)
    alarm: str | None = None
    identity_conflict: str | None = None


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
    evidence: list[Evidence] = attrs.field(factory=list)

    def answer(self, ticket: Ticket, answer: Any | Refusal) -> None:
        self.effects.replies.append((ticket, answer))
