"""What is next for a webhook, read from the transition log between two commits."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from timeproto.model.ledger import Transition
from timeproto.network.notifications import Proofs, is_unproven, notification
from timeproto.web import bounds
from timeproto.web.events import LookedUp
from timeproto.web.hooks import Missing
from timeproto.web.view import NodeView
from timeproto.wire import codec

_BARE = Proofs({})


@attrs.frozen
class HookPage:
    """The log was read to ``upto``, and ended at ``head``. With ``gap`` there is nothing before ``upto`` to be had."""

    upto: int
    head: int
    events: Sequence[bytes] = ()
    gap: Missing | None = None


def next_page(view: NodeView, address: str, after: int, most: int) -> HookPage:
    """The next transitions of the coins of ``address``, at most ``most``. Inside ``view.read`` only."""
    head = view.position()
    entries = view.transitions(after, bounds.WEBHOOK_PAGE)
    begins = entries[0].position - 1 if entries else head
    if after < begins:
        return HookPage(begins, head, gap="too_old")
    events: list[bytes] = []
    size, proofs = 0, dict[str, Proofs]()
    for entry in entries:
        if entry.output.address == address:
            if len(events) >= most or size > bounds.WEBHOOK_BODY:
                break
            events.append(codec.encode(notification(entry, view.node_key, _proofs(view, entry, proofs))))
            size += len(events[-1])
        after = entry.position
    return HookPage(after, head, events)


def _proofs(view: NodeView, entry: Transition, known: dict[str, Proofs]) -> Proofs:
    """What proves one entry; a transaction of many outputs is read once."""
    if is_unproven(entry):
        return _BARE
    if entry.txid not in known:
        known[entry.txid] = LookedUp(entry.txid, view.transaction(entry.txid))
    return known[entry.txid]
