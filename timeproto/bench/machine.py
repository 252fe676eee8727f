"""What a number was measured on, and the small sums that numbers need."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import version
from typing import Any

from timeproto.model.keys import SigningKey, verify

_LIBRARIES = ("twisted", "msgspec", "pynacl", "rocksdict", "pyopenssl")


def describe() -> dict[str, Any]:
    """Machine, versions, and the yardstick: microseconds of one Ed25519 verification here and now."""
    return {
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        "libraries": {name: version(name) for name in _LIBRARIES},
        "verify_us": round(verify_us(), 1),
    }


def verify_us(rounds: int = 400) -> float:
    """Microseconds of one verification of a 32-byte message, the best of three runs."""
    key = SigningKey(bytes(32))
    message = bytes(32)
    signature = key.sign(message)
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(rounds):
            verify(key.public_bytes, message, signature)
        best = min(best, (time.perf_counter() - began) / rounds)
    return best * 1e6


def percentile(values: list[float], percent: float) -> float | None:
    """The smallest value that at least ``percent`` of all do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(ordered[int(rank) - 1], 3)
