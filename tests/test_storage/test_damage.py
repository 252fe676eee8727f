"""Torn logs, flipped bits, full disks, kill -9: the store opens with a prefix of what was committed, or refuses."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest

import msgspec
from rocksdict import WriteBatch
from twisted.trial.unittest import SynchronousTestCase

from tests.examples import replace
from tests.test_storage.harness import DamageCase, Prefixes, open_rows, reopen, spread
from tests.test_storage.payments import GENESIS, OWNER, change_sets, everything
from timeproto.errors import ConfigurationError, IdentityConflict, StorageError
from timeproto.storage import packed, schema
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import open_store
from timeproto.wire.codec import pack

CHILD = """
import sys
from tests.test_storage.payments import GENESIS, OWNER, change_sets
from timeproto.errors import StorageError
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import open_store
made = change_sets(7, 40, MemoryStore())
store = open_store(sys.argv[1], GENESIS.hash, OWNER.public_hex)
try:
    for number, changes in enumerate(made, 1):
        store.commit(changes)
        print(number, flush=True)
    while True:
        store.commit(made[-1])
except StorageError as error:
    print("StorageError", error, file=sys.stderr)
try:
    store.commit(made[0])
except StorageError as error:
    print("again", error, file=sys.stderr)
print("summary", store.summary().position, file=sys.stderr)
store.close()
print("closed", file=sys.stderr)
"""

OPENER = """
import sys
from timeproto.errors import IdentityConflict
from timeproto.storage.rocks import open_store
try:
    open_store(*sys.argv[1:])
except IdentityConflict as error:
    print(error)
"""


class Damage(DamageCase):
    """Half of the change sets in a table, half in the log; blocks are among both."""

    def setUp(self) -> None:
        self.lie(change_sets(8, 12, MemoryStore(), blocks=True), sorted_first=6)

    def test_a_log_torn_anywhere_gives_back_whole_change_sets(self) -> None:
        """Cut at many places: a prefix each time, longer with more of the log (P-15)."""
        log = self.file("*.log")
        size = log.stat().st_size
        kept = [self.cut(log, at) for at in (*spread(size, 40), size)]
        self.assertEqual(kept, sorted(kept, key=lambda k: -1 if k is None else k))
        self.assertEqual(set(kept), set(range(6, 13)))

    def test_what_follows_the_last_record_is_no_damage(self) -> None:
        """Zeros that were to be written over, or the torn beginning of a record that was never promised."""
        log = self.file("*.log")
        size = log.stat().st_size
        for tail in (bytes(1), bytes(6), bytes(5_000), b"\x81", b"\x81\x02\x03\x04\xff\x0f\x01" + bytes(100)):
            self.assertEqual(self.overwrite(log, size, tail), 12)

    def test_a_flipped_bit_is_found(self) -> None:
        """Anywhere in a log, a table, a blob file or the list of files: a refusal, never another state (P-16)."""
        for pattern, count in (("*.log", 30), ("*.sst", 60), ("*.blob", 60), ("MANIFEST*", 30), ("CURRENT", 16)):
            path = self.file(pattern)
            found = [self.flip(path, at) for at in spread(path.stat().st_size, count)]
            self.assertLessEqual(set(found), {None, 12}, pattern)
            seen = 0.6 if pattern == "*.blob" else 0.9  # of those some were overwritten by later ones
            self.assertGreater(found.count(None), len(found) * seen, pattern)

    def test_a_damaged_block_is_not_taken_for_the_end(self) -> None:
        """RocksDB's rows end there without a word; a list that ends too soon would be another state."""
        table = self.file("*.sst")
        data = bytearray(table.read_bytes())
        for at in range(0, len(data) // 2, 64):  # the first half is rows
            data[at] ^= 1
        copy = Path(self.mktemp())
        shutil.copytree(self.cold, copy)
        (copy / table.name).write_bytes(data)
        found = open_rows(copy)
        try:
            with self.assertRaisesRegex(StorageError, "cannot be read"):
                list(found.scan(b""))
        finally:
            found.close()

    def test_a_damaged_block_is_not_taken_for_a_lock(self) -> None:
        """The operator is told what is wrong: status 3 and not 4."""
        table = self.file("*.sst")
        copy = Path(self.mktemp()) / "locks-and-blocks"
        for at in spread(table.stat().st_size, 25):
            shutil.copytree(self.cold, copy)
            data = bytearray(table.read_bytes())
            data[at] ^= 1
            (copy / table.name).write_bytes(data)
            with contextlib.suppress(StorageError):
                reopen(copy).close()
            shutil.rmtree(copy)

    def test_lost_bytes_in_the_list_of_files(self) -> None:
        """A manifest cut anywhere: the whole, or a refusal."""
        manifest = self.file("MANIFEST*")
        for at in spread(manifest.stat().st_size, 40):
            self.assertIn(self.cut(manifest, at), (None, 12))

    def test_a_lost_file_is_missed(self) -> None:
        """Whichever it is: a refusal, or everything; without the log what was sorted before. Empty is like lost."""
        for path in sorted(self.cold.iterdir()):
            wanted: set[int | None] = {12}
            if path.suffix == ".log":
                wanted = {6}
            elif path.suffix in (".sst", ".blob") or path.name.startswith(("CURRENT", "MANIFEST")):
                wanted = {None}
            self.assertIn(self.cut(path, 0), wanted, path.name)
            self.assertIn(self.lose(path), wanted, path.name)

    def test_a_lost_identity_is_missed(self) -> None:
        """Rows without an owner belong to nobody."""
        found = open_rows(self.cold)
        batch = WriteBatch(raw_mode=True)
        batch.delete(schema.IDENTITY)
        found.write(batch)
        found.close()
        with self.assertRaisesRegex(StorageError, "identity"):
            reopen(self.cold)

    def test_records_that_cannot_be_read(self) -> None:
        """A row with a sound checksum and a senseless record: StorageError, at once or when it is asked for."""
        for prefix in (b"i", b"s", b"c", b"t", b"v", b"b", b"l", b"d", b"k", b"g", b"y", b"n"):
            copy = Path(self.mktemp())
            shutil.copytree(self.cold, copy)
            found = open_rows(copy)
            batch = WriteBatch(raw_mode=True)
            for key, value in found.scan(prefix):
                batch.put(key, value[:-1])
            self.assertGreater(batch.len(), 0)
            found.write(batch)
            found.close()
            with self.assertRaisesRegex(StorageError, "cannot be read"):
                store = reopen(copy)
                self.addCleanup(store.close)
                everything(store)

    def test_a_proof_of_another_length_cannot_be_read(self) -> None:
        """A byte of it is missing or one too many: told where it is read, not where the proof is sent."""
        good = {"set": bytes(32), "voter": bytes(32), "signature": bytes(64), "path": bytes(32)}
        for field, value in ((name, each) for name, whole in good.items() for each in (whole[1:], whole + b"?", b"?")):
            copy = Path(self.mktemp())
            shutil.copytree(self.cold, copy)
            found = open_rows(copy)
            batch = WriteBatch(raw_mode=True)
            for key, value in found.scan(b"t"):
                record = packed.read_transaction(value)
                if record.kept is not None:
                    vote = record.kept.votes[0]
                    if field == "set":
                        kept = replace(record.kept, set=value)
                    else:
                        kept = replace(record.kept, votes=(vote, replace(vote, **{field: value})))
                    batch.put(key, packed.pack_transaction(replace(record, kept=kept)))
            self.assertGreater(batch.len(), 0)
            found.write(batch)
            found.close()
            store = reopen(copy)
            self.addCleanup(store.close)
            with self.assertRaisesRegex(StorageError, "a transaction that cannot be read"):
                everything(store)

    def test_what_is_counted_must_be_there(self) -> None:
        """A commit, a block, the end of a list, what waits or is pending: one missing or too many and it stays shut."""
        summary = self.made[-1].summary
        position, numbered = summary.position, schema.numbered
        height = max(changes.tip.height for changes in self.made if changes.tip is not None)
        faults = [
            *(("delete", numbered(b"n", at)) for at in range(1, 12)),
            ("delete", numbered(b"l", position)),
            ("delete", numbered(b"f", summary.finalized - 1)),
            ("delete", numbered(b"b", summary.batches - 1)),
            ("delete", numbered(b"k", height)),
            ("delete", numbered(b"q", summary.finalized - 1)),
            ("delete", schema.SUMMARY),
            ("delete", schema.TIP),
            *(("put", numbered(b"n", at)) for at in (0, 1, 12, 13)),
            *(("put", numbered(b"l", at)) for at in (position + 1, position + 2)),
            ("put", numbered(b"f", summary.finalized)),
            ("put", numbered(b"b", summary.batches)),
            ("put", numbered(b"k", height + 1)),
            ("put", numbered(b"q", 0)),
            ("put", numbered(b"q", summary.finalized - 1)),
            ("put", numbered(b"p", 0)),
        ]
        for action, key in faults:
            copy = Path(self.mktemp())
            shutil.copytree(self.cold, copy)
            found = open_rows(copy)
            batch = WriteBatch(raw_mode=True)
            if action == "delete":
                batch.delete(key)
            else:
                batch.put(key, bytes(8))
            found.write(batch)
            found.close()
            with self.assertRaisesRegex(StorageError, "damaged", msg=f"{action} {key!r}"):
                reopen(copy)

    def test_what_waits_is_final(self) -> None:
        """As many as are counted, but one beyond the end of the list of final ones."""
        found = open_rows(self.cold)
        batch = WriteBatch(raw_mode=True)
        place = schema.number(self.made[-1].summary.finalized)
        batch.put(b"q" + place, bytes(32))
        batch.delete(b"q" + schema.number(self.made[-1].summary.finalized - 1))
        found.write(batch)
        found.close()
        with self.assertRaisesRegex(StorageError, "waits for a block"):
            reopen(self.cold)


class Opening(SynchronousTestCase):
    """Whose store it is, and who may open it."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        store = reopen(self.base)
        self.made = change_sets(8, 3, store)
        store.close()

    def test_a_store_belongs_to_one_node_of_one_network(self) -> None:
        """Another genesis or another key is refused by name, and changes nothing (O-03)."""
        for _ in range(2):
            with self.assertRaisesRegex(ConfigurationError, f"another network: its genesis is {GENESIS.hash}"):
                open_store(self.base, "00" * 32, OWNER.public_hex)
            with self.assertRaisesRegex(ConfigurationError, f"another masternode: {OWNER.public_hex}"):
                open_store(self.base, GENESIS.hash, "00" * 32)
        store = reopen(self.base)
        self.assertEqual(Prefixes(self.made).of(store), 3)
        store.close()

    def test_a_store_is_open_once(self) -> None:
        """A second opener is an identity conflict, in this process and in another (P-26)."""
        store = reopen(self.base)
        with self.assertRaises(IdentityConflict):
            reopen(self.base)
        opener = subprocess.run(
            [sys.executable, "-c", OPENER, str(self.base), GENESIS.hash, OWNER.public_hex],
            cwd=Path(__file__).parent.parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(opener.stdout, f"the store {self.base} is in use by another process\n", opener.stderr)
        store.commit(self.made[-1])
        store.close()
        reopen(self.base).close()

    def test_another_format_is_refused(self) -> None:
        """What an earlier or a later version wrote is not read, whatever else it says of itself (O-06)."""

        class Other(msgspec.Struct):
            version: int
            genesis: str
            node_key: str
            colour: str

        for version in (schema.FORMAT_VERSION - 1, schema.FORMAT_VERSION + 1):
            found = open_rows(self.base)
            batch = WriteBatch(raw_mode=True)
            batch.put(schema.IDENTITY, pack(Other(version, GENESIS.hash, OWNER.public_hex, "blue")))
            found.write(batch)
            found.close()
            with self.assertRaisesRegex(ConfigurationError, f"format {version}, this program reads"):
                reopen(self.base)

    def test_a_place_that_is_no_directory_is_refused(self) -> None:
        """A file where the store should be, or on the way to it: one sentence (P-25)."""
        path = Path(self.mktemp())
        path.write_text("x")
        for place in (path, path / "store"):
            with self.assertRaisesRegex(ConfigurationError, "cannot be made"):
                reopen(place)

    def test_a_directory_that_cannot_be_written_is_refused(self) -> None:
        """A mount or a mode that forbids it (P-25)."""
        if os.geteuid() == 0:
            raise SkipTest("root may write everywhere")
        self.base.chmod(0o500)
        self.addCleanup(self.base.chmod, 0o700)
        with self.assertRaisesRegex(ConfigurationError, "not writable"):
            reopen(self.base)

    def test_a_start_that_was_cut_short_can_be_repeated(self) -> None:
        """Only a directory, or a store without a row: as new."""
        path = Path(self.mktemp())
        path.mkdir()
        reopen(path).close()
        found = open_rows(path)
        batch = WriteBatch(raw_mode=True)
        batch.delete(schema.IDENTITY)
        found.write(batch)
        found.close()
        store = reopen(path)
        self.assertIsNone(store.summary())
        store.close()


class Disk:
    """A RocksDB whose disk fails: ``write`` and ``close`` raise."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.writes: list[Any] = []

    def write(self, batch: Any, options: Any) -> None:
        self.writes.append(options)
        raise OSError(5, "Input/output error")

    def close(self) -> None:
        self.inner.close()
        raise OSError(5, "Input/output error")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class FailingDisk(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.store = reopen(self.path)
        self.made = change_sets(8, 6, MemoryStore())
        for changes in self.made[:3]:
            self.store.commit(changes)
        self.disk = self.store._rows._db = Disk(self.store._rows._db)

    def test_a_failed_write_is_the_last(self) -> None:
        """After an error of the disk nothing more is accepted: a second sync could lie (P-14)."""
        for _ in range(3):
            with self.assertRaisesRegex(StorageError, "Input/output error"):
                self.store.commit(self.made[3])
        self.assertEqual([options.sync for options in self.disk.writes], [True])
        self.assertEqual(Prefixes(self.made).of(self.store), 3)
        self.store.close()

    def test_a_first_write_that_fails_is_told(self) -> None:
        """A disk that is full from the start: what writes the identity raises StorageError too."""
        with self.assertRaisesRegex(StorageError, "Input/output error"):
            self.store._rows.write(WriteBatch(raw_mode=True))
        self.disk.inner.close()

    def test_a_close_that_fails_is_told(self) -> None:
        """Unless a commit failed before, and that was told; the store is closed in any case."""
        with self.assertRaisesRegex(StorageError, "did not close"):
            self.store.close()
        self.store.close()
        store = reopen(self.path)
        self.assertEqual(Prefixes(self.made).of(store), 3)
        store.close()


class Processes(SynchronousTestCase):
    """Another process holds the store."""

    def setUp(self) -> None:
        self.prefixes = Prefixes(change_sets(7, 40, MemoryStore()))

    def child(self, path: Path, **limits: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent.parent,
            **limits,
        )

        def end() -> None:
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def test_kill_nine_loses_nothing_that_was_acknowledged(self) -> None:
        """Whatever the child had printed when it was killed is there, in whole change sets (P-18)."""
        chance = random.Random()
        for most in (0.0, 0.005, 0.02, 0.05):
            path = Path(self.mktemp()).absolute()
            process = self.child(path)
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(chance.uniform(0, most))
            process.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in (first, *process.stdout) if line.endswith("\n")]
            process.wait()
            store = reopen(path)
            self.assertGreaterEqual(self.prefixes.of(store), acknowledged[-1])
            store.close()

    def test_a_full_disk_ends_the_commits_and_loses_nothing(self) -> None:
        """The write that does not fit is a StorageError; with room again all that was acknowledged is there (P-13)."""

        def small() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

        path = Path(self.mktemp()).absolute()
        process = self.child(path, preexec_fn=small)
        said, complaint = process.communicate(timeout=30)
        self.assertRegex(complaint, r"^StorageError a change could not be made durable: .+\nagain the store takes no")
        self.assertIn("\nclosed\n", complaint)
        acknowledged = [int(line) for line in said.splitlines()]
        self.assertGreater(len(acknowledged), 2)
        store = reopen(path)
        held = self.prefixes.of(store)
        self.assertGreaterEqual(held, acknowledged[-1])
        self.assertIn(f"\nsummary {self.prefixes.states[acknowledged[-1]]['summary'].position}\n", complaint)
        store.close()
