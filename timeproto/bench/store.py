"""Durable commits: the change sets that 1, 10 and 100 payments at once make at one masternode, on the real store.

The yardstick is the least that any durable write costs here: 4 KiB appended to a file of the same folder, and
``fdatasync``.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from timeproto.bench import plot
from timeproto.bench.inprocess import Cluster, Node
from timeproto.bench.machine import percentile, spread
from timeproto.bench.progress import Progress
from timeproto.consensus.replica import found
from timeproto.model.ledger import Changes
from timeproto.storage.rocks import RocksStore, open_store

MASTERNODES = 4
COMMITS = 60
"""Commits of one size in one run, about."""
PAGE = bytes(4096)


def measure(sizes: tuple[int, ...], repeat: int, progress: Progress, folder: Path | None = None) -> dict[str, Any]:
    """Milliseconds from the call to its return. ``folder``: on which file system, the system's temporary one if None.

    One payment takes three commits: locked, pending, final.
    """
    reports = []
    for size in sizes:
        progress.stage(f"durable commits of {size} payments")
        cluster, recorded = _record(size)
        runs = []
        for number in range(repeat):
            with tempfile.TemporaryDirectory(prefix="timeproto-bench-", dir=folder) as name:
                bare = _bare(Path(name) / "bare")
                runs.append(_replay(Path(name) / "store", cluster, recorded) | {"bare": bare})
            progress.show((number + 1) / repeat)
        p50 = spread([percentile(run["commit"], 50) for run in runs])
        bare_p50 = spread([percentile(run["bare"], 50) for run in runs])
        reports.append(
            {
                "payments": size,
                "commit_p50_ms": p50,
                "commit_p99_ms": spread([percentile(run["commit"], 99) for run in runs]),
                "cpu_ms": spread([run["cpu"] / len(run["commit"]) for run in runs]),
                "bare_p50_ms": bare_p50,
                "bare_p99_ms": spread([percentile(run["bare"], 99) for run in runs]),
                "to_bare": None if p50 is None or bare_p50 is None else round(p50["median"] / bare_p50["median"], 2),
            }
        )
    return {"sizes": reports}


def _record(size: int) -> tuple[Cluster, list[Changes]]:
    """What the last of four masternodes commits for payments that come ``size`` at a time."""
    recorded: list[Changes] = []
    recording = False

    def committed(node: Node, phase: str, changes: Changes) -> None:
        if recording and node is cluster.nodes[-1]:
            recorded.append(changes)

    rounds = max(2, COMMITS // 3)
    cluster = Cluster(MASTERNODES, size * rounds, committed=committed)
    recording = True
    for _ in range(rounds):
        cluster.pay(size)
    return cluster, recorded


def _replay(folder: Path, cluster: Cluster, recorded: list[Changes]) -> dict[str, Any]:
    node = cluster.nodes[-1]
    store: RocksStore = open_store(folder, cluster.genesis.hash, node.key)
    try:
        founding = found(store, cluster.genesis)
        if founding is not None:
            store.commit(founding)
        times, began_cpu = [], time.process_time()
        for changes in recorded:
            began = time.perf_counter()
            store.commit(changes)
            times.append(1000 * (time.perf_counter() - began))
        return {"commit": times, "cpu": 1000 * (time.process_time() - began_cpu)}
    finally:
        store.close()


def _bare(path: Path) -> list[float]:
    times = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(COMMITS):
            began = time.perf_counter()
            os.write(descriptor, PAGE)
            os.fdatasync(descriptor)
            times.append(1000 * (time.perf_counter() - began))
    finally:
        os.close(descriptor)
    return times


def text(report: dict[str, Any]) -> list[str]:
    lines = []
    for each in report["sizes"]:
        p50, p99, bare = each["commit_p50_ms"], each["commit_p99_ms"], each["bare_p50_ms"]
        lines.append(
            f"{each['payments']:>5} payments: commit p50 {p50['median']:.2f} ms ({p50['min']}-{p50['max']}),"
            f" p99 {p99['median']:.2f} ms, CPU {each['cpu_ms']['median']:.2f} ms;"
            f" bare 4 KiB and fdatasync p50 {bare['median']:.2f} ms, ratio {each['to_bare']}"
        )
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    sizes = report["sizes"]
    return plot.bars(
        "Durable commit",
        [f"{each['payments']} payments" for each in sizes],
        [
            ("commit p50", [each["commit_p50_ms"]["median"] for each in sizes]),
            ("commit p99", [each["commit_p99_ms"]["median"] for each in sizes]),
            ("4 KiB and fdatasync, p50", [each["bare_p50_ms"]["median"] for each in sizes]),
        ],
        x="in one commit",
        y="milliseconds",
        note=note,
    )
