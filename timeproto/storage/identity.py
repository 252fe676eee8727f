"""Whose store this is: of one node, of one network, in one format."""

from __future__ import annotations

from pathlib import Path

from rocksdict import WriteBatch

from timeproto.errors import ConfigurationError, StorageError
from timeproto.storage import schema
from timeproto.storage.rows import Rows
from timeproto.wire.codec import pack


def check_identity(rows: Rows, folder: Path, genesis_hash: str, node_key: str) -> None:
    """Writes it down where nothing is; :class:`ConfigurationError` if it is another's, :class:`StorageError` if it is
    gone."""
    raw = rows.get(schema.IDENTITY)
    if raw is None:
        if next(rows.scan(b""), None) is not None:
            raise StorageError(f"the store {folder} has lost its identity record")
        batch = WriteBatch(raw_mode=True)
        batch.put(schema.IDENTITY, pack(schema.Identity(schema.FORMAT_VERSION, genesis_hash, node_key)))
        rows.write(batch)
        return
    found = schema.read_identity(raw)
    if found.version != schema.FORMAT_VERSION:
        newer = ", or a newer one" if found.version > schema.FORMAT_VERSION else ""
        raise ConfigurationError(
            f"the store {folder} has format {found.version}, this program reads {schema.FORMAT_VERSION}:"
            f" use the program that wrote it{newer}"
        )
    if found.genesis != genesis_hash:
        raise ConfigurationError(f"the store {folder} belongs to another network: its genesis is {found.genesis}")
    if found.node_key != node_key:
        raise ConfigurationError(f"the store {folder} belongs to another masternode: {found.node_key}")
