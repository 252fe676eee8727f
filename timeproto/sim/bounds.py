"""Memory: every container of a masternode against its limit (promise 8), found by walking through its objects.

Whatever is not named here may hold no more than :data:`UNNAMED`: a container that grows with a run is found, whoever
added it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import msgspec

from timeproto import limits
from timeproto.consensus.payments import Standing
from timeproto.sim.masternode import Masternode

UNNAMED = 300

_BOUNDS: dict[str, Callable[[], int]] = {
    "Payments._early.values": lambda: limits.EARLY_VOTES,
    "Retained._kept.values": lambda: limits.VOTES_KEPT,
    "Payments._refused": lambda: limits.REFUSED_CACHE,
    "Payments._payments": lambda: limits.IN_FLIGHT_PEER + limits.EARLY_VOTES * limits.MASTERNODES,
    "Recent._newer": lambda: max(limits.RECENTLY_FINAL, limits.COINS_AT_HAND) // 2,
    "Recent._older": lambda: max(limits.RECENTLY_FINAL, limits.COINS_AT_HAND) // 2,
    "Finality._at_hand": lambda: limits.RECORDS_AT_HAND,
    "Finality.confirming": lambda: limits.CONFIRM_BLOCKS * limits.BLOCK_TRANSACTIONS,
    "FinalList._at_hand": lambda: limits.RECENTLY_FINAL,
    "Verifier._refusals": lambda: limits.REFUSED_CACHE,
    "Verifier._batches": lambda: limits.VERIFIED_WORDS,
    "Verifier._words": lambda: limits.VERIFIED_WORDS,
    "Rounds._proposals": lambda: limits.ROUNDS_KEPT + 8,
    "Rounds._votes": lambda: 2 * (limits.ROUNDS_KEPT + 8),
    "Agreement._blocks": lambda: limits.BODIES_KEPT,
    "BlockSync._waiting": lambda: limits.BLOCKS_PAGE,
    "Chain._computed": lambda: limits.ROUNDS_KEPT,
    "Movements._of": lambda: limits.RECORDS_AT_HAND,
}
"""Class and attribute, or what the attribute's values hold."""

_NOT_MEMORY = {"ledger", "_ledger", "genesis", "_genesis", "masternodes", "_masternodes", "key", "_key", "turn"}
"""What everybody shares, is on the disk, or lasts for one step."""


def _too_many_orphans(node: Masternode) -> Iterator[str]:
    """Transactions that wait for a parent, beyond their bounds."""
    for source, queue in node.replica.payments._waiting.items():
        bound = limits.ORPHANS_WALLET if source is None else limits.ORPHANS_PEER
        if len(queue) > bound or sum(queue.values()) > limits.ORPHANS_BYTES:
            yield f"{len(queue)} orphans of {source or 'wallets'}, and {bound} are allowed"


def excess(node: Masternode) -> Iterator[str]:
    """What a masternode holds more of than it ever may, in words."""
    yield from _too_many_orphans(node)
    for root in (node.replica, node.verifier):
        for name, size in _containers(root):
            bound = _BOUNDS[name]() if name in _BOUNDS else UNNAMED
            if size > bound:
                yield f"{size} entries in {name}, and {bound} are allowed"


def _containers(root: Any) -> Iterator[tuple[str, int]]:
    """Every container that can be reached from ``root``, by the class and attribute that hold it."""
    seen: set[int] = set()
    left: list[Any] = [root]
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        for attribute, value in _attributes(thing):
            if attribute in _NOT_MEMORY:
                continue
            name = f"{type(thing).__name__}.{attribute}"
            if isinstance(value, dict | list | set | frozenset | deque):
                yield name, len(value)
                inside = list(value.values()) if isinstance(value, dict) else list(value)
                for each in inside:
                    if isinstance(each, dict | list | set | frozenset | deque):
                        yield f"{name}.values", len(each)
                        inside += each.values() if isinstance(each, dict) else each
                    elif _is_ours(each):
                        left.append(each)
            elif _is_ours(value):
                left.append(value)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(thing, "__dict__"):
        yield from vars(thing).items()
    for name in _slots(type(thing)):  # type: ignore[arg-type] # types can be hashed
        if hasattr(thing, name):
            yield name, getattr(thing, name)


@cache
def _slots(kind: type) -> tuple[str, ...]:
    names = (name for cls in kind.__mro__ for name in getattr(cls, "__slots__", ()))
    return tuple(name for name in names if name not in ("__weakref__", "__dict__"))


@cache
def _is_our_kind(kind: type) -> bool:
    return kind.__module__.startswith("timeproto.") and not issubclass(kind, msgspec.Struct)


def _is_ours(value: Any) -> bool:
    """An object of timeproto that can change: nouns are immutable, and what they hold travelled in a frame."""
    return _is_our_kind(type(value))  # type: ignore[arg-type]


def left_over(node: Masternode) -> Iterator[str]:
    """What a masternode holds although everything is decided, in words."""
    payments = node.replica.payments
    yield from excess(node)
    decided = [each.txid for each in payments if each.standing not in (Standing.UNSEEN, Standing.WAITING)]
    for name, size in (
        ("payments that are decided", len(decided)),
        ("coins that somebody wants", len(list(payments.contenders()))),
        ("unconfirmed transactions", node.replica.unconfirmed),
    ):
        if size:
            yield f"{size} {name}, and everything is decided"
