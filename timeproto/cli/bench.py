"""``timeproto bench``: measure, with the machine and the method beside the numbers."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from timeproto.errors import ConfigurationError, ExitStatus

BASE_PORT = 24200


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure",
        description="Measures real processes over real sockets, with durable commits on.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    finality = benches.add_parser(
        "finality",
        help="from send to the verified proof at the wallet",
        description="Starts a devnet, sends payments at a fixed rate whether or not earlier ones are final, and"
        " prints percentiles from send to the proof that the wallet verified itself.",
    )
    finality.add_argument("--masternodes", type=int, default=7)
    finality.add_argument("--rate", type=float, default=20.0, help="payments a second (default 20)")
    finality.add_argument("--seconds", type=float, default=10.0, help="length of one run (default 10)")
    finality.add_argument("--repeat", type=int, default=1, help="runs; medians and ranges are printed (default 1)")
    finality.add_argument("--base-port", type=int, default=BASE_PORT, help=f"(default {BASE_PORT})")
    finality.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    finality.set_defaults(run=run_finality)


def run_finality(arguments: argparse.Namespace) -> int:
    from timeproto.bench.finality import measure
    from timeproto.bench.machine import describe
    from timeproto.cli.devnet import check_masternodes
    from timeproto.cli.running import run_until_done

    check_masternodes(arguments.masternodes, arguments.base_port)
    if not (0 < arguments.rate <= 10_000 and 0 < arguments.seconds <= 600 and 1 <= arguments.repeat <= 20):
        raise ConfigurationError("rate is up to 10,000 a second, seconds up to 600, repeat up to 20; all above 0")
    runs: list[dict[str, Any]] = []

    async def main(reactor: Any) -> int:
        for number in range(arguments.repeat):
            print(
                f"Run {number + 1} of {arguments.repeat}: {arguments.masternodes} masternodes,"
                f" {arguments.rate:g} payments/s for {arguments.seconds:g} s …",
                flush=True,
            )
            with tempfile.TemporaryDirectory(prefix="timeproto-bench-") as folder:
                result = await measure(
                    reactor,
                    Path(folder),
                    masternodes=arguments.masternodes,
                    rate=arguments.rate,
                    seconds=arguments.seconds,
                    base_port=arguments.base_port,
                )
            runs.append(result.summary())
        return ExitStatus.OK

    machine = describe()
    run_until_done(main)
    report = {
        "bench": "finality",
        "masternodes": arguments.masternodes,
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "machine": machine,
        **_medians(runs),
        "runs": runs,
    }
    _print(report)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    held = report["failed"] == 0 and all(run["nodes_agree"] for run in runs)
    return ExitStatus.OK if held else ExitStatus.REFUSED


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every time, the sums of every count."""
    merged: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs if run[name] is not None]
        if name in ("sent", "final", "failed"):
            merged[name] = sum(values)
        elif name == "nodes_agree":
            merged[name] = all(values)
        else:
            merged[name] = sorted(values)[len(values) // 2] if values else None
    return merged


def _print(report: dict[str, Any]) -> None:
    machine = report["machine"]
    print(
        f"\n{machine['cores']} cores, {machine['machine']}, Python {machine['python']};"
        f" one Ed25519 verification {machine['verify_us']} µs"
    )
    print(
        f"sent {report['sent']}, final {report['final']}, failed {report['failed']},"
        f" nodes agree: {report['nodes_agree']}"
    )
    print(f"{report['cpu_s_per_1000']} CPU-seconds per 1,000 payments, over all masternodes")
    for what, name in (
        ("final (send to verified proof)", ""),
        ("lock (send to accepted)", "lock_"),
        ("notify (node to receiver's wallet)", "notify_"),
    ):
        spread = [run[f"{name}p99_ms"] for run in report["runs"] if run[f"{name}p99_ms"] is not None]
        between = f"   p99 between {min(spread)} and {max(spread)} in {len(spread)} runs" if len(spread) > 1 else ""
        print(f"  {what:<36} p50 {report[f'{name}p50_ms']:>8} ms   p99 {report[f'{name}p99_ms']:>8} ms{between}")
