"""What deciding costs, by phase: the core of a masternode with its codec and its signature checks, inline, no disk.

So a regression has an address. The yardstick is one Ed25519 verification, measured in the same run.
"""

from __future__ import annotations

from typing import Any

from timeproto.bench import plot
from timeproto.bench.inprocess import PHASES, Cluster, Costs
from timeproto.bench.machine import spread, verify_us
from timeproto.bench.progress import Progress

PARTS = ("decode", "verify", "step", "encode")
OF_PAYMENTS = ("submit", "transactions", "lock votes", "commit votes")
Times = dict[tuple[str, str], float]


def measure(
    masternodes: int, batches: tuple[int, ...], blocks: tuple[int, ...], repeat: int, progress: Progress
) -> dict[str, Any]:
    """Payments in ``batches`` of so many at once, and blocks of so many payments. Times in microseconds of CPU."""
    yardstick = verify_us()
    paid = {size: _pay(masternodes, size, repeat, progress) for size in batches}
    return {
        "masternodes": masternodes,
        "verify_us": round(yardstick, 1),
        "batches": [
            {
                "payments": size,
                "phases": {
                    phase: {part: spread([run[phase, part] for run in runs]) for part in PARTS} for phase in OF_PAYMENTS
                },
                "node_us": (node := spread([_a_node(run, masternodes) for run in runs])),
                "in_verifications": None if node is None else round(node["median"] / yardstick, 2),
            }
            for size, runs in paid.items()
        ],
        "blocks": [_block(masternodes, size, repeat, progress) for size in blocks],
    }


def _pay(masternodes: int, size: int, repeat: int, progress: Progress) -> list[Times]:
    """Microseconds a payment, at a node that goes through the phase."""
    rounds = max(1, 100 // size)
    progress.stage(f"{masternodes} masternodes in one process, payments {size} at a time")
    cluster = Cluster(masternodes, size * rounds * (repeat + 1))
    runs = []
    for number in range(repeat + 1):  # the first one warms up
        cluster.costs.clear()
        for at in range(rounds):
            cluster.pay(size, at % masternodes)
        runs.append(_per_payment(cluster.costs, masternodes, size * rounds))
        progress.show((number + 1) / (repeat + 1))
    return runs[1:]


def _per_payment(costs: Costs, masternodes: int, payments: int) -> Times:
    nodes = dict.fromkeys(PHASES, masternodes) | {"submit": 1, "transactions": max(1, masternodes - 1)}
    each = 1e6 / payments
    return {(phase, part): each * costs.seconds[phase, part] / nodes[phase] for phase in PHASES for part in PARTS}


def _a_node(run: Times, masternodes: int) -> float:
    """Microseconds a payment at the average node: one of n is asked by the wallet, the others hear of it."""
    shares = dict.fromkeys(OF_PAYMENTS, 1.0)
    shares |= {"submit": 1 / masternodes, "transactions": (masternodes - 1) / masternodes}
    return sum(share * run[phase, part] for phase, share in shares.items() for part in PARTS)


def _block(masternodes: int, size: int, repeat: int, progress: Progress) -> dict[str, Any]:
    """Milliseconds at a node for one block of ``size`` payments, and the longest single step: so long it is deaf."""
    progress.stage(f"{masternodes} masternodes in one process, blocks of {size} payments")
    totals, longest = [], []
    for number in range(repeat):
        cluster = Cluster(masternodes, size)
        for first in range(0, size, 250):
            cluster.pay(min(250, size - first))
        cluster.costs.clear()
        cluster.decide_block()
        costs = cluster.costs
        totals.append(1000 * costs.part(*PARTS) / masternodes)
        longest.append(1000 * max(seconds for (_, part), seconds in costs.longest.items() if part == "step"))
        progress.show((number + 1) / repeat)
    return {"payments": size, "node_ms": spread(totals), "longest_step_ms": spread(longest)}


def text(report: dict[str, Any]) -> list[str]:
    lines = [f"{report['masternodes']} masternodes; one Ed25519 verification {report['verify_us']} µs"]
    for batch in report["batches"]:
        node = batch["node_us"]
        lines.append(
            f"{batch['payments']:>5} at a time: {node['median']:>7.0f} µs a payment at a node"
            f" ({node['min']:.0f}-{node['max']:.0f}), {batch['in_verifications']:.1f} verifications"
        )
        for phase, parts in batch["phases"].items():
            told = "   ".join(f"{part} {parts[part]['median']:7.1f}" for part in PARTS)
            lines.append(f"        {phase:<14} {told}")
    for block in report["blocks"]:
        total, longest = block["node_ms"], block["longest_step_ms"]
        lines.append(
            f"block of {block['payments']:>5}: {total['median']:.1f} ms at a node ({total['min']}-{total['max']}),"
            f" longest step {longest['median']:.1f} ms"
        )
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    heights = [
        (
            f"{batch['payments']} at a time",
            [sum(batch["phases"][phase][part]["median"] for part in PARTS) for phase in OF_PAYMENTS],
        )
        for batch in report["batches"]
    ]
    return plot.bars(
        f"CPU of one payment by phase, {report['masternodes']} masternodes",
        list(OF_PAYMENTS),
        heights,
        x="phase, at a node that goes through it",
        y="microseconds a payment",
        log_y=True,
        note=note,
    )
