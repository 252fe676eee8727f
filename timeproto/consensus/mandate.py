"""Whether this replica may vote, and why not (protocol §4, §9).

A replica that starts may have forgotten what it signed: an old copy of its data, or none. So it casts no vote until
a quorum of masternodes, itself among them, has told what it holds of this replica's votes, and until what was final
and decided with those masternodes is so here. And it never votes again once something happened that cannot be.

If it is shown meanwhile that it committed to a payment which is final, and which it does not know, then its data are
old, and it votes for nothing before that payment is final here (:func:`timeproto.consensus.own_votes.compare_proven`).
"""

from __future__ import annotations

from timeproto import limits
from timeproto.model.masternodes import MasternodeSet
from timeproto.model.vote import VoteKind


class Mandate:
    """What speaks against voting; nothing does once :attr:`not_voting` is None."""

    def __init__(self, masternodes: MasternodeSet) -> None:
        self._needed = masternodes.quorum
        self._halted: str | None = None
        self._vouched: set[str] = set()
        self._level: set[str] = set()
        self._same_chain: set[str] = set()
        self._awaited: dict[str, None] = {}
        self._doubts: dict[str, VoteKind] = {}
        self._cut: set[str] = set()
        self._word = 0
        self._is_due = True
        self._waited = 0
        self._heard = 1

    @property
    def is_halted(self) -> bool:
        """True if this replica will never vote in this life."""
        return self._halted is not None

    @property
    def is_met(self) -> bool:
        """True once a quorum has told what it knows, and all that is here."""
        return self._is_heard and not self._is_doubtful

    @property
    def is_to_be_judged(self) -> bool:
        """True if nothing is left but votes of this replica's that it was shown and does not know: at once, and then
        once in each tick, for a look at all of them costs something."""
        return self._is_due and self._is_heard and self._is_doubtful

    @property
    def waited(self) -> int:
        """For how many ticks nothing else has been left."""
        return self._waited

    @property
    def _is_heard(self) -> bool:
        return self._heard >= self._needed and not self._awaited

    @property
    def _is_doubtful(self) -> bool:
        return bool(self._doubts or self._word or not self._cut.isdisjoint(self._vouched))

    @property
    def not_voting(self) -> str | None:
        """Why this replica casts no votes, in words; None while it votes."""
        if self._halted is not None:
            return self._halted
        if self.is_met:
            return None
        if self._is_heard:
            return (
                "waiting for the end of what this node is told to have voted for: it has lost what it knew of that, or"
                " another process uses its key"
            )
        if self._heard >= self._needed:
            return (
                f"waiting for {len(self._awaited)} payments that are final and that this node voted for: it has lost"
                " what it knew of them"
            )
        return (
            "waiting for peers to say which of this node's votes they hold, and for their blocks and final payments"
            f" ({self._heard} of {self._needed} masternodes)"
        )

    def halt(self, reason: str) -> None:
        """Cast no vote ever again in this life; the first reason stays."""
        self._halted = self._halted or reason

    def vouched(self, peer: str) -> None:
        """``peer`` told all it holds of this replica's votes for what is undecided."""
        if not self.is_met:  # it needs nobody's word any more
            self._vouched.add(peer)
            self._count()

    def has_vouched(self, peer: str) -> bool:
        return peer in self._vouched

    def level(self, peer: str) -> None:
        """What was final with ``peer`` when it was first asked is final here: no vote can go against that."""
        self._level.add(peer)
        self._count()

    def same_chain(self, peer: str) -> None:
        """The blocks that ``peer`` had when it was first asked are here."""
        self._same_chain.add(peer)
        self._count()

    def await_final(self, txid: str) -> None:
        """Not before this payment is final here. Beyond a bound it is as if the proof had not been shown: nobody has to
        show it, and what a quorum holds to be final is waited for in any case."""
        if len(self._awaited) < limits.EARLY_VOTES:
            self._awaited[txid] = None

    def doubt(self, txid: str, kind: VoteKind, peer: str) -> None:
        """``peer`` showed a vote of this replica's that it does not know, for what is not over here: it is judged when
        everything else is met. Beyond a bound it is shown in vain, and ``peer`` is to vouch again when these are
        judged: most are over by then. Whoever kept a node's old votes has more of them than fit here."""
        if txid in self._doubts or len(self._doubts) < limits.EARLY_VOTES:
            self._doubts[txid] = kind
        else:
            self._cut.add(peer)

    def doubt_word(self, height: int) -> None:
        """The same of a word about the block at ``height``, which is not decided here."""
        self._word = max(self._word, height)

    def take_doubts(self) -> tuple[dict[str, VoteKind], int]:
        """The votes by txid, and the height of the highest block of a word; 0 if there is none. Who vouched and showed
        more than these is asked again."""
        doubts, word, self._doubts, self._word = self._doubts, self._word, {}, 0
        self._is_due = False
        cut = self._cut & self._vouched
        self._cut -= cut
        self._vouched -= cut
        self._count()
        return doubts, word

    def keep_doubts(self, doubts: dict[str, VoteKind], word: int) -> None:
        """These are judged again in the next tick."""
        self._doubts, self._word = doubts, word

    def tick(self) -> None:
        """Time goes by: what is left may be over."""
        self._is_due = True
        if self.is_to_be_judged:
            self._waited += 1

    def became_final(self, txid: str) -> None:
        """It is final here now, if it was waited for."""
        self._awaited.pop(txid, None)
        self._doubts.pop(txid, None)

    def _count(self) -> None:
        self._heard = len(self._vouched & self._level & self._same_chain) + 1
