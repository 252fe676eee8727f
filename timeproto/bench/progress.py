"""How far a measurement is, on standard error: a bar that is redrawn on a terminal, a line a stage anywhere else."""

from __future__ import annotations

import sys
from typing import TextIO

_WIDTH = 30


class Progress:
    """``stage`` names what is done now; ``show`` draws how much of it is."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._redraws = self._stream.isatty()
        self._name = ""
        self._drawn = 0

    def stage(self, name: str) -> None:
        self.clear()
        self._name = name
        if not self._redraws:
            self._stream.write(f"{name} …\n")
            self._stream.flush()
        else:
            self.show(0.0)

    def show(self, share: float, note: str = "") -> None:
        """``share`` of the stage is done, from 0 to 1."""
        if not self._redraws:
            return
        filled = round(_WIDTH * min(1.0, max(0.0, share)))
        line = f"[{'█' * filled}{'·' * (_WIDTH - filled)}] {self._name}{f', {note}' if note else ''}"[:118]
        self._stream.write("\r" + line.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(line)

    def clear(self) -> None:
        """Leaves the line empty, for what is printed next."""
        if self._redraws and self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
        self._drawn = 0
