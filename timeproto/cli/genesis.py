"""``timeproto genesis``: what a genesis document says, with the hash by which a network is known."""

from __future__ import annotations

import argparse
from pathlib import Path

from timeproto.cli.paths import expanded
from timeproto.cli.terminal import say
from timeproto.errors import ExitStatus


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "genesis",
        help="show a genesis document and its hash",
        description="Reads a genesis document, checks it as a node does, and shows its hash, which is to be compared"
        " with a source you trust, its masternodes and its coins.",
        epilog="Exit status: 0 if a node would take it, 2 if not.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from timeproto.masternode.config import read_genesis
    from timeproto.wallet.amounts import format_amount

    genesis = read_genesis(expanded(arguments.file))
    quorum = genesis.masternode_set.quorum
    if arguments.json:
        told = {
            "hash": genesis.hash,
            "network": genesis.network,
            "version": genesis.version,
            "block_interval": genesis.block_interval,
            "quorum": quorum,
            "masternodes": genesis.masternodes,
            "coins": len(genesis.allocations),
            "sum": str(genesis.supply),
        }
        say(json.dumps(told))
        return ExitStatus.OK
    rows = [
        ("hash", genesis.hash),
        ("network", f"{genesis.network}, a block each {genesis.block_interval} s"),
        ("masternodes", f"{len(genesis.masternodes)}, {quorum} make a payment final"),
        *(("", key) for key in genesis.masternodes),
        ("coins", f"{len(genesis.allocations)}, {format_amount(genesis.supply)} TIME together"),
    ]
    for name, value in rows:
        say(f"{name:<12} {value}")
    return ExitStatus.OK
