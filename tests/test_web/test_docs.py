"""docs/http.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, PAYMENT
from tests.test_web.harness import START, Web
from tests.test_web.node import KEYS
from tests.test_web.shop import Shop, question, wish
from timeproto import limits
from timeproto.web import bounds
from timeproto.web.refusals import STATUS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "http.md").read_text("utf-8")


def example(name: str) -> Any:
    """The function of that name, from the block of Python in which the page defines it."""
    (code,) = (block for block in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
               if f"def {name}(" in block)
    found: dict[str, Any] = {}
    exec(compile(code, "http.md", "exec"), found)
    return found[name]


class WebhookExamples(SynchronousTestCase):
    def test_the_receivers_check(self) -> None:
        """What the page tells receivers to do takes a POST of the node, and none that was changed, old or another's."""
        shop = Shop()
        shop.settle()
        shop.node.pay(PAYMENT)
        shop.settle()
        secret, body = shop.saved[0].secret, shop.receiver.body
        ((_, _, headers),) = shop.receiver.asked
        check = example("is_genuine")
        self.assertTrue(check(secret, headers, body, START + 299))
        for wrong in (
            (secret, headers, body + b" ", START), ("ab" * 32, headers, body, START),
            (secret, headers, body, START + 301),
            (secret, {**headers, "Timeproto-Timestamp": str(int(START) + 1)}, body, START),
        ):  # fmt: skip
            self.assertFalse(check(*wrong))
        self.assertFalse(check(secret, headers, body))

    def test_what_a_wallet_signs(self) -> None:
        """The page's bytes are the ones that are checked, for a request and, as it is described, for a list."""
        bytes_of = example("webhook_bytes")
        for remove in (False, True):
            asked = wish(remove=remove)
            made = bytes_of(GENESIS.hash, KEYS[0], asked.address, asked.url, asked.timestamp, remove)
            self.assertEqual(made, asked.signed_bytes(GENESIS.hash, KEYS[0]))
        made = bytes_of(GENESIS.hash, KEYS[0], asked.address, "", asked.timestamp)
        listed = made.replace(b"/webhook/", b"/webhook-list/").replace(b"\0" * 4 + made[-9:], made[-9:-1])
        self.assertEqual(listed, question().signed_bytes(GENESIS.hash, KEYS[0]))


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
        rows = re.findall(r"^\| `((?:web_|sockets|webhook|cost_)\w*)` \| (\d+) \|", TEXT, re.MULTILINE)
        self.assertGreater(len(rows), 22)
        homes = {name: limits if name.startswith("cost") else bounds for name, _ in rows}
        self.assertEqual({name: int(value) for name, value in rows},
                         {name: int(getattr(homes[name], name.upper())) for name, _ in rows})
