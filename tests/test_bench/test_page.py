"""The performance page shows what was measured, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.bench import page
from timeproto.cli import main as module
from timeproto.errors import ConfigurationError

DOCS = Path(__file__).parent.parent.parent / "docs"
FIGURES = DOCS / "figures"


class Page(SynchronousTestCase):
    def setUp(self) -> None:
        self.text = (DOCS / "performance.md").read_text("utf-8")

    def test_its_tables_are_those_of_the_files(self) -> None:
        """Written again from the files, the page is what it is."""
        self.assertEqual(page.fill(self.text, FIGURES), self.text)

    def test_every_bench_has_its_place(self) -> None:
        """Each with the command that makes it, and a chart that is there."""
        places = re.findall(r"^<!-- (\w+) -->$", self.text, re.MULTILINE)
        self.assertEqual(set(places) - {"end"}, set(page.TABLES))
        for name in page.TABLES:
            self.assertIn(f"    timeproto bench {name}", self.text)
            self.assertTrue((FIGURES / f"{name}.svg").exists(), name)

    def test_numbers_that_are_missing(self) -> None:
        """A bench that was not run, or is none, is told."""
        empty = Path(self.mktemp())
        empty.mkdir()
        for place in ("store", "nothing"):
            self.assertRaises(ConfigurationError, page.fill, f"<!-- {place} -->\n<!-- end -->", empty)

    def test_the_command(self) -> None:
        """It writes the page it is given, from the folder it is given."""
        folder = Path(self.mktemp())
        folder.mkdir()
        report = json.loads((FIGURES / "store.json").read_text("utf-8"))
        report["sizes"][0]["payments"] = 12345
        (folder / "store.json").write_text(json.dumps(report))
        (folder / "page.md").write_text("before\n<!-- store -->\nold\n<!-- end -->\nbehind\n")
        with contextlib.redirect_stdout(io.StringIO()):
            status = module.main(("bench", "page", "--folder", str(folder), "--page", str(folder / "page.md")))
        written = (folder / "page.md").read_text("utf-8")
        self.assertEqual(status, 0)
        self.assertIn("| 12345 |", written)
        self.assertNotIn("old", written)
        self.assertTrue(written.startswith("before\n") and written.endswith("\nbehind\n"))
