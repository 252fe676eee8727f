"""RocksDB and its ways: rows in the order of their keys, and one exception for whatever goes wrong with them.

Recovery. A log that ends in half a record was torn by a power cut: RocksDB cuts it back to the last whole batch, and
nothing that :meth:`Rows.write` returned for is lost. A wrong checksum refuses to open. Of RocksDB's other modes,
``point_in_time`` would drop without a word every batch after the damage, votes that were sent among them, and
``absolute_consistency`` would refuse after any power cut as well. No mode sees that an *older* log lost its end
while a newer one is whole: that is what storage.rocks counts for. Nor does RocksDB miss a blob file before it reads
from it: that is looked for here. Nothing is deleted or repaired silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    DBRecoveryMode,
    Env,
    Options,
    Rdict,
    UniversalCompactOptions,
    WriteBatch,
    WriteOptions,
)

from timeproto.errors import IdentityConflict, StorageError
from timeproto.storage import schema

MIB = 1024 * 1024
BLOCK_CACHE = 32 * MIB
WRITE_BUFFERS = range(12 * MIB, 20 * MIB)
"""How large a write buffer may be; see :func:`write_buffer`."""
OPEN_FILES = 256
"""Tables and blob files together."""
RUNS, MERGED = 8, 4
"""From so many sorted runs on, the smallest a write buffer each, runs of like size are merged into one, so many at
least. One that is larger than all newer ones together is left alone, so a row is written again when its run doubles,
and not at each merge. RocksDB's levels rewrite all of the first one, up to 256 MB: to merge cost 14 µs of a payment
after 120,000 of them and 95 after 700,000, and costs 14 this way. The largest merge holds all rows twice while it
lasts, 0.4 of the 2 kB that a payment leaves; and what was deleted costs whoever scans there a moment until then, 20 ms
for 300,000 rows."""
SLOWER = 40
"""Runs from which on RocksDB takes writes more slowly, and twice as many from which on it takes none. A merge stands
back and may last long on a busy machine; meanwhile runs gather, which costs those who read."""
JOBS = 3
"""Threads of RocksDB: one writes buffers out and two merge, the second from twice ``RUNS`` on, when a large merge has
kept small ones waiting."""
LARGE = 1000
"""Bytes from which on a value is kept in a blob file, and its row names the place: a merge rewrites the rows and leaves
the blobs alone. Most of what a payment leaves never changes: its proof, and its transitions, which share rows to be
large enough. Blocks and batches of votes are the others, and what was signed last about a block."""
OLDEST_BLOBS = 0.1
"""The part of the blob files, the oldest, whose blobs a merge moves on if it meets their rows; what was overwritten is
left behind, and the files go. Of large values, what was signed last is overwritten at each word, a block that was not
decided goes again, and a large transaction is written anew until it is final. But of all that passes in one write
buffer only the last version leaves the memory. So a file holds a few such values that are worth nothing, some 70 kB for
a block of 2,000, a hundredth of it. Where everything is merged each time there are about ``(RUNS + 1) / OLDEST_BLOBS``
files before as many go as come; else that hundredth waits for the merge that reaches its rows."""
LOG_FILES = 2
ONCE_OPEN = {"periodic_compaction_seconds": "0", "ttl": "0", "disable_auto_compactions": "false"}
"""Nothing is merged for its age. By itself RocksDB merges all that is 30 days old, at all masternodes that were started
together. That can be said of an open database only, so it is opened without merging."""


def write_buffer(node_key: str) -> int:
    """The bytes of rows that the store of ``node_key`` (hex) gathers in memory, one of :data:`WRITE_BUFFERS`.

    All masternodes write the same. With buffers alike they would merge at the same moment, and no quorum would answer.
    """
    return WRITE_BUFFERS[int(node_key, 16) % len(WRITE_BUFFERS)]


def open_rows(folder: Path, node_key: str) -> Rows:
    """:class:`IdentityConflict` if ``folder`` is open already, :class:`StorageError` if it is damaged."""
    options = make_options(write_buffer(node_key))
    try:
        # The family has to be named. Else a store that exists is opened with the options it was made with, as far as
        # RocksDB writes them down: without the filter and the cache (measured: reads of 70 µs instead of 6).
        db = Rdict(str(folder), options, {"default": options})
    except Exception as error:
        # RocksDB's own two sentences: a damaged *block* is no lock.
        if "While lock file" in str(error) or "lock hold by current process" in str(error):
            raise IdentityConflict(f"the store {folder} is in use by another process") from None
        raise StorageError(f"the store {folder} cannot be opened: {error}") from error
    try:
        db.set_options(ONCE_OPEN)
    except Exception as error:
        with suppress(Exception):
            db.close()
        raise StorageError(f"the store {folder} cannot be opened: {error}") from error
    if not _has_blobs(db, folder):
        with suppress(Exception):
            db.close()
        raise StorageError(f"the store {folder} is damaged: of its blob files one is missing, or a part of one")
    return Rows(db)


def _has_blobs(db: Any, folder: Path) -> bool:
    """Whether the folder holds as many bytes of blobs as the list of files says. Of tables RocksDB asks that itself."""
    listed, held = -1, 0
    while listed != (now := db.property_int_value("rocksdb.live-blob-file-size")):  # a merge may be under way already
        listed, held = now, 0
        for path in folder.glob("*.blob"):
            with suppress(FileNotFoundError):  # one that is listed no more
                held += path.stat().st_size
    return held >= listed


def make_options(buffer: int) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(BLOCK_CACHE))
    table.set_bloom_filter(10, False)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_top_level_index_and_filter(True)
    tiers = UniversalCompactOptions()
    tiers.min_merge_width = MERGED
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_env(_merging_in_the_background())
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_enable_blob_files(True)
    options.set_min_blob_size(LARGE)
    options.set_blob_compression_type(DBCompressionType.lz4())
    options.set_enable_blob_gc(True)
    options.set_blob_gc_age_cutoff(OLDEST_BLOBS)
    options.set_write_buffer_size(buffer)
    options.set_bytes_per_sync(MIB)  # files go to the disk as they are written, not in one burst that syncs wait for
    options.set_max_open_files(OPEN_FILES)
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_universal_compaction_options(tiers)
    options.set_disable_auto_compactions(True)  # until it is open
    options.set_level_zero_file_num_compaction_trigger(RUNS)
    options.set_level_zero_slowdown_writes_trigger(SLOWER)
    options.set_level_zero_stop_writes_trigger(2 * SLOWER)
    options.set_max_background_jobs(JOBS)
    options.set_keep_log_file_num(LOG_FILES)
    options.set_max_log_file_size(1024 * 1024)
    options.set_paranoid_checks(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return options


def _merging_in_the_background() -> Env:
    """Merges get what the machine has to spare, since votes wait and they can: nice 19, of their threads alone."""
    env = Env()
    env.lower_thread_pool_cpu_priority()
    return env


class Rows:
    """The rows of one RocksDB. Everything here raises :class:`StorageError`, also after :meth:`close`."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._sync = WriteOptions()
        self._sync.sync = True

    def write(self, batch: WriteBatch) -> None:
        """All of ``batch`` or none of it; on the disk when it returns."""
        try:
            self._db.write(batch, self._sync)
        except Exception as error:
            raise StorageError(str(error)) from error

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise _unreadable(error) from error
        return value

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Every row whose key begins with ``prefix``, from key ``start`` on, as they were at the first step."""
        try:
            rows = self._db.iter()
            rows.seek(start or prefix)
            while rows.valid():
                key = rows.key()
                if not key.startswith(prefix):
                    return
                yield key, rows.value()
                rows.next()
            rows.status()  # at a damaged block the rows end as if there were no more
        except Exception as error:
            raise _unreadable(error) from error

    def last_number(self, prefix: bytes) -> int | None:
        """The number of the last row of a numbered table, None if it is empty."""
        try:
            rows = self._db.iter()
            rows.seek_for_prev(schema.numbered(prefix, 2**64 - 1))
            if rows.valid():
                key = rows.key()
                return schema.number_of(key[1:]) if key.startswith(prefix) else None
            rows.status()
        except Exception as error:
            raise _unreadable(error) from error
        return None

    def close(self) -> None:
        """Sorts what only the log holds into files, and lets go of them. Whatever fails, they are let go of."""
        try:
            self._db.close()
        except Exception as error:
            raise StorageError(f"the store did not close: {error}") from error


def _unreadable(error: Exception) -> StorageError:
    return StorageError(f"the store cannot be read: {error}")
