"""``timeproto wallet trace``: where a payment is, as every node of the command line tells it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from timeproto.cli.paths import read_text
from timeproto.cli.terminal import say
from timeproto.cli.wallet_setting import nodes_of, open_wallet, run_wallet, txid_of
from timeproto.errors import ExitStatus

HEADLINES = {
    "announced": "others voted for it, and it is not here yet",
    "seen": "here, and not locked",
    "locked": "locked: this node voted for it",
    "pending": "pending: a quorum has locked its coins",
    "final": "final, for ever",
    "confirmed": "final, for ever, and in a block",
    "refused": "refused: it can never be final",
    "aborted": "aborted: a block ended it for ever",
}
STAGES = {
    "seen": "the transaction was here",
    "locked": "this node cast its lock vote",
    "pending": "a quorum of lock votes was here",
    "final": "a quorum of commit votes was here",
    "confirmed": "its block's own time",
    "aborted": "its block was here",
}
BY_BLOCK = "a block made it so, by its verdict"
"""Final without a certificate of commit votes."""
NEEDS = {
    "transaction": "waits for the transaction itself, which is being fetched",
    "parents": "waits for its parents, which are not final here",
    "lock": "waits for lock votes: {lock} of the {quorum} needed",
    "commit": "waits for commit votes: {commit} of the {quorum} needed",
    "verdict": "contested: waits for a block's verdict, and may still become final before",
    "block": "no block contains it yet",
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("txid", metavar="TXID")
    command.add_argument(
        "--genesis", type=Path, metavar="FILE", help="check proofs against this genesis; no wallet is needed then"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 if a node knows the transaction, whatever became of it; 1 if none does, or one tells what is not true."""
    from timeproto.wallet import tracing
    from timeproto.wallet.turns import together
    from timeproto.wire import codec

    txid, nodes = txid_of(arguments), nodes_of(arguments)
    if arguments.genesis is not None:
        text = read_text(arguments.genesis, "genesis").encode("utf-8")
        genesis = codec.load_genesis(text, str(arguments.genesis))
    else:
        genesis = open_wallet(arguments).genesis

    async def main(reactor: Any) -> int:
        accounts = await together(tracing.trace(reactor, node, txid, genesis) for node in nodes)
        if arguments.json:
            say(json.dumps(_as_json(txid, accounts)))
        else:
            say(*_lines(txid, accounts, len(genesis.masternode_set)))
        outcomes = [account.outcome for account in accounts]
        return ExitStatus.OK if "told" in outcomes and "false" not in outcomes else ExitStatus.REFUSED

    return run_wallet(main)


def _as_json(txid: str, accounts: Sequence[Any]) -> dict[str, Any]:
    from timeproto.wire import codec

    nodes = []
    for each in accounts:
        told = None if each.trace is None else json.loads(codec.encode(each.trace))
        nodes.append({"node": each.node.address, "outcome": each.outcome, "proven": each.proven, "why": each.why,
                      "trace": told})
    return {"txid": txid, "agree": len(_statuses(accounts)) <= 1, "nodes": nodes}


def _statuses(accounts: Sequence[Any]) -> dict[str, list[str]]:
    """What is said of it, and by whom, of those that said something."""
    said: dict[str, list[str]] = {}
    for each in accounts:
        if each.outcome in ("told", "unknown"):
            said.setdefault("unknown" if each.trace is None else each.trace.status, []).append(each.node.address)
    return said


# -- for people ------------------------------------------------------------------------------------------


def _lines(txid: str, accounts: Sequence[Any], masternodes: int) -> Iterator[str]:
    yield f"Transaction {txid}"
    tx = next((each.trace.tx for each in accounts if each.trace is not None and each.trace.tx is not None), None)
    if tx is not None:
        yield from _payment(tx)
    for each in accounts:
        yield ""
        yield f"{each.node.address}  {_headline(each)}"
        if each.trace is not None:
            yield from (f"  {line}" for line in _body(each.trace, masternodes))
    said = _statuses(accounts)
    if len(said) > 1:
        yield ""
        told = "; ".join(f"{status} says {', '.join(nodes)}" for status, nodes in said.items())
        yield f"They differ: {told}."


def _payment(tx: Any) -> Iterator[str]:
    from timeproto.wallet.amounts import format_amount

    for output in tx.outputs[:4]:
        yield f"  {format_amount(output.amount):>16} TIME to {output.address}"
    if len(tx.outputs) > 4:
        yield f"  and {len(tx.outputs) - 4} more outputs"


def _headline(account: Any) -> str:
    if account.outcome == "told":
        status = account.trace.status
        over = status in ("final", "confirmed", "aborted", "refused")
        return HEADLINES[status] + (", and the proof holds" if account.proven else ", says the node" if over else "")
    if account.outcome == "unknown":
        return "does not know it: it is new, this node is behind, or it never was"
    if account.outcome == "false":
        return f"says what it cannot prove ({account.why}): do not believe this node"
    return f"no answer: {account.why}"


def _body(trace: Any, masternodes: int) -> Iterator[str]:
    yield from _way(trace)
    if trace.refusal is not None:
        yield f"why: {trace.refusal.message} ({trace.refusal.code})"
    if trace.height is not None:
        yield f"block {trace.height}" + (f" contains {trace.conflicting_txid}" if trace.conflicting_txid else "")
    if trace.waits_for is not None:
        counts = {"lock": len(trace.lock), "commit": len(trace.commit), "quorum": trace.quorum}
        yield NEEDS[trace.waits_for].format(**counts)
    yield from (f"  parent {parent}" for parent in trace.parents)
    for kind in ("lock", "commit", "abort"):
        voters = getattr(trace, kind)
        if voters:
            yield f"{kind:<6} {len(voters)} of {masternodes}: {_keys(voters)}"
    if trace.missing:
        away = [each.node_key for each in trace.missing if not each.connected]
        there = [each.node_key for each in trace.missing if each.connected]
        yield f"silent {len(trace.missing)} of {masternodes}: {_keys(there)}" if there else (
            f"silent {len(trace.missing)} of {masternodes}"
        )
        if away:
            yield f"       not connected to this node: {_keys(away)}"
    if trace.cancelled:
        yield "an owner of its coins asked to end it"
    for rival in trace.rivals:
        where = "" if rival.height is None else f", block {rival.height}"
        yield f"rival  {rival.txid} ({rival.status}{where}) wants the coin {rival.outpoint}"
    if trace.more:
        yield "       and there are more rivals"
    if trace.not_voting is not None:
        yield f"this node does not vote now: {trace.not_voting}"


def _way(trace: Any) -> Iterator[str]:
    before = None
    if not trace.complete:
        yield "what came before is not known here any more"
    for stage in trace.stages:
        moment = "time not known" if stage.at is None else _moment(stage.at)
        passed = "" if None in (before, stage.at) else _passed(stage.at - before)
        meaning = BY_BLOCK if stage.name == "final" and not trace.commit else STAGES[stage.name]
        yield f"{moment:<23} {passed:>10}  {stage.name:<9}  {meaning}"
        before = stage.at


def _moment(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at // 1000)) + f".{at % 1000:03}"


def _passed(ms: int) -> str:
    """A block's time is by another clock, and may be earlier than what this node saw before it."""
    return f"{ms:+} ms" if abs(ms) < 10_000 else f"{ms / 1000:+.1f} s"


def _keys(keys: Sequence[str]) -> str:
    return " ".join(key[:8] for key in keys)
