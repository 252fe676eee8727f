"""The turn of a step: what of it must be durable before anything leaves."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from timeproto.consensus.effects import Turn
from timeproto.model.ledger import Changes


class Idle(SynchronousTestCase):
    def test_whatever_is_kept_is_a_change(self) -> None:
        """A turn that holds any one thing of a change set, and nothing else, is not idle."""
        self.assertTrue(Turn(1).is_idle)
        kept = {field.name for field in attrs.fields(Turn)} & {field.name for field in attrs.fields(Changes)}
        self.assertGreaterEqual(kept, {"own_votes", "batches", "sign_state", "evidence", "endings", "tip"})
        for name in kept - {"blocks"}:  # they come with the tip
            turn = Turn(1)
            value = getattr(turn, name)
            setattr(turn, name, [1] if isinstance(value, list) else {1: 1} if isinstance(value, dict) else object())
            self.assertFalse(turn.is_idle, name)
