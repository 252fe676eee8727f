"""The demo's frozen coin: how it hears what became of the two payments, and that it never waits for nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from timeproto.cli.demo_frozen import PATIENCE, FrozenCoin
from timeproto.errors import ErrorCode, Refusal
from timeproto.wallet.belief import Aborted

ONE, OTHER = "11" * 32, "22" * 32


class Ends(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.known: dict[str, Any] = {}

    async def confirmed(self, txid: str) -> int:
        found = self.known.get(txid, Refusal(ErrorCode.NOT_FOUND, "no block holds it"))
        if isinstance(found, Exception):
            raise found
        height: int = found
        return height

    def ends(self) -> Deferred[list[Any]]:
        story = FrozenCoin(self.clock, None, lambda held, what: None, lambda line: None)
        client = SimpleNamespace(belief=SimpleNamespace(confirmed=self.confirmed))
        return ensureDeferred(story._ends(client, [SimpleNamespace(txid=ONE), SimpleNamespace(txid=OTHER)]))

    def test_both_are_aborted(self) -> None:
        """Each by a block of its own, perhaps: both ends are told, in the order of their coming."""
        ending = self.ends()
        self.known[OTHER] = second = Aborted(OTHER, 2, None)
        self.clock.advance(0.1)
        self.assertNoResult(ending)
        self.known[ONE] = first = Aborted(ONE, 3, None)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(ending), [second, first])

    def test_one_has_won(self) -> None:
        """The loser may be unknown at this node for ever: nobody waits for its end."""
        for winner in (ONE, OTHER):
            self.known.clear()
            ending = self.ends()
            self.known[winner] = 2
            self.clock.advance(0.1)
            self.assertEqual(self.successResultOf(ending), [])

    def test_patience_has_an_end(self) -> None:
        """No block comes: that did not hold, and it says so."""
        ending = self.ends()
        self.clock.pump([0.1] * int(PATIENCE * 10 + 2))
        self.assertEqual(self.failureResultOf(ending, Refusal).value.code, ErrorCode.TIMEOUT)

    def test_another_no_is_no_answer(self) -> None:
        """A node that refuses to be asked ends the story."""
        self.known[ONE] = Refusal(ErrorCode.BUSY, "too much to do")
        self.assertEqual(self.failureResultOf(self.ends(), Refusal).value.code, ErrorCode.BUSY)
