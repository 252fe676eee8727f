"""The two ends of the bridge as it sees them: other masternodes on one side, wallets on the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from timeproto.errors import Refusal
from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import KeptProof
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Transaction
from timeproto.wire import messages


class Peers(Protocol):
    """How the bridge reaches other masternodes (network.peer_manager)."""

    def send(self, key: str, message: messages.AnyMessage) -> None: ...

    def broadcast(self, messages: Sequence[messages.AnyMessage]) -> None: ...

    def send_utxo_notification_to_peer(
        self, key: str, notification: messages.UTXOStateNotification
    ) -> None: ...

    def penalize(self, key: str, refusal: Refusal) -> None: ...


class Wallets(Protocol):
    """How the bridge tells wallets (network.utxo_handler)."""

    def broadcast_state_notification(
        self,
        transitions: Iterable[Transition],
        proofs: Mapping[str, KeptProof],
        blocks: Sequence[DecidedBlock] = (),
    ) -> None: ...

    def broadcast_seen(self, transactions: Sequence[Transaction]) -> None: ...
