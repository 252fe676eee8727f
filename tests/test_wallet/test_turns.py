"""Conversations with nodes: several at the same time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from timeproto.wallet.turns import together


class Together(SynchronousTestCase):
    """``together``: begun at once, waited for as one."""

    def setUp(self) -> None:
        self.works: list[Deferred[Any]] = [Deferred() for _ in range(3)]
        self.called_off: list[int] = []

    def begin(self) -> Deferred[list[Any]]:
        async def work(number: int) -> Any:
            try:
                return await self.works[number]
            except CancelledError:
                self.called_off.append(number)
                raise

        return ensureDeferred(together(work(number) for number in range(3)))

    def test_in_their_order(self) -> None:
        """What each gives stands where it was named, however late it came."""
        all_of_them = self.begin()
        for number in (2, 0, 1):
            self.assertNoResult(all_of_them)
            self.works[number].callback(number)
        self.assertEqual(self.successResultOf(all_of_them), [0, 1, 2])

    def test_one_that_fails(self) -> None:
        """The others are waited for; what is raised is what the one raised, and nothing is left that nobody heard."""
        all_of_them = self.begin()
        self.works[2].errback(ValueError("late"))
        self.works[1].errback(KeyError("first"))
        self.assertNoResult(all_of_them)
        self.works[0].callback(0)
        self.failureResultOf(all_of_them, KeyError)

    def test_called_off(self) -> None:
        """All of them are, and whoever called them off hears just that."""
        all_of_them = self.begin()
        self.works[1].callback(1)
        all_of_them.cancel()
        self.failureResultOf(all_of_them, CancelledError)
        self.assertEqual(self.called_off, [0, 2])

    def test_of_nothing(self) -> None:
        """Is over at once."""
        self.assertEqual(self.successResultOf(ensureDeferred(together([]))), [])
