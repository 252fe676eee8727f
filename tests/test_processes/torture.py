"""What the suite does not have the time for, at its full size: ``make torture`` takes minutes.

A failure names its seed. To have the same schedule again, set ``seed`` here; the rest is real time, and never the same.
"""

from __future__ import annotations

import sys

from tests.test_processes import test_blocks, test_reconnect


class Killed(test_blocks.Killed):
    """A minute of payments, and up to two of seven masternodes killed every three seconds."""

    rounds = 20
    coins = 30 * rounds
    timeout = 900


class Torture(test_reconnect.Reconnect):
    """200 wallets, 5,000 payments, and a node that dies three times."""

    timeout = 3_600
    wallets = 200
    payments = 5_000
    at_once = 20
    drops_a_second = 200.0
    kills = 3

    def tell(self, numbers: str) -> None:
        """The run has proven nothing to somebody who does not see how much was compared."""
        sys.stdout.write(f"\n{numbers}\n")
