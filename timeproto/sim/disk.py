"""The disk of a masternode: a store whose commits take time, are lost in a crash, or are as they were long ago."""

from __future__ import annotations

import random
from typing import Any

from timeproto.model.ledger import Changes
from timeproto.sim.events import MILLISECOND
from timeproto.storage.memory import MemoryStore


class Disk:
    """``store`` is what is durable. ``slow`` is by how much a commit takes longer than usual."""

    def __init__(self, founded: MemoryStore, chance: random.Random) -> None:
        self.store = copy_of(founded)
        self.slow = 1
        self._backup = founded
        self._chance = chance

    def latency(self) -> int:
        """How long the next commit takes, in microseconds."""
        return self.slow * (2 * MILLISECOND + int(self._chance.random() * 8 * MILLISECOND))

    def commit(self, changes: Changes) -> None:
        self.store.commit(changes)

    def back_up(self) -> None:
        """Keep a copy of what is durable now."""
        self._backup = copy_of(self.store)

    def restore_backup(self) -> None:
        """What was written since the backup was never there."""
        self.store = copy_of(self._backup)


def copy_of(store: MemoryStore) -> MemoryStore:
    """An independent store with the same contents: the nouns in it are immutable, its containers are not."""
    twin = MemoryStore()
    for name, value in vars(store).items():
        setattr(twin, name, _copied(value))
    return twin


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
    return list(value) if isinstance(value, list) else value
