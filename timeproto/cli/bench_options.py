"""What the benches of ``timeproto bench`` have in common on the command line: options, the machine, what is printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from timeproto.errors import ConfigurationError

BASE_PORT = 24200


def numbers(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    def numbers(text: str) -> tuple[int, ...]:
        found = tuple(int(part) for part in text.split(","))
        if not all(least <= number <= most for number in found):
            raise argparse.ArgumentTypeError(f"each of {text} must be from {least:,} to {most:,}")
        return found

    return numbers


def number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} must be from {least:,} to {most:,}")
        return int(text)

    return number


def one_rate(text: str) -> float:
    if not 0 < float(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"a rate is above 0 and at most 10,000 a second, not {text}")
    return float(text)


def some_rates(text: str) -> tuple[float, ...]:
    return tuple(one_rate(part) for part in text.split(","))


def seconds(text: str) -> float:
    if not 0 < float(text) <= 600:
        raise argparse.ArgumentTypeError(f"a load lasts more than 0 and at most 600 seconds, not {text}")
    return float(text)


def chart_file(text: str) -> Path:
    from timeproto.bench import plot

    path = Path(text)
    try:
        plot.check_name(path)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def new_bench(benches: Any, name: str, help_: str, description: str, *, repeat: int) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = benches.add_parser(name, help=help_, description=description)
    parser.add_argument(
        "--repeat", type=number(1, 50), default=repeat, help=f"medians of so many are told (default {repeat})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    parser.add_argument("--plot", type=chart_file, metavar="FILE", help="draw it here: .svg, or .png")
    return parser


def devnet_options(parser: argparse.ArgumentParser, masternodes: Any, default: Any) -> None:
    parser.add_argument("--masternodes", type=masternodes, default=default, metavar="N", help=f"(default {default})")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="length of one load (default 10)")
    parser.add_argument("--base-port", type=number(1024, 65_000), default=BASE_PORT, help=f"(default {BASE_PORT})")


def describe_machine() -> dict[str, Any]:
    """``others`` watches the machine until :func:`tell`."""
    from timeproto.bench.machine import Others, describe

    return describe() | {"others": Others()}


def note_of(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cores']} cores of {machine['processor']}, {machine['machine']}, Python {machine['python']};"
        f" one Ed25519 verification {machine['verify_us']} µs, many {machine['signatures']}"
    )


def tell(
    arguments: argparse.Namespace, name: str, machine: dict[str, Any], report: dict[str, Any], lines: Sequence[str]
) -> None:
    machine["others_cpu_share"] = share = machine.pop("others").share()
    libraries = ", ".join(f"{library} {version}" for library, version in machine["libraries"].items())
    meanwhile = "" if share is None else f"; others used {share:.0%} of the machine meanwhile"
    print(f"{note_of(machine)}\n{libraries}; load average before {machine['load_average']}{meanwhile}\n")
    print("\n".join(lines))
    if arguments.json is not None:
        full = {"bench": name, "machine": machine, **report}
        arguments.json.write_text(json.dumps(full, indent=2) + "\n", "utf-8")


def draw(arguments: argparse.Namespace, svg: str) -> None:
    from timeproto.bench import plot

    if arguments.plot is not None:
        plot.save(arguments.plot, svg)


def check_ports(masternodes: int, arguments: argparse.Namespace) -> None:
    from timeproto.cli.devnet import check_masternodes

    check_masternodes(masternodes, arguments.base_port)
