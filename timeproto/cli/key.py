"""``timeproto key``: the public half of a masternode's key, which others put into the genesis."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from timeproto.cli.paths import expanded
from timeproto.cli.terminal import say
from timeproto.errors import ExitStatus
from timeproto.params import NetworkName


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "key",
        help="show the public key of a masternode's key file",
        description="Reads a masternode's key file as the node does, and shows its public key, never the secret one."
        " It makes no key: twistd timenode does at its first start, as node.key in its data directory.",
        epilog="Exit status: 0, or 2 if there is no key in the file or others can read it.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--network", choices=get_args(NetworkName), help="show the masternode's address there as well")
    where.add_argument(
        "--genesis", type=Path, metavar="FILE", help="the same, and whether the key is among its masternodes"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import json

    from timeproto.masternode.config import read_genesis, read_key
    from timeproto.model.address import address_of
    from timeproto.params import NETWORKS

    key = read_key(expanded(arguments.file)).public_hex
    genesis = None if arguments.genesis is None else read_genesis(expanded(arguments.genesis))
    network = arguments.network if genesis is None else genesis.network
    told: dict[str, str | bool] = {"key": key}
    if network is not None:
        told["address"] = address_of(bytes.fromhex(key), NETWORKS[network])
    if genesis is not None:
        told["masternode"] = key in genesis.masternode_set
    if arguments.json:
        say(json.dumps(told))
        return ExitStatus.OK
    for name in ("key", "address"):
        if name in told:
            say(f"{name:<12} {told[name]}")
    if genesis is not None:
        among = "yes" if told["masternode"] else f"NO: it is not among those of {arguments.genesis}"
        say(f"{'masternode':<12} {among}")
    return ExitStatus.OK
