"""Limits of a run: so tight that a small run meets them, and so impatient that every height takes rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from timeproto import limits

TIGHT: dict[str, float] = {
    "BATCH_VOTES": 3,
    "BLOCK_TRANSACTIONS": 3,
    "BLOCK_WORTH": 2,
    "CONFIRMED_AT_ONCE": 1,
    "CONFIRM_PAUSE": 1,
    "BLOCK_VERDICTS": 2,
    "BLOCKS_PAGE": 2,
    "BODIES_KEPT": 4,
    "BACKLOG": 6,
    "ORPHANS_PEER": 8,
    "ORPHANS_WALLET": 6,
    "IN_FLIGHT": 6,
    "IN_FLIGHT_PEER": 12,
    "IN_FLIGHT_BYTES": 1_500,
    "IN_FLIGHT_PEER_BYTES": 3_000,
    "RIVALS_PER_OUTPOINT": 2,
    "EARLY_VOTES": 12,
    "EARLY_WAIT": 4,
    "ORPHAN_WAIT_PEER": 6,
    "VOTES_KEPT": 100,
    "RECENTLY_FINAL": 6,
    "RECORDS_AT_HAND": 4,
    "COINS_AT_HAND": 16,
    "VERIFIED_WORDS": 40,
    "REFUSED_CACHE": 2,
    "EVIDENCE_PER_VOTER": 2,
    "FETCH": 5,
    "CATCH_UP_PAGE": 3,
    "BATCHES_PAGE": 2,
    "STEP_INPUTS": 6,
}
"""By their names in :mod:`timeproto.limits`; what a schema was made with stays as it is there."""


HASTY: dict[str, float] = {"PROPOSE_TIME": 0.12, "VOTE_TIME": 0.04, "ROUND_TIME": 0.12}
"""Rounds that end before everybody has spoken."""


@contextmanager
def changed(kinds: Collection[str]) -> Iterator[None]:
    """Within, the limits are those of :data:`TIGHT` if ``kinds`` have "limits", and of :data:`HASTY` if "haste"."""
    wanted: dict[str, float] = {}
    if "limits" in kinds:
        wanted |= TIGHT
    if "haste" in kinds:
        wanted |= HASTY
    usual = {name: getattr(limits, name) for name in wanted}
    for name, value in wanted.items():
        setattr(limits, name, value)
    try:
        yield
    finally:
        for name, value in usual.items():
            setattr(limits, name, value)
