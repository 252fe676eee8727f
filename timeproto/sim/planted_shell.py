"""Bugs of the shell around a replica: what leaves, and when."""

from __future__ import annotations

from typing import Any

from timeproto.sim.events import MILLISECOND
from timeproto.sim.grafting import Graft
from timeproto.sim.masternode import Masternode


def vote_before_durable() -> list[Graft]:
    def make(write: Any) -> Any:
        def hasty(node: Any, effects: Any, changes: Any) -> None:
            for key, message in effects.send:
                if key is None:
                    node._send(message, list(node.links.values()))
            effects.send = [(key, message) for key, message in effects.send if key is not None]
            write(node, effects, changes)

        return hasty

    return [Graft(Masternode, "_write", make)]


def announce_before_durable() -> list[Graft]:
    def make(write: Any) -> Any:
        def hasty(node: Any, effects: Any, changes: Any) -> None:
            node._watch.released(node, effects)
            write(node, effects, changes)

        return hasty

    def quiet(release: Any) -> Any:
        def told_already(node: Any, effects: Any) -> None:
            changes, effects.changes = effects.changes, None
            release(node, effects)
            effects.changes = changes

        return told_already

    return [Graft(Masternode, "_write", make), Graft(Masternode, "_release", quiet)]


def timers_on_wall_clock() -> list[Graft]:
    """A timer that is due by the monotonic clock waits until the wall clock, too, shows its time."""

    def ticking(tick: Any) -> Any:
        def by_the_wall(node: Any, life: int) -> None:
            due = getattr(node, "_wall_due", None)
            shown = node.clock.read(node._events.now)
            if due is not None and due[0] == life and shown < due[1] - 10:
                node._events.after((due[1] - shown) * MILLISECOND, node._tick, life)
                return
            node._wall_due = life, shown + 1_000
            tick(node, life)

        return by_the_wall

    def setting(start: Any) -> Any:
        def with_the_time(node: Any, delay: int, wake: Any) -> None:
            due = node.clock.read(node._events.now) + delay
            node._events.after(delay * MILLISECOND, ring, node, node.life, wake, due)

        return with_the_time

    def ring(node: Any, life: int, wake: Any, due: int) -> None:
        shown = node.clock.read(node._events.now)
        if shown < due - 10:
            node._events.after((due - shown) * MILLISECOND, ring, node, life, wake, due)
        else:
            node._wake(life, wake)

    return [Graft(Masternode, "_tick", ticking), Graft(Masternode, "_set_timer", setting)]
