"""Questions about coins to one node, while payments go on: on a store with a great many coins.

Batches of several sizes are asked in turn, at fixed times whatever became of those before (bench.asker). Clocked from
the moment a question had to be asked to the last byte of its answer; every item of it must be known. Beside it: the
node's memory, and how long it takes to start on that store and on an empty one.
"""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from timeproto.bench import kernel, plot, stock
from timeproto.bench.finality import figures
from timeproto.bench.helper import PATIENCE, Helper
from timeproto.bench.machine import percentile, spread
from timeproto.bench.progress import Progress
from timeproto.bench.stand import Stand
from timeproto.devnet.layout import lay_out
from timeproto.devnet.processes import Devnet, NodeProcess
from timeproto.errors import ConfigurationError
from timeproto.network.discovery import parse_address
from timeproto.network.requests import ConnectionGone

POLL = 0.02


@attrs.frozen
class Plan:
    """``rate``: payments a second that go on meanwhile, 0 for none; ``batches``: outpoints in one question."""

    masternodes: int
    coins: int
    batches: tuple[int, ...]
    rate: float
    seconds: float
    repeat: int
    base_port: int


async def measure(reactor: Any, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The report, ready for JSON."""
    empty = await _empty_start(reactor, plan, progress)
    stand = Stand(reactor, plan.masternodes, max(2, round(plan.rate * plan.seconds)), plan.base_port, progress)
    runs: list[dict[int, list[float]]] = []
    loads = []
    asker: Helper | None = None
    try:
        layout = stand.lay_out()
        progress.stage(f"a store with {plan.coins} coins is made")
        stock.fill(layout, plan.coins, progress.show)
        await stand.open()
        devnet = stand.devnet
        host, port = parse_address(devnet.addresses[0])
        asker = Helper(reactor, "timeproto.bench.asker")
        await asker.ask("connect", host=host, port=port, coins=plan.coins, batches=plan.batches)
        await _ask(asker, 0.5)
        for _ in range(plan.repeat):
            load = ensureDeferred(stand.measure(plan.rate, plan.seconds)) if plan.rate else None
            runs.append(await _ask(asker, plan.seconds))
            if load is not None:
                loads.append(await load)
        resident = [kernel.resident_bytes(pid) for pid in stand.pids]
        peak = [kernel.peak_bytes(pid) for pid in stand.pids]
        size = sum(path.stat().st_size for path in (layout.nodes[0].folder / "store").iterdir())
        progress.stage("a node starts on that store")
        starts = [await _restart(reactor, devnet, 1) for _ in range(plan.repeat)]
    finally:
        if asker is not None:
            await asker.end()
        await stand.close()
    return {
        "masternodes": plan.masternodes,
        "coins": plan.coins,
        "rate": plan.rate,
        "batches": [
            {
                "outpoints": size,
                "p50_ms": spread([percentile(run[size], 50) for run in runs]),
                "p99_ms": spread([percentile(run[size], 99) for run in runs]),
                "questions": sum(len(run[size]) for run in runs),
            }
            for size in plan.batches
        ],
        "load": [figures(load) for load in loads],
        "load_sustained": all(load.is_sustained for load in loads),
        "node_memory_mb": _largest_mb(resident),
        "node_memory_peak_mb": _largest_mb(peak),
        "store_mb": round(size / 2**20, 1),
        "start_s": spread(starts),
        "empty_start_s": spread(empty),
    }


async def _ask(asker: Helper, seconds: float) -> dict[int, list[float]]:
    """Milliseconds of each answer, by size."""
    times = await asker.ask("ask", patience=seconds + PATIENCE, seconds=seconds)
    return {int(size): took for size, took in times.items()}


def _largest_mb(sizes: list[int | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return round(max(known) / 2**20, 1) if known else None


async def _empty_start(reactor: Any, plan: Plan, progress: Progress) -> list[float]:
    """Seconds to start one node of one, on the store that it founded before."""
    progress.stage("a node starts on an empty store")
    with tempfile.TemporaryDirectory(prefix="timeproto-bench-") as name:
        devnet = Devnet(reactor, lay_out(Path(name), 1, plan.base_port, log_level="warn", coins_per_wallet=1))
        try:
            await devnet.start()
            return [await _restart(reactor, devnet, 1) for _ in range(plan.repeat)]
        finally:
            await devnet.stop()


async def _restart(reactor: Any, devnet: Devnet, number: int) -> float:
    """Seconds from the process' start to its first answer."""
    process: NodeProcess = devnet.processes[number - 1]
    process.signal(signal.SIGTERM)
    await process.when_ended()
    began = time.perf_counter()
    process = devnet.restart(number)
    while time.perf_counter() - began < 60:
        if process.status is not None:
            raise ConfigurationError(f"a node does not start again: {process.last_words()}")
        try:
            info = await devnet.info(number)
        except ConnectionGone:
            info = None
        if info is not None:
            return time.perf_counter() - began
        await deferLater(reactor, POLL)
    raise ConfigurationError("a node does not answer a minute after its start")


def text(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['masternodes']} masternodes with {report['coins']} coins, while {report['rate']:g} payments/s go on"
        f"{'' if report['load_sustained'] else ' (more than they sustained)'}"
    ]
    for batch in report["batches"]:
        p50, p99 = batch["p50_ms"], batch["p99_ms"]
        lines.append(
            f"{batch['outpoints']:>6} outpoints: p50 {p50['median']:.2f} ms ({p50['min']}-{p50['max']}),"
            f" p99 {p99['median']:.2f} ms ({p99['min']}-{p99['max']}), {batch['questions']} questions"
        )
    start, empty = report["start_s"], report["empty_start_s"]
    lines.append(
        f"a node: {report['node_memory_mb']} MB in memory (at most {report['node_memory_peak_mb']}),"
        f" {report['store_mb']} MB on disk; starts in {start['median']:.2f} s ({start['min']}-{start['max']}),"
        f" on an empty store in {empty['median']:.2f} s"
    )
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    batches = report["batches"]

    def points(name: str) -> tuple[plot.Point, ...]:
        return tuple(
            plot.Point(each["outpoints"], (ms := each[name])["median"], ms["min"], ms["max"]) for each in batches
        )

    return plot.lines(
        f"State query on {report['coins']:,} coins, beside {report['rate']:g} payments/s",
        [plot.Series("p50", points("p50_ms")), plot.Series("p99", points("p99_ms"))],
        x="outpoints in one question",
        y="milliseconds to the last byte",
        log_x=True,
        log_y=True,
        note=note,
    )
