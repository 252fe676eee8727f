"""What watches were told, judged by the logs of the nodes that told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, Unspent, UTXOState, holder, kind
from timeproto.wallet.watch import Change, Watch

Heard = list[Change | str]
"""Changes, and between them the reasons of resets, in the order in which they were told."""


def short(state: UTXOState | None) -> tuple[str, str | None] | None:
    """A state without what each node says of it in its own way: times and counts."""
    return None if state is None else (kind(state), holder(state))


def judge(
    heard: Heard, logs: Mapping[str, Sequence[Transition]], watch: Watch, node: str, *, in_pages: bool = False
) -> int:
    """Raises AssertionError if this is not what there was to be told. Returns how many transitions were compared.

    ``logs``: by the key of their node, each from its beginning to its end; ``node`` is the one that told the last.
    Every change told is that entry of the log, they come in its order, and of each coin that was told of none is left
    out from then to the end: each leads on from the state told last. After a reset the first that is told of a coin may
    be any state, and leads on from what was told before the reset; what is proven never goes back. Where an address is
    read ``in_pages``, a coin may be spent before its page is: then its changes are told, and they begin with Unspent.
    """
    entries: dict[str, dict[Outpoint, list[Transition]]] = {key: {} for key in logs}
    for key, log in logs.items():
        for entry in log:
            if watch.names(entry.outpoint, entry.output):
                entries[key].setdefault(entry.outpoint, []).append(entry)
    told: dict[Outpoint, UTXOState] = {}
    due: dict[Outpoint, int] = {}
    fresh: set[Outpoint] = set()
    last, teller, resets, compared = 0, None, 0, 0
    for each in heard:
        if isinstance(each, str):
            due.clear()
            fresh.clear()
            last, teller, resets = 0, None, resets + 1
            continue
        outpoint, before = each.outpoint, told.get(each.outpoint)
        assert watch.names(outpoint, each.output), f"{each} is nobody's business here"
        assert short(before) != short(each.new_state), f"{each} was told before"
        assert not isinstance(before, Confirmed), f"{each} after the end"
        told[outpoint] = each.new_state
        if each.cursor is None:
            assert each.old_state == before, f"{each} after {before}"
            due.pop(outpoint, None)
            fresh.add(outpoint)
            continue
        assert teller in (None, each.cursor.node), f"{each} comes from another node than the last"
        assert each.cursor.position > last, f"{each} after {last}"
        teller, last = each.cursor.node, each.cursor.position
        steps = entries[teller].get(outpoint, [])
        at = next((at for at, entry in enumerate(steps) if entry.position == last), None)
        assert at is not None, f"{each} is not in the log"
        entry = steps[at]
        assert (entry.new_state, entry.output, entry.timestamp) == (each.new_state, each.output, each.timestamp), each
        assert outpoint not in due or due[outpoint] == at, f"before {each} something was left out"
        if before is None:
            assert each.old_state == entry.old_state, f"{each} is {entry}"
            spent_before = SpentFinalized | Unspent if in_pages else SpentFinalized
            assert entry.old_state is None or isinstance(entry.old_state, spent_before), f"{each} began earlier"
        else:
            assert each.old_state == before, f"{each} after {before}"
            is_exact = not resets or outpoint in due or (len(logs) == 1 and outpoint in fresh)
            assert not is_exact or before == entry.old_state, f"{each} is {entry}"
        due[outpoint] = at + 1
        fresh.add(outpoint)
        compared += 1
    for outpoint, steps in entries[node].items():
        state = steps[-1].new_state
        if outpoint in told:
            assert short(told[outpoint]) == short(state), f"{outpoint} is {state}, told was {told[outpoint]}"
        else:
            is_over = isinstance(state, SpentFinalized | Confirmed)
            assert is_over and outpoint not in watch.outpoints, f"{outpoint} is {state}, and was not told"
    return compared
