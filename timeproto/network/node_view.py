"""The seams of the wallets' side: a wallet's connection, and what the node lets its wallets see (protocol §7, §8)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from typing import Literal, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from timeproto.model.genesis import Genesis
from timeproto.model.ledger import BlockEvidence, ChainTip, Coin, Evidence, Transition
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.wire import messages

T = TypeVar("T")


class Client(Protocol):
    """A wallet's connection, as far as it is needed here. Compared by identity.

    One that also has ``backlog``, the bytes that wait for its reader, is told no faster than it reads; one with an
    ``outbox`` (network.outbox) is told in its turn; one with ``close(refusal)`` can be sent away if it reads too slowly
    for the log, and one with ``refuse(refusal, request_id)`` closes by itself after what errors.POLICY says; and one
    with ``challenge``, the nonce that it was given in its handshake, can show a key. ``account`` is who pays for what
    it asks.
    """

    def send(self, message: messages.AnyMessage) -> None: ...

    def send_payload(self, payload: bytes) -> None: ...


@attrs.frozen
class Undecided:
    """A transaction that is valid at the node, and how far the node is with it.

    ``since``: when its coins came into that state, in Unix ms; None if they are not the transaction's here. ``rival``
    wants one of them too, or has it.
    """

    tx: Transaction
    status: Literal["seen", "locked", "pending", "refused"]
    since: int | None
    rival: str | None


class NodeView(Protocol):
    """What the node lets its wallets see; everything but ``submit`` and ``cancel`` is called inside ``read`` only."""

    genesis: Genesis
    node_key: str
    work: int
    """What readings cost since the start, in units of network.costs, beyond what their answers show."""

    def read(self, question: Callable[[], T]) -> Deferred[T]: ...

    def submit(self, tx: Transaction) -> Deferred[messages.TransactionAccepted]: ...

    def cancel(self, cancel: messages.TransactionCancel) -> Deferred[messages.CancelAccepted]: ...

    def position(self) -> int: ...

    def transitions(self, after: int, limit: int) -> list[Transition]: ...

    def tip(self) -> ChainTip: ...

    def confirmed_height(self) -> int:
        """The height of the last block of which every transition has happened: the tip's, or a moment long that before
        it."""

    def coin(self, outpoint: Outpoint) -> Coin | None: ...

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]: ...

    def transaction(self, txid: str) -> messages.TransactionInfo | None: ...

    def trace(self, txid: str) -> messages.Trace | None: ...

    def evidence(self, since: int, limit: int) -> list[Evidence | BlockEvidence]: ...

    def info(self) -> messages.Info: ...

    def undecided(self, txid: str) -> Undecided | None:
        """None for what is decided, unknown, or waits for its parents."""

    def newest_undecided(self, limit: int) -> Iterator[Transaction]:
        """Those among the ``limit`` newest that :meth:`undecided` knows; to be used up inside one ``read``."""

    def watching(self, among: Set[Hashable], outpoint: Outpoint, output: TxOutput) -> set[Hashable]:
        """Those of ``among`` that ``notify_subscribers`` would name for a transition of this coin."""

    def add_subscription(self, subscriber: Hashable, items: Iterable[Outpoint | str]) -> None: ...

    def remove_subscription(self, subscriber: Hashable) -> bool: ...

    def notify_subscribers(self, transitions: Iterable[Transition]) -> Iterator[tuple[Transition, list[Hashable]]]: ...
