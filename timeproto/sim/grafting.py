"""How a bug is planted: one attribute of a class or module is another for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Graft:
    """``make`` gets what ``place`` has under ``name`` and returns what it is to have."""

    place: Any
    name: str
    make: Callable[[Any], Any]

    def plant(self) -> Any:
        """Returns what was there."""
        original = vars(self.place)[self.name]
        setattr(self.place, self.name, self.make(original))
        return original

    def remove(self, original: Any) -> None:
        setattr(self.place, self.name, original)
