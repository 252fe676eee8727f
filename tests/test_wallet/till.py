"""What a merchant's wallet was told of payments and of coins."""

from __future__ import annotations

from typing import Any

from timeproto.model.utxo_state import kind
from timeproto.wallet.incoming import Incoming


class Till:
    """A merchant's: everything that a watch told, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    @property
    def hints(self) -> list[Incoming]:
        return [each for each in self.told if isinstance(each, Incoming)]

    @property
    def statuses(self) -> list[str]:
        return [each.status for each in self.hints]

    @property
    def story(self) -> list[str]:
        """Statuses of payments and states of coins, as they came; a coin's with its proof is in capitals."""
        return [
            each.status if isinstance(each, Incoming)
            else (kind(each.new_state).upper() if each.proven else kind(each.new_state))
            for each in self.told
        ]  # fmt: skip
