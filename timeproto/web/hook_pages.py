"""What is next for a webhook, read from the transition log between two commits."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from timeproto.network.notifications import notification
from timeproto.web import bounds
from timeproto.web.hooks import Missing
from timeproto.web.log_proofs import LogProofs
from timeproto.web.view import NodeView
from timeproto.wire import codec


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
    size, proofs = 0, LogProofs(view)
    for entry in entries:
        if entry.output.address == address:
            if len(events) >= most or size > bounds.WEBHOOK_BODY:
                break
            events.append(codec.encode(notification(entry, view.node_key, proofs.of(entry))))
            size += len(events[-1])
        after = entry.position
    return HookPage(after, head, events)
