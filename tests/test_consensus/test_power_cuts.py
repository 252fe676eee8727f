"""Power cuts at every commit of a run, before and after: same votes, no lost coin, no forgotten lock (P-01 to P-07).

The runs are the simulator's (timeproto.sim): every promise is checked after every step, and at last all is decided.
"""

from __future__ import annotations

import itertools
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto.consensus.replica import Replica, found
from timeproto.model.utxo_state import UNSPENT, Locked, SpentPending, holder
from timeproto.sim.disk import copy_of
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.masternode import Fuse, Masternode, Moment
from timeproto.sim.run import Plan, Run
from timeproto.storage.memory import MemoryStore
from timeproto.wire import codec, messages

NEVER = 10**9


class Story(Run):
    """Four masternodes for three seconds: payments, a chain, a double spend. The first is cut off at its commits number
    ``cuts``, each counted from its last start, and comes back after a while."""

    def __init__(self, seed: int, *cuts: int, moment: Moment = Moment.BEFORE_COMMIT) -> None:
        super().__init__(Plan(seed, 4, "none", actions=0))
        self.crashes = 0
        self.victim: Masternode = self.nodes[0]
        self._fuses = [Fuse(cut, moment) for cut in cuts]
        self._set_fuse()

    def _set_fuse(self) -> None:
        self.victim.fuse = self.fuse = self._fuses.pop(0) if self._fuses else Fuse(NEVER, Moment.AFTER_SEND)

    def tell(self) -> None:
        """Up to the moment before everything heals; within the world."""
        self.start()
        wallets = self.wallets
        for moment, trick in ((200, wallets.plain), (900, wallets.chain), (1_000, wallets.double_spend)):
            self.events.at(moment * MILLISECOND, trick)
        self.events.after(0, self._watch)
        self.events.run_until(3 * SECOND)

    def _watch(self) -> None:
        if not self.victim.alive:
            self.crashes += 1
            self._set_fuse()
            self.victim.start()
        self.events.after(300 * MILLISECOND, self._watch)

    @property
    def commits(self) -> int:
        """How many the victim made in its last life; nothing was cut."""
        return NEVER - self.fuse.left


def told(seed: int, *cuts: int, moment: Moment = Moment.BEFORE_COMMIT, recover: bool = True) -> Story:
    story = Story(seed, *cuts, moment=moment)
    with story.world():
        story.tell()
        if recover:
            story.recover()
    return story


def kept(store: Any) -> tuple[Any, ...]:
    """Everything a life begins with."""
    return (
        store.summary(),
        [(record.tx.txid, store.own_votes(record.tx.txid)) for record in store.pending()],
        [codec.encode(store.batch(number)) for number in range(store.summary().batches)],
        store.finalized(0, 1_000),
        store.tip(),
        store.sign_state(),
    )


class EveryCommit(SynchronousTestCase):
    def test_a_cut_before_or_after_every_commit(self) -> None:
        """Killed at each boundary, restarted, healed: every promise held, all that is owed came (P-01 to P-05)."""
        boundaries = crashes = 0
        commits = told(3, recover=False).commits
        for cut in range(1, commits + 1):
            for moment in Moment:
                boundaries += 1
                crashes += told(3, cut, moment=moment).crashes
        self.assertEqual(crashes, boundaries)
        self.assertGreater(boundaries, 60)

    def test_a_cut_in_the_recovery_and_in_the_recovery_of_that(self) -> None:
        """The commits after a restart are cut as well, again and again (P-07)."""
        again = 0
        for cut in range(1, 14, 4):
            for second in (1, 2):
                moment = Moment.BEFORE_COMMIT if second == 1 else Moment.AFTER_COMMIT
                again += told(5, cut, second, 1, 1, moment=moment).crashes - 1
        self.assertGreater(again, 14)

    def test_all_masternodes_cut_at_once(self) -> None:
        """Power loss in the whole house, at any moment: all that was final stays, the rest resumes (P-10)."""
        final = 0
        for seed in range(10):
            run = Run(Plan(seed, 4, "none", actions=0))
            with run.world():
                run.start()
                run.events.run_until(SECOND)
                for _ in range(6):
                    run.wallets.plain()
                run.events.run_until(SECOND + (seed + 1) * 5 * MILLISECOND)
                final += len(run.checkers.final_at)
                for node in run.nodes:
                    node.kill(noticed=False)
                run.events.run_until(2 * SECOND)
                run.recover()
        self.assertGreater(final, 0)

    def test_the_founding_itself_is_cut(self) -> None:
        """Before the first commit there is nothing, after it everything: found again, or found already."""
        genesis = told(1, recover=False).setting.genesis
        for is_committed in (False, True):
            store = MemoryStore()
            founding = found(store, genesis)
            assert founding is not None
            if is_committed:
                store.commit(founding)
            store = copy_of(store)
            again = found(store, genesis)
            self.assertEqual(again is None, is_committed)
            if again is not None:
                store.commit(again)
            replica = Replica(store, genesis, told(1, recover=False).setting.masternodes[0])
            self.assertEqual(sum(tally.amount for tally in replica.manager.tallies.values()), genesis.supply)


class TheSameAgain(SynchronousTestCase):
    def test_recovery_writes_nothing_and_is_the_same_every_time(self) -> None:
        """Starting again and again on one store changes nothing in it (P-07, A-7)."""
        story = told(3, 9, recover=False)
        store, genesis, key = story.victim.store, story.setting.genesis, story.setting.masternodes[0]
        before = kept(store)
        for _ in range(5):
            replica = Replica(store, genesis, key)
            self.assertEqual(kept(store), before)
            self.assertTrue(replica.step([], 1).changes is None)

    def test_locks_are_those_of_the_payments_that_are_kept(self) -> None:
        """After a cut every held coin belongs to a recorded, undecided payment, and the reverse (A-2)."""
        seen = 0
        for seed, cut in itertools.product((1, 10), range(2, 20, 2)):
            for moment in (Moment.BEFORE_COMMIT, Moment.AFTER_COMMIT):
                store = told(seed, cut, moment=moment, recover=False).victim.store
                pending = {record.tx.txid: record.tx for record in store.pending()}
                held = {outpoint: coin.state for outpoint, coin in store._coins.items()
                        if isinstance(coin.state, Locked | SpentPending)}
                seen += len(held)
                for outpoint, state in held.items():
                    txid = holder(state)
                    assert txid is not None
                    self.assertIn(outpoint, pending[txid].outpoints)
                for txid, tx in pending.items():
                    votes = store.own_votes(txid)
                    self.assertIsNotNone(votes)
                    free = [each for each in tx.outpoints if store.coin(each).state == UNSPENT]
                    self.assertTrue(votes.lock is None or not free)
        self.assertGreater(seen, 5)

    def test_a_vote_cut_off_after_its_commit_goes_out_the_same(self) -> None:
        """Durable, and killed before it left: the very bytes are handed over in the next life (P-01)."""
        run = Run(Plan(5, 4, "none", actions=0))
        with run.world():
            run.start()
            run.events.run_until(SECOND)
            node, said = run.nodes[0], []
            self.patch(run.checkers, "sent", lambda sender, message: said.append((sender, message)))
            tx = run.wallets.next_payment()
            run.wallets.submit(tx, node)
            while node._pending is None or not node._pending.changes.batches:  # type: ignore[union-attr]
                run.events.run_until(run.events.now + 50)
            node.fuse = Fuse(1, Moment.AFTER_COMMIT)
            run.events.run_until(run.events.now + SECOND)
            own = node.store.own_votes(tx.txid)
            assert own is not None and own.lock is not None
            bytes_kept = codec.encode(node.store.batch(own.lock))
            self.assertFalse(any(sender is node and getattr(message, "lock", ()) for sender, message in said))
            node.start()
            run.events.run_until(run.events.now + SECOND)
            mine = [message for sender, message in said if sender is node and isinstance(message, messages.Votes)]
            handed = {codec.encode(batch) for message in mine for batch in message.batches}
            self.assertIn(bytes_kept, handed)

    def test_a_vote_cut_off_before_its_commit_never_was(self) -> None:
        """Nothing left, so the next life may vote for the rival (P-02)."""
        run = Run(Plan(5, 4, "none", actions=0))
        with run.world():
            run.start()
            run.events.run_until(SECOND)
            node = run.nodes[0]
            coin = run.wallets.take()
            tx, rival = run.wallets.pay(coin, share=0.2), run.wallets.pay(coin, share=0.3)
            run.wallets.submit(tx, node)
            while node._pending is None or not node._pending.changes.batches:  # type: ignore[union-attr]
                run.events.run_until(run.events.now + 50)
            node.kill(moment=Moment.BEFORE_COMMIT)
            self.assertIsNone(run.wallets.orders[1].answer)
            node.start()
            run.events.run_until(run.events.now + SECOND)
            run.wallets.submit(rival, node)
            run.events.run_until(run.events.now + 3 * SECOND)
            run.recover()
        self.assertEqual(set(run.checkers.final_at), {rival.txid})
