"""A short conversation with a node that cannot be reached."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.errors import ConfigurationError
from timeproto.network.requests import ConnectionGone
from timeproto.wallet.ask import ask
from timeproto.wallet.nodes import Node
from timeproto.wire import messages

NAMES = ("a..b:26100", f"{'a' * 70}.org:26100", "-a.org:26100")


class Names(SynchronousTestCase):
    """What no host can be called."""

    def test_nobody_is_there(self) -> None:
        """It is a node that cannot be reached, and nothing worse; with TLS, too."""
        for name in NAMES:
            for tls in (False, True):
                asking = ensureDeferred(ask(MemoryReactorClock(), Node(name, tls=tls), messages.GetGenesis()))
                self.assertIn(f"{name} cannot be reached", str(self.failureResultOf(asking, ConnectionGone).value))

    def test_called_off_while_it_connects(self) -> None:
        """As at any other moment: whoever did that hears just that."""
        asking = ensureDeferred(ask(MemoryReactorClock(), Node("127.0.0.1:26100"), messages.GetGenesis()))
        self.assertNoResult(asking)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)

    def test_no_certificate_is_for_it(self) -> None:
        """Where the name is to be proven, the address makes no sense."""
        for name in NAMES:
            with self.assertRaisesRegex(ConfigurationError, "the node '.*' has no name that a host can have"):
                Node(name, by_name=True, tls=True).endpoint(MemoryReactorClock())
