"""``timeproto bench hostile``: what a hostile crowd costs the honest, as a ratio of one run."""

from __future__ import annotations

import argparse
from typing import Any

from timeproto.cli.bench_options import (
    check_ports,
    describe_machine,
    devnet_options,
    draw,
    new_bench,
    note_of,
    number,
    one_rate,
    seconds,
    tell,
)
from timeproto.errors import ExitStatus


def add_hostile(benches: Any) -> None:
    parser = new_bench(
        benches,
        "hostile",
        "notify and finality with a hostile crowd, to those without",
        "Honest wallets watch one masternode and payments go to it, without a hostile crowd and with it, in turn:"
        " wallets that never read, that flood, that send garbage, TLS handshakes that stay half open, bytes that drip."
        " Fails if a p99 is more than --most times what it is without, if a payment is lost, if an honest wallet is cut"
        " off or misses anything, or if memory passes its bound.",
        repeat=3,
    )
    devnet_options(parser, number(1, 64), 4)
    parser.add_argument(
        "--subscribers", type=number(1, 30_000), default=2_000, help="honest wallets (default 2000)"
    )
    parser.add_argument("--rate", type=one_rate, default=10.0, help="payments a second (default 10)")
    parser.add_argument("--most", type=float, default=2.0, help="ratio that may not be passed (default 2)")
    parser.add_argument(
        "--settle", type=seconds, default=5.0, help="seconds the crowd is at work before a load (default 5)"
    )
    for name, count, help_ in (
        ("deaf", 200, "subscribers that never read, half of them asking on and on"),
        ("flooding", 50, "connections that ask as fast as they are answered"),
        ("garbage", 50, "connections that send nonsense, are thrown out and come back"),
        ("half-open", 500, "TLS handshakes that never end"),
        ("slow", 50, "connections whose bytes drip: TLS, frames, HTTP"),
    ):
        parser.add_argument(f"--{name}", type=number(0, 20_000), default=count, help=f"{help_} ({count})")
    parser.set_defaults(run=run_hostile)


def run_hostile(arguments: argparse.Namespace) -> int:
    from timeproto.bench import hostile
    from timeproto.bench.progress import Progress
    from timeproto.cli.running import run_until_done

    check_ports(2 * arguments.masternodes, arguments)
    plan = hostile.Plan(
        masternodes=arguments.masternodes,
        subscribers=arguments.subscribers,
        crowd={name: getattr(arguments, name) for name in hostile.KINDS},
        rate=arguments.rate,
        seconds=arguments.seconds,
        repeat=arguments.repeat,
        base_port=arguments.base_port,
        most=arguments.most,
        settle=arguments.settle,
    )
    machine, progress = describe_machine(), Progress()
    reports: list[dict[str, Any]] = []

    async def main(reactor: Any) -> int:
        reports.append(await hostile.measure(reactor, plan, progress))
        return ExitStatus.OK

    run_until_done(main)
    progress.clear()
    tell(arguments, "hostile", machine, reports[0], hostile.text(reports[0]))
    draw(arguments, hostile.draw(reports[0], note_of(machine)))
    return ExitStatus.OK if reports[0]["held"] else ExitStatus.REFUSED
