"""What a devnet keeps on disk: one folder for each masternode, the genesis, and two funded wallets.

DATADIR/genesis.json
DATADIR/node-1/node.key, config.toml, node.log, store/
DATADIR/wallets/alice.phrase, bob.phrase        mode 0600, for ``timeproto wallet restore``
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from timeproto.errors import ConfigurationError
from timeproto.masternode.config import read_genesis, write_key
from timeproto.model.genesis import Genesis
from timeproto.model.keys import SigningKey
from timeproto.model.transaction import TxOutput
from timeproto.params import COIN, GENESIS_VERSION, NETWORKS
from timeproto.wallet import hd
from timeproto.wire import codec

WALLETS = ("alice", "bob")
COINS_PER_WALLET = 50
COIN_AMOUNT = 100 * COIN


@attrs.frozen
class NodeFiles:
    """One masternode's folder and address, and that of its web port if it has one."""

    number: int
    folder: Path
    address: str
    web: str | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"


@attrs.frozen
class Layout:
    """A devnet on disk."""

    datadir: Path
    genesis: Genesis
    nodes: tuple[NodeFiles, ...]
    tls: bool = False

    def page(self, node: NodeFiles) -> str | None:
        """Where a node's live page is, None if it has no web port."""
        return None if node.web is None else f"{'https' if self.tls else 'http'}://{node.web}/"

    @property
    def genesis_path(self) -> Path:
        return self.datadir / "genesis.json"

    def phrase_path(self, name: str) -> Path:
        return self.datadir / "wallets" / f"{name}.phrase"

    def phrase(self, name: str) -> str:
        return self.phrase_path(name).read_text("ascii").strip()


def lay_out(
    datadir: Path,
    masternodes: int,
    base_port: int,
    *,
    tls: bool = False,
    log_level: str = "info",
    coins_per_wallet: int = COINS_PER_WALLET,
    block_interval: int | None = None,
    web_port: int | None = None,
) -> Layout:
    """The devnet in ``datadir``: the one that is there (masternodes and interval must fit), or a new one, with a block
    each ``block_interval`` seconds (by default the network's). ``web_port`` is the first node's, the others' follow;
    without it there are none."""
    genesis_path = datadir / "genesis.json"
    if genesis_path.exists():
        genesis = read_genesis(genesis_path)
        if len(genesis.masternodes) != masternodes:
            raise ConfigurationError(
                f"the devnet in {datadir} has {len(genesis.masternodes)} masternodes, not {masternodes}"
            )
        if block_interval not in (None, genesis.block_interval):
            raise ConfigurationError(
                f"the devnet in {datadir} makes a block each {genesis.block_interval} s, not {block_interval}"
            )
    else:
        genesis = _create(datadir, masternodes, coins_per_wallet, block_interval)
    addresses = [f"127.0.0.1:{base_port + number}" for number in range(masternodes)]
    webs = [None if web_port is None else f"127.0.0.1:{web_port + number}" for number in range(masternodes)]
    nodes = tuple(
        NodeFiles(number, datadir / f"node-{number}", address, web)
        for number, (address, web) in enumerate(zip(addresses, webs, strict=True), 1)
    )
    for node in nodes:
        _write_config(node, genesis_path, addresses, tls=tls, log_level=log_level)
    return Layout(datadir, genesis, nodes, tls)


def _create(datadir: Path, masternodes: int, coins_per_wallet: int, block_interval: int | None) -> Genesis:
    params = NETWORKS["devnet"]
    (datadir / "wallets").mkdir(mode=0o700, parents=True, exist_ok=True)
    keys = [SigningKey.generate() for _ in range(masternodes)]
    for number, key in enumerate(keys, 1):
        folder = datadir / f"node-{number}"
        folder.mkdir(mode=0o700, exist_ok=True)
        write_key(folder / "node.key", key)
    allocations = []
    for name in WALLETS:
        phrase = hd.generate_phrase()
        _write_secret(datadir / "wallets" / f"{name}.phrase", phrase)
        owner = hd.derive(phrase, account=0, change=0, index=0)
        address = hd.address(owner, params)
        allocations += [TxOutput(COIN_AMOUNT, address)] * coins_per_wallet
    genesis = Genesis(
        version=GENESIS_VERSION,
        network="devnet",
        timestamp=0,
        block_interval=block_interval or params.block_interval,
        masternodes=tuple(key.public_hex for key in keys),
        allocations=tuple(allocations),
    ).check()
    # Last: a folder without it is begun anew, one with it is whole.
    (datadir / "genesis.json").write_bytes(codec.dump_document(genesis))
    return genesis


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")


def _write_config(node: NodeFiles, genesis: Path, addresses: list[str], *, tls: bool, log_level: str) -> None:
    peers = ", ".join(f'"{address}"' for address in addresses if address != node.address)
    web = "" if node.web is None else f'web = "{node.web}"\n'
    node.config.write_text(
        f'datadir = "{node.folder}"\n'
        f'genesis = "{genesis}"\n'
        f'listen = "{node.address}"\n'
        f"peers = [{peers}]\n"
        f"{web}"
        f"tls = {'true' if tls else 'false'}\n"
        f'log_level = "{log_level}"\n',
        "utf-8",
    )
