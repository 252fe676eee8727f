"""A token bucket: how long to wait before the next piece of work, so that the average keeps to a rate."""

from __future__ import annotations

from typing import Any


class TokenBucket:
    """``rate`` tokens a second, at most ``burst`` at once; starts full."""

    def __init__(self, rate: float, burst: float, clock: Any) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled = clock.seconds()

    def take(self, tokens: float = 1.0) -> float:
        """Takes ``tokens``, on credit if need be; the seconds to wait until the credit is paid back, 0 if none."""
        now = self._clock.seconds()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        self._tokens -= tokens
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate
