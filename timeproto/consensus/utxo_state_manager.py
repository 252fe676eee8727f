"""Where a lock is decided: the coins, their states, and the one table of what may follow what (protocol §3).

The manager reads committed coins through a :class:`~timeproto.model.ledger.Ledger`, stages what a step changes,
and hands the stage over with :meth:`UTXOStateManager.take_changes`. It calls nobody back: a transition is a value.
Every operation checks all it needs before it stages anything, so a refused one leaves no trace.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from enum import Enum, IntEnum, auto

from timeproto import limits
from timeproto.consensus import digest
from timeproto.consensus.recent import Recent
from timeproto.consensus.subscriptions import SubscriptionIndex, Watched
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.block import coin_member
from timeproto.model.ledger import ChainTip, Changes, Coin, Ledger, Summary, Tally, Transition
from timeproto.model.transaction import Outpoint, Transaction, TxOutput
from timeproto.model.utxo_state import (
    STATES,
    UNSPENT,
    Confirmed,
    Locked,
    SpentFinalized,
    SpentPending,
    Unspent,
    UTXOState,
    holder,
    kind,
)


class Event(IntEnum):
    """What can happen to a coin, each for the sake of one transaction."""

    LOCK = auto()
    """This replica casts its lock vote."""
    PEND = auto()
    """A lock certificate is held and this replica casts its commit vote."""
    FINALIZE = auto()
    """A finality proof is held."""
    CONFIRM = auto()
    """A decided block contains the transaction."""
    RELEASE = auto()
    """A decided block aborts the transaction, or contains one that conflicts with it."""


class Step(Enum):
    """What the table says of an event."""

    GO = auto()
    """The state changes."""
    STAY = auto()
    """It happened already: nothing changes and nothing is wrong."""
    CONFLICT = auto()
    """The coin is held by another transaction: refused, ``double_spend``."""
    ILLEGAL = auto()
    """It cannot happen while the protocol is kept."""


_GO, _STAY, _CONFLICT, _ILLEGAL = Step.GO, Step.STAY, Step.CONFLICT, Step.ILLEGAL

#: (state, event) → (when the coin is held by the event's transaction or by none, when by another).
TRANSITIONS: dict[tuple[type[UTXOState], Event], tuple[Step, Step]] = {
    (Unspent, Event.LOCK): (_GO, _ILLEGAL),
    (Unspent, Event.PEND): (_ILLEGAL, _ILLEGAL),
    (Unspent, Event.FINALIZE): (_GO, _ILLEGAL),
    (Unspent, Event.CONFIRM): (_ILLEGAL, _ILLEGAL),
    (Unspent, Event.RELEASE): (_STAY, _ILLEGAL),
    (Locked, Event.LOCK): (_STAY, _CONFLICT),
    (Locked, Event.PEND): (_GO, _CONFLICT),
    (Locked, Event.FINALIZE): (_GO, _GO),
    (Locked, Event.CONFIRM): (_ILLEGAL, _ILLEGAL),
    (Locked, Event.RELEASE): (_GO, _ILLEGAL),
    (SpentPending, Event.LOCK): (_STAY, _CONFLICT),
    (SpentPending, Event.PEND): (_STAY, _CONFLICT),
    (SpentPending, Event.FINALIZE): (_GO, _ILLEGAL),
    (SpentPending, Event.CONFIRM): (_ILLEGAL, _ILLEGAL),
    (SpentPending, Event.RELEASE): (_GO, _ILLEGAL),
    (SpentFinalized, Event.LOCK): (_STAY, _CONFLICT),
    (SpentFinalized, Event.PEND): (_STAY, _CONFLICT),
    (SpentFinalized, Event.FINALIZE): (_STAY, _ILLEGAL),
    (SpentFinalized, Event.CONFIRM): (_GO, _ILLEGAL),
    (SpentFinalized, Event.RELEASE): (_ILLEGAL, _ILLEGAL),
    (Confirmed, Event.LOCK): (_STAY, _CONFLICT),
    (Confirmed, Event.PEND): (_STAY, _CONFLICT),
    (Confirmed, Event.FINALIZE): (_STAY, _ILLEGAL),
    (Confirmed, Event.CONFIRM): (_STAY, _ILLEGAL),
    (Confirmed, Event.RELEASE): (_ILLEGAL, _ILLEGAL),
}


class IllegalTransition(Exception):
    """A step the protocol rules out: more than f masternodes lie, or this code has a bug. The state is untouched."""


def verdict(state: UTXOState, event: Event, txid: str) -> Step:
    """What the table says of ``event`` for ``txid`` on a coin in ``state``."""
    own, other = TRANSITIONS[type(state), event]
    held_by = holder(state)
    return own if held_by is None or held_by == txid else other


def are_free(coins: Iterable[Coin | None], txid: str) -> bool:
    """True if all of ``coins`` exist and the table lets ``txid`` lock them."""
    return all(coin is not None and verdict(coin.state, Event.LOCK, txid) in (_GO, _STAY) for coin in coins)


class UTXOStateManager:
    """All coins of one replica. The one mutable thing here is the stage of the running step."""

    def __init__(self, ledger: Ledger) -> None:
        """``ledger`` must hold a summary: a new one is founded with :func:`founding_changes` first."""
        summary = ledger.summary()
        if summary is None:
            raise ValueError("the ledger is empty: commit founding_changes(genesis) first")
        self._ledger = ledger
        tallies = ((state, summary.tallies[state.__name__]) for state in STATES)
        self._tallies: dict[type[UTXOState], list[int]] = {
            state: [tally.coins, tally.amount] for state, tally in tallies
        }
        self._digest, self._position, self.log_start = summary.digest, summary.position, summary.log_start
        self._staged: dict[Outpoint, Coin] = {}
        self._transitions: list[Transition] = []
        self._counted = 0
        self._at_hand: Recent[Outpoint, Coin] = Recent(limits.COINS_AT_HAND)
        self._confirmed: list[Outpoint] = []
        self._subscriptions = SubscriptionIndex()

    # -- reading -------------------------------------------------------------------------------------

    def get_utxo_info(self, outpoint: Outpoint) -> Coin | None:
        """The coin with its state, or None if no such coin exists here (yet)."""
        coin = self._at_hand.get(outpoint) or self._staged.get(outpoint)
        if coin is None:
            coin = self._ledger.coin(outpoint)
            if coin is not None and type(coin.state) is not Confirmed:
                self._at_hand.put(outpoint, coin)
        return coin

    def look_up(self, outpoint: Outpoint) -> Coin | None:
        """The same for somebody who asks: it is no sign that a payment comes to the coin, so it is not kept at hand."""
        return self._at_hand.get(outpoint) or self._staged.get(outpoint) or self._ledger.coin(outpoint)

    def get_state(self, outpoint: Outpoint) -> UTXOState | None:
        coin = self.get_utxo_info(outpoint)
        return None if coin is None else coin.state

    @property
    def position(self) -> int:
        """The last position of the transition log."""
        return self._position

    @property
    def tallies(self) -> dict[str, Tally]:
        """Number of coins and sum of amounts, by name of state."""
        self._sum_up()
        return {state.__name__: Tally(coins, amount) for state, (coins, amount) in self._tallies.items()}

    def state_digest(self, contenders: Iterable[tuple[Outpoint, list[str]]]) -> str:
        """The digest over every coin: (outpoint, amount, owner, state kind, txids). Confirmed is SpentFinalized in it.

        A coin that undecided transactions want counts as ``Locked`` by all of ``contenders``, in ascending order,
        whichever this replica voted for: so two replicas agree when they know the same, even while a contested
        coin waits for its verdict.
        """
        self._sum_up()
        total = self._digest
        for outpoint, txids in contenders:
            coin = self.get_utxo_info(outpoint)
            if coin is not None and not isinstance(coin.state, SpentFinalized | Confirmed):
                total = digest.remove(total, digest.entry(outpoint, coin.output, *_counted_as(coin.state)))
                total = digest.add(total, digest.entry(outpoint, coin.output, Locked.__name__, txids))
        return digest.to_hex(total)

    # -- one coin ------------------------------------------------------------------------------------

    def lock_utxo(self, outpoint: Outpoint, txid: str, now: int) -> Transition | None:
        """Unspent → Locked. None if it was locked by ``txid`` already; ``double_spend`` if by another."""
        return self._move(outpoint, txid, Event.LOCK, Locked(txid, now), now)

    def mark_spent_pending(
        self, outpoint: Outpoint, txid: str, votes: int, total_nodes: int, now: int
    ) -> Transition | None:
        """Locked → SpentPending, by the transaction that locked it."""
        return self._move(outpoint, txid, Event.PEND, SpentPending(txid, votes, total_nodes, now), now)

    def mark_spent_finalized(self, outpoint: Outpoint, txid: str, votes: int, now: int) -> Transition | None:
        """→ SpentFinalized, from any state that a finality proof may overrule."""
        return self._move(outpoint, txid, Event.FINALIZE, SpentFinalized(txid, now, votes), now)

    def mark_confirmed(self, outpoint: Outpoint, txid: str, block_height: int, now: int) -> Transition | None:
        """SpentFinalized → Confirmed, by a decided block that contains ``txid``."""
        return self._move(outpoint, txid, Event.CONFIRM, Confirmed(txid, block_height, now), now)

    def unlock_utxo(self, outpoint: Outpoint, txid: str, now: int) -> Transition | None:
        """Locked or SpentPending → Unspent, only ever for a decided block that ends ``txid``."""
        return self._move(outpoint, txid, Event.RELEASE, UNSPENT, now)

    # -- one transaction -----------------------------------------------------------------------------

    def process_transaction(self, tx: Transaction, now: int) -> list[Transition]:
        """Locks all inputs, or none and raises :class:`Refusal`. Again for the same ``tx`` changes nothing."""
        return self._move_all(tx, Event.LOCK, Locked(tx.txid, now), now)

    def pend_transaction(self, tx: Transaction, votes: int, total_nodes: int, now: int) -> list[Transition]:
        """All inputs, locked by ``tx``, become SpentPending."""
        return self._move_all(tx, Event.PEND, SpentPending(tx.txid, votes, total_nodes, now), now)

    def finalize_transaction(self, tx: Transaction, votes: int, now: int) -> list[Transition]:
        """All inputs become SpentFinalized and all outputs Unspent coins, in one stroke.

        The only way a coin is ever spent for good. The caller holds the proof.
        """
        spent = self._move_all(tx, Event.FINALIZE, SpentFinalized(tx.txid, now, votes), now)
        if not spent:
            return []  # it was final already
        return spent + [
            self._create(tx.output_outpoint(vout), output, tx.txid, now) for vout, output in enumerate(tx.outputs)
        ]

    def confirm_transaction(self, tx: Transaction, block_height: int, when: int) -> list[Transition]:
        """All inputs become Confirmed. ``when`` is the block's time."""
        return self._move_all(tx, Event.CONFIRM, Confirmed(tx.txid, block_height, when), when)

    def release_transaction(self, tx: Transaction, now: int) -> list[Outpoint]:
        """Whatever ``tx`` holds is Unspent again: a decided block ended it. Returns the coins that are free now."""
        held = [outpoint for outpoint in tx.outpoints if holder(self.get_state(outpoint) or UNSPENT) == tx.txid]
        for outpoint in held:
            self.unlock_utxo(outpoint, tx.txid, now)
        return held

    def mint(self, coinbase: Transaction, now: int) -> None:
        """The coins of a decided block's coinbase."""
        for vout, output in enumerate(coinbase.outputs):
            self._create(coinbase.output_outpoint(vout), output, coinbase.txid, now)

    def may_finalize(self, tx: Transaction) -> bool:
        """False while this replica is bound by its commit vote to a rival: only a block that ended it lets go."""
        for outpoint in tx.outpoints:
            state = self.get_state(outpoint)
            if isinstance(state, SpentPending) and state.txid != tx.txid:
                return False
        return True

    def may_lock(self, tx: Transaction) -> bool:
        """True if :meth:`process_transaction` would succeed."""
        return are_free(map(self.get_utxo_info, tx.outpoints), tx.txid)

    def holds(self, tx: Transaction) -> bool:
        """True if every input is locked by ``tx`` (or further on its way with it)."""
        return all(state is not None and holder(state) == tx.txid for state in map(self.get_state, tx.outpoints))

    # -- subscriptions -------------------------------------------------------------------------------

    @property
    def subscriptions(self) -> SubscriptionIndex:
        return self._subscriptions

    def add_subscription(self, subscriber: Hashable, items: Iterable[Watched]) -> None:
        self._subscriptions.add(subscriber, items)

    def remove_subscription(self, subscriber: Hashable) -> bool:
        return self._subscriptions.remove(subscriber)

    def notify_subscribers(
        self, transitions: Iterable[Transition]
    ) -> Iterator[tuple[Transition, list[Hashable]]]:
        """Each transition that somebody watches, with its watchers, in order. The shell does the telling."""
        if not self._subscriptions:
            return
        for transition in transitions:
            watchers = self._subscriptions.match(transition)
            if watchers:
                yield transition, watchers

    # -- the stage -----------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """True if the stage is empty."""
        return not self._staged

    def take_changes(self, *, finalized: int, batches: int, evidence: int) -> Changes:
        """The stage as a change set, to be committed before the next step reads; starts an empty one.

        The three counts are the replica's, and become part of the summary.
        """
        self._sum_up()
        summary = Summary(
            position=self._position,
            finalized=finalized,
            batches=batches,
            evidence=evidence,
            digest=self._digest,
            tallies=self.tallies,
            log_start=self.log_start,
        )
        changes = Changes(summary, coins=self._staged, transitions=self._transitions)
        self._staged, self._transitions, self._counted = {}, [], 0
        # What is confirmed makes room a step later: until this one is committed the ledger has it as something else.
        for outpoint in self._confirmed:
            self._at_hand.forget(outpoint)
        self._confirmed = [each.outpoint for each in changes.transitions if type(each.new_state) is Confirmed]
        return changes

    def _move_all(self, tx: Transaction, event: Event, new: UTXOState, now: int) -> list[Transition]:
        """Moves every input, or none: all of them are looked at, once, before the first is touched."""
        moving, txid = [], tx.txid
        for outpoint in tx.outpoints:
            coin = self.get_utxo_info(outpoint)
            step = _ILLEGAL if coin is None else verdict(coin.state, event, txid)
            if coin is None or step is _CONFLICT or step is _ILLEGAL:
                raise self._complaint(outpoint, txid, event, step)
            if step is _GO:
                moving.append((outpoint, coin))
        return [self._stage(outpoint, coin, Coin(coin.output, new), txid, now) for outpoint, coin in moving]

    def _complaint(self, outpoint: Outpoint, txid: str, event: Event, step: Step) -> Exception:
        state = self.get_state(outpoint)
        if state is None:
            return Refusal(
                ErrorCode.UNKNOWN_INPUT, f"there is no coin {outpoint} here", outpoint=str(outpoint)
            )
        if step is _CONFLICT:
            rival = holder(state) or ""
            return Refusal(
                ErrorCode.DOUBLE_SPEND,
                f"the coin {outpoint} is {kind(state)} by the transaction {rival}",
                conflicting_txid=rival,
                outpoint=str(outpoint),
            )
        return IllegalTransition(f"{event.name} of {outpoint} for {txid} while it is {state}")

    def _move(self, outpoint: Outpoint, txid: str, event: Event, new: UTXOState, now: int) -> Transition | None:
        coin = self.get_utxo_info(outpoint)
        step = _ILLEGAL if coin is None else verdict(coin.state, event, txid)
        if coin is None or step in (_CONFLICT, _ILLEGAL):
            raise self._complaint(outpoint, txid, event, step)
        if step is _STAY:
            return None
        return self._stage(outpoint, coin, Coin(coin.output, new), txid, now)

    def _create(self, outpoint: Outpoint, output: TxOutput, txid: str, now: int) -> Transition:
        return self._stage(outpoint, None, Coin(output, UNSPENT), txid, now)

    def _stage(self, outpoint: Outpoint, old: Coin | None, new: Coin, txid: str, now: int) -> Transition:
        self._position += 1
        before = None if old is None else old.state
        transition = Transition(self._position, outpoint, new.output, before, new.state, txid, now)
        self._transitions.append(transition)
        self._staged[outpoint] = new
        self._at_hand.put(outpoint, new)
        return transition

    def _sum_up(self) -> None:
        """Counts the transitions that are not counted yet."""
        more, tallies = 0, self._tallies
        for transition in self._transitions[self._counted :]:
            before, state, output = transition.old_state, transition.new_state, transition.output
            if before is not None:
                tally = tallies[type(before)]
                tally[0] -= 1
                tally[1] -= output.amount
            tally = tallies[type(state)]
            tally[0] += 1
            tally[1] += output.amount
            if before is None or isinstance(state, SpentFinalized):  # otherwise its entry stays what it was
                coin = coin_member(transition.outpoint, output)
                more += digest.entry_of(coin, *_counted_as(state))
                if before is not None:
                    more -= digest.entry_of(coin, *_counted_as(before))
        self._digest = digest.add(self._digest, more)
        self._counted = len(self._transitions)


def _counted_as(state: UTXOState) -> tuple[str, tuple[str, ...]]:
    """What a coin is in the running digest: what is not decided yet counts as Unspent (see state_digest), and what a
    block confirmed as what it was before, for that is marked by and by."""
    if isinstance(state, SpentFinalized | Confirmed):
        return SpentFinalized.__name__, (state.txid,)
    return _UNDECIDED


_UNDECIDED: tuple[str, tuple[str, ...]] = (Unspent.__name__, ())


def founding_changes(coins: Iterable[tuple[Outpoint, TxOutput]], tip: ChainTip, log_start: int = 0) -> Changes:
    """The first change set of a ledger: the coins of genesis, all Unspent, with no transitions and no block yet."""
    tallies = {state.__name__: Tally() for state in STATES}
    founded = {outpoint: Coin(output, UNSPENT) for outpoint, output in coins}
    total = 0
    for outpoint, coin in founded.items():
        total = digest.add(total, digest.entry(outpoint, coin.output, *_counted_as(coin.state)))
    tallies[Unspent.__name__] = Tally(len(founded), sum(coin.output.amount for coin in founded.values()))
    summary = Summary(log_start, finalized=0, batches=0, evidence=0, digest=total, tallies=tallies, log_start=log_start)
    return Changes(summary, coins=founded, tip=tip)
