"""The faults of the catalogue one by one (N, P, B): what happens while each lasts, and after it. All checkers watch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from timeproto.model.transaction import Transaction
from timeproto.sim.events import SECOND
from timeproto.sim.liar import Liar
from timeproto.sim.masternode import Clock
from timeproto.sim.network import Cut, Direction
from timeproto.sim.run import Plan, Run


class Scenario(SynchronousTestCase):
    def begin(self, masternodes: int = 7, seed: int = 0, faults: str = "none") -> Run:
        """A run whose masternodes have been up for two seconds."""
        run = Run(Plan(seed, masternodes, faults, actions=0))
        world = run.world()
        world.__enter__()
        self.addCleanup(world.__exit__, None, None, None)
        run.start()
        run.events.run_until(2 * SECOND)
        return run

    def pay(self, run: Run, number: int) -> Transaction:
        tx = run.wallets.next_payment()
        run.wallets.submit(tx, run.nodes[number])
        return tx

    def double_spend(self, run: Run, *sides: Iterable[int]) -> list[Transaction]:
        """One coin, a rival for each side, at one instant."""
        coin = run.wallets.take()
        rivals = []
        for place, side in enumerate(sides):
            rivals.append(run.wallets.pay(coin, share=0.2 + place / 10))
            for number in side:
                run.wallets.submit(rivals[-1], run.nodes[number])
        return rivals

    def final_at(self, run: Run, tx: Transaction) -> set[int]:
        return set(run.checkers.final_at.get(tx.txid, ()))

    def pass_time(self, run: Run, seconds: float) -> None:
        run.events.run_until(run.events.now + int(seconds * SECOND))

    def split(self, run: Run, left: Iterable[int], right: Iterable[int], how: Cut = "break") -> list[Direction]:
        both = run.network.between
        sides = list(left), list(right)
        return run.network.cut([*both(*sides), *both(*sides[::-1])], how)

    def heals_within(self, run: Run, seconds: float) -> None:
        """Everything that is owed comes about in that time."""
        begun = run.events.now
        run.recover()
        self.assertLess((run.events.now - begun) / SECOND, seconds)


class Partitions(Scenario):
    def test_five_of_seven_go_on_and_two_wait(self) -> None:
        """N-01: a quorum finalizes, the others finalize nothing; after healing all are equal within ten seconds."""
        run = self.begin()
        self.split(run, range(5), (5, 6))
        self.pass_time(run, 1)
        there, here = self.pay(run, 0), self.pay(run, 6)
        self.pass_time(run, 4)
        self.assertEqual(self.final_at(run, there), set(range(5)))
        self.assertEqual(self.final_at(run, here), set())
        self.assertGreater(run.nodes[0].replica.height, run.nodes[6].replica.height)
        self.heals_within(run, 10)
        self.assertEqual(self.final_at(run, here), set(range(7)))

    def test_no_quorum_anywhere(self) -> None:
        """N-02: nothing is final, no lock is released, no block is made; it all completes without being sent again."""
        run = self.begin()
        self.split(run, range(4), range(4, 7))
        self.pass_time(run, 1)
        height = run.nodes[0].replica.height
        payments = [self.pay(run, number) for number in (0, 1, 5)]
        self.pass_time(run, 30)
        self.assertEqual([self.final_at(run, tx) for tx in payments], [set(), set(), set()])
        self.assertLessEqual(max(node.replica.height for node in run.nodes), height + 1)
        self.heals_within(run, 10)
        self.assertEqual([len(self.final_at(run, tx)) for tx in payments], [7, 7, 7])

    def test_no_quorum_and_a_rival_on_each_side(self) -> None:
        """N-03, H-24: after healing at most one is final, and the coin is not frozen whichever way it goes."""
        for seed in range(10):
            run = self.begin(seed=seed)
            self.split(run, range(4), range(4, 7), ("break", "drop", "hold")[seed % 3])  # type: ignore[arg-type]
            self.pass_time(run, 1)
            rivals = self.double_spend(run, range(4), range(4, 7))
            self.pass_time(run, seed)
            self.heals_within(run, 30)
            self.assertLessEqual(sum(bool(self.final_at(run, tx)) for tx in rivals), 1)

    def test_one_direction_is_lost(self) -> None:
        """N-04: who is not heard by some is heard of by the others."""
        run = self.begin(4)
        run.network.cut([(0, 1), (2, 3)], "drop")
        payments = [self.pay(run, number) for number in range(4)]
        self.pass_time(run, 8)
        self.assertEqual([len(self.final_at(run, tx)) for tx in payments], [4] * 4)
        self.heals_within(run, 10)

    def test_one_link_is_lost_when_nobody_can_be_spared(self) -> None:
        """N-04, with f down: each word reaches those who do not hear its voter by way of those who do."""
        run = self.begin(4)
        run.nodes[3].kill()
        run.network.cut([(0, 1)], "drop")
        height = run.nodes[0].replica.height
        self.pass_time(run, 60)
        self.assertGreater(min(node.replica.height for node in run.nodes[:3]), height + 5)
        self.heals_within(run, 20)

    def test_a_ring_of_majorities(self) -> None:
        """N-05: everybody sees five of seven, and no two the same five."""
        run = self.begin()
        far = [(a, b) for a in range(7) for b in range(7) if a != b and (a - b) % 7 in (3, 4)]
        run.network.cut(far, "break")
        rivals = self.double_spend(run, (0,), (3,), (5,))
        alone = self.pay(run, 2)
        self.pass_time(run, 10)
        self.assertLessEqual(sum(bool(self.final_at(run, tx)) for tx in rivals), 1)
        self.assertEqual(len(self.final_at(run, alone)), 7)
        self.heals_within(run, 20)

    def test_a_bridge(self) -> None:
        """N-06: one masternode sees both halves and hands on what each says: payments are final, blocks are made."""
        run = self.begin()
        self.split(run, range(3), range(4, 7))
        self.pass_time(run, 2)
        height = run.nodes[3].replica.height
        payments = [self.pay(run, number) for number in (0, 3, 6)]
        self.pass_time(run, 15)
        self.assertEqual([len(self.final_at(run, tx)) for tx in payments], [7, 7, 7])
        self.pass_time(run, 45)
        self.assertGreater(min(node.replica.height for node in run.nodes), height + 2)
        self.heals_within(run, 20)

    def test_a_link_that_flaps(self) -> None:
        """N-08: up and down for a minute; nothing piles up, votes are said again."""
        run = self.begin(4)
        link = run.network.links[0]
        payments = []
        for number in range(30):
            run.network.sever(link)
            payments.append(self.pay(run, number % 2))
            self.pass_time(run, 2)
        self.assertGreater(sum(len(self.final_at(run, tx)) == 4 for tx in payments), 25)
        self.heals_within(run, 10)

    def test_votes_that_come_late(self) -> None:
        """N-09: what one masternode says takes thirty seconds; its votes count then, and it votes for nobody else."""
        run = self.begin(4)
        run.nodes[3].kill()
        run.network.cut([(2, 0), (2, 1)], "hold")
        tx = self.pay(run, 2)
        self.pass_time(run, 30)
        self.assertEqual(self.final_at(run, tx), set())
        run.network.uncut([(2, 0), (2, 1)], "hold")
        self.pass_time(run, 2)
        self.assertEqual(self.final_at(run, tx), {0, 1, 2})
        self.heals_within(run, 20)

    def test_the_proposer_is_cut_off_at_each_step(self) -> None:
        """N-27: at any moment of a round; the next round decides, and payments are final meanwhile."""
        for moment in range(0, 1_600, 200):
            run = self.begin(4, seed=moment)
            self.pass_time(run, moment / 1_000)
            agreement = run.nodes[0].replica._agreement
            number = (agreement.height + agreement.round) % 4
            others = [each for each in range(4) if each != number]
            height = max(run.nodes[each].replica.height for each in others)
            self.split(run, [number], others)
            tx = self.pay(run, others[0])
            self.pass_time(run, 8)
            self.assertEqual(self.final_at(run, tx), set(others))
            self.assertGreater(min(run.nodes[each].replica.height for each in others), height)
            self.heals_within(run, 12)

    def test_a_wide_area_with_a_tail(self) -> None:
        """N-28: 30 to 150 ms, one message in a hundred late by 1.5 s: final within a second and two round trips."""
        run = self.begin(7, faults="wan")
        run.network.weather.tail = 0.01
        times = []
        for number in range(20):
            begun = run.events.now
            tx = self.pay(run, number % 7)
            self.pass_time(run, 3)
            times.append((run.checkers.final_at[tx.txid][number % 7] - begun) / SECOND)
        self.assertLess(max(times), 1 + 2 * 0.32)
        self.assertEqual(run.tally.faults["broken link"], 0)


class Processes(Scenario):
    def test_clocks_ten_minutes_apart(self) -> None:
        """P-11, P-12: payments are final as ever, and blocks are made as soon as a slow clock proposes."""
        run = self.begin(4)
        for node, minutes in zip(run.nodes, (-5, 0, 4, 5), strict=True):
            node.clock = Clock(minutes * 60_000, drift=200)
        payments = [self.pay(run, number) for number in range(4)]
        self.pass_time(run, 0.5)
        self.assertEqual([len(self.final_at(run, tx)) for tx in payments], [4] * 4)
        self.heals_within(run, 60)

    def test_a_rolling_restart(self) -> None:
        """P-28: one after the other, under load; nothing is lost."""
        run = self.begin(4)
        payments = []
        for node in run.nodes:
            payments.append(self.pay(run, (node.number + 1) % 4))
            node.kill()
            self.pass_time(run, 1)
            node.start()
            self.pass_time(run, 2)
            payments.append(self.pay(run, node.number))
        self.heals_within(run, 10)
        self.assertEqual([len(self.final_at(run, tx)) for tx in payments], [4] * 8)

    def test_only_a_fast_clock_knows_of_a_contest(self) -> None:
        """It abort-voted and proposes nothing that is believed: the others act on their lock certificate unasked."""
        run = self.begin(4)
        run.nodes[1].kill()
        run.nodes[2].clock = Clock(60_000)
        self.split(run, (2,), (0, 3), "break")
        self.pass_time(run, 1)
        tx = self.pay(run, 2)
        self.pass_time(run, 0.1)
        run.wallets.cancel_at(tx, run.nodes[2])
        self.pass_time(run, 5)
        self.assertTrue(run.nodes[2].replica.payments.get(tx.txid).cast_abort)
        run.nodes[2].kill()
        run.nodes[2].start()
        run.network.heal()
        self.pass_time(run, 30)
        self.assertEqual(self.final_at(run, tx), {0, 2, 3})
        self.heals_within(run, 30)

    def test_a_day_of_blocks(self) -> None:
        """P-27, in small: an hour of blocks with few payments leaves nothing behind in memory."""
        run = self.begin(4)
        for number in range(12):
            self.pay(run, number % 4)
            self.pass_time(run, 20)
        self.assertGreater(run.nodes[0].replica.height, 100)
        self.heals_within(run, 10)


class Liars(Scenario):
    def bad(self, run: Run, *habits: str) -> list[Liar]:
        liars = [node for node in run.nodes if isinstance(node, Liar)]
        for liar in liars:
            liar.habits = set(habits)
        return liars

    def test_f_are_silent(self) -> None:
        """B-03: two of seven say nothing; payments are final in less than a second."""
        run = self.begin()
        for number in (1, 4):
            run.nodes[number].kill()
        tx = self.pay(run, 0)
        self.pass_time(run, 1)
        self.assertEqual(self.final_at(run, tx), {0, 2, 3, 5, 6})
        self.heals_within(run, 30)

    def test_more_than_f_are_silent(self) -> None:
        """B-04: three of seven: nothing is final and no quorum is lowered; one comes back, and it goes on."""
        run = self.begin()
        for number in (1, 4, 6):
            run.nodes[number].kill()
        tx = self.pay(run, 0)
        self.pass_time(run, 30)
        self.assertEqual(self.final_at(run, tx), set())
        run.nodes[6].start()
        self.pass_time(run, 5)
        self.assertEqual(self.final_at(run, tx), {0, 2, 3, 5, 6})
        self.heals_within(run, 30)

    def test_votes_for_both_sides(self) -> None:
        """B-01, B-28: liars lock for every rival, and for each another one; the coin is free or spent in the end."""
        evidence = 0
        for seed in range(6):
            run = self.begin(seed=seed, faults="byzantine")
            self.bad(run, "equivocates", "mischief")
            honest = [node.number for node in run.honest]
            self.double_spend(run, honest[::2], honest[1::2])
            self.pass_time(run, 5)
            self.heals_within(run, 40)
            evidence += run.tally.rare["lock evidence"]
        self.assertGreater(evidence, 0)

    def test_two_blocks_for_one_height(self) -> None:
        """B-13: one is decided, there is evidence, and what was in either stays final."""
        evidence = 0
        for seed in range(4):
            run = self.begin(4, seed=seed, faults="byzantine")
            self.bad(run, "equivocates")
            for number in range(6):
                self.pay(run, number % 4)
                self.pass_time(run, 1)
            self.heals_within(run, 40)
            evidence += run.tally.rare["block evidence"]
        self.assertGreater(evidence, 0)

    def test_proposers_that_never_propose(self) -> None:
        """B-14: silent ones cost a round when it is their turn, and no more."""
        run = self.begin(4, faults="byzantine")
        self.bad(run, "silent")
        tx = self.pay(run, run.honest[0].number)
        self.pass_time(run, 20)
        self.assertGreater(run.tally.rare["decided in a later round"], 0)
        self.assertGreater(run.honest[0].replica.height, 5)
        self.assertIn(tx.txid, run.checkers.chain.heights)
        self.heals_within(run, 20)

    def test_a_proposer_that_censors(self) -> None:
        """B-15: whatever a liar leaves out the next honest proposer puts in."""
        run = self.begin(4, faults="byzantine")
        (liar,) = self.bad(run, "bad blocks")

        def empty(message: Any) -> list[list[Any]]:
            if message.vote.voter != liar.name:
                return [[message]]
            block = liar._blocks._made(liar.replica, message.block, txids=(), verdicts=())
            return [liar._supported(message, block)]

        liar._proposals = empty  # type: ignore[method-assign]
        payments = []
        for number in range(8):
            payments.append(self.pay(run, run.honest[number % 3].number))
            self.pass_time(run, 1)
        self.pass_time(run, 10)
        proposers = {header.proposer for header in run.checkers.chain.headers}
        self.assertIn(liar.name, proposers)
        self.assertTrue(all(tx.txid in run.checkers.chain.heights for tx in payments))
        self.heals_within(run, 20)

    def test_bad_blocks_are_not_decided(self) -> None:
        """B-16, B-17, B-24: whatever is wrong with them; the checkers make every figure of a decided block again."""
        bad = 0
        for seed in range(8):
            run = self.begin(4, seed=seed, faults="byzantine")
            self.bad(run, "bad blocks")
            for number in range(10):
                self.pay(run, run.honest[number % 3].number)
                self.pass_time(run, 1)
            self.heals_within(run, 40)
            bad += run.tally.faults["bad block"]
        self.assertGreater(bad, 10)

    def test_lies_to_one_that_was_away(self) -> None:
        """B-18, B-20, B-21: who comes back is shown false blocks, finals and votes, and believes what proves itself."""
        for seed in range(4):
            run = self.begin(4, seed=seed, faults="byzantine")
            self.bad(run, "false answers", "mischief")
            away = run.honest[seed % 3]
            away.kill()
            for number in range(5):
                self.pay(run, run.honest[(seed + 1 + number % 2) % 3].number)
                self.pass_time(run, 1)
            away.start()
            self.pass_time(run, 5)
            self.heals_within(run, 40)
            self.assertGreater(run.tally.faults["false answer"], 0)

    def test_votes_and_proofs_to_one_alone(self) -> None:
        """B-05: a liar tells one honest masternode and nobody else; the others have it within ticks."""
        for seed in range(4):
            run = self.begin(4, seed=seed, faults="byzantine")
            self.bad(run, "favours")
            down = run.honest[0]
            down.kill()
            tx = self.pay(run, run.honest[1].number)
            self.pass_time(run, 8)
            self.assertEqual(len(self.final_at(run, tx)) in (0, 2, 3), True)
            down.start()
            self.pass_time(run, 4)
            self.assertTrue({node.number for node in run.honest} <= self.final_at(run, tx))
            self.heals_within(run, 40)
