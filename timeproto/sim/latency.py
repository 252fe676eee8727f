"""How long a payment takes over a wide-area network, in round trips (``timeproto sim --wan``)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.promises import Broken
from timeproto.sim.run import Plan, Run

SIZES = (4, 7, 16, 31, 64, 100)
"""Numbers of masternodes that are measured."""

WARM_UP = 4 * SECOND
SPACING = 250 * MILLISECOND
LONGEST = 30 * SECOND


@attrs.frozen
class Latency:
    """Milliseconds from submission, in ascending order: until final where it was submitted, and until final everywhere.

    ``round_trip`` is the mean over all pairs of masternodes, in ms, jitter counted.
    """

    masternodes: int
    round_trip: float
    here: tuple[float, ...]
    everywhere: tuple[float, ...]

    def row(self) -> dict[str, float]:
        """The figures of the table: times in ms, and the same in round trips."""
        figures = {
            "masternodes": float(self.masternodes),
            "payments": float(len(self.here)),
            "round_trip_ms": self.round_trip,
        }
        for name, times in (("here", self.here), ("everywhere", self.everywhere)):
            for share, label in ((0.5, "p50"), (0.99, "p99")):
                figures[f"{name}_{label}_ms"] = percentile(times, share)
                figures[f"{name}_{label}_rtt"] = percentile(times, share) / self.round_trip
        return figures


def percentile(times: Sequence[float], share: float) -> float:
    """Of times in ascending order."""
    return times[min(len(times) - 1, int(share * len(times)))]


def measure(masternodes: int, payments: int, seed: int = 0) -> Latency:
    """``payments`` one after the other, each at a masternode chosen by chance; nothing fails, all checkers watch."""
    run = Run(Plan(seed=seed, masternodes=masternodes, faults="wan", actions=0))
    submitted: dict[str, tuple[int, int]] = {}
    with run.world():
        run.start()
        run.events.run_until(WARM_UP)
        for _ in range(payments):
            tx = run.wallets.next_payment()
            node = run.wallets.some_node()
            submitted[tx.txid] = run.events.now, node.number
            run.wallets.submit(tx, node)
            run.events.run_until(run.events.now + SPACING)
        end = run.events.now + LONGEST
        while any(len(run.checkers.final_at.get(txid, ())) < masternodes for txid in submitted):
            if run.events.now > end:
                raise Broken(7, "L-1", "a payment is not final, and nothing failed")
            run.events.run_until(run.events.now + SECOND // 2)
    here, everywhere = [], []
    for txid, (moment, number) in submitted.items():
        times = run.checkers.final_at[txid]
        here.append((times[number] - moment) / MILLISECOND)
        everywhere.append((max(times.values()) - moment) / MILLISECOND)
    wires = run.network.wires.values()
    one_way = sum(wire.base + wire.jitter / 2 for wire in wires) / len(wires) / MILLISECOND
    return Latency(masternodes, 2 * one_way, tuple(sorted(here)), tuple(sorted(everywhere)))
