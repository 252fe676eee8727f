"""``timeproto sim``: hunt for a seed in which a promise of the protocol breaks, and show how."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timeproto.errors import ConfigurationError, ExitStatus

if TYPE_CHECKING:
    from timeproto.sim.campaign import Report
    from timeproto.sim.run import Outcome, Plan

RUNS_A_COLLECTION = 10


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "sim",
        help="simulate a network under every fault, by seeds",
        description="Runs whole networks of real replicas in virtual time, each from a seed that decides everything:"
        " network, disks, crashes, clocks, lying masternodes, hostile wallets. After every step it checks what the"
        " protocol promises. A breach is shown with its seed and a timeline, and the exit status is 1; so it is when a"
        " rare situation never came up in a batch that is large enough.",
    )
    parser.add_argument("--masternodes", type=int, default=4, metavar="N", help="(default 4)")
    parser.add_argument("--seeds", type=int, default=100, metavar="COUNT", help="how many runs (default 100)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="(default 0)")
    parser.add_argument(
        "--faults",
        default="all",
        metavar="KINDS",
        help="all (a mix that each seed draws), none, or kinds with commas (default all)",
    )
    parser.add_argument(
        "--seconds", type=int, metavar="S", help="virtual length of the faulty phase (default: each seed draws it)"
    )
    parser.add_argument("--seed", type=int, help="one run alone")
    parser.add_argument("--trace", action="store_true", help="print the whole timeline of --seed")
    parser.add_argument("--planted", metavar="BUG", help="plant this bug into the code first; 'list' names them")
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="processes to share the seeds (default 1)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first breach")
    parser.add_argument("--wan", action="store_true", help="measure finality over a wide-area network instead")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what --wan measured (SVG)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from timeproto.sim.faults import check_names
    from timeproto.sim.planted import CATALOGUE, planted
    from timeproto.sim.run import Plan

    if not (1 <= arguments.masternodes <= 128 and 1 <= arguments.seeds <= 10**7 and 1 <= arguments.jobs <= 64):
        raise ConfigurationError("masternodes are 1 to 128, seeds 1 to 10,000,000, jobs 1 to 64")
    if arguments.seconds is not None and not 1 <= arguments.seconds <= 86_400:
        raise ConfigurationError("the faulty phase is 1 to 86,400 seconds long")
    if arguments.faults not in ("all", "none"):
        check_names(arguments.faults)
    if arguments.planted == "list":
        for name, bug in CATALOGUE.items():
            print(f"{name:<32} {bug.says}")
        return ExitStatus.OK
    if arguments.wan:
        return _wan(arguments)
    if arguments.planted is not None and arguments.jobs > 1:
        raise ConfigurationError("a planted bug is planted in one process: --planted goes with --jobs 1")
    template = Plan(0, arguments.masternodes, arguments.faults, seconds=arguments.seconds)
    with planted(arguments.planted):
        if arguments.seed is not None:
            return _one(template, arguments)
        return _many(template, arguments)


def _one(template: Plan, arguments: argparse.Namespace) -> int:
    import attrs

    from timeproto.sim.campaign import again

    outcome = again(attrs.evolve(template, seed=arguments.seed), keep=10**7)
    if arguments.trace:
        for line in outcome.lines:
            print(line)
    print(f"seed {arguments.seed}: {outcome.elapsed / 1e6:.1f} virtual seconds, trace {outcome.digest}")
    if outcome.broken is None:
        print("every promise held")
        return ExitStatus.OK
    print(f"BROKEN {outcome.broken}")
    return ExitStatus.REFUSED


def _many(template: Plan, arguments: argparse.Namespace) -> int:
    from timeproto.sim.campaign import ENOUGH, Report

    report = Report()
    started = shown = time.monotonic()
    for outcome in _outcomes(template, arguments):
        report.add(outcome)
        now = time.monotonic()
        if now - shown >= 2:
            shown = now
            _progress(report, arguments.seeds, now - started)
        if outcome.broken is not None and not arguments.keep_going:
            break
    took = time.monotonic() - started
    _print(report, took)
    for outcome in report.broken[:3]:
        _show_breach(outcome, arguments)
    is_hunt = template.faults == "all" and report.seeds >= ENOUGH and not report.broken
    missing = report.never_seen(template.masternodes) if is_hunt else []
    if missing:
        print(f"never came up, so nothing was shown about it: {', '.join(missing)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_figures(report, template, took), indent=2) + "\n", "utf-8")
    return ExitStatus.REFUSED if report.broken or missing else ExitStatus.OK


def _outcomes(template: Plan, arguments: argparse.Namespace) -> Iterator[Outcome]:
    """The outcomes in the order of the seeds, by as many processes as were asked for."""
    from timeproto.sim.campaign import plans

    todo = plans(template, arguments.first_seed, arguments.seeds)
    if arguments.jobs == 1:
        _spare_the_collector()
        yield from map(_simulate, todo)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(arguments.jobs, _spare_the_collector) as pool:
        yield from pool.imap(_simulate, todo, chunksize=4)


def _simulate(plan: Plan) -> Outcome:
    from timeproto.sim.run import simulate

    outcome = simulate(plan)
    if plan.seed % RUNS_A_COLLECTION == 0:
        gc.collect()
    return outcome


def _spare_the_collector() -> None:
    """A run makes a hundred thousand small objects that live until its end: looking through them meanwhile costs a
    tenth."""
    gc.freeze()
    gc.disable()


def _progress(report: Report, seeds: int, took: float) -> None:
    rate = report.seeds / took
    left = (seeds - report.seeds) / rate
    print(
        f"  {report.seeds} of {seeds} seeds, {rate:.1f}/s, {report.virtual_hours:.2f} virtual hours,"
        f" {len(report.broken)} broken, about {left:.0f} s left",
        file=sys.stderr,
        flush=True,
    )


def _print(report: Report, took: float) -> None:
    tally = report.tally
    counts = tally.counts
    print(f"{report.seeds} seeds, {report.virtual_hours:.2f} virtual hours, {report.seeds / took:.1f} seeds/s")
    print(
        f"payments {counts['payments']}, rivals {counts['rivals']}, cancels {counts['cancels']},"
        f" final {counts['final']}, blocks {counts['blocks']}, verdicts {counts['verdicts']},"
        f" messages {counts['messages']}"
    )
    print(f"{tally.faults.total()} faults:")
    for kind, count in sorted(tally.faults.items()):
        print(f"  {count:>9}  {kind}")
    print("rare situations:")
    for name, count in tally.summary()["rare"].items():
        print(f"  {count:>9}  {name}")
    print(f"trace {report.digest}")


def _show_breach(outcome: Outcome, arguments: argparse.Namespace) -> None:
    from timeproto.sim.campaign import again

    plan = outcome.plan
    print(f"\nseed {plan.seed} broke a promise\n  {outcome.broken}\n\nwhat happened last:")
    for line in again(plan).lines:
        print(f"  {line}")
    given = ((f" --{name} {value}") for name, value in _given(plan, arguments))
    print(f"\nthe whole of it: timeproto sim{''.join(given)} --seed {plan.seed} --trace")


def _given(plan: Plan, arguments: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """The options that make this run what it is."""
    yield "masternodes", plan.masternodes
    if plan.faults != "all":
        yield "faults", plan.faults
    if plan.seconds is not None:
        yield "seconds", plan.seconds
    if arguments.planted is not None:
        yield "planted", arguments.planted


def _figures(report: Report, template: Plan, took: float) -> dict[str, Any]:
    return {
        "masternodes": template.masternodes,
        "faults_asked": template.faults,
        "seeds": report.seeds,
        "virtual_hours": round(report.virtual_hours, 3),
        "seconds": round(took, 2),
        "seeds_per_second": round(report.seeds / took, 2),
        "digest": report.digest,
        **report.tally.summary(),
        "never_seen": report.never_seen(template.masternodes),
        "broken": [{"seed": outcome.plan.seed, "promise": str(outcome.broken)} for outcome in report.broken],
    }


def _wan(arguments: argparse.Namespace) -> int:
    from timeproto.sim.figure import latency_plot
    from timeproto.sim.latency import SIZES, measure

    rows = []
    print("masternodes  round trip   where submitted: p50           p99   everywhere: p50           p99")
    for masternodes in SIZES:
        row = measure(masternodes, 20 if masternodes < 40 else 10, arguments.first_seed).row()
        rows.append(row)
        cells = "".join(
            f"{row[f'{where}_{share}_ms']:>8.0f} ms {row[f'{where}_{share}_rtt']:>5.2f}"
            for where in ("here", "everywhere")
            for share in ("p50", "p99")
        )
        print(f"{masternodes:>11} {row['round_trip_ms']:>8.0f} ms {cells}", flush=True)
    print("times in ms and in round trips of the links' mean, commits of 1 to 6 ms counted")
    if arguments.plot is not None:
        arguments.plot.write_text(latency_plot(rows), "utf-8")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return ExitStatus.OK
