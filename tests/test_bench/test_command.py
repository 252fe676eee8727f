"""The console script of the benches: options, files, statuses; the two that run a devnet, once each and small."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from tests.test_processes.harness import free_ports
from timeproto.bench import quick
from timeproto.bench.hostile import KINDS
from timeproto.cli import main as module

COMMAND = "import sys; from timeproto.cli.main import main; sys.exit(main())"


def call(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = module.main(("bench", *argv))
        except SystemExit as ended:
            status = int(ended.code or 0)
    return status, out.getvalue(), err.getvalue()


class Options(SynchronousTestCase):
    def test_nonsense_is_refused(self) -> None:
        """Status 2 and one sentence, before anything is started."""
        for argv in (
            ("finality", "--rate", "0"),
            ("finality", "--rate", "10,20000"),
            ("finality", "--seconds", "0"),
            ("finality", "--seconds", "601"),
            ("finality", "--repeat", "0"),
            ("finality", "--masternodes", "65"),
            ("finality", "--masternodes", "seven"),
            ("finality", "--rate", "1000", "--seconds", "100"),
            ("finality", "--base-port", "64999", "--masternodes", "1000"),
            ("notify", "--subscribers", "0"),
            ("query", "--batch", "1001"),
            ("query", "--rate", "-1"),
            ("query", "--coins", "1"),
            ("step", "--payments", "251"),
            ("store", "--folder", "/nowhere/at/all"),
            ("codec", "--plot", "chart.jpg"),
            ("nothing",),
            (),
        ):
            status, out, err = call(*argv)
            self.assertEqual((status, out), (2, ""), argv)
            self.assertNotIn("Traceback", err)

    def test_files(self) -> None:
        """What is printed is of this machine; both files are written, whole."""
        folder = Path(self.mktemp())
        folder.mkdir()
        report, chart = folder / "r.json", folder / "r.svg"
        argv = ("scale", "--masternodes", "1,4", "--payments", "2", "--subscribers", "0", "--repeat", "1")
        status, out, err = call(*argv, "--json", str(report), "--plot", str(chart))
        self.assertEqual(status, 0, err)
        self.assertIn("one Ed25519 verification", out)
        self.assertIn("4 masternodes in one process", err)
        found = json.loads(report.read_text("utf-8"))
        self.assertEqual((found["bench"], [each["masternodes"] for each in found["sizes"]]), ("scale", [1, 4]))
        self.assertLessEqual({"cores", "verify_us", "libraries"}, found["machine"].keys())
        ElementTree.fromstring(chart.read_text("utf-8"))


class Devnets(SynchronousTestCase):
    """In processes of their own: a reactor runs but once."""

    def bench(self, *argv: str) -> dict[str, Any]:
        folder = Path(self.mktemp()).absolute()
        (folder / "tmp").mkdir(parents=True)
        files = ("--json", str(folder / "r.json"), "--plot", str(folder / "r.svg"))
        port = ("--base-port", str(free_ports(3)))
        own = {**os.environ, "TMPDIR": str(folder / "tmp")}
        command = [sys.executable, "-c", COMMAND, "bench", *argv, *port, *files]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=own)
        self.assertEqual(done.returncode, 0, done.stderr)
        ElementTree.fromstring((folder / "r.svg").read_text("utf-8"))
        self.assertEqual(os.listdir(folder / "tmp"), [])
        found: dict[str, Any] = json.loads((folder / "r.json").read_text("utf-8"))
        return found

    def test_finality(self) -> None:
        """Every field that is promised, from payments that were final and proven."""
        found = self.bench("finality", "--masternodes", "2", "--rate", "20", "--seconds", "1", "--repeat", "2")
        promised = {"max_rate", "share_of_limit", "verify_us", "cpu_s_per_1000", "bytes_per_payment"}
        promised |= {f"{stage}p{p}_ms" for stage in ("", "lock_", "notify_") for p in (50, 95, 99)}
        self.assertLessEqual(promised, found.keys())
        (rate,) = found["rates"]
        self.assertLessEqual(promised - {"max_rate", "share_of_limit", "verify_us"}, rate.keys())
        self.assertEqual((rate["rate"], rate["sent"], rate["final"], rate["failed"]), (20.0, 40, 40, 0))
        self.assertTrue(rate["nodes_agree"])
        self.assertEqual(len(rate["runs"]), 2)
        self.assertGreater(rate["cpu_s_per_1000"], 0)
        self.assertGreater(rate["bytes_per_payment"] or 1e9, 1_000)

    def test_hostile(self) -> None:
        """A small crowd of each kind does its worst, twice, and everything is counted; being slow is no failure."""
        few = [word for kind in KINDS for word in (f"--{kind.replace('_', '-')}", "5")]
        small = ("--masternodes", "1", "--subscribers", "20", "--rate", "20", "--seconds", "1", "--repeat", "2")
        found = self.bench("hostile", *small, "--settle", "1", "--most", "1000", *few)
        self.assertTrue(found["held"])
        self.assertEqual((found["without"]["payments"], found["without"]["notifications"]), (40, 800))
        self.assertEqual((found["with"]["payments"], found["with"]["notifications"]), (40, 800))
        for kind in KINDS:
            self.assertTrue(any(what.startswith(kind) for what in found["did"]), found["did"])

    def test_query(self) -> None:
        """Every batch is answered, beside payments, and a node starts again on its store."""
        small = ("--coins", "2000", "--masternodes", "1", "--rate", "10", "--seconds", "1", "--repeat", "1")
        found = self.bench("query", *small, "--batch", "1,1000")
        self.assertEqual([batch["outpoints"] for batch in found["batches"]], [1, 1000])
        self.assertTrue(all(batch["questions"] > 0 for batch in found["batches"]))
        self.assertGreater(found["start_s"]["median"], 0)
        self.assertGreater(found["node_memory_mb"], 10)


class Quick(SynchronousTestCase):
    def test_a_ratio_beyond_its_bound(self) -> None:
        """Is told as wrong; one within it is not."""
        self.assertTrue(quick._check("x", 2.0, 2)["held"])
        self.assertFalse(quick._check("x", 2.1, 2)["held"])
