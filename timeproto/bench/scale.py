"""How the cost of a payment grows with the number of masternodes, and that of a transition with its subscribers.

The first is of replicas in one process, in lockstep (bench.inprocess): CPU of their own code, measured step by step,
with no sockets, disks and threads. The second is of a real node and real sockets (bench.notify).
"""

from __future__ import annotations

from typing import Any

from timeproto.bench import plot
from timeproto.bench.inprocess import Cluster
from timeproto.bench.machine import spread, verify_us
from timeproto.bench.progress import Progress
from timeproto.bench.step import PARTS


def measure(masternodes: tuple[int, ...], payments: int, repeat: int, progress: Progress) -> dict[str, Any]:
    """``payments`` at once. CPU in microseconds a payment: at a node, and of it for signature checks."""
    yardstick = verify_us()
    sizes = []
    for number in masternodes:
        progress.stage(f"{number} masternodes in one process, {payments} payments at a time")
        cluster = Cluster(number, payments * (repeat + 1))
        runs, checks, sent = [], [], 0
        for done in range(repeat + 1):  # the first one warms up
            cluster.costs.clear()
            cluster.pay(payments)
            sent = cluster.bytes_sent
            cluster.bytes_sent = 0
            runs.append(1e6 * cluster.costs.part(*PARTS) / number / payments)
            checks.append(1e6 * cluster.costs.part("verify") / number / payments)
            progress.show((done + 1) / (repeat + 1))
        node = spread(runs[1:])
        sizes.append(
            {
                "masternodes": number,
                "node_us": node,
                "verify_us": spread(checks[1:]),
                "all_nodes_us": None if node is None else round(node["median"] * number, 1),
                "bytes_per_payment": round(sent / payments),
            }
        )
    return {"payments": payments, "verify_us": round(yardstick, 1), "sizes": sizes}


def text(report: dict[str, Any]) -> list[str]:
    lines = [f"in one process, {report['payments']} payments at a time; one verification {report['verify_us']} µs"]
    for each in report["sizes"]:
        node = each["node_us"]
        lines.append(
            f"{each['masternodes']:>4} masternodes: {node['median']:>7.0f} µs a payment at a node"
            f" ({node['min']:.0f}-{node['max']:.0f}), of it checks {each['verify_us']['median']:.0f};"
            f" {each['bytes_per_payment']} bytes a payment between all"
        )
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    sizes = report["sizes"]
    points = [
        plot.Point(each["masternodes"], each["node_us"]["median"], each["node_us"]["min"], each["node_us"]["max"])
        for each in sizes
    ]
    checks = [plot.Point(each["masternodes"], each["verify_us"]["median"]) for each in sizes]
    ends = (min(each["masternodes"] for each in sizes), max(each["masternodes"] for each in sizes))
    return plot.lines(
        f"CPU of one payment at one node, {report['payments']} at a time",
        [
            plot.Series("all", tuple(points)),
            plot.Series("signature checks", tuple(checks)),
            plot.Series("one verification", tuple(plot.Point(x, report["verify_us"]) for x in ends), dashed=True),
        ],
        x="masternodes (replicas in one process, lockstep)",
        y="microseconds a payment",
        note=note,
    )
