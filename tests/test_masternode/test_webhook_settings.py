"""Webhooks as the operator writes them down, and the file that the node keeps about them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.alone_node import Node
from tests.examples import ALICE, BOB, address
from timeproto.errors import ConfigurationError
from timeproto.masternode.config import make_config, read_toml
from timeproto.masternode.tap import Options
from timeproto.masternode.windows import Windows
from timeproto.web import bounds
from timeproto.web.metrics import Metrics

URL = "https://shop.example/paid"
WEB = "127.0.0.1:24180"


class Settings(SynchronousTestCase):
    def test_none_unless_asked_for(self) -> None:
        """A node dials nobody's web server of itself."""
        config = make_config({"web": WEB})
        self.assertEqual((config.webhooks, config.webhook_wallets, config.webhook_networks), ((), False, ()))

    def test_on_the_command_line_and_in_the_file(self) -> None:
        """Under the same names as everything else; lists are given one by one on the command line."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'web = "{WEB}"\nwebhooks = ["{address(BOB)} {URL}"]\nwebhook_wallets = true\n')
        config = make_config(read_toml(Path(path)))
        self.assertEqual((config.webhook_pairs, config.webhook_wallets), ([(address(BOB), URL)], True))
        options = Options()
        options.parseOptions([
            "--web", WEB, "--webhook", f"{address(ALICE)} https://10.0.0.1/", "--webhook", f"{address(BOB)} {URL}",
            "--webhook-network", "10.0.0.0/8", "--webhook-wallets",
        ])  # fmt: skip
        config = make_config(*options.settings())
        self.assertEqual(config.webhook_pairs, [(address(ALICE), "https://10.0.0.1/"), (address(BOB), URL)])
        self.assertEqual((config.webhook_wallets, config.webhook_networks), (True, ("10.0.0.0/8",)))

    def test_mistakes_are_named(self) -> None:
        """One sentence before anything is started: shapes, foreign addresses, plain HTTP, places inside (O-01)."""
        for name, value, word in (
            ("webhooks", [f"{address(BOB)}"], "https://"), ("webhooks", [f"TIME0x {URL}"], "ADDRESS URL"),
            ("webhooks", [f"{address(BOB, 'mainnet')} {URL}"], "ADDRESS URL"),
            ("webhooks", [f"{address(BOB)} http://a.example/"], "https://"),
            ("webhooks", [f"{address(BOB)} https://127.0.0.1/"], "webhook_networks"),
            ("webhooks", [f"{address(BOB)} {URL}/{each}" for each in range(bounds.WEBHOOKS + 1)], "more than"),
            ("webhook_networks", ["10.0.0.1/8"], "webhook_networks"),
        ):  # fmt: skip
            with self.assertRaisesRegex(ConfigurationError, word):
                make_config({"web": WEB, name: value})
        with self.assertRaisesRegex(ConfigurationError, "web port"):
            make_config({"webhook_wallets": True})


class Kept(SynchronousTestCase):
    def windows(self, **settings: Any) -> Windows:
        self.node = Node()
        config = make_config({"web": WEB, "datadir": self.folder, **settings})
        return Windows(
            self.node.clock, config, view=self.node.view, handler=self.node.handler, peers=None,  # type: ignore[arg-type]
            metrics=Metrics(), now=lambda: 1_700_000_000_000,
        )  # fmt: skip

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def test_a_damaged_file_stops_the_start(self) -> None:
        """With its name in the sentence: what wallets registered is not thrown away unasked."""
        (self.folder / "webhooks.json").write_text('{"version":1,"hooks":[{}]}', "utf-8")
        with self.assertRaisesRegex(ConfigurationError, r"webhooks\.json"):
            self.windows(webhook_wallets=True)
        self.windows()  # who wants none does not read it

    def test_where_none_are_named_any_more_all_are_forgotten(self) -> None:
        """As where some are: secrets, positions, and what wallets registered."""
        for web in (WEB, None):
            (self.folder / "webhooks.json").write_text('{"version":1}', "utf-8")
            self.windows(webhook_wallets=True)
            self.assertTrue((self.folder / "webhooks.json").exists())
            self.windows(web=web)
            self.assertFalse((self.folder / "webhooks.json").exists())

    def test_a_file_that_cannot_be_forgotten_stops_the_start(self) -> None:
        """With its name and why: the operator was told that it would be."""
        (self.folder / "webhooks.json").mkdir()
        with self.assertRaisesRegex(ConfigurationError, r"webhooks\.json cannot be removed: Is a directory$"):
            self.windows()

    def test_no_thread_for_those_who_have_none(self) -> None:
        """A node without webhooks starts and stops without their file."""
        windows = self.windows()
        windows.startService()
        self.successResultOf(windows.stopService())
        self.assertFalse((self.folder / "webhooks.json").exists())

    def test_they_go_by_the_clock_on_the_wall(self) -> None:
        """By the one that receivers have, also after it was ahead for a moment; the node's own never goes back."""
        self.patch(time, "time", lambda: 1_600_000_000.0)
        webhooks: Any = self.windows(webhook_wallets=True)._web._webhooks  # type: ignore[union-attr]
        self.assertEqual(webhooks._now(), 1_600_000_000.0)
