"""Power cuts at every commit of a run, before and after: same votes, no lost coin, no forgotten lock (P-01 to P-07)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster import COIN, address, pay
from tests.cut_store import CutStore, PowerCut
from tests.test_consensus.ordeal import Ordeal
from timeproto.consensus.replica import Replica, found
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT, Locked, SpentPending, holder
from timeproto.model.vote import VoteBatch
from timeproto.storage.memory import MemoryStore
from timeproto.wire import codec, messages


class Story:
    """A short run that is the same up to the cut: payments, a chain, a double spend, at two masternodes of four."""

    def __init__(self, cut: int | None = None, *, before: bool = True, seed: int = 3) -> None:
        self.cluster = Ordeal(4, seed, wallets=3, coins=3)
        self.store: Any = self.cluster.nodes[0].store
        if cut is not None:
            self.store.cut_at(cut, "before" if before else "after")
        self.accepted: list[Transaction] = []
        self.cluster.settle(1)
        cluster = self.cluster
        for wallet, number in ((0, 0), (0, 1), (1, 0)):
            self.send(cluster.payment(wallet, number, 2), number)
        double = [cluster.payment(2, 0, to, amount=COIN + to) for to in (0, 1)]
        for number, tx in enumerate(double):
            self.submit(tx, number)
        parent = self.accepted[0] if self.accepted else cluster.payment(0, 0, 2)
        change = parent.output_outpoint(1), parent.outputs[1].amount, cluster.wallets[0]
        cluster.run()
        self.send(cluster.register(pay(cluster.genesis, [change], [(address(cluster.wallets[1]), COIN)])), 1)
        cluster.run()
        cluster.tick()
        cluster.run()

    def submit(self, tx: Transaction, number: int) -> int | None:
        return self.cluster.submit(tx, number) if self.cluster.nodes[number].alive else None

    def send(self, tx: Transaction, number: int) -> None:
        ticket = self.submit(tx, number)
        if ticket is not None and isinstance(self.cluster.answer(ticket), messages.TransactionAccepted):
            self.accepted.append(tx)


def kept(store: Any) -> tuple[Any, ...]:
    """Everything a life begins with."""
    return (
        store.summary(),
        [(record.tx.txid, store.own_votes(record.tx.txid)) for record in store.pending()],
        [codec.encode(store.batch(number)) for number in range(store.summary().batches)],
        store.finalized(0, 1_000),
    )


class EveryCommit(SynchronousTestCase):
    def test_a_cut_before_or_after_every_commit(self) -> None:
        """Killed at each boundary, restarted, healed: all invariants, and what was accepted is final (P-01 to P-05)."""
        boundaries = crashes = 0
        for seed in range(4):
            commits = Story(seed=seed).store.commits
            boundaries += 2 * (commits - 1)
            for cut in range(2, commits + 1):  # the first is the founding, before the node exists
                for before in (True, False):
                    story = Story(cut, before=before, seed=seed)
                    crashes += story.cluster.crashes
                    story.cluster.recover(ticks=6)
                    story.cluster.conclude(story.accepted)
        self.assertEqual(crashes, boundaries)
        self.assertGreater(boundaries, 60)

    def test_a_cut_in_the_recovery_and_in_the_recovery_of_that(self) -> None:
        """The commits after a restart are cut as well, again and again (P-07)."""
        again = 0
        for cut in range(2, 16, 2):
            for second in (1, 2, 3):
                story = Story(cut, before=bool(cut % 4))
                cluster = story.cluster
                for third in (second, 1):
                    if not cluster.nodes[0].alive:
                        cluster.restart(0)
                    cluster.cut_power(0, third, before=bool(second % 2))
                    crashes = cluster.crashes
                    cluster.settle(3)
                    again += cluster.crashes - crashes
                cluster.recover(ticks=6)
                cluster.conclude(story.accepted)
        self.assertGreater(again, 20)

    def test_all_masternodes_cut_at_once(self) -> None:
        """Power loss in the whole house, at any moment: all that was final stays, the rest resumes (P-10)."""
        for seed in range(12):
            cluster = Ordeal(4, seed, wallets=3, coins=3)
            cluster.settle(1)
            payments = [cluster.payment(wallet, coin, (wallet + 1) % 3) for wallet in range(3) for coin in range(3)]
            tickets = [cluster.submit(tx, cluster.random.randrange(4)) for tx in payments]
            for _ in range(cluster.random.randint(0, 60)):
                cluster.deliver()
            final = [tx for tx in payments if any(cluster.final(tx.txid))]
            accepted = [tx for tx, ticket in zip(payments, tickets, strict=True)
                        if isinstance(cluster.answer(ticket), messages.TransactionAccepted)]
            for number in range(4):
                cluster.kill(number)
            cluster.recover(ticks=8)
            cluster.conclude([*final, *accepted])

    def test_the_founding_itself_is_cut(self) -> None:
        """Before the first commit there is nothing, after it everything: found again, or found already."""
        genesis = Ordeal(4, 1).genesis
        for before in (True, False):
            store: Any = CutStore(MemoryStore())
            store.cut_at(1, "before" if before else "after")
            founding = found(store, genesis)
            assert founding is not None
            self.assertRaises(PowerCut, store.commit, founding)
            store = store.inner
            again = found(store, genesis)
            self.assertEqual(again is None, not before)
            if again is not None:
                store.commit(again)
            replica = Replica(store, genesis, Ordeal(4, 1).nodes[0].signing_key)
            self.assertEqual(sum(tally.amount for tally in replica.manager.tallies.values()), genesis.supply)


class TheSameAgain(SynchronousTestCase):
    def test_recovery_writes_nothing_and_is_the_same_every_time(self) -> None:
        """Starting a hundred times on one store changes no byte of it (P-07, A-7)."""
        story = Story(9)
        store = story.store.inner.inner
        before = kept(store)
        genesis, key = story.cluster.genesis, story.cluster.nodes[0].signing_key
        for _ in range(5):
            replica = Replica(store, genesis, key)
            self.assertEqual(kept(store), before)
            self.assertTrue(replica.step([], 1).changes is None)

    def test_locks_are_those_of_the_payments_that_are_kept(self) -> None:
        """After a restart every held coin belongs to a recorded, undecided payment, and the reverse (A-2)."""
        for cut in range(3, 16):
            for before in (True, False):
                story = Story(cut, before=before)
                store: Any = story.cluster.nodes[0].store
                pending = {record.tx.txid: record.tx for record in store.pending()}
                held = {outpoint: coin.state for outpoint, coin in store.inner.inner._coins.items()
                        if isinstance(coin.state, Locked | SpentPending)}
                for outpoint, state in held.items():
                    txid = holder(state)
                    assert txid is not None
                    self.assertIn(outpoint, pending[txid].outpoints)
                for txid, tx in pending.items():
                    votes = store.own_votes(txid)
                    self.assertIsNotNone(votes)
                    free = [each for each in tx.outpoints if store.coin(each).state == UNSPENT]
                    self.assertTrue(votes.lock is None or not free)

    def test_a_vote_cut_off_after_its_commit_goes_out_the_same(self) -> None:
        """Durable, and killed before it left: the very bytes are handed over in the next life (P-01)."""
        cluster = Ordeal(4, 5)
        cluster.settle(1)
        cluster.cut_power(0, 1, before=False)
        tx = cluster.payment(0, 0, 1)
        cluster.submit(tx, 0)
        self.assertEqual(cluster.crashes, 1)
        store: Any = cluster.nodes[0].store
        own = store.own_votes(tx.txid)
        kept_bytes = codec.encode(store.batch(own.lock))
        key, since = cluster.nodes[0].key, len(cluster.sent)
        self.assertFalse(any(sender == key and isinstance(message, VoteBatch) for sender, _, message in cluster.sent))
        cluster.restart(0)
        said = [message for sender, _, message in cluster.sent[since:] if sender == key]
        handed = {codec.encode(batch) for each in said if isinstance(each, messages.Votes) for batch in each.batches}
        self.assertEqual(handed, {kept_bytes})
        cluster.recover(ticks=4)
        cluster.conclude([tx])

    def test_a_vote_cut_off_before_its_commit_never_was(self) -> None:
        """Nothing left, so the next life may vote for the rival (P-02)."""
        cluster = Ordeal(4, 5)
        cluster.settle(1)
        cluster.cut_power(0, 1, before=True)
        tx, rival = cluster.payment(0, 0, 1), cluster.payment(0, 0, 2)
        ticket = cluster.submit(tx, 0)
        self.assertIsNone(cluster.answer(ticket))
        cluster.restart(0)
        cluster.run()
        cluster.submit(rival, 0)
        cluster.recover(ticks=4)
        self.assertEqual((cluster.final(tx.txid), cluster.final(rival.txid)), ([False] * 4, [True] * 4))
