"""How the cost of a payment grows with the number of masternodes, and that of a transition with its subscribers.

By masternodes it is a simulation, since no one machine has so many cores: the replicas' own code in one process, its
CPU measured turn by turn; in lockstep (bench.inprocess) for the CPU of payments that come together, in virtual time
(bench.apart) for how long one takes. By subscribers it is a real node and real sockets (bench.notify).
"""

from __future__ import annotations

from typing import Any

from timeproto.bench import apart, notify, plot
from timeproto.bench.apart import Apart
from timeproto.bench.inprocess import Cluster
from timeproto.bench.machine import percentile, spread, verify_us
from timeproto.bench.progress import Progress
from timeproto.bench.step import PARTS

SINGLE = 20
"""Payments one after the other whose time is told."""
FIRST = 5
"""Payments before them that warm up."""


def measure(
    masternodes: tuple[int, ...], payments: int, subscribers: tuple[int, ...], repeat: int, progress: Progress
) -> dict[str, Any]:
    """``payments`` at once, for CPU in microseconds a payment at a node; and one after the other, for milliseconds."""
    yardstick = verify_us()
    sizes = [_grow(number, payments, repeat, progress) for number in masternodes]
    told = notify.measure(subscribers, repeat, progress, brokers=False) if subscribers else None
    return {
        "payments": payments,
        "verify_us": round(yardstick, 1),
        "assumed": {"link_ms": apart.LINK_MS, "commit_ms": apart.COMMIT_MS, "rate": apart.RATE},
        "sizes": sizes,
        "subscribers": told,
    }


def _grow(number: int, payments: int, repeat: int, progress: Progress) -> dict[str, Any]:
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
    progress.stage(f"{number} masternodes in virtual time, one payment after the other")
    network = Apart(number, FIRST + SINGLE)
    network.pay_apart(FIRST)
    network.here.clear()
    network.everywhere.clear()
    network.costs.clear()
    network.pay_apart(SINGLE)
    node = spread(runs[1:])
    return {
        "masternodes": number,
        "node_us": node,
        "verify_us": spread(checks[1:]),
        "all_nodes_us": None if node is None else round(node["median"] * number, 1),
        "bytes_per_payment": round(sent / payments),
        "single_node_us": round(1e6 * network.costs.part(*PARTS) / number / SINGLE, 1),
        "final_here_ms": _times(network.here),
        "final_everywhere_ms": _times(network.everywhere),
    }


def _times(values: list[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "min": percentile(values, 0), "max": percentile(values, 100)}


def text(report: dict[str, Any]) -> list[str]:
    assumed = report["assumed"]
    lines = [
        f"SIMULATED, replicas in one process, CPU measured step by step; one verification {report['verify_us']} µs.",
        f"Final: each node on a machine of its own, {assumed['link_ms']} ms from node to node and"
        f" {assumed['commit_ms']:g} ms for a commit assumed,",
        f"{assumed['rate']:g} payments/s; CPU and bytes: {report['payments']} payments at a time.",
        f"{'masternodes':>11} {'final p50, ms':>14} {'range':>12} {'everywhere':>11} {'CPU of a node, µs':>18}"
        f" {'range':>13} {'of it checks':>13} {'of one alone':>13} {'bytes':>9}",
    ]
    for each in report["sizes"]:
        node, here, everywhere = each["node_us"], each["final_here_ms"], each["final_everywhere_ms"]
        final = f"{here['min']:.1f}-{here['max']:.1f}"
        spent = f"{node['min']:.0f}-{node['max']:.0f}"
        lines.append(
            f"{each['masternodes']:>11} {here['p50']:>14.1f} {final:>12} {everywhere['p50']:>11.1f}"
            f" {node['median']:>18.0f} {spent:>13} {each['verify_us']['median']:>13.0f}"
            f" {each['single_node_us']:>13.0f} {each['bytes_per_payment']:>9}"
        )
    if report["subscribers"] is not None:
        lines += ["", "MEASURED, a real node and real sockets:", *notify.text(report["subscribers"])]
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    """One drawing below the other."""
    charts = [_draw_finality(report, note), _draw_cost(report, note)]
    if report["subscribers"] is not None:
        charts.append(notify.draw(report["subscribers"], note))
    return plot.stack(charts)


def _draw_finality(report: dict[str, Any], note: str) -> str:
    series = [
        plot.Series(
            label,
            tuple(
                plot.Point(each["masternodes"], each[name]["p50"], each[name]["min"], each[name]["max"])
                for each in report["sizes"]
            ),
        )
        for name, label in (("final_here_ms", "where it was submitted"), ("final_everywhere_ms", "everywhere"))
    ]
    assumed = report["assumed"]
    return plot.lines(
        f"Simulated: from submit to final, links of {assumed['link_ms']} ms, commits of {assumed['commit_ms']:g} ms",
        series,
        x="masternodes (each on a machine of its own, in virtual time)",
        y="milliseconds, CPU measured turn by turn",
        note=note,
    )


def _draw_cost(report: dict[str, Any], note: str) -> str:
    sizes = report["sizes"]
    points = [
        plot.Point(each["masternodes"], each["node_us"]["median"], each["node_us"]["min"], each["node_us"]["max"])
        for each in sizes
    ]
    checks = [plot.Point(each["masternodes"], each["verify_us"]["median"]) for each in sizes]
    ends = (min(each["masternodes"] for each in sizes), max(each["masternodes"] for each in sizes))
    return plot.lines(
        f"Simulated: CPU of one payment at one node, {report['payments']} at a time",
        [
            plot.Series("all", tuple(points)),
            plot.Series("signature checks", tuple(checks)),
            plot.Series("one verification", tuple(plot.Point(x, report["verify_us"]) for x in ends), dashed=True),
        ],
        x="masternodes (replicas in one process, lockstep)",
        y="microseconds a payment",
        note=note,
    )
