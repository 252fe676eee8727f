"""One transition, told to many: from the moment it is durable to the last byte at the last subscriber.

Against a bare loop of ``socket.send`` over as many sockets, and brokers, if they are installed: the same bytes, the
same receiver, in turn in the same run. The node is alone in its network and serves more wallets than it would
let in (see bench.probe); everything else is as it runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timeproto.bench import kernel, plot
from timeproto.bench.crowd import Crowd
from timeproto.bench.machine import allow_files, middle, spread
from timeproto.bench.progress import Progress
from timeproto.bench.tellers import BROKERS, BareTeller, NodeTeller, Teller, find_program, version_of

OPEN_FILES = 600
"""Files that this process, or the node, has open beside the subscribers' sockets."""
TELLINGS = 5
"""Tellings of one contestant in one round, after one that warms up."""


def measure(sizes: tuple[int, ...], rounds: int, progress: Progress, *, brokers: bool = True) -> dict[str, Any]:
    """For each number of subscribers: milliseconds of every contestant, and the ratios to the bare loop.

    In every round each contestant has its turn, so that what disturbs a while disturbs all of them alike; a ratio is of
    one round's medians.
    """
    programs = {name: find_program(name) for name in BROKERS} if brokers else {}
    found = {name: path for name, path in programs.items() if path is not None}
    report: dict[str, Any] = {
        "absent": [name for name in programs if name not in found],
        "versions": {name: version_of(name, path) for name, path in found.items()},
        "rounds": rounds,
        "sizes": [],
        "reduced": [],
    }
    for asked in sizes:
        allowed = allow_files(asked + OPEN_FILES)
        size = min(asked, allowed - OPEN_FILES)
        if size < asked:
            report["reduced"].append({"asked": asked, "to": max(0, size), "open_files": allowed})
        if size > 0 and size not in [each["subscribers"] for each in report["sizes"]]:
            report["sizes"].append(_measure(size, rounds, progress, found))
    return report


def _measure(size: int, rounds: int, progress: Progress, programs: dict[str, str]) -> dict[str, Any]:
    times: dict[str, list[list[float]]] = {}
    memory: list[int] = []
    told = 0
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="timeproto-bench-") as name:
            folder = Path(name)

            def room(whose: str, within: Path = folder) -> Path:
                (within / whose).mkdir()
                return within / whose

            def tell(name: str, make: Callable[[], Teller], *gathered: Callable[[], None]) -> None:
                progress.stage(f"{size} subscribers of {name}, round {number + 1} of {rounds}")  # noqa: B023
                times.setdefault(name, []).append(_tell(make, size, progress, *gathered))

            node = NodeTeller(room("node"), size, TELLINGS + 2)
            told = _rehearse(node)
            alone = kernel.resident_bytes(node.pid)
            tell(NodeTeller.name, lambda: node, lambda: _weigh(memory, node.pid, alone, size))  # noqa: B023
            tell(BareTeller.name, lambda: BareTeller(room("bare"), size, told))  # noqa: B023
            for program, path in programs.items():
                tell(program, lambda: BROKERS[program](path, room(program), size, told))  # noqa: B023
    bare = [middle(each) for each in times[BareTeller.name]]
    ratios = {
        name: [middle(each) / yardstick for each, yardstick in zip(runs, bare, strict=True)]
        for name, runs in times.items()
    }
    return {
        "subscribers": size,
        "bytes": told,
        "ms": {name: spread([each for run in runs for each in run]) for name, runs in times.items()},
        "to_bare": {name: round(middle(each), 2) for name, each in ratios.items()},
        "to_bare_range": {name: spread(each) for name, each in ratios.items()},
        "bytes_of_memory_per_subscriber": round(middle(memory)) if memory else None,
    }


def _rehearse(node: NodeTeller) -> int:
    """The bytes of what will be told."""
    try:
        node.rehearse()
    except BaseException:
        node.stop()
        raise
    return 4 + len(node.payload)


def _weigh(memory: list[int], pid: int, alone: int | None, size: int) -> None:
    crowded = kernel.resident_bytes(pid)
    if alone is not None and crowded is not None:
        memory.append(round((crowded - alone) / size))


def _tell(
    make: Callable[[], Teller], size: int, progress: Progress, gathered: Callable[[], None] = lambda: None
) -> list[float]:
    """Milliseconds of each telling."""
    teller = make()
    try:
        with Crowd(teller.port, size) as crowd:
            crowd.gather(teller.greeting, teller.answered, progress.show)
            gathered()
            return [teller.tell(crowd) for _ in range(TELLINGS + 1)][1:]
    finally:
        teller.stop()


def text(report: dict[str, Any]) -> list[str]:
    lines = [f"{name} is not installed: no comparison with it" for name in report["absent"]]
    lines += [f"{name}: {version}" for name, version in report["versions"].items()]
    lines += [
        f"{each['to']} subscribers instead of {each['asked']}: {each['open_files']} open files are allowed (ulimit -n)"
        for each in report["reduced"]
    ]
    for each in report["sizes"]:
        lines.append(f"{each['subscribers']} subscribers, {each['bytes']} bytes each, {report['rounds']} rounds:")
        for name, times in each["ms"].items():
            ratios = each["to_bare_range"][name]
            lines.append(
                f"    {name:<14} {times['median']:>8.1f} ms ({times['min']:.1f}-{times['max']:.1f})"
                f"   {each['to_bare'][name]:>5.2f} × the bare loop ({ratios['min']:.2f}-{ratios['max']:.2f})"
            )
        if each["bytes_of_memory_per_subscriber"] is not None:
            lines.append(f"    {each['bytes_of_memory_per_subscriber']} bytes of the node's memory a subscriber")
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    names = list(dict.fromkeys(name for each in report["sizes"] for name in each["ms"]))
    versions = report["versions"]
    series = [
        plot.Series(
            versions.get(name, name),
            tuple(
                plot.Point(each["subscribers"], (ms := each["ms"][name])["median"], ms["min"], ms["max"])
                for each in report["sizes"]
            ),
            dashed=name == BareTeller.name,
        )
        for name in names
    ]
    return plot.lines(
        "One transition told to many subscribers",
        series,
        x="subscribers",
        y="ms from durable to the last byte at the last",
        log_x=True,
        log_y=True,
        note=note,
    )
