"""``timeproto status``: how a node is, in its own words."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from timeproto.cli.terminal import say
from timeproto.errors import ExitStatus, Refusal


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "status",
        help="ask nodes how they are",
        description="Asks one or more nodes how they are. The digest covers outpoint, amount, owner, state and"
        " transaction of every coin: it is the same on two nodes exactly when they agree.",
        epilog="Exit status: 0 if every node answered, is not degraded (votes, is synced, reaches a quorum, has room on"
        " its disk), and all digests are equal; 1 if not.",
    )
    parser.add_argument(
        "--node", action="append", metavar="HOST:PORT", help="may be given more than once (default 127.0.0.1:24100)"
    )
    parser.add_argument("--tls", action="store_true", help="speak TLS; the node's key is shown, not checked")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each node")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from timeproto.cli.running import run_until_done
    from timeproto.network.requests import ConnectionGone
    from timeproto.wallet.ask import ask
    from timeproto.wallet.nodes import Node
    from timeproto.wire import messages

    nodes = arguments.node or ["127.0.0.1:24100"]

    async def main(reactor: Any) -> int:
        digests, well, answered = set(), True, 0
        for address in nodes:
            try:
                info = await ask(reactor, Node(address, tls=arguments.tls), messages.GetInfo())
            except (Refusal, ConnectionGone) as error:
                well = False
                _tell_silent(address, _why_silent(address, error), as_json=arguments.json)
                continue
            assert isinstance(info, messages.Info)
            answered += 1
            digests.add(info.digest)
            well = well and info.voting and info.synced and not info.degraded
            _tell(address, info, as_json=arguments.json)
        if len(nodes) > 1 and not arguments.json:
            say(_agreement(len(digests), everybody=answered == len(nodes)))
        return ExitStatus.OK if well and len(digests) == 1 else ExitStatus.REFUSED

    return run_until_done(main)


def _agreement(digests: int, *, everybody: bool) -> str:
    if digests == 0:
        return "nobody answered"
    if digests > 1:
        return f"{digests} different digests"
    return "all agree" if everybody else "all that answered agree"


_TROUBLE = {
    "quorum": "no quorum is connected",
    "voting": "it does not vote",
    "synced": "it has not all that is decided",
    "disk": "its disk is almost full",
}


def _age(block_time: int) -> str:
    """How long ago a block was made, by this machine's clock."""
    if block_time == 0:
        return "none yet"
    return f"{max(0.0, time.time() - block_time / 1000):.1f} s ago"


def _why_silent(address: str, error: Exception) -> str:
    """Who is reached and hangs up may take what it hears for garbage; of that it can say nothing that we understand."""
    why = str(error) or "it does not answer"
    if isinstance(error, Refusal) or why.startswith(f"{address} cannot be reached"):
        return why
    return (
        f"{address} closed the connection before it answered"
        " (does it speak TLS, and this command not, or the reverse?)"
    )


def _tell_silent(address: str, why: str, *, as_json: bool) -> None:
    import json

    if as_json:
        say(json.dumps({"node": address, "error": why}))
    else:
        say(address, f"  no answer: {why}", "")


def _tell(address: str, info: Any, *, as_json: bool) -> None:
    import json

    import msgspec

    if as_json:
        say(json.dumps({"node": address, **msgspec.to_builtins(info)}))
        return
    inbound = sum(1 for peer in info.peers if peer.direction == "inbound")
    outbound = sum(1 for peer in info.peers if peer.direction == "outbound")
    health = "quorum" if info.connected >= info.quorum else "NO QUORUM: nothing becomes final"
    rows = [
        ("software", f"{info.software}, protocol {info.version}, up {info.uptime_ms // 1000} s"),
        ("network", f"{info.network}, genesis {info.genesis}"),
        ("node key", info.node_key),
        ("state", "DEGRADED: " + ", ".join(_TROUBLE[each] for each in info.degraded) if info.degraded else "well"),
        ("voting", "yes" if info.voting else f"NO: {info.not_voting}"),
        (
            "masternodes",
            f"{info.connected} of {info.masternodes} connected, {info.quorum} needed: {health}"
            f" ({outbound} dialled, {inbound} dialled us)",
        ),
        ("synced", "yes" if info.synced else "NO: the others have decided more than is here"),
        ("block", f"{info.height}, {_age(info.block_time)}, tip {info.tip[:16]}…, coins {info.commitment[:16]}…"),
        (
            "payments",
            f"{info.final} final ({info.unconfirmed} in no block yet), {info.in_flight} undecided"
            f" ({info.contested} contested), {info.waiting} waiting",
        ),
        ("evidence", f"{info.evidence} pieces"),
        ("wallets", f"{info.wallets} connected, {info.subscriptions} subscriptions"),
        ("log", f"position {info.cursor.position}"),
        ("digest", info.digest),
    ]
    limits = ", ".join(f"{name} {value}" for name, value in sorted(info.limits.items()))
    say(
        address,
        *(f"  {name:<12} {value}" for name, value in rows),
        *(f"  {name:<15} {each.coins:>9} coins  {_amount(each.amount):>24} TIME" for name, each in info.states.items()),
        *(f"  peer {peer.node_key[:16]}…  {peer.direction:<9} {peer.address or ''}" for peer in info.peers),
        f"  limits       {limits}",
        "",
    )


def _amount(text: str) -> str:
    """A sum as the node spells it, in decimal TIME; what is no number stays what it is."""
    from timeproto.wallet.amounts import format_amount

    return format_amount(int(text)) if re.fullmatch("[0-9]{1,40}", text) else text
