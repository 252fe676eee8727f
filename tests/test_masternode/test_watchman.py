"""What a node's log says of its votes and of its quorum: each change once, and nothing else."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from timeproto import limits
from timeproto.masternode.watchman import NAMED, Watchman
from timeproto.model.masternodes import MasternodeSet

KEYS = [f"{number:02x}" * 32 for number in range(1, 2 * NAMED)]


class Changes(SynchronousTestCase):
    def begin(self, masternodes: int, why: str | None = "it asks first") -> None:
        self.clock = Clock()
        self.why = why
        self.links: set[str] = set()
        self.lines: list[tuple[str, str]] = []
        self.patch(Watchman, "log", Logger(observer=self.write))
        self.watchman = Watchman(
            self.clock, MasternodeSet(tuple(KEYS[:masternodes])), KEYS[0], not_voting=lambda: self.why, links=self.links
        )
        self.watchman.startService()

    def write(self, event: dict[str, Any]) -> None:
        self.lines.append((event["log_level"].name, formatEvent(event)))

    def hear(self) -> list[tuple[str, str]]:
        """What is written in some seconds from now."""
        self.lines.clear()
        self.clock.pump([limits.TICK] * 3)
        return list(self.lines)

    def test_the_quorum_comes_and_goes(self) -> None:
        """One line each time, with the numbers, and with who is away."""
        self.begin(4)
        ((level, line),) = self.hear()
        self.assertEqual(level, "warn", "that it has none yet is news as well")
        self.links.add(KEYS[1])
        self.assertEqual(self.hear(), [])
        self.links.add(KEYS[2])
        self.assertEqual(self.hear(), [("info", "a quorum of masternodes is linked: 3 of 4, 3 needed")])
        self.links.remove(KEYS[1])
        ((level, line),) = self.hear()
        self.assertEqual(level, "warn")
        self.assertIn("no quorum of masternodes is linked, nothing becomes final: 2 of 4, 3 needed", line)
        self.assertTrue(line.endswith(f"away: {KEYS[1][:8]} {KEYS[3][:8]}"), line)
        self.links |= {KEYS[1], KEYS[3]}
        self.assertEqual(self.hear(), [("info", "a quorum of masternodes is linked: 4 of 4, 3 needed")])

    def test_many_that_are_away_are_counted(self) -> None:
        """The line stays a line."""
        self.begin(len(KEYS))
        self.links.update(KEYS[1:])
        self.hear()
        self.links.clear()
        ((_, line),) = self.hear()
        self.assertTrue(line.endswith(f"{KEYS[NAMED][:8]} and {len(KEYS) - 1 - NAMED} more"), line)

    def test_it_votes_and_does_not(self) -> None:
        """One line each time; a reason that changes while it does not vote is no change."""
        self.begin(4)
        self.links.update(KEYS[1:4])
        self.hear()
        self.why = "it asks the second"
        self.assertEqual(self.hear(), [])
        self.why = None
        self.assertEqual(self.hear(), [("info", "this node votes")])
        self.why = "the disk is gone"
        self.assertEqual(self.hear(), [("warn", "this node does not vote: the disk is gone")])

    def test_one_that_is_alone(self) -> None:
        """A quorum of one is there from the start, and so is the vote: the line of the start has said it."""
        self.begin(1, why=None)
        self.assertEqual(self.hear(), [])
        self.watchman.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
