"""Blocks, endings, what waits for a block, what was signed about one: kept alike in memory and on disk."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import address, pay
from tests.examples import DECIDED, PAYMENT, VOTERS, replace
from tests.test_storage.payments import GENESIS, OWNER, PROOF, WALLETS, any_evidence, everything
from timeproto.consensus.effects import Submit, Timer, Wake
from timeproto.consensus.replica import Replica, found
from timeproto.errors import StorageError
from timeproto.model.block import BlockVote, BlockVoteKind, DecidedBlock, Verdict
from timeproto.model.certificate import keep
from timeproto.model.ledger import BlockEvidence, ChainTip, Changes, Ending, SignState, Summary, TransactionRecord
from timeproto.model.utxo_state import Confirmed
from timeproto.storage import schema
from timeproto.storage.memory import MemoryStore
from timeproto.storage.rocks import RocksStore, open_store

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
NOTHING = Summary(0, 0, 0, 0, 0, {})


def summary(finalized: int) -> Summary:
    return Summary(0, finalized, 0, 0, 0, {})


def record(txid: str, status: str, height: int | None = None) -> TransactionRecord:
    proof = keep(PROOF) if status == "final" else None
    return TransactionRecord(replace(PAYMENT, txid=txid), status, proof, height)  # type: ignore[arg-type]


def block(height: int, timestamp: int = 0) -> DecidedBlock:
    header = replace(DECIDED.block.header, height=height, timestamp=timestamp)
    return replace(DECIDED, block=replace(DECIDED.block, header=header))


def signed(height: int, blocks: list[DecidedBlock]) -> SignState:
    return SignState(height, 0, blocks=tuple(each.block for each in blocks))


def tip(height: int) -> ChainTip:
    return ChainTip(height, f"{height:064x}", height * 5_000, height, height * 5_000 + 5_000, "f" * 768)


def any_word(chance: random.Random, kind: BlockVoteKind = BlockVoteKind.PREVOTE) -> BlockVote:
    block_ = chance.choice([A, B]) if kind is BlockVoteKind.PROPOSAL else chance.choice([A, B, None])
    place = chance.randrange(2**64), chance.randrange(2**32)
    return BlockVote(kind, VOTERS[0].public_hex, C, *place, block_, None, "0" * 128)


def block_evidence(chance: random.Random) -> BlockEvidence:
    return BlockEvidence(VOTERS[0].public_hex, any_word(chance), any_word(chance))


def chained(seed: int, count: int, store: Any) -> list[Changes]:
    """``count`` change sets of a one-masternode replica over ``store``: payments, and now and then a block."""
    chance = random.Random(seed)
    founding = found(store, GENESIS)
    assert founding is not None
    store.commit(founding)
    made = [founding]
    replica = Replica(store, GENESIS, OWNER)
    coins = [(outpoint, output.amount, next(each for each in WALLETS if address(each) == output.address))
             for outpoint, output in GENESIS.coins()]
    while len(made) < count:
        if chance.random() < 0.4:
            given = Wake(replica.height + 1, 0, Timer.HEIGHT)
            changes = replica.step([given], 5_000 * len(made)).changes
        else:
            tx = pay(GENESIS, [coins.pop()], [(address(chance.choice(WALLETS)), 5_000)], timestamp=len(made))
            changes = replica.step([Submit(tx, object())], 5_000 * len(made)).changes
        assert changes is not None
        store.commit(changes)
        made.append(changes)
    return made


def chain_of(store: Any) -> dict[str, Any]:
    """All that a store says of blocks."""
    last = store.tip()
    return {
        "tip": last,
        "blocks": [store.block(height) for height in range(1 + (0 if last is None else last.height))],
        "unconfirmed": list(store.unconfirmed()),
        "endings": [store.ending(txid) for txid in (A, B, C)],
        "sign state": store.sign_state(),
    }


class ChainCases:
    """What every store promises; ``make`` gives a new one, ``reopen`` the same after a restart."""

    def make(self) -> Any:
        raise AssertionError("each case makes its own")

    def reopen(self, store: Any) -> Any:
        return store

    def test_a_new_store_knows_no_block(self) -> None:
        """Every question has an empty answer."""
        empty = {"tip": None, "blocks": [None], "unconfirmed": [], "endings": [None] * 3, "sign state": None}
        self.assertEqual(chain_of(self.make()), empty)

    def test_blocks_by_height(self) -> None:
        """Each under its height, also two of one commit; there is none at 0, nor after the last, however far."""
        store = self.make()
        store.commit(Changes(NOTHING, blocks=[block(1)], tip=tip(1)))
        store.commit(Changes(NOTHING, blocks=[block(2), block(3)], tip=tip(3)))
        store = self.reopen(store)
        self.assertEqual([store.block(height) for height in range(5)], [None, block(1), block(2), block(3), None])
        self.assertIsNone(store.block(2**63))
        self.assertEqual(store.tip(), tip(3))

    def test_the_last_tip_and_sign_state_hold(self) -> None:
        """The newer replaces the older; a commit without them leaves them alone."""
        store = self.make()
        chance = random.Random(1)
        states = [
            SignState(1, 0),
            SignState(7, 2, (any_word(chance), any_word(chance, BlockVoteKind.PROPOSAL)), A, 1, B, 2**32 - 1,
                      (any_word(chance),), (DECIDED.block,)),
        ]
        for number, state in enumerate(states, 1):
            store.commit(Changes(NOTHING, sign_state=state, blocks=[block(number)], tip=tip(number)))
        store.commit(Changes(NOTHING, caught_up={A: 1}))
        store = self.reopen(store)
        self.assertEqual((store.sign_state(), store.tip()), (states[-1], tip(2)))

    def test_what_is_signed_about_is_there_until_it_is_decided_and_the_chain_for_ever(self) -> None:
        """Named again, beside another, or no more: what the sign state and the chain name is whole after restarts."""
        store = self.make()
        first, second, third = (block(1, at) for at in (5, 6, 7))
        for named in ([first], [first], [second, first], [second], [second, third]):
            store.commit(Changes(NOTHING, sign_state=signed(1, named)))
            store = self.reopen(store)
            self.assertEqual(store.sign_state(), signed(1, named))
        store.commit(Changes(NOTHING, blocks=[third], tip=tip(1)))
        store = self.reopen(store)
        self.assertEqual((store.sign_state(), store.block(1)), (signed(1, named), third))
        store.commit(Changes(NOTHING, sign_state=signed(2, [])))
        store.commit(Changes(NOTHING, sign_state=signed(2, [block(2)])))
        store = self.reopen(store)
        self.assertEqual((store.sign_state(), store.block(1)), (signed(2, [block(2)]), third))

    def test_signed_and_decided_in_one_step(self) -> None:
        """A word about the block, its decision, and a word about the next, all in one commit: both are there."""
        store = self.make()
        store.commit(Changes(NOTHING, sign_state=signed(1, [block(1)])))
        store.commit(Changes(NOTHING, sign_state=signed(2, [block(2)]), blocks=[block(1), block(2)], tip=tip(2)))
        store.commit(Changes(NOTHING, sign_state=signed(3, [])))
        store = self.reopen(store)
        self.assertEqual([store.block(height) for height in (1, 2)], [block(1), block(2)])

    def test_another_proof_of_the_same_verdicts_is_another_block(self) -> None:
        """The certificates beside the verdicts are not hashed: what was decided is kept as it was decided."""
        store = self.make()
        verdicts = [Verdict("abort", A, PROOF.votes[:count]) for count in (1, 2)]
        mine, theirs = (replace(block(1), block=replace(block(1).block, verdicts=(each,))) for each in verdicts)
        store.commit(Changes(NOTHING, sign_state=signed(1, [mine])))
        store.commit(Changes(NOTHING, blocks=[theirs], tip=tip(1)))
        store = self.reopen(store)
        self.assertEqual((store.block(1), store.sign_state()), (theirs, signed(1, [mine])))

    def test_endings(self) -> None:
        """By a verdict, or by the rival that a block contains; of others nothing is said."""
        store = self.make()
        self.assertIsNone(store.ending(A))
        store.commit(Changes(NOTHING, endings={A: Ending(3)}))
        self.assertEqual([store.ending(txid) for txid in (A, B)], [Ending(3), None])
        store = self.reopen(store)
        store.commit(Changes(NOTHING, endings={B: Ending(2**64 - 1, C)}))
        store = self.reopen(store)
        self.assertEqual([store.ending(txid) for txid in (A, B, C)], [Ending(3), Ending(2**64 - 1, C), None])

    def test_what_is_final_waits_for_a_block(self) -> None:
        """In the order of finality, over restarts, until it is in one; the others stay where they are."""
        store = self.make()
        store.commit(Changes(summary(2), transactions={t: record(t, "final") for t in (B, C)}, finalized=[C, B]))
        store.commit(Changes(summary(3), transactions={A: record(A, "final")}, finalized=[A]))
        store = self.reopen(store)
        self.assertEqual([each.tx.txid for each in store.unconfirmed()], [C, B, A])
        store.commit(Changes(summary(3), transactions={B: record(B, "final", 1)}, blocks=[block(1)], tip=tip(1)))
        store = self.reopen(store)
        self.assertEqual([each.tx.txid for each in store.unconfirmed()], [C, A])
        self.assertEqual(store.transaction(B).height, 1)

    def test_what_came_by_a_block_never_waits(self) -> None:
        """Final and confirmed in one commit; a coinbase is in no list of what became final."""
        store = self.make()
        store.commit(Changes(summary(1), finalized=[A], blocks=[block(1)], tip=tip(1),
                             transactions={A: record(A, "final", 1), B: record(B, "final", 1)}))
        store = self.reopen(store)
        self.assertEqual((list(store.unconfirmed()), store.finalized(0, 9)), ([], [A]))

    def test_what_is_aborted_leaves_the_pending(self) -> None:
        """At once and after a restart, and its record says so for ever."""
        store = self.make()
        store.commit(Changes(NOTHING, transactions={txid: record(txid, "pending") for txid in (C, A, B)}))
        store.commit(Changes(NOTHING, transactions={A: record(A, "aborted")}, endings={A: Ending(1)},
                             blocks=[block(1)], tip=tip(1)))
        store = self.reopen(store)
        self.assertEqual([each.tx.txid for each in store.pending()], [C, B])
        self.assertEqual((store.transaction(A).status, list(store.unconfirmed())), ("aborted", []))

    def test_evidence_of_both_kinds(self) -> None:
        """In the order it was found, from any number on, over restarts."""
        store = self.make()
        chance = random.Random(2)
        pieces = [any_evidence(chance), block_evidence(chance), block_evidence(chance), any_evidence(chance)]
        store.commit(Changes(NOTHING, evidence=pieces[:1]))
        store.commit(Changes(NOTHING, evidence=pieces[1:]))
        store = self.reopen(store)
        for since in (0, 1, 3, 4, 2**40):
            for limit in (0, 1, 2, 9):
                self.assertEqual(store.evidence(limit, since), pieces[since : since + limit])


class InMemory(ChainCases, SynchronousTestCase):
    """The store for tests and simulation."""

    def make(self) -> MemoryStore:
        return MemoryStore()


class OnDisk(ChainCases, SynchronousTestCase):
    """RocksDB."""

    def make(self) -> RocksStore:
        self.path = Path(self.mktemp())
        return self._open()

    def _open(self) -> RocksStore:
        store = open_store(self.path, GENESIS.hash, OWNER.public_hex)
        self.addCleanup(store.close)
        return store

    def reopen(self, store: RocksStore) -> RocksStore:
        store.close()
        return self._open()

    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 2**32), st.integers(2, 25))
    def test_both_stores_give_the_same_answers(self, seed: int, count: int) -> None:
        """The change sets of a replica that makes blocks: the same everything, after each commit and a restart."""
        memory, disk = MemoryStore(), self.make()
        for changes in chained(seed, count, memory):
            disk.commit(changes)
        self.assertEqual(chain_of(disk), chain_of(memory))
        disk = self.reopen(disk)
        self.assertEqual((chain_of(disk), everything(disk)), (chain_of(memory), everything(memory)))
        self.assertEqual(disk.tip().height, sum(decided is not None for decided in chain_of(disk)["blocks"]))
        disk.close()

    def test_a_block_is_written_once(self) -> None:
        """Signed about thrice and decided: its row is written in the first commit, and gone once nothing names it."""
        store = self.make()
        body, other = schema.pack_block(block(1).block), schema.pack_block(block(1, 9).block)
        steps = [Changes(NOTHING, sign_state=signed(1, [each])) for each in (block(1), block(1), block(1, 9), block(1))]
        steps += [Changes(NOTHING, blocks=[block(1)], tip=tip(1)), Changes(NOTHING, sign_state=signed(2, []))]
        kept = []
        for changes in steps:
            store.commit(changes)
            kept.append([(schema.number_of(key[1:]), raw) for key, raw in store._rows.scan(b"d")])
            if len(kept) % 2:
                store = self.reopen(store)
        self.assertEqual(kept, [[(0, body)], [(0, body)], [(1, other)], [(2, body)], [(2, body)], [(2, body)]])

    def test_the_tables_of_what_waits_are_emptied(self) -> None:
        """Once all is in a block nothing is left in them, or they would grow for ever."""
        store = self.make()
        made = chained(4, 30, store)
        replica = Replica(store, GENESIS, OWNER)
        changes = replica.step([Wake(replica.height + 1, 0, Timer.HEIGHT)], 5_000 * len(made)).changes
        assert changes is not None
        store.commit(changes)
        self.assertEqual([*store._rows.scan(b"q"), *store._rows.scan(b"p")], [])
        states = [coin.state for wallet in WALLETS
                  for _, coin in store.address_coins(address(wallet), None, 1_000, spent=True)[0]]
        self.assertTrue(any(isinstance(state, Confirmed) for state in states))

    def test_a_store_without_its_last_block_is_damaged(self) -> None:
        """The tip names a block that is not there, or one is there that nothing names: it is not opened."""
        for change in ("lose the block", "lose what it holds", "lose the tip", "an older tip"):
            store = self.make()
            store.commit(Changes(NOTHING, blocks=[block(1), block(2)], tip=tip(2)))
            if change == "lose the block":
                store._rows._db.delete(b"k" + (2).to_bytes(8, "big"))
            elif change == "lose what it holds":
                store._rows._db.delete(b"d" + (1).to_bytes(8, "big"))
            elif change == "lose the tip":
                store._rows._db.delete(b"g")
            else:
                store.commit(Changes(NOTHING, tip=tip(1)))
            store.close()
            with self.assertRaisesRegex(StorageError, "damaged: .*(last block|block number 1)"):
                open_store(self.path, GENESIS.hash, OWNER.public_hex)

    def test_a_store_without_what_was_signed_about_is_damaged(self) -> None:
        """It may have to be proposed again, so it is missed at once and not then."""
        store = self.make()
        store.commit(Changes(NOTHING, sign_state=signed(1, [block(1)])))
        store._rows._db.delete(b"d" + bytes(8))
        store.close()
        with self.assertRaisesRegex(StorageError, "damaged: it has lost block number 0"):
            open_store(self.path, GENESIS.hash, OWNER.public_hex)

    def test_a_block_with_half_a_txid_is_damaged(self) -> None:
        """Nothing but whole ones is read."""
        store = self.make()
        store.commit(Changes(NOTHING, blocks=[block(1)], tip=tip(1)))
        record = msgspec.msgpack.decode(store._rows.get(b"d" + bytes(8)))
        for length in (31, 33, 64 + 16):
            value = msgspec.msgpack.encode(record | {"transactions": bytes(length)})
            with self.assertRaisesRegex(StorageError, "half a digest"):
                schema.read_block(value)

    def test_a_closed_store_answers_nothing(self) -> None:
        """A StorageError for every question about blocks too."""
        store = self.make()
        store.close()
        for question in (store.tip, store.sign_state, lambda: store.block(1), lambda: store.ending(A),
                         lambda: list(store.unconfirmed()), lambda: store.evidence(1, 1)):
            with self.assertRaisesRegex(StorageError, "closed"):
                question()
