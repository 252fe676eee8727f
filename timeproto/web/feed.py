"""What happened lately: the newest transitions for those who watch live, and what they add up to.

The feed stands beside the wallets' handler at the end of every commit (masternode.ends.Wallets). It costs a few
dictionary operations for each transition; encoding is done once, for the first stream that wants it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import attrs
from twisted.logger import Logger

from timeproto.model.block import DecidedBlock
from timeproto.model.certificate import KeptProof, SignedVote
from timeproto.model.ledger import Transition
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, Locked, SpentFinalized
from timeproto.network.notifications import Proofs, notification
from timeproto.web import bounds
from timeproto.web.answers import Final
from timeproto.web.metrics import Metrics
from timeproto.wire import codec

_BARE = Proofs({})
_WEIGHT = 1_400
"""About the bytes of a transition in memory, and of its JSON without proofs."""


@attrs.define(eq=False)
class Told:
    """A transition with what proves it; its JSON, with and without the proofs, is made when first wanted."""

    transition: Transition
    proofs: Proofs
    weight: int = _WEIGHT
    _payloads: dict[bool, bytes] = attrs.field(factory=dict)

    @property
    def position(self) -> int:
        return self.transition.position

    def concerns(self, wanted: frozenset[Outpoint | str]) -> bool:
        """True if an address, an outpoint or a txid among ``wanted`` has part in this; no filter wants everything."""
        transition = self.transition
        return not wanted or not wanted.isdisjoint((transition.outpoint, transition.output.address, transition.txid))

    def payload(self, node_key: str, *, lean: bool) -> bytes:
        if lean not in self._payloads:
            proofs = _BARE if lean else self.proofs
            self._payloads[lean] = codec.encode(notification(self.transition, node_key, proofs))
        return self._payloads[lean]


class Feed:
    """The newest transitions in memory, how long payments took, and who is to be woken."""

    log = Logger()

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        """``now`` gives Unix seconds."""
        self._metrics = metrics
        self._now = now
        self._recent: deque[Told] = deque()
        self._weight = 0
        self._listeners: dict[Callable[[], None], None] = {}
        self._locked: dict[str, int] = {}
        self._proofs: deque[tuple[str, tuple[str, ...]]] = deque()
        self._signed: Counter[str] = Counter()
        self.finals: deque[Final] = deque(maxlen=bounds.FINALS_KEPT)

    # -- from the node -------------------------------------------------------------------------------

    def broadcast_state_notification(
        self,
        transitions: Iterable[Transition],
        proofs: Mapping[str, KeptProof],
        blocks: Sequence[DecidedBlock] = (),
    ) -> None:
        """Every transition of one commit, which is durable, with the proofs and blocks that came with it.

        Never raises: what goes wrong in a window is no reason for a node to stop.
        """
        try:
            shown, weight = Proofs(proofs, blocks), _WEIGHT + sum(_block_weight(decided) for decided in blocks)
            for transition in transitions:
                proof = proofs.get(transition.txid)
                self._keep(Told(transition, shown, weight + (0 if proof is None else _proof_weight(proof))))
                self._time(transition)
                if not isinstance(transition.new_state, Confirmed):  # which bears the block's time, not the commit's
                    self._metrics.notify_seconds.observe(max(0.0, self._now() - transition.timestamp / 1000))
            for txid, proof in proofs.items():
                self._count(txid, tuple(vote.voter.hex() for vote in proof.votes))
            for listener in list(self._listeners):
                listener()
        except Exception:
            self.log.failure("the feed of transitions failed")

    def _keep(self, one: Told) -> None:
        if self._recent and self._recent[-1].position + 1 != one.position:
            self._recent.clear()  # what is in memory has no gap; the log has it all
            self._weight = 0
        self._recent.append(one)
        self._weight += one.weight
        while len(self._recent) > bounds.FEED_KEPT or self._weight > bounds.FEED_BYTES:
            self._weight -= self._recent.popleft().weight

    def _time(self, transition: Transition) -> None:
        """From the lock of a transaction's first coin to its finality."""
        state, txid = transition.new_state, transition.txid
        if isinstance(state, Locked):
            self._locked.setdefault(txid, transition.timestamp)
            if len(self._locked) > bounds.LOCKS_KEPT:
                del self._locked[next(iter(self._locked))]
        elif isinstance(state, SpentFinalized) and txid in self._locked:
            took = max(0, transition.timestamp - self._locked.pop(txid))
            self.finals.append(Final(txid, transition.timestamp, took))
            self._metrics.final_seconds.observe(took / 1000)

    def _count(self, txid: str, voters: tuple[str, ...]) -> None:
        self._proofs.append((txid, voters))
        self._signed.update(voters)
        if len(self._proofs) > bounds.PROOFS_COUNTED:
            self._signed.subtract(self._proofs.popleft()[1])

    # -- to those who ask ----------------------------------------------------------------------------

    def signed(self) -> tuple[Mapping[str, int], int]:
        """Of the newest finality proofs, how many each masternode signed, and how many there are."""
        return self._signed, len(self._proofs)

    def newest_proofs(self, count: int) -> list[tuple[str, tuple[str, ...]]]:
        """Up to ``count`` txids with the voters in their proofs, the newest last."""
        return list(islice(reversed(self._proofs), count))[::-1]

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls ``listener()`` after every commit that changed a coin."""
        self._listeners[listener] = None

    def leave(self, listener: Callable[[], None]) -> None:
        self._listeners.pop(listener, None)

    def after(self, position: int) -> Iterator[Told] | None:
        """The transitions after ``position``; None if the first of them is not in memory any more."""
        if not self._recent or self._recent[-1].position <= position:
            return iter(()) if self._recent else None
        skip = position + 1 - self._recent[0].position
        return None if skip < 0 else islice(self._recent, skip, None)


def _proof_weight(proof: KeptProof) -> int:
    """About the bytes of a proof as it is kept, spelled, and in JSON: all three if somebody is told it."""
    return sum(1_200 + 8 * len(vote.path) for vote in proof.votes)


def _votes_weight(votes: Sequence[SignedVote]) -> int:
    """About the bytes of votes with their paths."""
    return sum(400 + 70 * len(vote.path) for vote in votes)


def _block_weight(decided: DecidedBlock) -> int:
    """About what a block adds to each transition it brings: a place in it, and the certificates that it keeps alive."""
    verdicts = sum(_votes_weight(verdict.votes) for verdict in decided.block.verdicts)
    return 1_000 + 300 * len(decided.commit.signatures) + verdicts
