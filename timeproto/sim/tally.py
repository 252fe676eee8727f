"""What a run, or many, did: faults by kind, rare situations by name, and what came of the payments."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs

RARE: dict[str, str] = {
    "split votes": "no transaction that wants a coin can gather a quorum of lock votes any more",
    "lock and abort certificate": "one transaction can have both at once",
    "crash between vote and commit": "a masternode dies with signed votes that never became durable",
    "crash between commit and send": "a masternode dies with durable votes that nobody has heard",
    "crash between quorum and proof": "a masternode dies when it has just found a transaction final",
    "crash in recovery": "a masternode dies before it votes again after a restart",
    "all down at once": "no masternode is up",
    "no quorum connected": "a partition leaves no side with a quorum",
    "certificate before transaction": "a quorum of votes, or a proof, is there before the transaction",
    "late vote after final": "a vote comes for what is final already",
    "ended by a rival's block": "a transaction ends because a block contains one that conflicts with it",
    "final by a block": "a transaction is final by a verdict, without a finality proof",
    "cancel aborted": "a payment that its owner cancelled is aborted",
    "cancel too late": "a cancelled payment is final",
    "confirmed in parts": "a block is decided, and not all that it contains is marked Confirmed yet",
    "crash while confirming": "a masternode dies before all of its last block is marked",
    "caught up by blocks": "a masternode applies a block when others have decided the next already",
    "proposer isolated": "whoever is to propose is cut off",
    "block evidence": "two words of one voter for one place in the agreement are found out",
    "lock evidence": "two conflicting lock votes of one voter are found out",
    "two signatures of one transaction": "masternodes hold one txid under different valid signatures",
    "verdict commit": "a block lets a contested transaction through by its lock certificate",
    "verdict abort": "a block ends a contested transaction",
    "decided in a later round": "the first proposal of a height did not make it",
    "decided what an earlier round proposed": "a block is decided in a later round than it was made in",
    "proposed again": "a proposer offers what a quorum prevoted before",
    "lock moved": "a masternode locked to one block goes over to another, for a later polka",
    "freed coin spent at once": "its owner pays anew before all masternodes know that it is free",
    "freed coin spent again": "a coin of an ended transaction is paid anew",
    "identity conflict": "a masternode on an old backup is found out",
}
"""Situations in which bugs hide. A batch of runs in which one of them never came up has shown nothing about it."""


@attrs.define
class Tally:
    faults: Counter[str] = attrs.field(factory=Counter)
    rare: Counter[str] = attrs.field(factory=Counter)
    counts: Counter[str] = attrs.field(factory=Counter)

    def fault(self, kind: str) -> None:
        self.faults[kind] += 1

    def saw(self, situation: str) -> None:
        self.rare[situation] += 1

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] += by

    def add(self, other: Tally) -> None:
        self.faults.update(other.faults)
        self.rare.update(other.rare)
        self.counts.update(other.counts)

    def summary(self) -> dict[str, Any]:
        return {
            "counts": dict(sorted(self.counts.items())),
            "faults": dict(sorted(self.faults.items())),
            "rare": {name: self.rare[name] for name in RARE},
        }
