"""What tests of damage need: what a store may hold, and a store that lies as a power cut left it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_storage.payments import GENESIS, OWNER, everything
from timeproto.errors import StorageError
from timeproto.model.ledger import Changes
from timeproto.storage import rows
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import RocksStore, open_store
from timeproto.storage.rows import Rows


def reopen(path: Path) -> RocksStore:
    return open_store(path, GENESIS.hash, OWNER.public_hex)


def open_rows(path: Path) -> Rows:
    return rows.open_rows(path, OWNER.public_hex)


class Prefixes:
    """What a store may hold that was given the change sets ``made``: the first k of them, for some k."""

    def __init__(self, made: list[Changes]) -> None:
        memory = MemoryStore()
        self.states = [everything(memory)]
        for changes in made:
            memory.commit(changes)
            self.states.append(everything(memory))

    def of(self, store: Any) -> int:
        """k; :class:`AssertionError` if the store holds anything else."""
        answers = everything(store)
        for k, state in enumerate(self.states):
            if state == answers:
                return k
        raise AssertionError(f"no prefix: {answers['summary']}")


class DamageCase(SynchronousTestCase):
    """A store lies as a power cut left it; its copies are damaged, each in another way."""

    def lie(self, made: list[Changes], *, sorted_first: int = 0) -> None:
        """``made`` committed to ``self.cold``: ``sorted_first`` of them in a table, the others in the log."""
        base = Path(self.mktemp())
        store = reopen(base)
        for changes in made[:sorted_first]:
            store.commit(changes)
        if sorted_first:
            store.close()
            store = reopen(base)
        for changes in made[sorted_first:]:
            store.commit(changes)
        self.cold = Path(self.mktemp())
        shutil.copytree(base, self.cold)
        store.close()
        self.made = made
        self.prefixes = Prefixes(made)

    def recovered(self, change: Callable[[Path], None]) -> int | None:
        """How many change sets a copy holds after ``change(copy)``; None if it refuses, to be opened or to be read."""
        copy = Path(self.mktemp())
        shutil.copytree(self.cold, copy)
        change(copy)
        store = None
        try:
            store = reopen(copy)
            return self.prefixes.of(store)
        except StorageError:
            return None
        finally:
            if store is not None:
                store.close()
            shutil.rmtree(copy)

    def file(self, pattern: str) -> Path:
        """The largest file of that name."""
        return max(self.cold.glob(pattern), key=lambda path: path.stat().st_size)

    def cut(self, path: Path, at: int) -> int | None:
        return self.recovered(lambda copy: os.truncate(copy / path.name, at))

    def lose(self, path: Path) -> int | None:
        return self.recovered(lambda copy: (copy / path.name).unlink())

    def overwrite(self, path: Path, at: int, data: bytes) -> int | None:
        def change(copy: Path) -> None:
            with (copy / path.name).open("r+b") as file:
                file.seek(at)
                file.write(data)

        return self.recovered(change)

    def flip(self, path: Path, at: int) -> int | None:
        return self.overwrite(path, at, bytes([path.read_bytes()[at] ^ 1 << at % 8]))


def spread(size: int, count: int) -> list[int]:
    """``count`` offsets over a file of ``size`` bytes, both ends among them."""
    return sorted({round(number * (size - 1) / (count - 1)) for number in range(count)})
