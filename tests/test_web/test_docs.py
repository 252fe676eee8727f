"""docs/http.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.test_web.harness import Web
from timeproto.web import bounds
from timeproto.web.refusals import STATUS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "http.md").read_text("utf-8")


class HttpPage(SynchronousTestCase):
    def test_the_table_of_routes(self) -> None:
        """Every route, and no other."""
        listed = re.findall(r"^\| `(GET|POST) (/\S*)` \|", TEXT, re.MULTILINE)
        served = [(route.method, route.path) for route in Web().service.site.router.routes]
        self.assertEqual(sorted(listed), sorted(served))

    def test_the_table_of_statuses(self) -> None:
        """Every code is under its status; those of 400 need no list."""
        listed = {
            code: int(status)
            for status, codes in re.findall(r"^\| (\d{3}) \| (`.*) \|$", TEXT, re.MULTILINE)
            for code in re.findall(r"`(\w+)`", codes)
        }
        self.assertEqual(listed, {str(code): status for code, status in STATUS.items() if status != 400})

    def test_the_table_of_bounds(self) -> None:
        """Every bound in the table has the value it has."""
        rows = re.findall(r"^\| `((?:web_|sockets)\w*)` \| (\d+) \|", TEXT, re.MULTILINE)
        self.assertGreater(len(rows), 15)
        self.assertEqual({name: int(value) for name, value in rows},
                         {name: int(getattr(bounds, name.upper())) for name, _ in rows})
