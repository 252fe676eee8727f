"""A store whose power can be cut at any commit."""

from __future__ import annotations

from typing import Any, Literal

from timeproto.errors import StorageError
from timeproto.model.ledger import Changes, Store


class PowerCut(Exception):
    """The lights went out."""


class CutStore:
    """Delegates to ``inner``, until the commit at which the power is cut: before it reached the disk, or after."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.commits = 0
        self._cut: tuple[int, Literal["before", "after"]] | None = None
        self._dead = False

    def cut_at(self, number: int, when: Literal["before", "after"]) -> None:
        """Cut the power at commit ``number``, counted from 1."""
        self._cut = number, when

    def commit(self, changes: Changes) -> None:
        if self._dead:
            raise StorageError("the power is cut")
        self.commits += 1
        if self._cut == (self.commits, "before"):
            self._dead = True
            raise PowerCut
        self.inner.commit(changes)
        if self._cut == (self.commits, "after"):
            self._dead = True
            raise PowerCut

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
