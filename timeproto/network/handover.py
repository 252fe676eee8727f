"""Leases that move with their wallet from one masternode to another (protocol §8).

A wallet that comes with its key, and the cursor of the node it was with, need not name what it watches: this node asks
that one. What it is told is checked against the digest that the wallet signed, so that no masternode can make another
watch less than its wallet believes. If the lease cannot be had, the wallet names its items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.network.handshake import OWNERS
from timeproto.network.history import Watched
from timeproto.network.ownership import digest
from timeproto.network.requests import ConnectionGone
from timeproto.wire.messages import GetLease, LeaseFilter, UTXOSubscribe

Ask = Callable[[str, Any], "Deferred[Any]"]
"""Asks the masternode of a key; fails with :class:`Refusal` or :class:`ConnectionGone`."""


def asker(links: Mapping[str, Any]) -> Ask:
    """``links``: the connections to masternodes, by key; it goes on changing."""

    def ask(key: str, message: Any) -> Deferred[Any]:
        link = links.get(key)
        if link is None or not link.knows(OWNERS):
            return fail(ConnectionGone(f"{key} cannot be asked"))
        reply: Deferred[Any] = link.request(message)
        return reply

    return ask


def nobody(key: str, message: Any) -> Deferred[Any]:
    """For a node without others."""
    return fail(ConnectionGone("there is nobody to be asked"))


class Handovers:
    """The asking side."""

    def __init__(self, clock: Any, ask: Ask) -> None:
        """``clock``: an IReactorTime provider, or None: then a masternode is waited for as long as ``ask`` does."""
        self._clock = clock
        self._ask = ask
        self._waiting = 0

    def fetch(self, node: str, challenge: str, message: UTXOSubscribe) -> Deferred[set[Watched]]:
        """What the lease that ``message`` takes up watches, from the masternode ``node``; ``not_found`` if it cannot be
        had from there, for whatever reason."""
        owner = message.owner
        assert owner is not None  # or nothing is taken up
        if self._waiting >= limits.HANDOVERS:
            return fail(not_found())
        self._waiting += 1
        asked = self._ask(node, GetLease(subscriber_id=message.subscriber_id, nonce=challenge, owner=owner))
        if self._clock is not None:
            asked.addTimeout(limits.HANDOVER_TIME, self._clock)

        def found(reply: Any) -> set[Watched]:
            items: set[Watched] = {*reply.outpoints, *reply.addresses} if isinstance(reply, LeaseFilter) else set()
            if not items or digest(items) != owner.filter:
                raise not_found()
            return items

        def failed(failure: Failure) -> None:
            raise not_found() from None

        def done(outcome: Any) -> Any:
            self._waiting -= 1
            return outcome

        return asked.addCallback(found).addErrback(failed).addBoth(done)


def not_found() -> Refusal:
    """The same for all that cannot be taken up, whatever the reason: nobody learns of others here."""
    return Refusal(ErrorCode.NOT_FOUND, "there is no such subscription to be taken up")
