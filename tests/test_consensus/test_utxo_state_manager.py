"""The table of transitions, state by event, and the figures kept beside it (protocol §3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address, key, make_genesis, pay, sign
from timeproto import limits
from timeproto.consensus import digest
from timeproto.consensus.utxo_state_manager import (
    TRANSITIONS,
    Event,
    IllegalTransition,
    UTXOStateManager,
    founding_changes,
)
from timeproto.errors import Refusal
from timeproto.model.ledger import ChainTip, Changes, Coin, Summary, Tally
from timeproto.model.transaction import FINAL_SEQUENCE, Outpoint, Transaction, TxInput, TxOutput
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
from timeproto.params import COIN
from timeproto.storage.memory import MemoryStore

OWN, OTHER = "aa" * 32, "bb" * 32
WALLET = key(1_000)
GENESIS = make_genesis(4, [WALLET], coins=6)
COINS = GENESIS.coins()
OUTPOINT = Outpoint("cc" * 32, 0)

HELD: dict[type, UTXOState] = {
    Unspent: UNSPENT,
    Locked: Locked(OWN, 1),
    SpentPending: SpentPending(OWN, 3, 4, 2),
    SpentFinalized: SpentFinalized(OWN, 3, 3),
    Confirmed: Confirmed(OWN, 9, 4),
}

# Written from the protocol's table (section 3), not from the code's: what each event makes of a coin,
# for the transaction that holds it and for another. "same": nothing changes, "conflict" and "illegal" are refused.
EXPECTED: dict[type, dict[Event, tuple[str, str]]] = {
    Unspent: {
        Event.LOCK: ("Locked", "Locked"),
        Event.PEND: ("illegal", "illegal"),
        Event.FINALIZE: ("SpentFinalized", "SpentFinalized"),
        Event.CONFIRM: ("illegal", "illegal"),
        Event.RELEASE: ("same", "same"),
    },
    Locked: {
        Event.LOCK: ("same", "conflict"),
        Event.PEND: ("SpentPending", "conflict"),
        Event.FINALIZE: ("SpentFinalized", "SpentFinalized"),
        Event.CONFIRM: ("illegal", "illegal"),
        Event.RELEASE: ("Unspent", "illegal"),
    },
    SpentPending: {
        Event.LOCK: ("same", "conflict"),
        Event.PEND: ("same", "conflict"),
        Event.FINALIZE: ("SpentFinalized", "illegal"),
        Event.CONFIRM: ("illegal", "illegal"),
        Event.RELEASE: ("Unspent", "illegal"),
    },
    SpentFinalized: {
        Event.LOCK: ("same", "conflict"),
        Event.PEND: ("same", "conflict"),
        Event.FINALIZE: ("same", "illegal"),
        Event.CONFIRM: ("Confirmed", "illegal"),
        Event.RELEASE: ("illegal", "illegal"),
    },
    Confirmed: {
        Event.LOCK: ("same", "conflict"),
        Event.PEND: ("same", "conflict"),
        Event.FINALIZE: ("same", "illegal"),
        Event.CONFIRM: ("same", "illegal"),
        Event.RELEASE: ("illegal", "illegal"),
    },
}


def apply(manager: UTXOStateManager, event: Event, outpoint: Outpoint, txid: str, now: int = 50) -> Any:
    match event:
        case Event.LOCK:
            return manager.lock_utxo(outpoint, txid, now)
        case Event.PEND:
            return manager.mark_spent_pending(outpoint, txid, 3, 4, now)
        case Event.FINALIZE:
            return manager.mark_spent_finalized(outpoint, txid, 3, now)
        case Event.CONFIRM:
            return manager.mark_confirmed(outpoint, txid, 9, now)
        case Event.RELEASE:
            return manager.unlock_utxo(outpoint, txid, now)


def manager_with(state: UTXOState) -> UTXOStateManager:
    """A manager whose ledger holds one coin, in ``state``."""
    store = MemoryStore()
    coin = Coin(TxOutput(7 * COIN, address(WALLET)), state)
    tallies = {each.__name__: Tally() for each in STATES} | {kind(state): Tally(1, 7 * COIN)}
    entry = digest.entry(OUTPOINT, coin.output, *digest_key(coin))
    store.commit(Changes(Summary(5, 0, 0, 0, entry, tallies), coins={OUTPOINT: coin}))
    return UTXOStateManager(store)


def digest_key(coin: Coin) -> tuple[str, tuple[str, ...]]:
    """What the digest counts a coin as when nobody contends for it: final, or not yet."""
    if isinstance(coin.state, SpentFinalized | Confirmed):
        return "SpentFinalized", (coin.state.txid,)
    return "Unspent", ()


def figures(manager: UTXOStateManager) -> tuple[Any, ...]:
    return manager.position, manager.tallies, manager.state_digest(())


class EveryStateAndEvent(SynchronousTestCase):
    def test_the_table_is_complete(self) -> None:
        """The code's table has every state with every event, and so has the one in this test."""
        every = {(state, event) for state in STATES for event in Event}
        self.assertEqual(set(TRANSITIONS), every)
        self.assertEqual({(state, event) for state in EXPECTED for event in EXPECTED[state]}, every)

    def test_each_event_does_what_the_protocol_says_and_a_refused_one_nothing(self) -> None:
        """Five states, five events, the holder's transaction and another: fifty cases."""
        for state_type, events in EXPECTED.items():
            for event, outcomes in events.items():
                for txid, expected in zip((OWN, OTHER), outcomes, strict=True):
                    self.check(HELD[state_type], event, txid, expected)

    def check(self, state: UTXOState, event: Event, txid: str, expected: str) -> None:
        manager, case = manager_with(state), (kind(state), event.name, txid[:2])
        before = figures(manager)
        refusal: BaseException | None = None
        transition = None
        try:
            transition = apply(manager, event, OUTPOINT, txid)
        except (Refusal, IllegalTransition) as error:
            refusal = error
        now = manager.get_state(OUTPOINT)
        is_idle = manager.is_idle
        staged = manager.take_changes(finalized=0, batches=0, evidence=0)
        if expected in ("same", "conflict", "illegal"):
            self.assertIsNone(transition, case)
            self.assertEqual(now, state, case)
            self.assertTrue(is_idle and not staged.coins and not staged.transitions, case)
            self.assertEqual(figures(manager), before, case)
            if expected == "same":
                self.assertIsNone(refusal, case)
            elif expected == "conflict":
                assert isinstance(refusal, Refusal), case
                self.assertEqual((refusal.code, refusal.details["conflicting_txid"]), ("double_spend", OWN), case)
            else:
                self.assertIsInstance(refusal, IllegalTransition, case)
            return
        self.assertIsNone(refusal, case)
        assert now is not None
        self.assertEqual(kind(now), expected, case)
        self.assertIn(holder(now), (txid, None), case)
        self.assertEqual((transition.old_state, transition.new_state, transition.txid), (state, now, txid), case)
        self.assertEqual(staged.transitions, [transition], case)
        self.assertEqual(staged.coins[OUTPOINT].state, now, case)
        self.assertEqual(manager.position, before[0] + 1, case)

    def test_what_does_not_exist_cannot_move(self) -> None:
        """A coin nobody made is refused by name, for every event."""
        for event in Event:
            manager = manager_with(UNSPENT)
            with self.assertRaises(Refusal) as caught:
                apply(manager, event, Outpoint("dd" * 32, 3), OWN)
            self.assertEqual(caught.exception.code, "unknown_input")
            self.assertEqual(caught.exception.details, {"outpoint": "dd" * 32 + ":3"})


def founded() -> tuple[MemoryStore, UTXOStateManager]:
    store = MemoryStore()
    store.commit(founding_changes(COINS, ChainTip(0, "00" * 32, 0, 0, 0, "1")))
    return store, UTXOStateManager(store)


def spend(*places: int, timestamp: int = 0) -> Transaction:
    coins = [(COINS[place][0], COINS[place][1].amount, WALLET) for place in places]
    return pay(GENESIS, coins, [(address(key(1_001)), COIN)], timestamp=timestamp)


class WholeTransactions(SynchronousTestCase):
    def test_all_inputs_or_none(self) -> None:
        """A transaction that meets one taken coin locks none of the others (A-1, H-23)."""
        for taken in range(3):
            _, manager = founded()
            manager.process_transaction(spend(taken), 1)
            before = figures(manager)
            with self.assertRaises(Refusal) as caught:
                manager.process_transaction(spend(0, 1, 2), 2)
            self.assertEqual(caught.exception.details["outpoint"], str(COINS[taken][0]))
            self.assertEqual(figures(manager), before)

    def test_one_unknown_input_locks_nothing(self) -> None:
        """A valid and an unknown input: no partial lock is left (H-23)."""
        _, manager = founded()
        coins = [COINS[0][0], Outpoint("dd" * 32, 0)]
        inputs = tuple(TxInput(outpoint, tuple(WALLET.public_bytes), FINAL_SEQUENCE) for outpoint in coins)
        tx = sign(GENESIS, inputs, (TxOutput(COIN, address(WALLET)),), [WALLET])
        before = figures(manager)
        with self.assertRaises(Refusal) as caught:
            manager.process_transaction(tx, 1)
        self.assertEqual(caught.exception.code, "unknown_input")
        self.assertEqual(figures(manager), before)

    def test_locking_again_changes_nothing(self) -> None:
        """lock(tx) twice is lock(tx) once (A-1)."""
        _, manager = founded()
        tx = spend(0, 1)
        self.assertEqual(len(manager.process_transaction(tx, 1)), 2)
        before = figures(manager)
        self.assertEqual(manager.process_transaction(tx, 2), [])
        self.assertEqual(figures(manager), before)

    def test_finality_spends_and_creates_in_one_stroke(self) -> None:
        """All inputs spent, all outputs there, at once and only once, whatever state the inputs were in (A-4, A-5)."""
        for prepare in (0, 1, 2):
            _, manager = founded()
            tx = spend(0, 1)
            if prepare > 0:
                manager.process_transaction(tx, 1)
            if prepare > 1:
                manager.pend_transaction(tx, 3, 4, 1)
            made = manager.finalize_transaction(tx, 3, 2)
            self.assertEqual(len(made), len(tx.inputs) + len(tx.outputs))
            self.assertTrue(all(isinstance(manager.get_state(each), SpentFinalized) for each in tx.outpoints))
            self.assertTrue(all(manager.get_state(tx.output_outpoint(at)) == UNSPENT for at in range(len(tx.outputs))))
            self.assertEqual(manager.finalize_transaction(tx, 3, 3), [])

    def test_a_final_coin_is_never_spent_by_another(self) -> None:
        """Two final transactions for one coin are impossible here whatever anybody proves (I-1)."""
        _, manager = founded()
        manager.finalize_transaction(spend(0), 3, 1)
        before = figures(manager)
        self.assertRaises(IllegalTransition, manager.finalize_transaction, spend(1, 0), 3, 2)
        self.assertEqual(figures(manager), before)

    def test_subscribers_are_matched_by_outpoint_and_address_once(self) -> None:
        """A transition that two filters of one subscriber match is told once (W-04)."""
        _, manager = founded()
        manager.add_subscription("both", [COINS[0][0], address(WALLET)])
        manager.add_subscription("coin", [COINS[1][0]])
        told = list(manager.notify_subscribers(manager.process_transaction(spend(0, 1), 1)))
        self.assertEqual([watchers for _, watchers in told], [["both"], ["coin", "both"]])
        self.assertTrue(manager.remove_subscription("both"))
        self.assertFalse(manager.remove_subscription("both"))
        self.assertEqual(list(manager.notify_subscribers(manager.process_transaction(spend(2), 1))), [])
        self.assertEqual((len(manager.subscriptions), manager.subscriptions.size("coin")), (1, 1))

    def test_digests_agree_on_what_is_known_not_on_who_voted(self) -> None:
        """Two replicas that know the same rivals have one digest though each locked another; one more coin tells."""
        one, two = spend(0), spend(0, timestamp=1)
        names = [(COINS[0][0], sorted([one.txid, two.txid]))]
        (_, a), (_, b) = founded(), founded()
        a.process_transaction(one, 1)
        b.process_transaction(two, 2)
        self.assertEqual(a.state_digest(names), b.state_digest(names))
        self.assertNotEqual(a.state_digest(names), a.state_digest([(COINS[0][0], [one.txid])]))
        b.finalize_transaction(spend(3), 3, 3)
        self.assertNotEqual(a.state_digest(names), b.state_digest(names))


def operations() -> st.SearchStrategy[list[tuple[str, int]]]:
    names = st.sampled_from(["lock", "pend", "finalize", "release", "confirm", "commit", "restart"])
    return st.lists(st.tuples(names, st.integers(0, 7)), min_size=5, max_size=60)


def pool() -> list[Transaction]:
    """Eight payments over six coins: alone, overlapping, and one that spends another's change."""
    sets = [(0,), (1,), (0, 1), (1, 2, 3), (3,), (4, 5), (2, 4)]
    payments = [spend(*places, timestamp=number) for number, places in enumerate(sets)]
    change = payments[0].output_outpoint(1), payments[0].outputs[1].amount, WALLET
    return [*payments, pay(GENESIS, [change, (COINS[5][0], COINS[5][1].amount, WALLET)], [(address(WALLET), COIN)])]


POOL = pool()


class CountingStore(MemoryStore):
    """A store that notes which coins it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Outpoint] = []

    def coin(self, outpoint: Outpoint) -> Coin | None:
        self.asked.append(outpoint)
        return super().coin(outpoint)


class AtHand(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = CountingStore()
        self.store.commit(founding_changes(COINS, ChainTip(0, GENESIS.hash, 0, 0, 0, "1")))
        (self.kept, _), *others = COINS
        self.others = [outpoint for outpoint, _ in others]

    def take(self, manager: UTXOStateManager) -> Changes:
        return manager.take_changes(finalized=0, batches=0, evidence=0)

    def test_a_coin_that_a_block_confirmed_makes_room(self) -> None:
        """Neither coins that were spent and confirmed nor a look at them push out one that can still be spent."""
        self.patch(limits, "COINS_AT_HAND", 6)
        manager = UTXOStateManager(self.store)
        manager.get_utxo_info(self.kept)
        for outpoint in self.others:
            for event in (Event.LOCK, Event.PEND, Event.FINALIZE, Event.CONFIRM):
                apply(manager, event, outpoint, OWN)
                self.store.commit(self.take(manager))
        self.store.commit(self.take(manager))
        self.store.asked.clear()
        self.assertEqual(manager.get_state(self.kept), UNSPENT)
        self.assertEqual(self.store.asked, [])
        self.assertEqual({kind(manager.get_state(each) or UNSPENT) for each in self.others}, {"Confirmed"})
        self.assertEqual(self.store.asked, self.others)
        self.store.asked.clear()
        self.assertEqual((manager.get_state(self.kept), self.store.asked), (UNSPENT, []))

    def test_what_is_confirmed_stays_so_while_it_is_committed(self) -> None:
        """Between a step and its commit the ledger has the coin as it was, or has none: it is not asked."""
        manager = UTXOStateManager(self.store)
        outpoint = self.others[0]
        for event in (Event.LOCK, Event.PEND, Event.FINALIZE, Event.CONFIRM):
            apply(manager, event, outpoint, OWN)
        changes = self.take(manager)
        self.assertIsInstance(manager.get_state(outpoint), Confirmed)
        self.store.commit(changes)
        self.store.commit(self.take(manager))
        self.assertIsInstance(manager.get_state(outpoint), Confirmed)


class AnySequence(SynchronousTestCase):
    @settings(max_examples=300)
    @given(operations())
    def test_figures_are_what_a_recount_gives(self, sequence: list[tuple[str, int]]) -> None:
        """Tallies, digest, position and value after any operations; a refused one leaves no trace (I-7, I-8)."""
        store, manager = founded()
        final: set[str] = set()
        for now, (name, number) in enumerate(sequence):
            tx = POOL[number]
            before = figures(manager)
            try:
                if name == "lock":
                    manager.process_transaction(tx, now)
                elif name == "pend":
                    manager.pend_transaction(tx, 3, 4, now)
                elif name == "finalize":
                    manager.finalize_transaction(tx, 3, now)
                    final.add(tx.txid)
                elif name == "release":
                    manager.unlock_utxo(tx.outpoints[0], tx.txid, now)
                elif name == "confirm":
                    manager.mark_confirmed(tx.outpoints[0], tx.txid, 1, now)
                else:
                    store.commit(manager.take_changes(finalized=0, batches=0, evidence=0))
                    if name == "restart":
                        manager = UTXOStateManager(store)
            except (Refusal, IllegalTransition):
                self.assertEqual(figures(manager), before)
            self.recount(manager, store, final)

    def recount(self, manager: UTXOStateManager, store: MemoryStore, final: set[str]) -> None:
        tallies = {state.__name__: Tally() for state in STATES}
        total, alive = 0, 0
        for outpoint in every_outpoint():
            coin = manager.get_utxo_info(outpoint)
            if coin is None:
                continue
            name, amount = kind(coin.state), coin.output.amount
            tallies[name] = Tally(tallies[name].coins + 1, tallies[name].amount + amount)
            total = digest.add(total, digest.entry(outpoint, coin.output, *digest_key(coin)))
            if not isinstance(coin.state, SpentFinalized | Confirmed):
                alive += amount
        self.assertEqual(manager.tallies, tallies)
        self.assertEqual(manager.state_digest(()), digest.to_hex(total))
        fees = sum(tx.fee for tx in POOL if tx.txid in final)
        self.assertEqual(alive + fees, GENESIS.supply)
        positions = [entry.position for entry in store.transitions(0, 10_000)]
        self.assertEqual(positions, list(range(1, len(positions) + 1)))


def every_outpoint() -> Iterator[Outpoint]:
    yield from (outpoint for outpoint, _ in COINS)
    for tx in POOL:
        for vout in range(len(tx.outputs)):
            yield tx.output_outpoint(vout)
