"""How many files may be open, and what becomes of the wallets if they are few."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.masternode import open_files


class Limits(SynchronousTestCase):
    """A pretended system, so that none of this touches our own limits."""

    def setUp(self) -> None:
        self.allow(1_024, 500_000)
        self.patch(resource, "getrlimit", lambda which: self.now)
        self.patch(resource, "setrlimit", self.set)

    def allow(self, soft: int, hard: int) -> None:
        self.now = soft, hard

    def set(self, which: int, limits: tuple[int, int]) -> None:
        if limits[1] > self.now[1]:
            raise ValueError("not allowed to raise maximum limit")
        self.now = limits

    def test_the_soft_limit_is_raised(self) -> None:
        """As far as is needed and no further, and every wallet has its place."""
        wanted = open_files.needed(7, web=True)
        self.assertEqual(open_files.connections(7, web=True), (limits.CONNECTIONS, None))
        self.assertEqual(self.now, (wanted, 500_000))

    def test_no_limit_at_all(self) -> None:
        """Is left as it is."""
        self.allow(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertEqual(open_files.connections(7, web=True), (limits.CONNECTIONS, None))
        self.assertEqual(self.now, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def test_fewer_files_are_fewer_wallets(self) -> None:
        """As many less as files are missing, and one sentence that names both numbers; the masternodes' places stay."""
        wanted = open_files.needed(7, web=True)
        self.allow(1_024, wanted - 1_000)
        room, told = open_files.connections(7, web=True)
        self.assertEqual(room, limits.CONNECTIONS - 1_000)
        self.assertEqual(self.now, (wanted - 1_000, wanted - 1_000))
        self.assertIn(f"{wanted - 1_000:,} open files are allowed and {wanted:,} are wanted (ulimit -n", told or "")
        self.assertIn(f"{room:,} wallets", told or "")

    def test_too_few_are_refused(self) -> None:
        """A node that could serve next to nobody says so before it starts."""
        self.allow(64, 64)
        error = self.assertRaises(ConfigurationError, open_files.connections, 7, web=False)
        self.assertIn("64 open files are allowed", str(error))

    def test_the_web_port_needs_its_own(self) -> None:
        """Files of windows and of masternodes are counted."""
        self.assertGreater(open_files.needed(4, web=True), open_files.needed(4, web=False))
        self.assertGreater(open_files.needed(7, web=True), open_files.needed(4, web=True))

    def test_only_who_may_raises_the_hard_limit(self) -> None:
        """And only if it is asked to."""
        self.allow(100, 200)
        self.assertEqual(open_files.allow_files(300), 200)
        self.assertEqual(open_files.allow_files(300, raise_hard=True), 200)
        self.patch(resource, "setrlimit", lambda which, limits: setattr(self, "now", limits))
        self.assertEqual(open_files.allow_files(300, raise_hard=True), 300)
