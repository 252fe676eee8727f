"""What the pages say of the wire is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import fill
from timeproto import limits
from timeproto.cli.vectors import SUITE_NAMES
from timeproto.errors import POLICY
from timeproto.wire.codec import decode
from timeproto.wire.messages import CATALOGUE, Role, senders_of

DOCS = Path(__file__).parent.parent / "docs"


class ProtocolPages(SynchronousTestCase):
    def setUp(self) -> None:
        self.wallets, self.masternodes = (
            (DOCS / f"{whose}-protocol.md").read_text("utf-8") for whose in ("wallet", "masternode")
        )

    def shown(self, text: str) -> set[str]:
        """The types of a page's JSON blocks, each read by our codec."""
        blocks = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        return {type(decode(fill(re.sub(r"\s*\n\s*", " ", block)))).__name__ for block in blocks}

    def test_every_example_decodes(self) -> None:
        """Each JSON block is a message as our codec reads it, and no message is left without one."""
        self.assertEqual(self.shown(self.wallets) | self.shown(self.masternodes), set(CATALOGUE))

    def test_wallets_need_one_page(self) -> None:
        """Whatever a wallet may send is on the wallets' page."""
        sent = {name for name, message in CATALOGUE.items() if Role.WALLET in senders_of(message)}
        self.assertEqual(sent - self.shown(self.wallets), set())

    def test_the_table_of_errors(self) -> None:
        """Every code is in the table, with what it really costs."""
        rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (yes|no) \| (\d+|–) \|$", self.wallets, re.MULTILINE)
        table = {code: (closes == "yes", 0 if points == "–" else int(points)) for code, closes, points in rows}
        self.assertEqual(table, {str(code): (policy.closes, policy.penalty) for code, policy in POLICY.items()})

    def test_the_table_of_limits(self) -> None:
        """Every published limit is in the table, with its value."""
        rows = re.findall(r"^\| `([a-z]\w*)` \| (\d+) \| [^|]+ \|$", self.wallets, re.MULTILINE)
        self.assertEqual({name: int(value) for name, value in rows}, limits.published())


class Links(SynchronousTestCase):
    def test_every_page_and_heading_that_is_linked_exists(self) -> None:
        """Links between our pages lead to a file, and to a heading in it."""
        pages = [*DOCS.parent.glob("*.md"), *DOCS.glob("*.md")]
        self.assertGreater(len(pages), 10)
        headings = {
            page: {re.sub(r"[^\w\- ]", "", line).strip().lower().replace(" ", "-")
                   for line in re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)}
            for page in pages
        }
        broken = []
        for page in pages:
            for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text("utf-8")):
                path = (page.parent / target).resolve() if target else page
                if not path.exists() or (heading and heading not in headings.get(path, set())):
                    broken.append(f"{page.name}: {target}#{heading}")
        self.assertEqual(broken, [])


class VectorsPage(SynchronousTestCase):
    def test_every_suite_and_every_file_is_explained(self) -> None:
        """Somebody who finds a file finds what it is."""
        text = (DOCS / "vectors.md").read_text("utf-8")
        self.assertEqual(set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)), set(SUITE_NAMES))
        for path in (DOCS.parent / "tests" / "vectors").glob("*.json"):
            self.assertIn(f"`{path.name}`", text)


class TestingPage(SynchronousTestCase):
    def test_every_test_that_is_named_exists(self) -> None:
        """``room/file: name`` is a method of that file, so that the map cannot rot."""
        tests = DOCS.parent / "tests"
        named = re.findall(r"`([a-z_]+(?:/[a-z_]+)?): (\w+)`", (DOCS / "testing.md").read_text("utf-8"))
        self.assertGreater(len(named), 150)
        missing = []
        for place, name in named:
            folder, _, file = place.rpartition("/")
            path = tests / f"test_{folder}" / f"test_{file}.py" if folder else tests / f"test_{file}.py"
            if not path.exists() or f"def test_{name}(" not in path.read_text("utf-8"):
                missing.append(f"{place}: {name}")
        self.assertEqual(missing, [])
