"""Random runs: every promise after every step, whatever fails and whoever lies (protocol §10)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from timeproto.sim.campaign import Report, again
from timeproto.sim.faults import KINDS
from timeproto.sim.run import Plan, simulate

SEEDS = int(os.environ.get("TIMEPROTO_SEEDS", "1"))
"""Multiplies the number of seeds of every run below."""


class Runs(SynchronousTestCase):
    def hunt(self, plans: Iterable[Plan]) -> Report:
        report = Report()
        for plan in plans:
            report.add(simulate(plan))
        for outcome in report.broken[:1]:
            self.fail(f"{outcome.plan}: {outcome.broken}")
        return report

    def test_four_masternodes_and_all_faults(self) -> None:
        """Seeds that draw their own mix of faults; a quiet run would prove nothing."""
        report = self.hunt(Plan(seed, 4) for seed in range(50 * SEEDS))
        tally = report.tally
        self.assertGreater(tally.counts["final"], 150)
        self.assertGreater(tally.counts["blocks"], 60)
        self.assertGreater(tally.counts["deaths"], 40)
        self.assertGreater(tally.rare["verdict abort"], 5)

    def test_seven_masternodes_two_of_them_liars(self) -> None:
        """The same with f = 2."""
        report = self.hunt(Plan(seed, 7) for seed in range(12 * SEEDS))
        self.assertGreater(report.tally.counts["final"], 40)

    def test_sixteen_masternodes(self) -> None:
        """The same with f = 5."""
        report = self.hunt(Plan(seed, 16, actions=4) for seed in range(2 * SEEDS))
        self.assertGreater(report.tally.counts["final"], 4)

    def test_each_kind_of_fault_alone(self) -> None:
        """Whatever may be named in --faults does something, and breaks nothing."""
        for kind in KINDS:
            report = self.hunt(Plan(seed, 4, kind) for seed in range(2))
            faults = report.tally.faults.total()
            self.assertTrue(faults > 0 or kind in ("wan", "wallets", "limits", "haste"), kind)

    def test_without_faults_nothing_is_odd(self) -> None:
        """No fault is counted, no round is lost, and every payment is final in a block."""
        report = self.hunt(Plan(seed, 4, "none") for seed in range(8))
        self.assertEqual(report.tally.faults.total(), 0)
        self.assertEqual(report.tally.rare["decided in a later round"], 0)
        self.assertEqual(report.tally.counts["final"], report.tally.counts["payments"])

    def test_fewer_than_four_have_no_fault_to_spare(self) -> None:
        """One, two and three masternodes finalize and make blocks, and come back after crashes (O-10)."""
        for masternodes in (1, 2, 3):
            report = self.hunt(Plan(seed, masternodes, "crashes,wallets") for seed in range(4))
            self.assertGreater(report.tally.counts["final"], 3)
            self.assertGreater(report.tally.counts["blocks"], 3)


class TheSameAgain(SynchronousTestCase):
    def test_a_seed_is_one_run(self) -> None:
        """The same seed gives the same trace, with its lines kept or not; another seed gives another."""
        first, second, other = (simulate(Plan(seed, 4)) for seed in (5, 5, 6))
        self.assertEqual(first, second)
        self.assertEqual(again(first.plan).digest, first.digest)
        self.assertNotEqual(first.digest, other.digest)

    def test_whatever_the_order_of_hashes(self) -> None:
        """Two processes with different PYTHONHASHSEED have the same trace, to the byte."""
        program = (
            "from timeproto.sim.run import Plan, simulate\n"
            "for n, seeds in ((4, range(8)), (7, range(2))):\n"
            "    for seed in seeds: print(simulate(Plan(seed, n)).digest)\n"
        )
        traces = []
        for seed in ("1", "2"):
            environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
            )
            traces.append(done.stdout)
        self.assertEqual(traces[0], traces[1])
        self.assertEqual(len(traces[0].split()), 10)
