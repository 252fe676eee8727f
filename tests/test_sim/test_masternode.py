"""The simulated process: nothing leaves before it is durable, and every way to die is a real one."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.test_sim.harness import quiet_run
from timeproto.consensus import own_votes
from timeproto.model.transaction import Transaction
from timeproto.model.utxo_state import UNSPENT
from timeproto.model.vote import VoteBatch
from timeproto.sim.events import MILLISECOND, SECOND
from timeproto.sim.masternode import EPOCH, Clock, Fuse, Moment


class Deaths(SynchronousTestCase):
    def setUp(self) -> None:
        self.run_ = quiet_run()
        self.sent: list[tuple[str, Any]] = []
        watch = self.run_.checkers
        self.patch(watch, "sent", lambda node, message: self.sent.append((node.name, message)))
        world = self.run_.world()
        world.__enter__()
        self.addCleanup(world.__exit__, None, None, None)
        self.run_.start()
        self.run_.events.run_until(2 * SECOND)
        self.sent.clear()
        self.node = self.run_.nodes[0]

    def pay(self) -> Transaction:
        """Returns when the commit of the node's lock vote is under way."""
        tx = self.run_.wallets.next_payment()
        self.run_.wallets.submit(tx, self.node)
        while self.node._pending is None or not self.node._pending.changes.batches:  # type: ignore[union-attr]
            self.run_.events.run_until(self.run_.events.now + 50)
        return tx

    def pay_and_die(self, moment: Moment) -> Transaction:
        tx = self.pay()
        self.node.fuse = Fuse(1, moment)
        return tx

    def votes_sent(self) -> list[VoteBatch]:
        return [message for name, message in self.sent if name == self.node.name and isinstance(message, VoteBatch)]

    def test_before_the_commit_there_is_nothing(self) -> None:
        """P-02: no record, no vote, no answer."""
        tx = self.pay_and_die(Moment.BEFORE_COMMIT)
        self.run_.events.run_until(3 * SECOND)
        self.assertFalse(self.node.alive)
        self.assertIsNone(self.node.store.transaction(tx.txid))
        self.assertEqual(self.votes_sent(), [])
        self.assertIsNone(self.run_.wallets.orders[1].answer)

    def test_after_the_commit_nothing_has_left(self) -> None:
        """P-01: the vote is kept, nobody has it; the next life sends the very bytes."""
        tx = self.pay_and_die(Moment.AFTER_COMMIT)
        self.run_.events.run_until(3 * SECOND)
        own = self.node.store.own_votes(tx.txid)
        assert own is not None and own.lock is not None
        kept = self.node.store.batch(own.lock)
        self.assertEqual(self.votes_sent(), [])
        self.node.start()
        self.run_.events.run_until(4 * SECOND)
        handed = [batch for _, message in self.sent for batch in getattr(message, "batches", ())]
        self.assertIn(kept, handed)

    def test_after_the_send_everybody_has_it(self) -> None:
        """P-03: the others go on without it, and it learns the rest when it is back."""
        tx = self.pay_and_die(Moment.AFTER_SEND)
        self.run_.events.run_until(3 * SECOND)
        self.assertFalse(self.node.alive)
        self.assertEqual([batch.lock for batch in self.votes_sent()], [(tx.txid,)])
        self.assertEqual(len(self.run_.checkers.final_at[tx.txid]), 3)
        self.node.start()
        self.run_.events.run_until(6 * SECOND)
        self.assertEqual(len(self.run_.checkers.final_at[tx.txid]), 4)

    def test_a_commit_under_way_is_there_or_not(self) -> None:
        """kill -9 while the disk works: whole or not at all, by chance."""
        fates = set()
        for _ in range(8):
            tx = self.pay()
            self.node.kill()
            kept = self.node.store.transaction(tx.txid) is not None
            self.assertEqual(self.node.store.own_votes(tx.txid) is not None, kept)
            self.assertEqual(self.node.store.coin(tx.outpoints[0]).state == UNSPENT, not kept)
            fates.add(kept)
            self.node.start(at_once=True)
            self.run_.events.run_until(self.run_.events.now + 3 * SECOND)
        self.assertEqual(fates, {True, False})

    def test_who_is_stopped_does_nothing_and_then_goes_on(self) -> None:
        """SIGSTOP for ten seconds, SIGCONT: one tick, not ten, and all that waited is heard (P-09)."""
        self.node.pause()
        tick = self.node.replica._finality.tick
        tx = self.run_.wallets.next_payment()
        self.run_.wallets.submit(tx, self.run_.nodes[1])
        self.run_.events.run_until(12 * SECOND)
        self.assertEqual(self.node.replica._finality.tick, tick)
        self.assertNotIn(0, self.run_.checkers.final_at[tx.txid])
        self.node.go_on()
        self.run_.events.run_until(12 * SECOND + 500 * MILLISECOND)
        self.assertLessEqual(self.node.replica._finality.tick, tick + 2)
        self.assertIn(0, self.run_.checkers.final_at[tx.txid])

    def test_an_old_backup_is_found_out(self) -> None:
        """What was signed since the backup is known to the others: this process waits for it, and then ends (P-19)."""
        self.patch(own_votes, "PATIENCE", 0)  # or the next block would end the contest before
        run = quiet_run(faults="amnesia")
        with run.world():
            run.start()
            run.events.run_until(2 * SECOND)
            node = run.nodes[run.faulty[0]]
            node.disk.back_up()
            coin = run.wallets.take()
            rivals = run.wallets.pay(coin, share=0.2), run.wallets.pay(coin, share=0.3)
            for place, other in enumerate(sorted(run.nodes, key=lambda each: each is not node)):
                run.wallets.submit(rivals[place // 2], other)  # two and two: it stays undecided for a while
            run.events.run_until(2 * SECOND + 300 * MILLISECOND)
            node.kill()
            node.disk.restore_backup()
            node.start(at_once=True)
            run.events.run_until(3 * SECOND)
            self.assertIn("waiting for the end of what", node.replica.not_voting or "")
            run.events.run_until(4 * SECOND + 500 * MILLISECOND)
        self.assertTrue(node.expelled)
        self.assertEqual(run.tally.rare["identity conflict"], 1)

    def test_a_clock_drifts_and_jumps_and_does_not_go_back(self) -> None:
        """What a node writes down never decreases within one life (P-11)."""
        clock = Clock(offset=-300_000, drift=1_000)
        self.assertEqual(clock.read(0), EPOCH - 300_000)
        self.assertEqual(clock.read(1_000 * SECOND), EPOCH - 300_000 + 1_001_000)
        before = self.node.now()
        self.node.clock.offset -= 300_000
        self.assertEqual(self.node.now(), before)
        self.node.clock.offset += 600_000
        self.assertGreater(self.node.now(), before + 299_000)
