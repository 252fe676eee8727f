"""What a node makes for itself before its first start: whole or not at all, and every failure is one sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from timeproto.errors import ConfigurationError
from timeproto.masternode.config import make_config, prepare, read_genesis, read_key


class Making(SynchronousTestCase):
    def setUp(self) -> None:
        self.config = make_config({"datadir": self.mktemp()})

    def test_it_is_made_once(self) -> None:
        """The second start finds what the first one made."""
        key, genesis = prepare(self.config)
        again, same = prepare(self.config)
        self.assertEqual((again.seed, same), (key.seed, genesis))
        self.assertEqual(read_key(self.config.key_path).seed, key.seed)
        self.assertEqual(read_genesis(self.config.genesis_path), genesis)
        self.assertEqual(os.stat(self.config.key_path).st_mode & 0o777, 0o600)

    def test_a_full_disk_leaves_nothing_in_the_way(self) -> None:
        """The key, or the genesis, is named; once there is room again the node starts."""

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        fsync = os.fsync
        for path in (self.config.key_path, self.config.genesis_path):
            self.patch(os, "fsync", full)
            with self.assertRaisesRegex(ConfigurationError, f"{path} cannot be made: No space left on device"):
                prepare(self.config)
            self.assertFalse(path.exists())
            self.patch(os, "fsync", fsync)
            prepare(self.config)
            self.config.genesis_path.unlink()

    def test_a_path_that_cannot_be_looked_at_is_named(self) -> None:
        """A name that is too long for the disk, or a folder that is not the node's to look into."""
        name = "a" * 300
        for option in ("key", "genesis"):
            config = make_config({"datadir": str(self.config.datadir), option: name})
            with self.assertRaisesRegex(ConfigurationError, f"{name} cannot be read: File name too long"):
                prepare(config)

        def exists(path: Path) -> bool:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        self.patch(Path, "exists", exists)
        with self.assertRaisesRegex(ConfigurationError, r"node\.key cannot be read: Permission denied"):
            prepare(self.config)
