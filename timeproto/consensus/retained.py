"""How much the votes of each masternode may keep in memory: a batch stays as long as one vote in it counts here.

A liar can sign a new batch of twelve thousand votes for each payment, one of them new; and an honest masternode's busy
batches stay whole if one contested payment is in each. Without a bound on what batches carry, those on payments and on
votes would bound no memory. Beyond it the batches go whose votes count least; what is still wanted of them is asked for
again when it is late.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from timeproto import limits
from timeproto.model.vote import VoteBatch

BATCH = 8
"""What a batch weighs beside its votes, each of which weighs 1."""


@attrs.define(eq=False)
class Kept:
    """A batch that is kept since ``counting`` of its votes count, or are being counted."""

    signed: VoteBatch
    counting: int = 0

    @property
    def weight(self) -> int:
        batch = self.signed
        return BATCH + len(batch.lock) + len(batch.commit) + len(batch.abort)

    @property
    def worth(self) -> tuple[float, str]:
        """How much of it counts; among equals there is an order too."""
        return self.counting / self.weight, self.signed.signature


class Retained:
    """The batches that are kept, by voter and signature."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Kept]] = {}
        self._weights: dict[str, int] = {}

    def keep(self, batch: VoteBatch) -> Kept:
        """The place of a batch whose votes are about to be counted: held until :meth:`let_go`, since it may be none."""
        batches = self._kept.setdefault(batch.voter, {})
        kept = batches.get(batch.signature)
        if kept is None:
            kept = batches[batch.signature] = Kept(batch)
            self._weights[batch.voter] = self._weights.get(batch.voter, 0) + kept.weight
        kept.counting += 1
        return kept

    def let_go(self, kept: Kept) -> None:
        """One reason less to keep a batch."""
        kept.counting -= 1
        if not kept.counting:
            self._forget(kept)

    def remove(self, carriers: Iterable[object]) -> None:
        """One vote of each counts no more; nothing for what is not kept here, as this replica's own batches are not."""
        for carrier in carriers:  # let go in place: a dozen times for each payment
            if isinstance(carrier, Kept):
                carrier.counting -= 1
                if not carrier.counting:
                    self._forget(carrier)

    def forget_least(self, voter: str) -> Iterator[Kept]:
        """The batches of ``voter`` whose votes must not count any more for want of room: those of least worth."""
        if self._weights.get(voter, 0) <= limits.VOTES_KEPT:
            return
        for kept in sorted(self._kept[voter].values(), key=lambda each: each.worth):
            if self._weights[voter] <= limits.VOTES_KEPT * 3 // 4:  # so that this is not done for each new vote
                break
            self._forget(kept)
            yield kept

    def _forget(self, kept: Kept) -> None:
        del self._kept[kept.signed.voter][kept.signed.signature]
        self._weights[kept.signed.voter] -= kept.weight
