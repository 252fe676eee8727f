"""Many runs, and what they add up to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import attrs

from timeproto.sim.run import Outcome, Plan, simulate
from timeproto.sim.tally import RARE, Tally
from timeproto.sim.trace import LAST

ENOUGH = 1_000
"""Runs with all faults among which every rare situation must have come up."""


@attrs.define
class Report:
    """The sum of the runs that were added, in the order of their seeds; ``broken`` are those with a breach."""

    seeds: int = 0
    elapsed: int = 0
    tally: Tally = attrs.field(factory=Tally)
    broken: list[Outcome] = attrs.field(factory=list)
    _hash: Any = attrs.field(factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.elapsed += outcome.elapsed
        self.tally.add(outcome.tally)
        self._hash.update(outcome.digest.encode("ascii"))
        if outcome.broken is not None:
            self.broken.append(outcome)

    @property
    def digest(self) -> str:
        """Over the traces of all runs."""
        return str(self._hash.hexdigest())

    @property
    def virtual_hours(self) -> float:
        return self.elapsed / 3_600_000_000

    def never_seen(self, masternodes: int) -> list[str]:
        """The rare situations that did not come up, of those that can with so many."""
        if masternodes < 4:
            return []  # nobody may fail, so little can happen
        return [name for name in RARE if not self.tally.rare[name]]


def plans(template: Plan, first: int, count: int) -> Iterator[Plan]:
    """``template`` with one seed after the other."""
    return (attrs.evolve(template, seed=seed) for seed in range(first, first + count))


def again(plan: Plan, keep: int = LAST) -> Outcome:
    """The same run once more, with its timeline kept."""
    return simulate(attrs.evolve(plan, keep=keep))
