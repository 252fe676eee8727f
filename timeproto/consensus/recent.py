"""What was put in last: a bounded memory, for what can be asked of the disk but need not be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most ``size`` entries, and always the newest half of that many.

    In two halves, of which the older goes when the newer is full. To take the oldest entry out of a dictionary, time
    and again, is slow: it looks past the places of all that were taken out before (measured: 6 µs of 20,000).
    """

    __slots__ = ("_half", "_newer", "_older")

    def __init__(self, size: int) -> None:
        self._half = (size + 1) // 2
        self._newer: dict[K, V] = {}
        self._older: dict[K, V] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._newer or key in self._older

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def get(self, key: K) -> V | None:
        """None if it is not here, or is forgotten."""
        value = self._newer.get(key)
        return self._older.get(key) if value is None else value

    def others(self, keys: Iterable[K]) -> list[K]:
        """Those of ``keys`` that are not here, in their order."""
        newer, older = self._newer, self._older
        return [key for key in keys if key not in newer and key not in older]

    def put(self, key: K, value: V) -> None:
        """It counts as new from now on, whatever was here under this key."""
        self._newer[key] = value
        if len(self._newer) >= self._half:
            self._older, self._newer = self._newer, {}

    def forget(self, key: K) -> None:
        """It makes room for others. Nothing if it is not here."""
        self._newer.pop(key, None)
        self._older.pop(key, None)
