"""Every bench for a few seconds, to be run with the tests: it fails for what is wrong, never for what is slow.

Wrong is a payment lost, nodes that disagree, an honest wallet that misses something beside a hostile crowd, or a ratio
of two numbers of the same run that is far out: each bound is several times what is measured on any machine
(docs/performance.md), so that noise cannot reach it.
"""

from __future__ import annotations

from typing import Any

from timeproto.bench import codec, finality, hostile, notify, plot, query, step, store
from timeproto.bench.progress import Progress

MASTERNODES = 4
RATE = 10.0
SECONDS = 3.0
SUBSCRIBERS = 200
CROWD = {"deaf": 20, "flooding": 7, "garbage": 5, "half_open": 50, "slow": 5}
COINS = 20_000


async def measure(reactor: Any, base_port: int, repeat: int, progress: Progress) -> dict[str, Any]:
    """``checks`` holds every ratio with its bound; ``held`` is false if one is beyond it, or something was lost."""
    plan = finality.Plan(MASTERNODES, (RATE,), SECONDS, repeat, search=False, base_port=base_port)
    paid = await finality.measure(reactor, plan, progress)
    asked = await query.measure(
        reactor, query.Plan(MASTERNODES, COINS, (1, 100), RATE, SECONDS, repeat, base_port), progress
    )
    stepped = step.measure(MASTERNODES, (50,), (250,), repeat, progress)
    coded = codec.measure(repeat, progress)
    stored = store.measure((100,), repeat, progress)
    told = notify.measure((SUBSCRIBERS,), repeat, progress, brokers=False)
    attacked = await hostile.measure(reactor, _attack(base_port), progress)
    before, after = attacked["without"], attacked["with"]
    batch = stepped["batches"][0]
    one, hundred = (batch["p50_ms"]["median"] for batch in asked["batches"])
    checks = [
        _check("CPU of a payment at a node, in verifications", batch["in_verifications"], 40),
        _check("decoding a payment, to json.loads", coded["types"]["TransactionBroadcast"]["decode_to_json"], 8),
        _check("encoding a payment, to json.dumps", coded["types"]["TransactionBroadcast"]["encode_to_json"], 2),
        _check("committing 100 payments, to a bare durable write", stored["sizes"][0]["to_bare"], 300),
        _check(f"telling {SUBSCRIBERS}, to a bare loop", told["sizes"][0]["to_bare"]["timeproto"], 20),
        _check("asking for 100 coins, to asking for one", hundred / one, 60),
        _check("finality beside a hostile crowd, to without", after["final_p50_ms"] / before["final_p50_ms"], 20),
        _check("telling beside a hostile crowd, to without", after["notify_p50_ms"] / before["notify_p50_ms"], 20),
    ]
    whole = all(each["failed"] == 0 and each["nodes_agree"] for each in paid["rates"])
    whole = whole and attacked["held"]
    return {
        "held": whole and all(check["held"] for check in checks),
        "no_payment_lost": whole,
        "checks": checks,
        "finality": paid,
        "query": asked,
        "step": stepped,
        "codec": coded,
        "store": stored,
        "notify": told,
        "hostile": attacked,
    }


def _attack(base_port: int) -> hostile.Plan:
    """Percentiles of a few seconds say little, so their ratios have no bound here."""
    return hostile.Plan(
        MASTERNODES, SUBSCRIBERS, CROWD, RATE, SECONDS, repeat=1, base_port=base_port, most=1e9, settle=1.0
    )


def _check(what: str, ratio: float, bound: float) -> dict[str, Any]:
    return {"what": what, "ratio": round(ratio, 2), "bound": bound, "held": ratio <= bound}


def text(report: dict[str, Any]) -> list[str]:
    lines = finality.text(report["finality"])
    if not report["no_payment_lost"]:
        lines.append("WRONG: a payment was lost, the nodes do not agree, or a crowd cost somebody something:")
        lines += [promise for promise, held in report["hostile"]["promises"].items() if not held]
    for check in report["checks"]:
        verdict = "" if check["held"] else "   WRONG"
        lines.append(f"{check['what']:<50} {check['ratio']:>8.2f}   (at most {check['bound']}){verdict}")
    return lines


def draw(report: dict[str, Any], note: str) -> str:
    checks = report["checks"]
    return plot.bars(
        "Ratios, and the bounds at which the short run fails",
        [f"{number}" for number, _ in enumerate(checks, 1)],
        [("measured", [check["ratio"] for check in checks]), ("bound", [float(check["bound"]) for check in checks])],
        x=", ".join(f"{number} {check['what'].split(',')[0]}" for number, check in enumerate(checks, 1))[:110],
        y="ratio",
        log_y=True,
        note=note,
    )
