"""The one function that says how many make a quorum, and the set it is asked about."""

from __future__ import annotations

from itertools import combinations

from twisted.trial.unittest import SynchronousTestCase

from tests.examples import GENESIS, STRANGER, VOTERS
from timeproto import limits
from timeproto.model.masternodes import MasternodeSet, quorum


class Quorum(SynchronousTestCase):
    def test_two_quorums_share_an_honest_masternode(self) -> None:
        """For n = 1..100 the smallest overlap of two quorums is larger than f, and the honest can make one alone."""
        for n in range(1, 101):
            f, q = (n - 1) // 3, quorum(n)
            self.assertGreater(2 * q - n, f, f"n={n}")
            self.assertGreaterEqual(n - f, q, f"n={n}")
            self.assertEqual(q, (2 * n) // 3 + 1)

    def test_overlap_by_brute_force(self) -> None:
        """Every pair of quorums of up to nine masternodes, counted one by one, shares more than f."""
        for n in range(1, 10):
            quorums = [set(members) for members in combinations(range(n), quorum(n))]
            smallest = min(len(first & second) for first in quorums for second in quorums)
            self.assertGreater(smallest, (n - 1) // 3, f"n={n}")

    def test_known_values(self) -> None:
        """The values operators know by heart, and those of one, two and three masternodes, which tolerate none."""
        self.assertEqual([quorum(n) for n in (1, 2, 3, 4, 5, 6, 7, 10, 100)], [1, 2, 3, 3, 4, 5, 5, 7, 67])
        self.assertEqual([MasternodeSet([f"{at:064x}" for at in range(n)]).faulty for n in (1, 2, 3, 4, 7)],
                         [0, 0, 0, 1, 2])

    def test_nobody_is_no_quorum(self) -> None:
        """A set without members has no quorum, rather than one that anybody fills."""
        self.assertRaises(ValueError, quorum, 0)
        self.assertRaises(ValueError, quorum, -1)


class Sets(SynchronousTestCase):
    def test_order_does_not_matter(self) -> None:
        """The same members in any order are the same set, with the same places."""
        keys = [voter.public_hex for voter in VOTERS]
        one, other = MasternodeSet(keys), MasternodeSet(reversed(keys))
        self.assertEqual((one.hash, one.keys), (other.hash, other.keys))
        self.assertEqual([one.index(key) for key in one.keys], list(range(7)))

    def test_members_and_strangers(self) -> None:
        """A stranger has no place, nor has a member under another spelling of its key."""
        members = GENESIS.masternode_set
        self.assertIn(VOTERS[0].public_hex, members)
        self.assertNotIn(VOTERS[0].public_hex.upper(), members)
        self.assertIsNone(members.index(STRANGER.public_hex))
        self.assertEqual(len(members), 7)

    def test_every_member_counts_in_the_hash(self) -> None:
        """Leaving out or exchanging one member gives another hash."""
        keys = [voter.public_hex for voter in VOTERS]
        others = [keys[:-1], keys[1:], [*keys[:-1], STRANGER.public_hex], [*keys, STRANGER.public_hex]]
        self.assertEqual(len({MasternodeSet(each).hash for each in [keys, *others]}), 5)

    def test_refused_sets(self) -> None:
        """Nobody, somebody twice, and more than the limit are no sets."""
        key = VOTERS[0].public_hex
        crowd = [f"{at:064x}" for at in range(limits.MASTERNODES + 1)]
        for keys in ([], [key, key], crowd):
            self.assertRaises(ValueError, MasternodeSet, keys)
        self.assertEqual(len(MasternodeSet(crowd[:-1])), limits.MASTERNODES)
