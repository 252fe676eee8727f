"""From send to the verified proof at the wallet: real processes, real sockets, durable commits, payments at a rate.

One devnet serves several loads, one after another; it is replaced when a load was too much for it. The search looks
for the highest rate that is sustained: every payment final, 99 of 100 within a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from timeproto.bench import plot
from timeproto.bench.load import LATE, Outcome
from timeproto.bench.machine import cores, payments_limit, percentile, spread, verify_us
from timeproto.bench.progress import Progress
from timeproto.bench.stand import Stand

MOST_PAYMENTS = 40_000
"""Of one load: a coin each, all of them in the genesis."""
SEARCH_COINS = 20_000
"""Coins of a devnet that is searched: a load is as many payments at most."""
FIRST_RATE = 100.0
GROWTH = 1.6
"""The search multiplies the rate by this until it is too much …"""
PRECISION = 1.03
"""… and then halves the gap until it is no wider than this."""
BACK = 0.97
"""What is left of a rate that was found but does not last."""
DISTURBED = 0.1
"""Share of the machine that others may use before a number is marked."""
LONGEST_SEARCH = 24
"""Loads of one search at most, and about as many until a rate is found that lasts."""


@attrs.frozen
class Plan:
    """What is measured on one devnet."""

    masternodes: int
    rates: tuple[float, ...]
    seconds: float
    repeat: int
    search: bool
    base_port: int

    @property
    def coins(self) -> int:
        asked = max((round(rate * self.seconds) for rate in self.rates), default=1)
        return max(asked, SEARCH_COINS if self.search else 0)


async def measure(reactor: Any, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The report of one number of masternodes, ready for JSON: see docs/performance.md for its fields."""
    stand = Stand(reactor, plan.masternodes, plan.coins, plan.base_port, progress)
    yardstick = verify_us()
    runs: dict[float, list[Outcome]] = {rate: [] for rate in plan.rates}
    tried: list[Outcome] = []
    best: float | None = None
    try:
        for rate in plan.rates:
            for _ in range(plan.repeat):
                runs[rate].append(await stand.measure(rate, plan.seconds))
        if plan.search:
            best = await search(lambda rate: stand.measure(rate, plan.seconds), tried, runs, plan.repeat)
        memory = stand.memory_mb()
    finally:
        await stand.close()
    limit = payments_limit(plan.masternodes, yardstick)
    report: dict[str, Any] = {
        "masternodes": plan.masternodes,
        "verify_us": round(yardstick, 1),
        "limit": round(limit, 1),
        "seconds": plan.seconds,
        "rates": [summary(outcomes) for _, outcomes in sorted(runs.items()) if outcomes],
        "node_memory_mb": memory,
    }
    report |= headline(report["rates"], best, limit)
    if plan.search:
        report["tried"] = [{"rate": each.rate, "sustained": each.is_sustained, **figures(each)} for each in tried]
    return report


async def search(
    attempt: Callable[[float], Any], tried: list[Outcome], runs: dict[float, list[Outcome]], repeat: int
) -> float | None:
    """The highest rate that ``attempt`` sustained, and again ``repeat`` times; those runs are put into ``runs``.

    None if there is none, or none was found. Everything tried on the way is added to ``tried``.
    """

    async def holds(rate: float) -> bool:
        outcome = await attempt(rate)
        tried.append(outcome)
        return bool(outcome.is_sustained)

    known = [rate for rate, outcomes in runs.items() if outcomes and all(each.is_sustained for each in outcomes)]
    good, bad = max(known, default=0.0), 0.0
    rate = _tidy(max(FIRST_RATE, good * GROWTH))
    while len(tried) < LONGEST_SEARCH and not bad:
        if await holds(rate):
            good, rate = rate, _tidy(rate * GROWTH)
        else:
            bad = rate
    while len(tried) < LONGEST_SEARCH and bad / max(good, 1.0) > PRECISION:
        rate = _tidy((good * bad) ** 0.5 if good else bad / 2)
        if rate < 1:
            return None
        if await holds(rate):
            good = rate
        else:
            bad = rate
    while good >= 1 and len(tried) < 2 * LONGEST_SEARCH:
        outcomes: list[Outcome] = []
        while len(outcomes) < repeat and all(each.is_sustained for each in outcomes):
            outcomes.append(await attempt(good))
        if all(each.is_sustained for each in outcomes):
            runs[good] = outcomes
            return good
        tried += outcomes
        good = _tidy(good * BACK)
    return None


def _tidy(rate: float) -> float:
    """Three digits are enough."""
    return float(f"{rate:.3g}")


def figures(outcome: Outcome) -> dict[str, Any]:
    """One load's numbers, ready for JSON."""
    final = max(1, outcome.final)
    bytes_moved = None if outcome.peer_bytes is None else outcome.peer_bytes + (outcome.wallet_bytes or 0)
    return {
        "sent": outcome.sent,
        "final": outcome.final,
        "failed": outcome.failed,
        "refused": outcome.refused,
        "stopped_early": outcome.stopped_early,
        "per_second": round(outcome.final / outcome.seconds, 1) if outcome.seconds else None,
        **{f"p{p}_ms": percentile(outcome.final_ms, p) for p in (50, 95, 99)},
        **{f"lock_p{p}_ms": percentile(outcome.lock_ms, p) for p in (50, 95, 99)},
        **{f"notify_p{p}_ms": percentile(outcome.notify_ms, p) for p in (50, 95, 99)},
        "cpu_s_per_1000": round(1000 * outcome.nodes_cpu_s / final, 3),
        "generator_cpu_s_per_1000": round(1000 * outcome.own_cpu_s / final, 3),
        "generator_lag_p99_ms": percentile(outcome.lag_ms, 99),
        "nodes_cpu_share": _share(outcome.nodes_cpu_s, outcome.seconds),
        "generator_cpu_share": _share(outcome.own_cpu_s, outcome.seconds),
        "others_cpu_share": _share(outcome.others_cpu_s, outcome.seconds),
        "bytes_per_payment": None if bytes_moved is None else round(bytes_moved / final),
        "peer_bytes_per_payment": None if outcome.peer_bytes is None else round(outcome.peer_bytes / final),
        "nodes_agree": outcome.agree,
    }


def _share(cpu: float | None, seconds: float) -> float | None:
    """Part of the whole machine."""
    return None if cpu is None or not seconds else round(cpu / seconds / cores(), 3)


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Repeated loads of one rate: medians under the plain names, ``noise`` with the range of each, and the runs."""
    runs = [figures(outcome) for outcome in outcomes]
    merged: dict[str, Any] = {"rate": outcomes[0].rate, "sustained": all(each.is_sustained for each in outcomes)}
    noise: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        if name in ("sent", "final", "failed"):
            merged[name] = sum(values)
        elif name == "nodes_agree":
            merged[name] = all(values)
        elif name == "stopped_early":
            merged[name] = any(values)
        elif name == "refused":
            merged[name] = {code: sum(each.get(code, 0) for each in values) for each in values for code in each}
        else:
            noise[name] = spread(values)
            merged[name] = None if noise[name] is None else noise[name]["median"]
    return merged | {"noise": noise, "runs": runs}


def headline(rates: list[dict[str, Any]], best: float | None, limit: float) -> dict[str, Any]:
    """The fields that are read first: those of the highest rate that was sustained, or of the last one given."""
    chosen = next((each for each in rates if each["rate"] == best), None) if best is not None else None
    sustained = [each for each in rates if each["sustained"]]
    chosen = chosen or (sustained[-1] if sustained else rates[-1] if rates else None)
    if chosen is None:
        return {"max_rate": None, "share_of_limit": None, "cpu_s_per_1000": None, "bytes_per_payment": None}
    reached = chosen["rate"] if chosen["sustained"] else 0.0
    plain = {name: value for name, value in chosen.items() if name not in ("noise", "runs", "rate", "sustained")}
    return {"max_rate": reached, "share_of_limit": round(reached / limit, 4), **plain}


def text(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{report['masternodes']} masternodes; one Ed25519 verification {report['verify_us']} µs, so the limit is"
        f" {report['limit']:,.0f} payments/s",
        f"{'payments/s':>11} {'final p50':>10} {'p95':>8} {'p99':>8} {'p99 range':>16} {'lock p99':>9}"
        f" {'notify p99':>10} {'CPU-s':>7} {'bytes':>7}  machine: nodes, load, others",
    ]
    for each in report["rates"]:
        noise = each["noise"]["p99_ms"] or {"min": 0.0, "max": 0.0}
        shares = (each["nodes_cpu_share"], each["generator_cpu_share"], each["others_cpu_share"])
        lines.append(
            f"{each['rate']:>11g} {_ms(each['p50_ms']):>10} {_ms(each['p95_ms']):>8} {_ms(each['p99_ms']):>8}"
            f" {noise['min']:>8.1f}-{noise['max']:<7.1f} {_ms(each['lock_p99_ms']):>9} {_ms(each['notify_p99_ms']):>10}"
            f" {each['cpu_s_per_1000']:>7.2f} {each['bytes_per_payment'] or 0:>7.0f}"
            f"  {', '.join('-' if share is None else f'{share:.0%}' for share in shares)}"
            f"{'' if each['sustained'] else '   NOT SUSTAINED' + _why(each)}"
        )
    lines.append("times in ms from when a payment had to leave; CPU-s of all nodes, of 1,000 payments; bytes of one")
    if any((each["others_cpu_share"] or 0.0) > DISTURBED for each in report["rates"]):
        lines.append("others used much of the machine meanwhile: measure again when it is quiet")
    if "tried" in report:
        tried = ", ".join(f"{each['rate']:g} {'yes' if each['sustained'] else 'no'}" for each in report["tried"])
        lines.append(f"searched: {tried}")
        lines.append(
            f"highest rate with p99 < 1 s and no failure: {report['max_rate']:g}/s,"
            f" {report['share_of_limit']:.1%} of the limit"
        )
    return lines


def _why(each: dict[str, Any]) -> str:
    reasons = [f"{each['failed']} failed"] if each["failed"] else []
    reasons += ["stopped when too many were late"] if each["stopped_early"] else []
    reasons += [] if each["nodes_agree"] else ["the nodes do not agree"]
    return f" ({', '.join(reasons)})" if reasons else ""


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def draw(reports: list[dict[str, Any]], note: str) -> str:
    """Percentiles by rate: of one network p50 and p99 of every stage, of several their p99."""
    drawn = []
    for report in reports:
        rates = sorted(
            [*report["rates"], *(each for each in report.get("tried", ()) if each["final"])],
            key=lambda each: float(each["rate"]),
        )
        stages = (("p50_ms", "final p50"), ("p99_ms", "final p99"), ("lock_p99_ms", "lock p99"))
        for name, label in stages if len(reports) == 1 else (("p99_ms", f"p99, {report['masternodes']} masternodes"),):
            found = [(each["rate"], each[name], (each.get("noise") or {}).get(name) or {}) for each in rates]
            points = [
                plot.Point(rate, value, noise.get("min"), noise.get("max"))
                for rate, value, noise in found
                if value is not None
            ]
            drawn.append(plot.Series(label, tuple(points)))
    ends = [point.x for series in drawn for point in series.points] or [1.0]
    bound = tuple(plot.Point(x, LATE * 1000) for x in (min(ends), max(ends)))
    which = f", {reports[0]['masternodes']} masternodes" if len(reports) == 1 else ""
    return plot.lines(
        f"From send to the verified proof{which}",
        [*drawn, plot.Series("one second", bound, dashed=True)],
        x="payments a second",
        y="milliseconds",
        log_y=True,
        note=note,
    )
