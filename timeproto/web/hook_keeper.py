"""Saving, one after the other: who asks while one is under way shares the next, however many they are."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from timeproto.errors import ErrorCode, Refusal
from timeproto.web import bounds


class Keeper:
    """Makes durable what is true when a saving begins. ``changed``: something is to be kept with the next one."""

    log = Logger()

    def __init__(self, save: Callable[[], Deferred[None]]) -> None:
        """``save`` makes durable what is true at its call, and fires when it is."""
        self.changed = False
        self._save = save
        self._saving = False
        self._failing = False
        self._waiting: list[Deferred[None]] = []

    def require_room(self) -> None:
        """Raises ``busy`` if as many wait as may: to be asked before anything is changed."""
        if len(self._waiting) >= bounds.WEBHOOK_WAITING:
            raise Refusal(ErrorCode.BUSY, "too many webhooks wait to be saved", limit="webhook_waiting",
                          value=bounds.WEBHOOK_WAITING)

    def keep(self) -> Deferred[None]:
        """Fires when a saving that began after this call is durable; fails as it did."""
        done: Deferred[None] = Deferred(lambda _: None)  # called off, its answer is not heard
        self._waiting.append(done)
        if not self._saving:
            self._begin()
        return done

    def keep_changes(self) -> Deferred[None]:
        """Saves if anything changed; what fails is said once, and tried again with the next call."""
        if not self.changed:
            return succeed(None)
        self.changed = False
        return self.keep().addCallbacks(self._saved, self._not_saved)

    def _saved(self, _: None) -> None:
        self._failing = False

    def _not_saved(self, failure: Failure) -> None:
        self.changed = True
        if not self._failing:
            self.log.failure("webhooks: not saved; tried again until it works", failure=failure)
        self._failing = True

    def _begin(self) -> None:
        served, self._waiting = self._waiting, []
        self._saving = True
        self._save().addBoth(self._ended, served)

    def _ended(self, result: Failure | None, served: list[Deferred[None]]) -> None:
        for each in served:  # before the next begins: who failed takes back what it changed
            if not each.called:
                each.callback(result)
        self._saving = False
        if self._waiting:
            self._begin()
