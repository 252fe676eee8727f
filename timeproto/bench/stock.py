"""A store with a great many coins, made quickly: written as change sets, as the founding of a network is.

The coins are of nobody: they lie there to be counted, asked for and started with, while payments spend those of the
genesis. Every node gets the same ones. The files are made once; the other nodes' stores share them by hard links, since
RocksDB never changes a file of rows that it has written, and differ in the record that says whose store it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from rocksdict import WriteBatch

from timeproto.consensus import digest
from timeproto.consensus.replica import found
from timeproto.consensus.utxo_state_manager import founding_changes
from timeproto.devnet.layout import Layout
from timeproto.masternode.config import read_key
from timeproto.model.address import address_of
from timeproto.model.canonical import sha256
from timeproto.model.ledger import Changes, Summary, Tally
from timeproto.model.transaction import Outpoint, TxOutput
from timeproto.params import NetworkParams
from timeproto.storage import schema
from timeproto.storage.rocks import open_store
from timeproto.storage.rows import open_rows
from timeproto.wire.codec import pack

CHUNK = 10_000
"""Coins of one commit."""
ADDRESSES = 1_000
"""Owners of the coins, who can spend none of them."""
AMOUNT = 1_000


def outpoint(number: int) -> Outpoint:
    """The place of coin ``number``: spread over the whole table, as txids are."""
    return Outpoint(sha256(b"stock" + number.to_bytes(8, "big")).hex(), 0)


def coins(count: int, params: NetworkParams) -> Iterator[list[tuple[Outpoint, TxOutput]]]:
    """In chunks."""
    owners = [address_of(sha256(number.to_bytes(8, "big")), params) for number in range(ADDRESSES)]
    outputs = [TxOutput(AMOUNT, owner) for owner in owners]
    for first in range(0, count, CHUNK):
        yield [(outpoint(at), outputs[at % ADDRESSES]) for at in range(first, min(count, first + CHUNK))]


def fill(layout: Layout, count: int, show: Callable[[float], None]) -> None:
    """Gives every node of a layout that was never started a store with ``count`` coins beside those of the genesis."""
    first, *others = layout.nodes
    genesis = layout.genesis
    store = open_store(first.folder / "store", genesis.hash, read_key(first.folder / "node.key").public_hex)
    try:
        founding = found(store, genesis)
        if founding is None or founding.tip is None:
            raise ValueError("the layout has been started before")
        store.commit(founding)
        summary = founding.summary
        for done, chunk in enumerate(coins(count, genesis.params), 1):
            more = founding_changes(chunk, founding.tip)
            summary = _together(summary, more.summary)
            store.commit(Changes(summary, coins=more.coins))
            show(done * CHUNK / count)
    finally:
        store.close()
    for node in others:
        _share(first.folder / "store", node.folder / "store")
        key = read_key(node.folder / "node.key").public_hex
        rows = open_rows(node.folder / "store", key)
        try:
            batch = WriteBatch(raw_mode=True)
            batch.put(schema.IDENTITY, pack(schema.Identity(schema.FORMAT_VERSION, genesis.hash, key)))
            rows.write(batch)
        finally:
            rows.close()


def _together(one: Summary, other: Summary) -> Summary:
    tallies = {
        name: Tally(tally.coins + other.tallies[name].coins, tally.amount + other.tallies[name].amount)
        for name, tally in one.tallies.items()
    }
    return msgspec.structs.replace(one, digest=digest.add(one.digest, other.digest), tallies=tallies)


def _share(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for path in source.iterdir():
        if path.suffix in (".sst", ".blob"):
            os.link(path, target / path.name)
        elif path.name != "LOCK":
            shutil.copy2(path, target / path.name)
