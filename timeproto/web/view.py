"""What the web room asks of its node: the seam that masternode/ fills in.

Everything about coins is read inside :meth:`NodeView.read`, between two commits, so that no page and no answer shows
what a power cut could take back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from timeproto.model.block import DecidedBlock
from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, ChainTip, Coin, Evidence, Transition
from timeproto.model.transaction import Outpoint, Transaction
from timeproto.wire import messages

T = TypeVar("T")


@attrs.frozen
class VotesSeen:
    """Who voted on an undecided transaction, by masternode key, and which transactions want one of its coins."""

    lock: Sequence[str] = ()
    commit: Sequence[str] = ()
    abort: Sequence[str] = ()
    rivals: Sequence[str] = ()


@attrs.frozen
class Figures:
    """Numbers of the node that ``Info`` does not hold. Names are the node's own (``[a-z_]+``), never a client's.

    ``gauges`` go up and down, ``counters`` only up; ``messages`` counts received messages by their type.
    """

    gauges: Mapping[str, float] = attrs.field(factory=dict)
    counters: Mapping[str, float] = attrs.field(factory=dict)
    messages: Mapping[str, int] = attrs.field(factory=dict)


class NodeView(Protocol):
    """Read-only questions about the node, and the one door for payments.

    Everything but ``read``, ``submit`` and the two attributes is called inside ``read`` only. What cannot be answered
    is refused with :class:`timeproto.errors.Refusal`.
    """

    genesis: Genesis
    node_key: str

    def read(self, question: Callable[[], T]) -> Deferred[T]:
        """Runs ``question`` between two commits and fires with what it returns."""

    def submit(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]:
        """Fires when the coins are locked, durably; fails with ``Refusal``."""

    def info(self) -> messages.Info: ...

    def tip(self) -> ChainTip: ...

    def confirmed_height(self) -> int: ...

    def position(self) -> int:
        """The last entry of the transition log."""

    def log_start(self) -> int:
        """The position after which it begins."""

    def transitions(self, after: int, limit: int) -> list[Transition]:
        """Up to ``limit`` entries of the log with a position greater than ``after``, in order."""

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        """A page of an address's coins and whether there are more (model.ledger.Ledger)."""

    def transaction(self, txid: str) -> messages.TransactionInfo | None:
        """A transaction with its proof and inclusion, None if it is not known here."""

    def trace(self, txid: str) -> messages.Trace | None:
        """Where a transaction is, who voted and who is missing; None if nothing is known of it."""

    def votes(self, txid: str) -> VotesSeen | None:
        """The votes seen for an undecided transaction; None for any other."""

    def contested(self, limit: int) -> list[str]:
        """Up to ``limit`` undecided transactions that are contested here."""

    def block(self, height: int) -> DecidedBlock | None: ...

    def evidence(self, since: int, limit: int) -> list[Evidence | BlockEvidence]: ...

    def figures(self) -> Figures: ...


class Client(Protocol):
    """A wallet's connection as the sink sees it. Compared by identity."""

    def send(self, message: messages.AnyMessage) -> None: ...

    def send_payload(self, payload: bytes) -> None: ...


class Sink(Protocol):
    """Who answers wallets, over TCP and here (network.utxo_handler): every request gets one reply or one ``Error``."""

    def handle_message(self, client: Client, message: messages.AnyMessage) -> None: ...

    def connection_lost(self, client: Client) -> None: ...


class Greeter(Protocol):
    """The accepting side of one handshake (network.handshake.HandshakeMachine): how a wallet makes a node prove its
    key."""

    @property
    def done(self) -> bool: ...

    @property
    def challenge(self) -> str | None: ...

    def hear_handshake(self, theirs: messages.Handshake) -> Sequence[messages.AnyMessage]: ...
