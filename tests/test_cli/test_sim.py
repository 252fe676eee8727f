"""``timeproto sim``: what it prints, what it writes, and with which status it ends."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.cli import sim as module
from timeproto.cli.main import main
from timeproto.sim import campaign, latency


class Sim(SynchronousTestCase):
    def call(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(["sim", *argv])
        return status, out.getvalue(), err.getvalue()

    def test_a_hunt_that_finds_nothing(self) -> None:
        """Status 0, the figures on paper and in the file, the same digest again and in two processes."""
        path = Path(self.mktemp())
        status, out, _ = self.call("--seeds", "6", "--json", str(path))
        self.assertEqual(status, 0)
        for word in ("6 seeds", "virtual hours", "payments", "blocks", "verdicts", "faults:", "rare situations:"):
            self.assertIn(word, out)
        report = json.loads(path.read_text())
        self.assertEqual((report["seeds"], report["broken"], report["masternodes"]), (6, [], 4))
        self.assertGreater(report["counts"]["final"], 5)
        self.assertIn(f"trace {report['digest']}", out)
        self.assertIn(f"trace {report['digest']}", self.call("--seeds", "6", "--jobs", "2")[1])

    def test_a_hunt_that_finds_something(self) -> None:
        """Status 1, the seed, the promise, what happened last, and how to see all of it."""
        path = Path(self.mktemp())
        status, out, _ = self.call("--seeds", "9", "--planted", "quorum_off_by_one", "--json", str(path))
        self.assertEqual(status, 1)
        seed = json.loads(path.read_text())["broken"][0]["seed"]
        self.assertIn(f"seed {seed} broke a promise", out)
        self.assertIn("1. no two final transactions spend one coin (I-5)", out)
        self.assertRegex(out, r"\d+\.\d{3} ms  \d")
        self.assertIn(f"timeproto sim --masternodes 4 --planted quorum_off_by_one --seed {seed} --trace", out)
        status, out, _ = self.call("--planted", "quorum_off_by_one", "--seed", str(seed), "--trace")
        self.assertEqual(status, 1)
        self.assertIn("BROKEN 1. no two final", out)

    def test_a_seed_by_itself(self) -> None:
        """Its timeline from the first start to the last word."""
        status, out, _ = self.call("--seed", "3", "--trace", "--faults", "loss,wallets")
        self.assertEqual(status, 0)
        lines = out.splitlines()
        self.assertIn("0 starts", lines[0])
        self.assertEqual(lines[-1], "every promise held")
        for word in ("wallet →", "accepted", "keeps votes of", "is final", "block 1 is", "-- all faults end --"):
            self.assertIn(word, out)

    def test_what_never_came_up_is_a_failure(self) -> None:
        """A batch that is large enough shows every rare situation, or has shown too little."""
        self.patch(campaign, "ENOUGH", 3)
        status, out, _ = self.call("--seeds", "3")
        self.assertEqual(status, 1)
        self.assertIn("never came up", out)

    def test_what_cannot_be_asked_for(self) -> None:
        """Configuration errors, each with a sentence."""
        for argv in (
            ("--faults", "fire"), ("--planted", "nothing"), ("--masternodes", "0"), ("--seconds", "0"),
            ("--planted", "forget_votes", "--jobs", "2"),
        ):
            status, _, err = self.call(*argv)
            self.assertEqual(status, 2, argv)
            self.assertTrue(err.startswith("timeproto: "), err)

    def test_the_list_of_bugs(self) -> None:
        """Each with what it does."""
        status, out, _ = self.call("--planted", "list")
        self.assertEqual(status, 0)
        self.assertIn("release_on_timeout", out)

    def test_latencies_as_table_and_plot(self) -> None:
        """A row for each size, a picture, and the figures."""
        self.patch(latency, "SIZES", (4, 7))
        plot, figures = Path(self.mktemp()), Path(self.mktemp())
        status, out, _ = self.call("--wan", "--plot", str(plot), "--json", str(figures))
        self.assertEqual(status, 0)
        self.assertEqual([line.split()[0] for line in out.splitlines()[1:3]], ["4", "7"])
        self.assertIn("<svg", plot.read_text())
        self.assertEqual([row["masternodes"] for row in json.loads(figures.read_text())], [4, 7])

    def test_progress_is_told_on_the_side(self) -> None:
        """Every two seconds, on stderr."""
        ticking = iter(range(0, 1_000, 3))
        self.patch(module.time, "monotonic", lambda: float(next(ticking)))
        _, _, err = self.call("--seeds", "2", "--faults", "none")
        self.assertIn("of 2 seeds", err)
