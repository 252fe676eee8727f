"""One transition, told to many: from the moment it is durable to the last byte at the last subscriber.

Against a bare loop of ``socket.send`` over as many sockets, and brokers, if they are installed: the same bytes, the
same receiver, one after another in the same run. The node is alone in its network and serves more wallets than it would
let in (see bench.probe); everything else is as it runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timeproto.bench import kernel, plot
from timeproto.bench.crowd import Crowd
from timeproto.bench.machine import allow_files, spread
from timeproto.bench.progress import Progress
from timeproto.bench.tellers import BROKERS, BareTeller, NodeTeller, Teller, find_program

OPEN_FILES = 200
"""Files of this process beside the subscribers' sockets."""


def measure(sizes: tuple[int, ...], repeat: int, progress: Progress, *, brokers: bool = True) -> dict[str, Any]:
    """For each number of subscribers: milliseconds of every contestant, and the ratios to the bare loop."""
    programs = {name: find_program(name) for name in BROKERS} if brokers else {}
    report: dict[str, Any] = {
        "absent": [name for name, program in programs.items() if program is None],
        "sizes": [],
        "skipped": [],
    }
    for size in sizes:
        allowed = allow_files(size + OPEN_FILES)
        if allowed < size + OPEN_FILES:
            report["skipped"].append({"subscribers": size, "reason": f"{allowed} open files are allowed (ulimit -n)"})
            continue
        report["sizes"].append(_measure(size, repeat, progress, programs))
    return report


def _measure(size: int, repeat: int, progress: Progress, programs: dict[str, str | None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="timeproto-bench-") as name:
        folder = Path(name)

        def room(whose: str) -> Path:
            (folder / whose).mkdir()
            return folder / whose

        memory: dict[str, Any] = {}

        def node() -> Teller:
            teller = NodeTeller(room("node"), size, repeat + 2)
            try:
                teller.rehearse()
            except BaseException:
                teller.stop()
                raise
            memory["bytes"] = 4 + len(teller.payload)
            memory["alone"] = kernel.resident_bytes(teller.pid)
            memory["pid"] = teller.pid
            return teller

        def crowded() -> None:
            memory["crowded"] = kernel.resident_bytes(memory["pid"])

        times = {NodeTeller.name: _tell(node, size, repeat, progress, crowded)}
        told = memory["bytes"]
        times[BareTeller.name] = _tell(lambda: BareTeller(room("bare"), size, told), size, repeat, progress)
        for program, path in programs.items():
            if path is not None:
                make = BROKERS[program]
                times[program] = _tell(lambda: make(path, room(program), size, told), size, repeat, progress)  # noqa: B023
    spreads = {name: spread(each) for name, each in times.items()}
    bare = spreads[BareTeller.name]
    ratios = {name: round(each["median"] / bare["median"], 2) for name, each in spreads.items() if each and bare}
    a_wallet = None
    if memory["alone"] is not None and memory["crowded"] is not None:
        a_wallet = round((memory["crowded"] - memory["alone"]) / size)
    return {
        "subscribers": size,
        "bytes": told,
        "ms": spreads,
        "to_bare": ratios,
        "bytes_of_memory_per_subscriber": a_wallet,
    }


def _tell(
    make: Callable[[], Teller],
    size: int,
    repeat: int,
    progress: Progress,
    gathered: Callable[[], None] = lambda: None,
) -> list[float]:
    """Milliseconds of ``repeat`` tellings, after one that warms up."""
    teller = make()
    try:
        progress.stage(f"{size} subscribers of {teller.name}")
        with Crowd(teller.port, size) as crowd:
            crowd.gather(teller.greeting, teller.answered, progress.show)
            gathered()
            return [teller.tell(crowd) for _ in range(repeat + 1)][1:]
    finally:
        teller.stop()


def text(report: dict[str, Any]) -> list[str]:
    lines = [f"{name} is not installed: no comparison with it" for name in report["absent"]]
    lines += [f"{each['subscribers']} subscribers were left out: {each['reason']}" for each in report["skipped"]]
    for each in report["sizes"]:
        lines.append(f"{each['subscribers']} subscribers, {each['bytes']} bytes each:")
        for name, times in each["ms"].items():
            lines.append(
                f"    {name:<14} {times['median']:>8.1f} ms ({times['min']:.1f}-{times['max']:.1f})"
                f"   {each['to_bare'][name]:>5.2f} × the bare loop"
            )
        if each["bytes_of_memory_per_subscriber"] is not None:
            lines.append(f"    {each['bytes_of_memory_per_subscriber']} bytes of the node's memory a subscriber")
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    names = list(dict.fromkeys(name for each in report["sizes"] for name in each["ms"]))
    series = [
        plot.Series(
            name,
            tuple(
                plot.Point(each["subscribers"], (ms := each["ms"][name])["median"], ms["min"], ms["max"])
                for each in report["sizes"]
            ),
            dashed=name == BareTeller.name,
        )
        for name in names
    ]
    return plot.lines(
        "One transition told to many",
        series,
        x="subscribers",
        y="ms from durable to the last byte at the last",
        log_x=True,
        log_y=True,
        note=note,
    )
