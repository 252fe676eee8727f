"""When something is tried again: ever more seldom."""

from __future__ import annotations

import attrs


@attrs.define
class Backoff:
    """``at`` is the second at which it is due. Between two tries are ``first`` seconds, then twice as many, and so on,
    up to ``most``."""

    first: float
    most: float
    at: float = 0.0
    _pause: float = attrs.field(default=attrs.Factory(lambda backoff: backoff.first, takes_self=True), init=False)

    def is_due(self, now: float) -> bool:
        return now >= self.at

    def tried(self, now: float) -> None:
        """The next time is later."""
        self.at, self._pause = now + self._pause, min(2 * self._pause, self.most)

    def begin_again(self, at: float) -> None:
        """As if it had never been tried, and due at the second ``at``."""
        self.at, self._pause = at, self.first
