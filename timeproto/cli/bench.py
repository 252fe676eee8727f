"""``timeproto bench``: measure, with the machine, the method and the noise beside the numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timeproto.cli.bench_hostile import add_hostile
from timeproto.cli.bench_options import (
    BASE_PORT,
    check_ports,
    describe_machine,
    devnet_options,
    draw,
    new_bench,
    note_of,
    number,
    numbers,
    some_rates,
    tell,
)
from timeproto.errors import ConfigurationError, ExitStatus


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure",
        description="Measures, with durable commits on where there are nodes. Both numbers of a ratio are of one run."
        " What it starts it stops, and it leaves nothing behind but the files you name.",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    nodes = (_add_finality, _add_notify, _add_query, add_hostile)
    for add in (*nodes, _add_store, _add_codec, _add_step, _add_scale, _add_quick, _add_page):
        add(benches)


def _simple(arguments: argparse.Namespace, name: str, bench: Any, measure: Callable[[Any], dict[str, Any]]) -> int:
    """A bench that needs no reactor: measure, tell, draw."""
    from timeproto.bench.progress import Progress

    machine, progress = describe_machine(), Progress()
    report = measure(progress)
    progress.clear()
    tell(arguments, name, machine, report, bench.text(report))
    draw(arguments, bench.draw(report, note_of(machine)))
    return ExitStatus.OK


# -- finality ----------------------------------------------------------------------------------------


def _add_finality(benches: Any) -> None:
    parser = new_bench(
        benches,
        "finality",
        "from send to the verified proof at the wallet",
        "Starts a devnet, sends payments at fixed rates whether or not earlier ones are final, and tells percentiles"
        " from the moment each had to leave to the proof that the wallet verified.",
        repeat=3,
    )
    devnet_options(parser, numbers(1, 64), (7,))
    parser.add_argument(
        "--rate", type=some_rates, metavar="R[,R…]", help="payments a second (default 50; none with --search)"
    )
    parser.add_argument("--search", action="store_true", help="find the highest rate with p99 < 1 s and no failure")
    parser.set_defaults(run=run_finality)


def run_finality(arguments: argparse.Namespace) -> int:
    from timeproto.bench import finality
    from timeproto.bench.progress import Progress
    from timeproto.cli.running import run_until_done

    rates = arguments.rate or (() if arguments.search else (50.0,))
    for masternodes in arguments.masternodes:
        check_ports(masternodes, arguments)
    if any(rate * arguments.seconds > finality.MOST_PAYMENTS for rate in rates):
        raise ConfigurationError(f"rate times seconds is at most {finality.MOST_PAYMENTS:,} payments")
    machine, progress = describe_machine(), Progress()
    networks: list[dict[str, Any]] = []

    async def main(reactor: Any) -> int:
        for masternodes in arguments.masternodes:
            plan = finality.Plan(
                masternodes, rates, arguments.seconds, arguments.repeat, arguments.search, arguments.base_port
            )
            networks.append(await finality.measure(reactor, plan, progress))
            progress.clear()
        return ExitStatus.OK

    run_until_done(main)
    report = networks[0] if len(networks) == 1 else {"networks": networks}
    tell(arguments, "finality", machine, report, [line for each in networks for line in (*finality.text(each), "")])
    draw(arguments, finality.draw(networks, note_of(machine)))
    held = all(each["failed"] == 0 and each["nodes_agree"] for network in networks for each in network["rates"])
    return ExitStatus.OK if held else ExitStatus.REFUSED


# -- the others --------------------------------------------------------------------------------------


def _add_notify(benches: Any) -> None:
    parser = new_bench(
        benches,
        "notify",
        "one transition told to many subscribers",
        "From the moment a transition is durable to the last byte at the last subscriber, against a bare loop of"
        " socket.send and, if they are installed, Mosquitto and Redis fanning out as many bytes. All take turns, in"
        " several rounds.",
        repeat=3,
    )
    parser.add_argument(
        "--subscribers", type=numbers(1, 30_000), default=(1_000, 10_000), metavar="N[,N…]", help="(1000,10000)"
    )
    parser.add_argument("--no-brokers", action="store_true", help="leave Mosquitto and Redis out")
    parser.set_defaults(run=run_notify)


def run_notify(arguments: argparse.Namespace) -> int:
    from timeproto.bench import notify

    return _simple(
        arguments,
        "notify",
        notify,
        lambda progress: notify.measure(
            arguments.subscribers, arguments.repeat, progress, brokers=not arguments.no_brokers
        ),
    )


def _add_query(benches: Any) -> None:
    parser = new_bench(
        benches,
        "query",
        "questions about coins while payments go on",
        "Asks one node for the states of coins, in batches, on a store of a great many coins, while payments go on."
        " Tells the node's memory and how long it takes to start, too.",
        repeat=3,
    )
    devnet_options(parser, number(1, 64), 7)
    parser.add_argument("--coins", type=number(1_000, 10_000_000), default=1_000_000, help="(default 1000000)")
    parser.add_argument(
        "--batch", type=numbers(1, 1_000), default=(1, 100, 1_000), metavar="N[,N…]", help="(1,100,1000)"
    )
    parser.add_argument("--rate", type=float, default=200.0, help="payments a second; 0 for none (default 200)")
    parser.set_defaults(run=run_query)


def run_query(arguments: argparse.Namespace) -> int:
    from timeproto.bench import query
    from timeproto.bench.finality import MOST_PAYMENTS
    from timeproto.bench.progress import Progress
    from timeproto.cli.running import run_until_done

    check_ports(arguments.masternodes, arguments)
    if not 0 <= arguments.rate * arguments.seconds <= MOST_PAYMENTS:
        raise ConfigurationError(f"rate times seconds is at most {MOST_PAYMENTS:,} payments, and not below 0")
    machine, progress = describe_machine(), Progress()
    reports: list[dict[str, Any]] = []

    async def main(reactor: Any) -> int:
        plan = query.Plan(
            masternodes=arguments.masternodes,
            coins=arguments.coins,
            batches=arguments.batch,
            rate=arguments.rate,
            seconds=arguments.seconds,
            repeat=arguments.repeat,
            base_port=arguments.base_port,
        )
        reports.append(await query.measure(reactor, plan, progress))
        return ExitStatus.OK

    run_until_done(main)
    progress.clear()
    tell(arguments, "query", machine, reports[0], query.text(reports[0]))
    draw(arguments, query.draw(reports[0], note_of(machine)))
    return ExitStatus.OK


def _add_store(benches: Any) -> None:
    parser = new_bench(
        benches,
        "store",
        "durable commits",
        "Commits the change sets of 1, 10 and 100 payments to the store on disk, against the least durable write.",
        repeat=5,
    )
    parser.add_argument(
        "--payments", type=numbers(1, 1_000), default=(1, 10, 100), metavar="N[,N…]", help="at a time (1,10,100)"
    )
    parser.add_argument("--folder", type=Path, help="on this file system (default: the temporary folder's)")
    parser.set_defaults(run=run_store)


def run_store(arguments: argparse.Namespace) -> int:
    from timeproto.bench import store

    if arguments.folder is not None and not arguments.folder.is_dir():
        raise ConfigurationError(f"there is no folder {arguments.folder}")
    return _simple(
        arguments,
        "store",
        store,
        lambda progress: store.measure(arguments.payments, arguments.repeat, progress, arguments.folder),
    )


def _add_codec(benches: Any) -> None:
    told = "By type of message, against the json module."
    parser = new_bench(benches, "codec", "encoding and decoding", told, repeat=5)
    parser.set_defaults(run=run_codec)


def run_codec(arguments: argparse.Namespace) -> int:
    from timeproto.bench import codec

    return _simple(arguments, "codec", codec, lambda progress: codec.measure(arguments.repeat, progress))


def _add_step(benches: Any) -> None:
    parser = new_bench(
        benches,
        "step",
        "deciding, by phase",
        "CPU of the core with its codec and its signature checks, inline, no disk: by phase of a payment, and for"
        " blocks.",
        repeat=5,
    )
    parser.add_argument("--masternodes", type=number(1, 64), default=7, help="(default 7)")
    parser.add_argument("--payments", type=numbers(1, 250), default=(1, 10, 100), metavar="N[,N…]", help="(1,10,100)")
    parser.add_argument("--blocks", type=numbers(1, 2_000), default=(250, 2_000), metavar="N[,N…]", help="(250,2000)")
    parser.set_defaults(run=run_step)


def run_step(arguments: argparse.Namespace) -> int:
    from timeproto.bench import step

    return _simple(
        arguments,
        "step",
        step,
        lambda progress: step.measure(
            arguments.masternodes, arguments.payments, arguments.blocks, arguments.repeat, progress
        ),
    )


def _add_scale(benches: Any) -> None:
    parser = new_bench(
        benches,
        "scale",
        "growth with masternodes, and with subscribers",
        "How finality and CPU grow with the masternodes, in a simulator that runs their own code and clocks it step by"
        " step; and how telling grows with the subscribers, of a real node.",
        repeat=3,
    )
    parser.add_argument(
        "--masternodes", type=numbers(1, 128), default=(4, 7, 13, 22, 31, 43, 64), metavar="N[,N…]", help="(4 to 64)"
    )
    parser.add_argument("--payments", type=number(1, 250), default=50, help="at a time (default 50)")
    parser.add_argument(
        "--subscribers",
        type=numbers(0, 30_000),
        default=(1, 10, 100, 1_000, 5_000, 10_000, 20_000),
        metavar="N[,N…]",
        help="(1 to 20000); 0 for none",
    )
    parser.set_defaults(run=run_scale)


def run_scale(arguments: argparse.Namespace) -> int:
    from timeproto.bench import scale

    subscribers = tuple(each for each in arguments.subscribers if each)
    return _simple(
        arguments,
        "scale",
        scale,
        lambda progress: scale.measure(
            arguments.masternodes, arguments.payments, subscribers, arguments.repeat, progress
        ),
    )


def _add_quick(benches: Any) -> None:
    parser = new_bench(
        benches,
        "quick",
        "all of them, a few seconds each",
        "Fails if a payment is lost, the nodes disagree, or a ratio has gone badly wrong; never for being slow.",
        repeat=1,
    )
    parser.add_argument("--base-port", type=number(1024, 65_000), default=BASE_PORT, help=f"(default {BASE_PORT})")
    parser.set_defaults(run=run_quick)


def run_quick(arguments: argparse.Namespace) -> int:
    from timeproto.bench import quick
    from timeproto.bench.progress import Progress
    from timeproto.cli.running import run_until_done

    check_ports(quick.MASTERNODES, arguments)
    machine, progress = describe_machine(), Progress()
    reports: list[dict[str, Any]] = []

    async def main(reactor: Any) -> int:
        reports.append(await quick.measure(reactor, arguments.base_port, arguments.repeat, progress))
        return ExitStatus.OK

    run_until_done(main)
    progress.clear()
    tell(arguments, "quick", machine, reports[0], quick.text(reports[0]))
    draw(arguments, quick.draw(reports[0], note_of(machine)))
    return ExitStatus.OK if reports[0]["held"] else ExitStatus.REFUSED


# -- the page ----------------------------------------------------------------------------------------


def _add_page(benches: Any) -> None:
    parser = benches.add_parser(
        "page",
        help="write the tables of docs/performance.md",
        description="Writes the tables of a page from the JSON files that the benches wrote. It measures nothing.",
    )
    parser.add_argument("--folder", type=Path, default=Path("docs/figures"), help="(default docs/figures)")
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"), help="(default docs/performance.md)")
    parser.set_defaults(run=run_page)


def run_page(arguments: argparse.Namespace) -> int:
    from timeproto.bench import page

    try:
        text = arguments.page.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(f"the page {arguments.page} cannot be read: {error.strerror}") from None
    arguments.page.write_text(page.fill(text, arguments.folder), "utf-8")
    print(f"the tables of {arguments.page} are those of {arguments.folder}")
    return ExitStatus.OK
