"""A masternode that asks what wallets ask: for that, and for nothing else it says, it pays as they do.

Its votes are never held back for what it owes. So it is refused instead, and only so much of it waits at once: wallets
have their turn, whatever one masternode asks.
"""

from __future__ import annotations

from typing import Any

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network import costs
from timeproto.network.budget import LinkAccount
from timeproto.wire import codec, messages


class Asker:
    """The connection ``link`` as those see it who answer wallets (network.node_view.Client)."""

    def __init__(self, link: Any, account: LinkAccount) -> None:
        self.account = account
        self._link = link
        self._waiting = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def ask(self, message: Any) -> None:
        """It is to be answered by one reply or refusal; raises :class:`Refusal` if it is not to be."""
        if self._waiting >= limits.HANDOVERS:
            raise Refusal(ErrorCode.BUSY, "too much that you asked waits here; try again", retry_after_ms=1_000)
        self.account.ask(message, 0)
        self._waiting += 1

    def send(self, message: messages.AnyMessage) -> None:
        payload = codec.encode(message)
        if isinstance(message, messages.Reply):
            self._waiting -= 1
            payload = self.account.answer(message, payload)
        self._link.send_payload(payload)

    def refuse(self, refusal: Refusal, request_id: int | None = None) -> None:
        self._waiting -= 1
        self.account.spend(costs.of_reply(messages.error_of(refusal), 0))
        self._link.refuse(refusal, request_id)
