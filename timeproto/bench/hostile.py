"""What a hostile crowd costs the honest: notify and finality without it and with it, in turn, in one run.

All of it falls on one masternode: it serves the honest wallets, it takes every payment, and the crowd attacks it and
nobody else. So both figures are those of the victim, and the other masternodes only vote. The crowd is a process of its
own and comes last for a processor: what it costs this machine to attack is not what is measured.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.task import LoopingCall, deferLater

from timeproto import limits
from timeproto.bench import kernel, plot
from timeproto.bench.helper import Helper
from timeproto.bench.load import Outcome
from timeproto.bench.machine import cores, percentile, spread
from timeproto.bench.progress import Progress
from timeproto.bench.stand import Setting, Stand
from timeproto.errors import ConfigurationError
from timeproto.network.discovery import parse_address

VICTIM = 1
NICENESS = 19
RECOVER = limits.IDLE + limits.PONG + limits.CLOSE + 10.0
"""Seconds after the crowd has gone in which the victim must have let go of it: whom it holds back it does not read, and
so does not see that he has left."""
LOOK = 0.5
"""Seconds between two looks at the victim's memory."""
STAGES = ("final", "notify")
MEMORY_EACH = 128 * 1024
"""Bytes of the attacked node's memory that one attacker's connection may take …"""
MEMORY_ALL = 128 * 2**20
"""… and what waits for all of them together."""
KINDS = ("deaf", "flooding", "garbage", "half_open", "slow")
WATCHED = 100
"""Honest wallets that watch one address: each payment is told to so many."""


@attrs.frozen
class Plan:
    """``crowd``: how many come of each of ``KINDS``; ``settle``: seconds they are at work before a load begins;
    ``most``: the ratio that may not be passed."""

    masternodes: int
    subscribers: int
    crowd: dict[str, int]
    rate: float
    seconds: float
    repeat: int
    base_port: int
    most: float = 2.0
    settle: float = 5.0

    @property
    def addresses(self) -> int:
        return max(1, self.subscribers // WATCHED)


@attrs.define
class Run:
    """One load: what the wallets that pay saw, how long what was told took (milliseconds), and what it cost."""

    outcome: Outcome
    told_ms: list[float]
    victim_cpu_s: float
    crowd_cpu_s: float
    memory: int
    did: dict[str, int] = attrs.field(factory=dict)


class Measurement:
    """``calm`` and ``stormy`` runs, in turn, on one devnet."""

    def __init__(self, reactor: Any, plan: Plan, progress: Progress) -> None:
        self._reactor = reactor
        self._plan = plan
        self._progress = progress
        setting = Setting(tls=True, web_port=plan.base_port + plan.masternodes, receivers=plan.addresses, at=VICTIM)
        self._stand = Stand(
            reactor, plan.masternodes, round(plan.rate * plan.seconds), plan.base_port, progress, setting=setting
        )
        self._listeners: Helper | None = None
        self.calm: list[Run] = []
        self.stormy: list[Run] = []
        self.memory: dict[str, int] = {}
        self._honest = 0
        self.lost = 0
        self.agree = True

    async def run(self) -> None:
        plan = self._plan
        try:
            await self._stand.open()
            self.memory["alone"] = self._resident()
            self._progress.stage(f"{plan.subscribers} honest wallets subscribe")
            self._listeners = Helper(self._reactor, "timeproto.bench.listeners")
            await self._listeners.ask(
                "gather", size=plan.subscribers, port=self._port, tls=True, addresses=self._stand.purse.receivers
            )
            await self._measure()  # who is told for the first time is told more slowly
            self.memory["before"] = self._resident()
            info = await self._stand.devnet.info(VICTIM)
            self._honest = 0 if info is None else info.wallets
            for number in range(plan.repeat):
                if number:
                    await self._recovered()
                self.calm.append(await self._measure())
                self.stormy.append(await self._attacked())
                self.agree = self.agree and await self._stand.agree()
            self.memory["after"] = self._resident()
        finally:
            if self._listeners is not None:
                await self._listeners.end()
            await self._stand.close()

    @property
    def _port(self) -> int:
        return parse_address(self._stand.devnet.addresses[VICTIM - 1])[1]

    @property
    def _victim(self) -> int:
        pid = self._stand.devnet.processes[VICTIM - 1].pid
        if pid is None:
            raise ConfigurationError("the masternode that is attacked does not run")
        return pid

    def _resident(self) -> int:
        return kernel.resident_bytes(self._victim) or 0

    async def _attacked(self) -> Run:
        plan, stand = self._plan, self._stand
        self._progress.stage(f"{sum(plan.crowd.values())} attackers arrive")
        crowd = Helper(self._reactor, "timeproto.bench.attackers", nice=NICENESS)
        try:
            web = stand.devnet.layout.nodes[VICTIM - 1].web
            await crowd.ask(
                "attack",
                kinds=plan.crowd,
                port=self._port,
                web=None if web is None else parse_address(web)[1],
                addresses=stand.purse.receivers,
                genesis=str(stand.devnet.layout.genesis_path),
            )
            await deferLater(self._reactor, plan.settle)
            return await self._measure(crowd)
        finally:
            await crowd.end()

    async def _recovered(self) -> None:
        """Returns when the victim has let go of the crowd; :class:`ConfigurationError` if it does not."""
        self._progress.stage("the crowd is gone, the node recovers")
        for _ in range(round(RECOVER / LOOK)):
            info = await self._stand.devnet.info(VICTIM)
            if info is not None and info.wallets <= self._honest:
                return
            await deferLater(self._reactor, LOOK)
        raise ConfigurationError(f"the node keeps connections that were gone {RECOVER:g} s ago")

    async def _measure(self, crowd: Helper | None = None) -> Run:
        if self._listeners is None:
            raise ConfigurationError("nobody listens")
        await self._listeners.ask("begin")
        before = {} if crowd is None else await crowd.ask("report")
        sizes: list[int] = []
        looking = LoopingCall(lambda: sizes.append(self._resident()))
        looking.clock = self._reactor
        watching = looking.start(LOOK)
        used, spent = self._cpu(crowd)
        outcome = await self._stand.measure(self._plan.rate, self._plan.seconds)
        used_then, spent_then = self._cpu(crowd)
        looking.stop()
        await watching
        await deferLater(self._reactor, 0.5)  # the last word is on its way
        heard = await self._listeners.ask("report")
        after = {} if crowd is None else await crowd.ask("report")
        self.lost = heard["lost"]
        return Run(
            outcome,
            heard["heard"],
            used_then - used,
            spent_then - spent,
            max(sizes),
            {name: count - before.get(name, 0) for name, count in after.items()},
        )

    def _cpu(self, crowd: Helper | None) -> tuple[float, float]:
        return kernel.cpu_seconds([self._victim]), 0.0 if crowd is None else kernel.cpu_seconds([crowd.pid])


async def measure(reactor: Any, plan: Plan, progress: Progress) -> dict[str, Any]:
    """The report, ready for JSON; ``held`` if every promise was."""
    measurement = Measurement(reactor, plan, progress)
    await measurement.run()
    calm, stormy = measurement.calm, measurement.stormy
    ratios = {name: _ratios(calm, stormy, name) for name in STAGES}
    memory: dict[str, Any] = {name: round(size / 2**20, 1) for name, size in measurement.memory.items()}
    memory["with"] = round(max(run.memory for run in stormy) / 2**20, 1)
    memory["bound"] = round(memory["before"] + (sum(plan.crowd.values()) * MEMORY_EACH + MEMORY_ALL) / 2**20, 1)
    memory["with_runs"] = [round(run.memory / 2**20, 1) for run in stormy]
    runs = (*calm, *stormy)
    promises = {
        "every payment became final": all(run.outcome.failed == 0 for run in runs),
        "the nodes agree": measurement.agree,
        "no honest wallet was cut off": measurement.lost == 0,
        "every payment was told to all who watch, once": all(len(run.told_ms) == _due(plan, run) for run in runs),
        **{f"{name} p99 at most {plan.most:g} times": (ratios[name]["p99"] or 1e9) <= plan.most for name in STAGES},
        "memory within its bound": memory["with"] <= memory["bound"],
    }
    return {
        "masternodes": plan.masternodes,
        "subscribers": plan.subscribers,
        "crowd": plan.crowd,
        "rate": plan.rate,
        "seconds": plan.seconds,
        "without": _summary(calm),
        "with": _summary(stormy),
        "ratios": ratios,
        "memory_mb": memory,
        "did": {name: sum(run.did.get(name, 0) for run in stormy) for name in sorted(stormy[0].did)},
        "promises": promises,
        "held": all(promises.values()),
    }


def _due(plan: Plan, run: Run) -> int:
    """Notifications that the honest wallets of a run were owed: payment k pays address k mod ``addresses``."""
    watchers = [len(range(at, plan.subscribers, plan.addresses)) for at in range(plan.addresses)]
    return sum(watchers[number % plan.addresses] for number in range(1, run.outcome.sent + 1))


def _times(run: Run, name: str) -> list[float]:
    return run.outcome.final_ms if name == "final" else run.told_ms


def _percentile(runs: list[Run], name: str, percent: float) -> float | None:
    """Of all runs together."""
    return percentile([each for run in runs for each in _times(run, name)], percent)


def _ratio(calm: list[Run], stormy: list[Run], name: str, percent: float) -> float | None:
    """None if there is nothing to compare."""
    without, with_it = _percentile(calm, name, percent), _percentile(stormy, name, percent)
    return round(with_it / without, 2) if with_it is not None and without else None


def _ratios(calm: list[Run], stormy: list[Run], name: str) -> dict[str, Any]:
    """Of all runs together, and the p99s of each two that follow each other."""
    pairs = [_ratio([without], [with_it], name, 99) for without, with_it in zip(calm, stormy, strict=True)]
    return {**{f"p{p}": _ratio(calm, stormy, name, p) for p in (50, 99)}, "p99_runs": spread(pairs)}


def _summary(runs: list[Run]) -> dict[str, Any]:
    """Percentiles of all runs together, and shares of the machine."""
    seconds = sum(run.outcome.seconds for run in runs)

    def share(used: float) -> float:
        return round(used / seconds / cores(), 3)

    nodes = sum(run.outcome.nodes_cpu_s for run in runs)
    victim = sum(run.victim_cpu_s for run in runs)
    crowd = sum(run.crowd_cpu_s for run in runs)
    others = [run.outcome.others_cpu_s for run in runs]
    return {
        "payments": sum(run.outcome.final for run in runs),
        "notifications": sum(len(run.told_ms) for run in runs),
        **{f"{name}_p{p}_ms": _percentile(runs, name, p) for name in STAGES for p in (50, 99)},
        "victim_cpu_share": share(victim),
        "other_nodes_cpu_share": share(nodes - victim),
        "payer_cpu_share": share(sum(run.outcome.own_cpu_s for run in runs)),
        "crowd_cpu_share": share(crowd),
        # the honest wallets that listen are among them
        "others_cpu_share": share(sum(each or 0.0 for each in others) - crowd),
        "payer_lag_p99_ms": percentile([each for run in runs for each in run.outcome.lag_ms], 99),
    }


def text(report: dict[str, Any]) -> list[str]:
    crowd = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in report["crowd"].items())
    lines = [
        f"{report['masternodes']} masternodes with TLS, one of them attacked; {report['subscribers']} honest wallets"
        f" watch it, {report['rate']:g} payments/s go to it; the crowd: {crowd}",
        f"{'':<14} {'final p50':>10} {'p99':>9} {'notify p50':>11} {'p99':>9}   machine: attacked node, others, payer,"
        " crowd, all else",
    ]
    for which in ("without", "with"):
        each = report[which]
        shares = (each[f"{who}_cpu_share"] for who in ("victim", "other_nodes", "payer", "crowd", "others"))
        lines.append(
            f"{which:<14} {_show(each['final_p50_ms']):>10} {_show(each['final_p99_ms']):>9}"
            f" {_show(each['notify_p50_ms']):>11} {_show(each['notify_p99_ms']):>9}"
            f"   {', '.join(f'{share:.0%}' for share in shares)}"
        )
    final, notify = (report["ratios"][name] for name in STAGES)
    lines.append(
        f"{'ratio':<14} {_show(final['p50']):>10} {_show(final['p99']):>9} {_show(notify['p50']):>11}"
        f" {_show(notify['p99']):>9}   p99 by pairs: {_range(final['p99_runs'])} and {_range(notify['p99_runs'])}"
    )
    memory = report["memory_mb"]
    lines.append(
        f"memory of the attacked node: {memory['alone']} MB alone, {memory['before']} with the honest,"
        f" {memory['with']} with the crowd (bound {memory['bound']}), {memory['after']} after it"
    )
    lines.append("the crowd: " + ", ".join(f"{count:,} {name}" for name, count in report["did"].items() if count))
    lines += [f"{'held ' if held else 'WRONG'}  {promise}" for promise, held in report["promises"].items()]
    return lines


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _range(found: dict[str, float] | None) -> str:
    return "-" if found is None else f"{found['min']:.2f}-{found['max']:.2f}"


def draw(report: dict[str, Any], note: str) -> str:
    names = [f"{stage} p{p}" for stage in STAGES for p in (50, 99)]
    return plot.bars(
        f"{report['subscribers']} honest wallets, and {sum(report['crowd'].values())} others",
        names,
        [
            (f"{which} the crowd", [report[which][f"{stage}_p{p}_ms"] for stage in STAGES for p in (50, 99)])
            for which in ("without", "with")
        ],
        x="",
        y="milliseconds",
        log_y=True,
        note=note,
    )
