"""A webhook at work: the one thing about it that changes."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred

from timeproto.web import bounds
from timeproto.web.hooks import Hook, Missing, Outcome, WebhookAnswer, WebhookLine
from timeproto.wire.messages import Cursor


@attrs.define(eq=False)
class LiveHook:
    """``done``: delivered up to here; ``due``: there may be something after it, or a gap to tell. ``slow``: it failed
    or took long the last time, or is a wallet's and has yet to show. ``most``: transitions of the next POST, half as
    many after a failure: it may not take so many in time. ``failures``: since it last worked, or the node began;
    ``failing_since``: the first since it last worked, Unix ms."""

    hook: Hook
    done: int
    gap: Missing | None
    due: bool
    slow: bool
    most: int = bounds.WEBHOOK_EVENTS
    failures: int = 0
    failing_since: int | None = None
    outcome: Outcome | None = None
    pause: Any = None
    posting: Deferred[None] | None = None

    @property
    def waits(self) -> bool:
        """True between a failure and the next try."""
        return self.pause is not None and bool(self.pause.active())

    def done_by(self, seen: int) -> int:
        """Of a webhook with nothing to deliver, all that was looked at is done."""
        return self.done if self.due else max(self.done, seen)

    def record(self, seen: int) -> Hook:
        """What is kept of it."""
        return msgspec.structs.replace(
            self.hook, done=self.done_by(seen), gap=self.gap, failing_since=self.failing_since
        )

    def answer(self, node_key: str, seen: int) -> WebhookAnswer:
        hook, cursor = self.hook, Cursor(node_key, self.done_by(seen))
        return WebhookAnswer(
            hook.hook, hook.address, hook.url, hook.secret, hook.ends_at, cursor, self.failures, self.outcome
        )

    def line(self, node_key: str, seen: int) -> WebhookLine:
        one = self.answer(node_key, seen)
        return WebhookLine(one.hook, one.url, one.ends_at or 0, one.cursor, one.failures, one.outcome)

    def is_hopeless(self, now: float) -> bool:
        """True after too long of nothing but failures, one of them since the node began; ``now``: Unix seconds."""
        since = self.failing_since
        return since is not None and self.failures > 0 and now * 1000 - since > bounds.WEBHOOK_PATIENCE * 1000

    def next_pause(self, chance: float) -> float:
        """Seconds until the next try; ``chance`` from 0 to 1 spreads those that failed together."""
        pause = min(bounds.WEBHOOK_RETRY * 2.0 ** min(self.failures - 1, 32), bounds.WEBHOOK_RETRY_MOST)
        return pause * (0.5 + chance)
