"""What must hold, always (protocol §10), and how a breach is told."""

from __future__ import annotations

PROMISES: dict[int, str] = {
    1: "no two final transactions spend one coin",
    2: "final is final",
    3: "value is kept",
    4: "nobody honest signs two conflicting votes",
    5: "decided blocks are identical, commitments agree",
    6: "every transition is told once, in order",
    7: "after faults heal everything is decided",
    8: "memory stays inside its bounds",
    0: "the code does not fail",
}
"""By their number in protocol §10; 0 stands for what needs no promise."""


class Broken(Exception):
    """A promise did not hold. ``invariant`` is the finer name in the catalogue of faults (I-1, S-3, L-2 …)."""

    def __init__(self, promise: int, invariant: str, what: str) -> None:
        super().__init__(f"{promise}. {PROMISES[promise]} ({invariant}): {what}")
        self.promise = promise
        self.invariant = invariant
        self.what = what
