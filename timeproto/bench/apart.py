"""A network in virtual time, each masternode on a machine of its own: how long a payment takes as the network grows.

More masternodes than this machine has cores cannot be measured on it. Here every turn of every node is run for real,
one after the other, and its CPU is clocked (bench.inprocess). In virtual time the node is busy for just that long, a
durable commit takes ``COMMIT_MS``, a message ``LINK_MS`` from node to node, and all nodes work at once. What is left
out is what a reactor, threads and the kernel cost a node. So these are figures of a simulator: they say how finality
grows, not how long it takes on a given network.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from timeproto.bench.inprocess import Cluster, Node, make_payments
from timeproto.consensus.effects import Effects, Input, Submit

LINK_MS = 0.25
"""One way, within a data centre."""
COMMIT_MS = 1.0
"""A durable commit."""
RATE = 25.0
"""Payments a second, each at the next node: light, so that what is measured is the way of one payment."""


@attrs.define
class Station:
    """A node's machine: busy with one turn, or idle."""

    node: Node
    busy: bool = False


class Apart(Cluster):
    """``waits``: of each payment the milliseconds until it is final where it was submitted, and until everywhere."""

    def __init__(self, masternodes: int, coins: int) -> None:
        self._is_apart = False
        super().__init__(masternodes, coins)
        self.here: list[float] = []
        self.everywhere: list[float] = []
        self._stations = {node.key: Station(node) for node in self.nodes}
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._outcome: tuple[Effects, list[tuple[str | None, Any, bytes]]] | None = None
        self._submitted: dict[str, tuple[float, str]] = {}
        self._final: dict[str, int] = {}

    def pay_apart(self, count: int) -> None:
        """``count`` payments at ``RATE``; returns when all are final at every node."""
        with _no_collection():
            self._pay_apart(count)

    def _pay_apart(self, count: int) -> None:
        self._is_apart = True
        first = self._now
        for at, tx in enumerate(make_payments(self.genesis, self._paid, count)):
            station = self._stations[self.nodes[at % len(self.nodes)].key]
            self._submitted[tx.txid] = first + 1000 * at / RATE, station.node.key
            self._at(1000 * at / RATE, self._ask, station, Submit(tx, tx.txid))
        self._paid += count
        wanted = len(self.everywhere) + count
        while len(self.everywhere) < wanted:
            if not self._events:
                raise RuntimeError("nothing is under way, and a payment is not final")
            self._now, _, happen = heapq.heappop(self._events)
            happen()

    def _at(self, delay: float, what: Callable[..., None], *arguments: Any) -> None:
        event = (self._now + delay, next(self._count), lambda: what(*arguments))
        heapq.heappush(self._events, event)

    def _ask(self, station: Station, entry: Input) -> None:
        station.node.asked.append(entry)
        self._go_on(station)

    def _hear(self, station: Station, sender: str, payload: bytes) -> None:
        station.node.inbox.append((sender, payload))
        self._go_on(station)

    def _go_on(self, station: Station) -> None:
        """A turn, unless one is under way: what comes meanwhile waits for the next."""
        node = station.node
        if station.busy or not (node.asked or node.inbox):
            return
        asked, inbox = node.asked, node.inbox
        node.asked, node.inbox = [], []
        station.busy, self._outcome = True, None
        began = time.process_time()
        self._turn(node, asked, inbox)
        took = 1000 * (time.process_time() - began)
        outcome: Any = self._outcome
        if outcome is not None and outcome[0].changes is not None:
            took += COMMIT_MS
        self._at(took, self._end, station, outcome)

    def _release(self, node: Node, effects: Effects, payloads: list[tuple[str | None, Any, bytes]]) -> None:
        if self._is_apart:
            self._outcome = effects, payloads
        else:
            super()._release(node, effects, payloads)

    def _end(self, station: Station, outcome: tuple[Effects, list[tuple[str | None, Any, bytes]]] | None) -> None:
        station.busy = False
        if outcome is not None:
            effects, payloads = outcome
            for key, _, payload in payloads:
                for other in self._stations.values() if key is None else [self._stations[key]]:
                    if other is not station:
                        self._at(LINK_MS, self._hear, other, station.node.key, payload)
            for milliseconds, wake in effects.timers:
                self._at(milliseconds, self._ask, station, wake)
            for txid in () if effects.changes is None else effects.changes.finalized:
                self._is_final(station.node.key, txid)
        self._go_on(station)

    def _is_final(self, key: str, txid: str) -> None:
        submitted, at = self._submitted[txid]
        if key == at:
            self.here.append(self._now - submitted)
        self._final[txid] = self._final.get(txid, 0) + 1
        if self._final[txid] == len(self.nodes):
            self.everywhere.append(self._now - submitted)


@contextmanager
def _no_collection() -> Iterator[None]:
    """To look for garbage among the objects of all nodes takes longer than any of them would be busy with its own."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
