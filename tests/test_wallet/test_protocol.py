"""A wallet's connection: those who pause on it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.test_wallet.world import World
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.protocol import WalletClientFactory


class Pauses(SynchronousTestCase):
    """``pause``: for some seconds, or until the connection is lost."""

    def setUp(self) -> None:
        self.world = World()
        factory = WalletClientFactory(self.world.clock, self.world.node.genesis)
        self.server, self.client = self.world.open(self.world.manager, factory, lambda message: message)
        self.world.run(0.5)

    def pause(self, seconds: float = 5) -> Deferred[None]:
        return ensureDeferred(self.client.pause(seconds))

    def calls(self) -> int:
        return len(self.world.clock.getDelayedCalls())

    def test_its_end(self) -> None:
        """After as many seconds, and nothing is left of it."""
        before = self.calls()
        pausing = self.pause()
        self.world.run(4)
        self.assertNoResult(pausing)
        self.world.run(2)
        self.successResultOf(pausing)
        self.assertEqual(self.calls(), before)

    def test_the_connection_is_lost(self) -> None:
        """All who pause hear it, and who asks for a pause then."""
        pausing = [self.pause(), self.pause(7)]
        self.server.abort()
        self.world.run(0.1)
        for each in [*pausing, self.pause()]:
            self.failureResultOf(each, ConnectionGone)

    def test_it_is_called_off(self) -> None:
        """Whoever did that hears just that, and no timer is left."""
        before = self.calls()
        pausing = self.pause()
        pausing.cancel()
        self.failureResultOf(pausing, CancelledError)
        self.assertEqual(self.calls(), before)

    def test_it_is_called_off_by_another_that_hears_of_the_loss(self) -> None:
        """It is called off, and has not heard of the loss."""
        pausing = [self.pause(), self.pause()]
        heard: list[Any] = []

        def hear(failure: Failure, other: Deferred[None]) -> None:
            heard.append(failure.type)
            other.cancel()

        for each, other in (pausing, pausing[::-1]):  # either may be the first
            each.addErrback(hear, other)
        self.server.abort()
        self.world.run(0.1)
        self.assertEqual(heard, [ConnectionGone, CancelledError])
