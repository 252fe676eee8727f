"""Saving, one after the other: who asks while one is under way shares the next, however many they are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from timeproto.errors import ErrorCode, Refusal
from timeproto.web import bounds


class Keeper:
    """Makes durable what is true when a saving begins."""

    def __init__(self, save: Callable[[], Deferred[None]]) -> None:
        """``save`` makes durable what is true at its call, and fires when it is."""
        self._save = save
        self._saving = False
        self._waiting: list[Deferred[None]] = []

    def keep(self) -> Deferred[None]:
        """Fires when a saving that began after this call is durable; fails as it did, or with ``busy``."""
        if len(self._waiting) >= bounds.WEBHOOK_WAITING:
            return fail(Refusal(ErrorCode.BUSY, "too many webhooks wait to be saved", limit="webhook_waiting",
                                value=bounds.WEBHOOK_WAITING))
        done: Deferred[None] = Deferred(lambda _: None)  # called off, its answer is not heard
        self._waiting.append(done)
        if not self._saving:
            self._begin()
        return done

    def _begin(self) -> None:
        served, self._waiting = self._waiting, []
        self._saving = True
        self._save().addBoth(self._ended, served)

    def _ended(self, result: Failure | None, served: list[Deferred[None]]) -> None:
        self._saving = False
        if self._waiting:
            self._begin()
        for each in served:
            if not each.called:
                each.callback(result)
