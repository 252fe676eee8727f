"""``timeproto devnet``: what is refused before a process is started, and what the layout keeps of the options."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.cli import main
from timeproto.devnet.layout import lay_out
from timeproto.errors import ConfigurationError


class Intervals(SynchronousTestCase):
    """The block interval is the genesis's: chosen once."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def test_the_networks_or_the_one_asked_for(self) -> None:
        """Five seconds unless somebody wants another."""
        for interval, expected in ((None, 5), (2, 2)):
            folder = self.folder / str(interval)
            folder.mkdir()
            self.assertEqual(lay_out(folder, 1, 24_100, block_interval=interval).genesis.block_interval, expected)

    def test_an_old_devnet_keeps_its_own(self) -> None:
        """Unasked, or asked for the same; another is refused and nothing changes."""
        made = lay_out(self.folder, 1, 24_100, block_interval=2).genesis
        for interval in (None, 2):
            self.assertEqual(lay_out(self.folder, 1, 24_100, block_interval=interval).genesis, made)
        with self.assertRaisesRegex(ConfigurationError, "a block each 2 s, not 5"):
            lay_out(self.folder, 1, 24_100, block_interval=5)
        self.assertEqual(lay_out(self.folder, 1, 24_100).genesis, made)

    def test_intervals_that_cannot_be(self) -> None:
        """Status 2 and one sentence, before anything is written or started."""
        for interval in ("0", "-1", "3601"):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                status = main.main(["devnet", "--datadir", str(self.folder), "--block-interval", interval])
            self.assertEqual(status, 2)
            self.assertIn("1 to 3600", err.getvalue())
        self.assertEqual(list(self.folder.iterdir()), [])
