"""When something is tried again."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from timeproto.wallet.backoff import Backoff


class Backoffs(SynchronousTestCase):
    def test_ever_more_seldom(self) -> None:
        """At once, then after twice as long each time, up to a bound."""
        backoff, tried = Backoff(2, 10), []
        for second in range(40):
            if backoff.is_due(second):
                tried.append(second)
                backoff.tried(second)
        self.assertEqual(tried, [0, 2, 6, 14, 24, 34])

    def test_it_begins_again(self) -> None:
        """From a moment that is named, and with the first pause."""
        backoff = Backoff(2, 10)
        for second in (0, 2, 6):
            backoff.tried(second)
        backoff.begin_again(20)
        self.assertFalse(backoff.is_due(19.9))
        self.assertTrue(backoff.is_due(20))
        backoff.tried(20)
        self.assertEqual(backoff.at, 22)
