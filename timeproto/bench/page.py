"""The tables of docs/performance.md, made from what the benches wrote: nothing is copied by hand, so nothing drifts.

A line ``<!-- notify -->`` on the page opens a place, ``<!-- end -->`` closes it; between them stand the machine, the
tables and the chart of ``notify.json`` and ``notify.svg``. ``make figures`` measures all anew and fills the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from timeproto.bench.step import OF_PAYMENTS, PARTS
from timeproto.errors import ConfigurationError

Report = dict[str, Any]

_PLACE = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def fill(page: str, folder: Path, link: str = "figures") -> str:
    """``page`` with every place filled from ``folder``; a chart is linked to in ``link``.

    :class:`ConfigurationError` if a bench has not been run, or is none."""

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n{_block(name, folder, link)}\n<!-- end -->"

    return _PLACE.sub(filled, page)


def _block(name: str, folder: Path, link: str) -> str:
    if name not in TABLES:
        raise ConfigurationError(f"there is no table of {name}")
    try:
        report = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the numbers of bench {name} cannot be read: {error}") from None
    title, make = TABLES[name]
    parts = [_machine(report["machine"]), *make(report), f"![{title}]({link}/{name}.svg)"]
    return "\n\n".join(parts)


def _machine(machine: Report) -> str:
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return (
        f"On {machine['cores']} cores of {machine['processor']}, {machine['memory_mb']:,} MB, {machine['machine']},"
        f" Python {machine['python']}, {libraries}; one Ed25519 verification {machine['verify_us']} µs, many"
        f" {machine.get('signatures', 'one by one')}; load average"
        f" before {machine['load_average']}, and others used {_percent(machine['others_cpu_share'])} of it meanwhile."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _number(value: float | None, digits: int = 1) -> str:
    """With ``digits`` behind the point; fewer where it is large, and more where nothing would be left."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}" if abs(value) >= 1 or not value else f"{value:.2g}"


def _spread(each: dict[str, float] | None, digits: int = 1) -> str:
    """The median, and from where to where the runs went."""
    if each is None:
        return "–"
    return f"{_number(each['median'], digits)} ({_number(each['min'], digits)}–{_number(each['max'], digits)})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


# -- the benches -------------------------------------------------------------------------------------


def _finality(report: Report) -> list[str]:
    networks = report.get("networks", [report])
    rates = [
        (
            network["masternodes"],
            f"{each['rate']:g}",
            *(_spread(each["noise"][name]) for name in ("p50_ms", "p95_ms", "p99_ms", "lock_p99_ms", "notify_p99_ms")),
            _number(each["cpu_s_per_1000"], 2),
            _number(each["bytes_per_payment"]),
            "yes" if each["sustained"] else "no",
            ", ".join(_percent(each[f"{whose}_cpu_share"]) for whose in ("nodes", "generator", "others")),
        )
        for network in networks
        for each in network["rates"]
    ]
    head = ("masternodes", "payments/s", "final p50, ms", "p95", "p99", "lock p99", "notify p99", "CPU-s of 1,000")
    tables = [_table((*head, "bytes of one", "sustained", "machine: nodes, load, others"), rates)]
    if any("tried" in network for network in networks):
        searched = [
            (
                network["masternodes"],
                f"{network['max_rate']:g}",
                _number(network["limit"]),
                f"{network['share_of_limit']:.1%}",
                ", ".join(f"{each['rate']:g} {'yes' if each['sustained'] else 'no'}" for each in network["tried"]),
            )
            for network in networks
            if "tried" in network and network["max_rate"] is not None
        ]
        limit = "limit: cores ÷ (n × one verification)"
        tables.append(_table(("masternodes", "highest sustained payments/s", limit, "share", "tried"), searched))
    return tables


def _notify(report: Report) -> list[str]:
    names = list(dict.fromkeys(name for each in report["sizes"] for name in each["ms"]))
    rows = [
        (
            f"{each['subscribers']:,}",
            name,
            _spread(each["ms"][name]),
            _spread(each["to_bare_range"][name], 2),
        )
        for each in report["sizes"]
        for name in names
    ]
    versions = [*report["versions"].values(), *(f"{name} not installed" for name in report["absent"])]
    told = ", ".join(f"{each['bytes']} bytes each" for each in report["sizes"][:1])
    notes = [f"{report['rounds']} rounds, {told}" + "".join(f"; {version}" for version in versions) + "."]
    notes += [
        f"{each['to']:,} subscribers instead of {each['asked']:,}: {each['open_files']:,} open files are allowed."
        for each in report["reduced"]
    ]
    return [_table(("subscribers", "told by", "ms to the last byte", "× the bare loop"), rows), " ".join(notes)]


def _query(report: Report) -> list[str]:
    rows = [
        (f"{each['outpoints']:,}", _spread(each["p50_ms"]), _spread(each["p99_ms"]), each["questions"])
        for each in report["batches"]
    ]
    load = f"{report['rate']:g} payments/s with {report['masternodes']} masternodes"
    others = max((each["others_cpu_share"] or 0.0 for each in report["load"]), default=None)
    node = [
        ("memory of a node", f"{report['node_memory_mb']} MB, at most {report['node_memory_peak_mb']} MB"),
        ("its store", f"{report['store_mb']} MB"),
        ("start on it", f"{_spread(report['start_s'], 2)} s"),
        ("start on an empty store", f"{_spread(report['empty_start_s'], 2)} s"),
        ("load meanwhile", load + ("" if report["load_sustained"] else ", more than they sustained")),
        ("of the machine, used by others", _percent(others)),
    ]
    asked = _table(("outpoints in one question", "p50, ms", "p99, ms", "questions"), rows)
    return [asked, _table((f"with {report['coins']:,} coins", ""), node)]


def _store(report: Report) -> list[str]:
    rows = [
        (
            each["payments"],
            _spread(each["commit_p50_ms"], 2),
            _spread(each["commit_p99_ms"], 2),
            _spread(each["cpu_ms"], 2),
            _spread(each["bare_p50_ms"], 2),
            each["to_bare"],
        )
        for each in report["sizes"]
    ]
    bare = "4 KiB and fdatasync p50, ms"
    return [_table(("payments in a commit", "commit p50, ms", "p99, ms", "CPU, ms", bare, "ratio"), rows)]


def _codec(report: Report) -> list[str]:
    rows = [
        (
            name,
            f"{each['bytes']:,}",
            _spread(each["encode_us"]),
            _spread(each["decode_us"]),
            each["encode_to_json"],
            each["decode_to_json"],
            f"{each['bytes_squeezed']:,}",
            _number(each["squeeze_us"]["median"]),
            _number(each["expand_us"]["median"]),
        )
        for name, each in report["types"].items()
    ]
    head = ("message", "bytes", "encode, µs", "decode, µs", "× json.dumps", "× json.loads")
    return [_table((*head, "bytes squeezed", "squeeze, µs", "expand, µs"), rows)]


def _step(report: Report) -> list[str]:
    rows = [
        (
            batch["payments"],
            _spread(batch["node_us"]),
            f"{batch['in_verifications']:.1f}",
            *(
                _number(sum(batch["phases"][phase][part]["median"] for part in PARTS))
                for phase in OF_PAYMENTS
            ),
        )
        for batch in report["batches"]
    ]
    blocks = [
        (f"{each['payments']:,}", _spread(each["node_ms"]), _spread(each["longest_step_ms"]))
        for each in report["blocks"]
    ]
    head = ("payments at a time", "µs a payment at a node", "in verifications", *OF_PAYMENTS)
    return [_table(head, rows), _table(("payments in a block", "ms at a node", "longest step, ms"), blocks)]


def _scale(report: Report) -> list[str]:
    assumed = report["assumed"]
    rows = [
        (
            each["masternodes"],
            _simulated(each["final_here_ms"]),
            _simulated(each["final_everywhere_ms"]),
            _number(each["single_node_us"]),
            _spread(each["node_us"]),
            _number(each["verify_us"]["median"]),
            f"{each['bytes_per_payment']:,}",
        )
        for each in report["sizes"]
    ]
    many = f"{report['payments']} at a time"
    cost = ("CPU of a node, µs: one alone", f"of {many}", "of these, checks", "bytes between all")
    blocks = [
        f"**Simulated**, the CPU measured turn by turn; {assumed['link_ms']} ms from node to node and"
        f" {assumed['commit_ms']:g} ms for a commit are assumed, {assumed['rate']:g} payments a second go through.",
        _table(("masternodes", "final where submitted, ms", "final everywhere, ms", *cost), rows),
    ]
    if report["subscribers"] is not None:
        blocks += ["**Measured**, a real node and real sockets:", *_notify(report["subscribers"])]
    return blocks


def _hostile(report: Report) -> list[str]:
    times = ("final_p50_ms", "final_p99_ms", "notify_p50_ms", "notify_p99_ms")
    whose = ("victim", "other_nodes", "payer", "crowd", "others")
    memory, ratios = report["memory_mb"], report["ratios"]
    sizes = {
        "without": f"{memory['before']} MB, {memory['alone']} alone",
        "with": f"at most {memory['with']} MB, bound {memory['bound']}",
    }
    rows = [
        (
            which,
            *(_number(report[which][name]) for name in times),
            ", ".join(_percent(report[which][f"{who}_cpu_share"]) for who in whose),
            sizes[which],
        )
        for which in ("without", "with")
    ]
    final, notify = ratios["final"], ratios["notify"]
    ratio = (_number(each, 2) for each in (final["p50"], final["p99"], notify["p50"], notify["p99"]))
    rows.append(("ratio", *ratio, "", ""))
    machine = "machine: attacked node, other nodes, payer, crowd, others"
    head = ("", "final p50, ms", "p99", "notify p50, ms", "p99", machine)
    did = report["did"]
    ends = sum(count for name, count in did.items() if name.endswith(" ends"))
    pairs = " and ".join(_spread(each["p99_runs"], 2) for each in (final, notify))
    broken = [promise for promise, held in report["promises"].items() if not held]
    told = (
        f"{report['seconds']:g} s a load; ratios of p99 by pairs of loads: {pairs}. {ends:,} times one of the crowd was"
        f" thrown out. {'Every promise was held.' if not broken else 'Not held: ' + ', '.join(broken) + '.'}"
    )
    return [_table((*head, "memory of the attacked node"), rows), told]


def _simulated(each: dict[str, float]) -> str:
    return f"{_number(each['p50'])} ({_number(each['min'])}–{_number(each['max'])})"


TABLES: dict[str, tuple[str, Callable[[Report], list[str]]]] = {
    "finality": ("From send to the verified proof against payments a second", _finality),
    "notify": ("Milliseconds to the last subscriber against subscribers", _notify),
    "query": ("Milliseconds to an answer against outpoints in the question", _query),
    "hostile": ("Finality and notification without a hostile crowd and with it", _hostile),
    "store": ("Durable commits against the least durable write", _store),
    "codec": ("Decoding against the json module", _codec),
    "step": ("CPU of one payment by phase", _step),
    "scale": ("Growth with masternodes and with subscribers", _scale),
}
"""By bench: what its chart shows, and what makes its tables."""
