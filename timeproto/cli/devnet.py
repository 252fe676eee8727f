"""``timeproto devnet``: a network of masternodes on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from timeproto.cli.paths import expanded
from timeproto.errors import ConfigurationError, ExitStatus

BASE_PORT = 24100
WEB_PORTS_AFTER = 80
"""From the first masternode's port to that of its page: all masternodes there may be fit between."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "devnet",
        help="run a network of masternodes on this machine",
        description="Makes keys and a genesis with two funded wallets, starts the masternodes as processes of their"
        " own, waits until each sees all others, and stops them all on Ctrl-C.",
    )
    parser.add_argument("-n", "--masternodes", type=int, default=7, help="how many (default 7)")
    parser.add_argument(
        "--datadir", type=Path, help="keep everything here for the next start (default: a temporary folder)"
    )
    parser.add_argument("--base-port", type=int, default=BASE_PORT, help=f"port of the first (default {BASE_PORT})")
    parser.add_argument(
        "--web-port",
        type=int,
        help=f"port of the first one's page, HTTP and metrics (default: the base port + {WEB_PORTS_AFTER})",
    )
    parser.add_argument(
        "--block-interval", type=int, metavar="SECONDS", help="a new devnet makes a block this often (default 5)"
    )
    parser.add_argument("--tls", action="store_true", help="speak TLS between all")
    parser.add_argument("--log-level", default="info", help="of the masternodes (default info)")
    parser.add_argument("--json", action="store_true", help="print one JSON object when ready instead of prose")
    parser.set_defaults(run=run)


def check_masternodes(number: int, base_port: int) -> None:
    """Refuses what cannot be started on one machine."""
    if not 1 <= number <= 64:
        raise ConfigurationError(f"a devnet has 1 to 64 masternodes, not {number}")
    if not 1 <= base_port <= 65535 - number:
        raise ConfigurationError(f"there is no room for {number} ports above {base_port}")


def check_web_ports(number: int, base_port: int, web_port: int) -> None:
    """Refuses web ports that cannot be had, or that are the masternodes' own."""
    if not 1 <= web_port <= 65535 - number:
        raise ConfigurationError(f"there is no room for {number} web ports above {web_port}")
    if abs(web_port - base_port) < number:
        raise ConfigurationError(f"web ports from {web_port} and the masternodes' from {base_port} overlap")


def run(arguments: argparse.Namespace) -> int:
    check_masternodes(arguments.masternodes, arguments.base_port)
    if arguments.web_port is None:
        arguments.web_port = arguments.base_port + WEB_PORTS_AFTER
    check_web_ports(arguments.masternodes, arguments.base_port, arguments.web_port)
    if arguments.datadir is not None:
        return _run_in(expanded(arguments.datadir).absolute(), arguments)
    with tempfile.TemporaryDirectory(prefix="timeproto-devnet-") as folder:
        return _run_in(Path(folder), arguments)


def _run_in(datadir: Path, arguments: argparse.Namespace) -> int:
    from twisted.internet.defer import Deferred, ensureDeferred

    from timeproto.cli.running import Interruption, run_until_done
    from timeproto.devnet.layout import lay_out
    from timeproto.devnet.processes import Devnet

    interval = arguments.block_interval
    if interval is not None and not 1 <= interval <= 3_600:
        raise ConfigurationError(f"a block each {interval} s cannot be: 1 to 3600")
    try:
        datadir.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = lay_out(
            datadir,
            arguments.masternodes,
            arguments.base_port,
            tls=arguments.tls,
            log_level=arguments.log_level,
            block_interval=interval,
            web_port=arguments.web_port,
        )
    except OSError as error:
        raise ConfigurationError(f"a devnet cannot be kept in {datadir}: {error.strerror}") from None

    async def main(reactor: Any) -> int:
        devnet = Devnet(reactor, layout)
        interruption = Interruption(reactor)

        async def serve() -> None:
            if not arguments.json:
                print(f"Starting {arguments.masternodes} masternodes …", flush=True)
            await devnet.start()
            _tell(layout, as_json=arguments.json)
            await Deferred()

        serving = devnet.while_all_run(ensureDeferred(serve()))
        interruption.when.addCallback(lambda _: serving.cancel())
        try:
            await serving
        except Exception:
            if not interruption.has_come:  # Ctrl-C reaches the nodes too, and one may be faster than we are
                raise
        finally:
            try:
                if not arguments.json:
                    print("\nStopping …", flush=True)
            finally:  # whoever read that may have gone
                await devnet.stop()
        return ExitStatus.OK

    return run_until_done(main)


def _tell(layout: Any, *, as_json: bool) -> None:
    import json

    from timeproto.devnet.layout import WALLETS

    nodes = [
        {
            "number": node.number,
            "address": node.address,
            "page": layout.page(node),
            "folder": str(node.folder),
            "log": str(node.log),
        }
        for node in layout.nodes
    ]
    phrases = {name: str(layout.phrase_path(name)) for name in WALLETS}
    if as_json:
        ready = {
            "datadir": str(layout.datadir),
            "genesis": str(layout.genesis_path),
            "genesis_hash": layout.genesis.hash,
            "nodes": nodes,
            "phrases": phrases,
        }
        print(json.dumps(ready), flush=True)
        return
    print(f"\n{len(nodes)} masternodes vote; {layout.genesis.masternode_set.quorum} make a payment final.\n")
    for node in nodes:
        print(f"  masternode {node['number']:>2}   {node['address']:<18}  {node['log']}")
    print(f"\n  genesis         {layout.genesis_path}\n  genesis hash    {layout.genesis.hash}")
    for name, path in phrases.items():
        print(f"  phrase of {name:<6}{path}")
    first = layout.nodes[0].address
    print(f"\n  live page       {nodes[0]['page']}")
    print(
        "\nTry, in another terminal:\n"
        f"  timeproto wallet --wallet alice.json --node {first} restore --genesis {layout.genesis_path}"
        f" --phrase-file {phrases['alice']}\n"
        f"  timeproto wallet --wallet alice.json --node {first} balance\n"
        f"  timeproto status --node {first}\n"
        "\nCtrl-C stops everything.",
        flush=True,
    )
    sys.stdout.flush()
