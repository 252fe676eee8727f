"""Torn logs, flipped bits, full disks, kill -9: the store opens with a prefix of what was committed, or refuses."""

from __future__ import annotations

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

from twisted.trial.unittest import SynchronousTestCase

from tests.test_storage.payments import GENESIS, OWNER, change_sets
from timeproto.errors import ConfigurationError, IdentityConflict, StorageError
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import RocksStore, open_store

CHILD = """
import sys
from tests.test_storage.payments import GENESIS, OWNER, change_sets
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import open_store
made = change_sets(7, 40, MemoryStore())
store = open_store(sys.argv[1], GENESIS.hash, OWNER.public_hex)
for number, changes in enumerate(made, 1):
    store.commit(changes)
    print(number, flush=True)
while True:
    store.commit(made[-1])
"""


def position(store: Any) -> int:
    summary = store.summary()
    return 0 if summary is None else summary.position


class Damage(SynchronousTestCase):
    """A store with twelve change sets in its log, copied and damaged again and again."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp())
        store = open_store(self.base, GENESIS.hash, OWNER.public_hex)
        made = change_sets(8, 12, MemoryStore())
        for changes in made:
            store.commit(changes)
        # Copied as it lies open: what a power cut would leave.
        self.cold = Path(self.mktemp())
        shutil.copytree(self.base, self.cold)
        store.close()
        self.positions = [0, *(changes.summary.position for changes in made)]
        self.made = made

    def open_copy(self, change: Any) -> RocksStore | None:
        """Opens a copy after ``change(folder)``; None if it refuses, which it must do with StorageError."""
        copy = Path(self.mktemp())
        shutil.copytree(self.cold, copy)
        change(copy)
        try:
            return open_store(copy, GENESIS.hash, OWNER.public_hex)
        except StorageError:
            return None

    def assert_prefix(self, store: RocksStore) -> int:
        """The store holds the first k change sets, whole, and nothing else; returns k."""
        found = position(store)
        self.assertIn(found, self.positions)
        if store.summary() is None:
            return 0
        k = self.positions.index(found, 1) if found else 1
        for number, changes in enumerate(self.made, 1):
            for txid, record in changes.transactions.items():
                self.assertEqual(store.transaction(txid), record if number <= k else None)
        state = MemoryStore()
        for changes in self.made[:k]:
            state.commit(changes)
        for outpoint in {outpoint for changes in self.made for outpoint in changes.coins}:
            self.assertEqual(store.coin(outpoint), state.coin(outpoint))
        self.assertEqual(store.transitions(0, 10_000), state.transitions(0, 10_000))
        return k

    def log_of(self, folder: Path) -> Path:
        return max(folder.glob("*.log"), key=lambda path: path.stat().st_size)

    def test_a_log_torn_anywhere_gives_back_whole_change_sets(self) -> None:
        """Cut at forty places: a prefix each time, longer with more of the log (P-15)."""
        size = self.log_of(self.cold).stat().st_size
        kept = []
        for at in sorted({*range(0, size, max(1, size // 40)), size}):

            def cut(folder: Path, at: int = at) -> None:
                os.truncate(self.log_of(folder), at)

            store = self.open_copy(cut)
            if store is None:
                continue  # cut within the identity record: refused
            kept.append(self.assert_prefix(store))
            store.close()
        self.assertEqual(kept, sorted(kept))
        self.assertEqual(kept[-1], 12)
        self.assertGreater(len(set(kept)), 5)

    def test_a_flipped_bit_is_found(self) -> None:
        """Anywhere in any file: a refusal, or a prefix of what was committed; never another state (P-16)."""
        chance = random.Random(1)
        refused = opened = 0
        files = [path.name for path in self.cold.iterdir() if not path.name.startswith(("LOG", "LOCK", "OPTIONS"))]
        for _ in range(60):
            name = chance.choice(files)

            def flip(folder: Path, name: str = name) -> None:
                path = folder / name
                data = bytearray(path.read_bytes())
                if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                    path.write_bytes(data)

            store = self.open_copy(flip)
            if store is None:
                refused += 1
                continue
            opened += 1
            try:
                self.assert_prefix(store)
            except StorageError:
                refused += 1
            store.close()
        self.assertGreater(refused, 10)
        self.assertGreater(opened, 0)

    def test_a_store_belongs_to_one_node_of_one_network(self) -> None:
        """Another genesis or another key is refused by name (O-03)."""
        with self.assertRaisesRegex(ConfigurationError, "another network"):
            open_store(self.base, "00" * 32, OWNER.public_hex)
        with self.assertRaisesRegex(ConfigurationError, "another masternode"):
            open_store(self.base, GENESIS.hash, "00" * 32)

    def test_a_store_is_open_once(self) -> None:
        """A second opener is an identity conflict, in this process and in another (P-26)."""
        store = open_store(self.base, GENESIS.hash, OWNER.public_hex)
        with self.assertRaises(IdentityConflict):
            open_store(self.base, GENESIS.hash, OWNER.public_hex)
        store.close()
        open_store(self.base, GENESIS.hash, OWNER.public_hex).close()

    def test_a_newer_format_is_refused(self) -> None:
        """What a later version wrote is not read by an earlier one (O-06)."""
        from timeproto.storage import schema
        from timeproto.wire.codec import pack

        store = open_store(self.base, GENESIS.hash, OWNER.public_hex)
        newer = schema.Identity(schema.FORMAT_VERSION + 1, GENESIS.hash, OWNER.public_hex)
        store._db.put(schema.IDENTITY, pack(newer))
        store.close()
        with self.assertRaisesRegex(ConfigurationError, "format 2"):
            open_store(self.base, GENESIS.hash, OWNER.public_hex)

    def test_a_place_that_is_no_directory_is_refused(self) -> None:
        """A file where the store should be: one sentence (P-25)."""
        path = Path(self.mktemp())
        path.write_text("x")
        with self.assertRaises(ConfigurationError):
            open_store(path, GENESIS.hash, OWNER.public_hex)

    def test_a_failed_write_is_the_last(self) -> None:
        """After an error of the disk nothing more is accepted: a second sync could lie (P-14)."""

        class Disk:
            def __init__(self, inner: Any) -> None:
                self.inner = inner
                self.writes = 0

            def write(self, *_: Any) -> None:
                self.writes += 1
                raise OSError(5, "Input/output error")

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        store = open_store(self.base, GENESIS.hash, OWNER.public_hex)
        disk = Disk(store._db)
        store._db = disk
        for _ in range(3):
            with self.assertRaises(StorageError):
                store.commit(self.made[-1])
        self.assertEqual(disk.writes, 1)
        store.close()


class Processes(SynchronousTestCase):
    """Another process holds the store."""

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
        made = change_sets(7, 40, MemoryStore())
        for moment in (0.0, 0.003, 0.02):
            path = Path(self.mktemp()).absolute()
            process = self.child(path)
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in (first, *process.stdout) if line.endswith("\n")]
            process.wait()
            store = open_store(path, GENESIS.hash, OWNER.public_hex)
            committed = position(store)
            self.assertGreaterEqual(committed, made[acknowledged[-1] - 1].summary.position)
            self.assertIn(committed, [changes.summary.position for changes in made])
            self.assertEqual(len(store.transitions(0, 10_000)), committed)
            store.close()

    def test_a_full_disk_ends_the_commits_and_loses_nothing(self) -> None:
        """The write that does not fit is a StorageError; with room again all that was acknowledged is there (P-13)."""

        def small() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

        path = Path(self.mktemp()).absolute()
        process = self.child(path, preexec_fn=small)
        said, complaint = process.communicate(timeout=30)
        self.assertIn("StorageError", complaint)
        acknowledged = [int(line) for line in said.splitlines()]
        self.assertGreater(len(acknowledged), 2)
        made = change_sets(7, 40, MemoryStore())
        store = open_store(path, GENESIS.hash, OWNER.public_hex)
        self.assertGreaterEqual(position(store), made[acknowledged[-1] - 1].summary.position)
        store.close()
