"""The store on disk: RocksDB, one synchronous write batch for each change set.

Where a lock is made durable: :meth:`RocksStore.commit`. RocksDB applies a batch whole or not at all, and with ``sync``
returns only after its log is on the disk. A log torn at its end by a power cut is cut back to the last whole batch;
damage anywhere else refuses to open, and nothing is ever deleted or repaired silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from timeproto.errors import ConfigurationError, IdentityConflict, StorageError
from timeproto.model.ledger import (
    Changes,
    Coin,
    Evidence,
    OwnVotes,
    Summary,
    TransactionRecord,
    Transition,
)
from timeproto.model.transaction import Outpoint
from timeproto.model.vote import VoteBatch
from timeproto.storage import schema
from timeproto.storage.memory import is_spent
from timeproto.wire.codec import pack

BLOCK_CACHE = 32 * 1024 * 1024
WRITE_BUFFER = 16 * 1024 * 1024
OPEN_FILES = 256
LOG_FILES = 2


def open_store(path: Path | str, genesis_hash: str, node_key: str) -> RocksStore:
    """Opens the store in ``path``, made if it is not there, for one node of one network.

    :class:`ConfigurationError` if it is another's, :class:`IdentityConflict` if another process has it open,
    :class:`StorageError` if it is damaged.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the store {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the store {folder} is not writable")
    try:
        db = Rdict(str(folder), _options())
    except Exception as error:
        if "lock" in str(error).lower():
            raise IdentityConflict(f"the store {folder} is in use by another process") from None
        raise StorageError(f"the store {folder} cannot be opened: {error}") from error
    try:
        _check_identity(db, folder, genesis_hash, node_key)
    except BaseException:
        db.close()
        raise
    return RocksStore(db)


def _check_identity(db: Any, folder: Path, genesis_hash: str, node_key: str) -> None:
    wanted = schema.Identity(schema.FORMAT_VERSION, genesis_hash, node_key)
    raw = db.get(schema.IDENTITY)
    if raw is None:
        if next(iter(db.keys()), None) is not None:
            raise StorageError(f"the store {folder} has lost its identity record")
        db.put(schema.IDENTITY, pack(wanted), _sync())
        return
    found = schema.read_identity(raw)
    if found.version != schema.FORMAT_VERSION:
        raise ConfigurationError(
            f"the store {folder} has format {found.version}, this program reads {schema.FORMAT_VERSION}:"
            " use the program that wrote it, or a newer one"
        )
    if found.genesis != genesis_hash:
        raise ConfigurationError(f"the store {folder} belongs to another network: its genesis is {found.genesis}")
    if found.node_key != node_key:
        raise ConfigurationError(f"the store {folder} belongs to another masternode: {found.node_key}")


def _options() -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE))
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(WRITE_BUFFER)
    options.set_max_open_files(OPEN_FILES)
    options.set_keep_log_file_num(LOG_FILES)
    options.set_max_log_file_size(1024 * 1024)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return options


def _sync() -> WriteOptions:
    options = WriteOptions()
    options.sync = True
    return options


class RocksStore:
    """Implements :class:`timeproto.model.ledger.Store`. One thread commits at a time.

    A read may run in another thread, but one that looks at more than one key can straddle a commit: the node reads
    only between two.
    """

    def __init__(self, db: Any) -> None:
        self._db = db
        self._sync = _sync()
        self._broken: str | None = None
        self._closed = False
        last = self._last_key(b"p")
        self._next_order = 0 if last is None else schema.number_of(last[1:]) + 1
        last = self._last_key(b"e")
        self._next_evidence = 0 if last is None else schema.number_of(last[1:]) + 1

    # -- writing -------------------------------------------------------------------------------------

    def commit(self, changes: Changes) -> None:
        if self._closed or self._broken is not None:
            raise StorageError(f"the store takes nothing more: {self._broken or 'it is closed'}")
        try:
            batch = self._batch_of(changes)
            self._db.write(batch, self._sync)
        except Exception as error:
            # What the disk holds now is unknown, so nothing may follow (a second fsync can lie).
            self._broken = str(error)
            raise StorageError(f"a change could not be made durable: {error}") from error

    def _batch_of(self, changes: Changes) -> WriteBatch:
        batch = WriteBatch(raw_mode=True)
        batch.put(schema.SUMMARY, schema.pack_summary(changes.summary))
        for outpoint, coin in changes.coins.items():
            self._put_coin(batch, outpoint, coin)
        for txid, record in changes.transactions.items():
            self._put_transaction(batch, txid, record)
        for txid, votes in changes.own_votes.items():
            batch.put(schema.named(b"v", txid), pack(votes))
        for number, own in changes.batches.items():
            batch.put(schema.numbered(b"b", number), pack(own))
        for transition in changes.transitions:
            batch.put(schema.numbered(b"l", transition.position), schema.pack_transition(transition))
        first = changes.summary.finalized - len(changes.finalized)
        for index, txid in enumerate(changes.finalized, first):
            batch.put(schema.numbered(b"f", index), bytes.fromhex(txid))
        for evidence in changes.evidence:
            batch.put(schema.numbered(b"e", self._next_evidence), pack(evidence))
            self._next_evidence += 1
        for key, position in changes.caught_up.items():
            batch.put(schema.named(b"u", key), schema.number(position))
        return batch

    def _put_coin(self, batch: WriteBatch, outpoint: Outpoint, coin: Coin) -> None:
        key = schema.coin_key(outpoint)
        raw = self._db.get(key)
        address, spent = coin.output.address, is_spent(coin)
        before = None if raw is None else is_spent(schema.read_coin(raw))
        if before is not None and before != spent:
            batch.delete(schema.address_key(address, before, outpoint))
        if before != spent:
            batch.put(schema.address_key(address, spent, outpoint), b"")
        batch.put(key, schema.pack_coin(coin))

    def _put_transaction(self, batch: WriteBatch, txid: str, record: TransactionRecord) -> None:
        batch.put(schema.named(b"t", txid), pack(record))
        order_key = schema.named(b"o", txid)
        order = self._db.get(order_key)
        if record.status == "pending" and order is None:
            place = schema.number(self._next_order)
            self._next_order += 1
            batch.put(order_key, place)
            batch.put(b"p" + place, bytes.fromhex(txid))
        elif record.status == "final" and order is not None:
            batch.delete(order_key)
            batch.delete(b"p" + order)

    def close(self) -> None:
        """Lets go of the files; every commit that returned is on the disk already."""
        if not self._closed:
            self._closed = True
            self._db.close()

    # -- reading -------------------------------------------------------------------------------------

    def summary(self) -> Summary | None:
        raw = self._db.get(schema.SUMMARY)
        return None if raw is None else schema.read_summary(raw)

    def coin(self, outpoint: Outpoint) -> Coin | None:
        raw = self._db.get(schema.coin_key(outpoint))
        return None if raw is None else schema.read_coin(raw)

    def transaction(self, txid: str) -> TransactionRecord | None:
        raw = self._db.get(schema.named(b"t", txid))
        return None if raw is None else schema.read_transaction(raw)

    def own_votes(self, txid: str) -> OwnVotes | None:
        raw = self._db.get(schema.named(b"v", txid))
        return None if raw is None else schema.read_own_votes(raw)

    def batch(self, number: int) -> VoteBatch | None:
        raw = self._db.get(schema.numbered(b"b", number))
        return None if raw is None else schema.read_batch(raw)

    def pending(self) -> Iterator[TransactionRecord]:
        for _, txid in self._scan(b"p"):
            record = self.transaction(txid.hex())
            if record is None:
                raise StorageError(f"the store has lost the transaction {txid.hex()}")
            yield record

    def finalized(self, since: int, limit: int) -> list[str]:
        return [txid.hex() for _, txid in self._take(b"f", schema.numbered(b"f", since), limit)]

    def transitions(self, after: int, limit: int) -> list[Transition]:
        rows = self._take(b"l", schema.numbered(b"l", after + 1), limit)
        return [schema.read_transition(schema.number_of(key[1:]), raw) for key, raw in rows]

    def evidence(self, limit: int) -> list[Evidence]:
        return [schema.read_evidence(raw) for _, raw in self._take(b"e", b"e", limit)]

    def caught_up(self) -> dict[str, int]:
        return {key[1:].hex(): schema.number_of(raw) for key, raw in self._scan(b"u")}

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        prefix = schema.address_prefix(address)
        within = prefix if spent else prefix + b"\x00"
        start = within
        if after is not None:
            last = self.coin(after)
            start = schema.address_key(address, last is not None and is_spent(last), after) + b"\x00"
        page: list[tuple[Outpoint, Coin]] = []
        for key, _ in self._scan(within, start):
            if len(page) == limit:
                return page, True
            outpoint = schema.outpoint_of_address_key(key)
            coin = self.coin(outpoint)
            if coin is None:
                raise StorageError(f"the store has lost the coin {outpoint}")
            page.append((outpoint, coin))
        return page, False

    def _scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Every key with ``prefix`` from ``start`` on, in order, with its record."""
        rows = self._db.items(from_key=start or prefix)
        for key, value in rows:
            if not key.startswith(prefix):
                return
            yield key, value

    def _take(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        rows: list[tuple[bytes, bytes]] = []
        for row in self._scan(prefix, start):
            if len(rows) == limit:
                break
            rows.append(row)
        return rows

    def _last_key(self, prefix: bytes) -> bytes | None:
        """The greatest key with ``prefix``."""
        above = prefix[:-1] + bytes([prefix[-1] + 1])
        for key in self._db.keys(backwards=True, from_key=above):
            if key.startswith(prefix):
                return bytes(key)
            if key < prefix:
                return None
        return None
