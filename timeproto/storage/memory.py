"""A store that forgets: for tests and simulation, with the same answers as the one on disk."""

from __future__ import annotations

from bisect import bisect_right, insort

from timeproto.model.block import DecidedBlock
from timeproto.model.ledger import (
    BlockEvidence,
    ChainTip,
    Changes,
    Coin,
    Ending,
    Evidence,
    OwnVotes,
    SignState,
    Summary,
    TransactionRecord,
    Transition,
)
from timeproto.model.transaction import Outpoint
from timeproto.model.utxo_state import Confirmed, SpentFinalized, UTXOState
from timeproto.model.vote import VoteBatch

_SPENT = (SpentFinalized, Confirmed)


class MemoryStore:
    """Implements :class:`timeproto.model.ledger.Store` in dictionaries."""

    def __init__(self) -> None:
        self._summary: Summary | None = None
        self._coins: dict[Outpoint, Coin] = {}
        self._addresses: dict[str, list[tuple[bool, Outpoint]]] = {}
        self._transactions: dict[str, TransactionRecord] = {}
        self._own_votes: dict[str, OwnVotes] = {}
        self._batches: dict[int, VoteBatch] = {}
        self._transitions: list[Transition] = []
        self._finalized: list[str] = []
        self._evidence: list[Evidence | BlockEvidence] = []
        self._caught_up: dict[str, int] = {}
        self._unconfirmed: dict[str, None] = {}
        self._blocks: list[DecidedBlock] = []
        self._tip: ChainTip | None = None
        self._endings: dict[str, Ending] = {}
        self._sign_state: SignState | None = None

    def commit(self, changes: Changes) -> None:
        for outpoint, coin in changes.coins.items():
            self._index(outpoint, self._coins.get(outpoint), coin)
        self._summary = changes.summary
        self._coins.update(changes.coins)
        self._transactions.update(changes.transactions)
        self._own_votes.update(changes.own_votes)
        self._batches.update(changes.batches)
        self._transitions.extend(changes.transitions)
        self._finalized.extend(changes.finalized)
        self._evidence.extend(changes.evidence)
        self._caught_up.update(changes.caught_up)
        self._unconfirmed.update(dict.fromkeys(changes.finalized))
        for txid, record in changes.transactions.items():
            if record.height is not None:
                self._unconfirmed.pop(txid, None)
        self._blocks.extend(changes.blocks)
        self._tip = changes.tip or self._tip
        self._endings.update(changes.endings)
        self._sign_state = changes.sign_state or self._sign_state

    def close(self) -> None:
        """Nothing to let go of; the contents stay, as they do on disk."""

    def _index(self, outpoint: Outpoint, old: Coin | None, new: Coin) -> None:
        entries = self._addresses.setdefault(new.output.address, [])
        if old is not None:
            entries.remove((is_spent(old.state), outpoint))
        insort(entries, (is_spent(new.state), outpoint))

    def summary(self) -> Summary | None:
        return self._summary

    def coin(self, outpoint: Outpoint) -> Coin | None:
        return self._coins.get(outpoint)

    def transaction(self, txid: str) -> TransactionRecord | None:
        return self._transactions.get(txid)

    def own_votes(self, txid: str) -> OwnVotes | None:
        return self._own_votes.get(txid)

    def batch(self, number: int) -> VoteBatch | None:
        return self._batches.get(number)

    def pending(self) -> list[TransactionRecord]:
        return [record for record in self._transactions.values() if record.status == "pending"]

    def finalized(self, since: int, limit: int) -> list[str]:
        return self._finalized[since : since + limit]

    def transitions(self, after: int, limit: int) -> list[Transition]:
        begin = max(0, after + 1 - self._transitions[0].position) if self._transitions else 0
        return self._transitions[begin : begin + limit]

    def evidence(self, limit: int, since: int = 0) -> list[Evidence | BlockEvidence]:
        return self._evidence[since : since + limit]

    def unconfirmed(self) -> list[TransactionRecord]:
        return [self._transactions[txid] for txid in self._unconfirmed]

    def ending(self, txid: str) -> Ending | None:
        return self._endings.get(txid)

    def tip(self) -> ChainTip | None:
        return self._tip

    def block(self, height: int) -> DecidedBlock | None:
        return self._blocks[height - 1] if 1 <= height <= len(self._blocks) else None

    def sign_state(self) -> SignState | None:
        return self._sign_state

    def caught_up(self) -> dict[str, int]:
        return dict(self._caught_up)

    def address_coins(
        self, address: str, after: Outpoint | None, limit: int, *, spent: bool
    ) -> tuple[list[tuple[Outpoint, Coin]], bool]:
        entries = self._addresses.get(address, [])
        start = 0
        if after is not None:
            last = self._coins.get(after) if spent else None
            start = bisect_right(entries, (last is not None and is_spent(last.state), after))
        wanted = [outpoint for gone, outpoint in entries[start:] if spent or not gone]
        page = [(outpoint, self._coins[outpoint]) for outpoint in wanted[:limit]]
        return page, len(wanted) > limit


def is_spent(state: UTXOState) -> bool:
    """True if a coin in this state is spent for ever."""
    return isinstance(state, _SPENT)
