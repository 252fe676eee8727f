"""What a number was measured on, and the small sums that numbers need."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from timeproto import __version__
from timeproto.bench import kernel
from timeproto.masternode import open_files
from timeproto.model import lanes
from timeproto.model.keys import SigningKey, verify

_LIBRARIES = ("twisted", "msgspec", "pynacl", "rocksdict", "pyopenssl")


def describe() -> dict[str, Any]:
    """Machine, versions, and the yardstick: microseconds of one Ed25519 verification here and now."""
    return {
        "cores": cores(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "python": sys.version.split()[0],
        "timeproto": __version__,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "load_average": round(os.getloadavg()[0], 2),
        "verify_us": round(verify_us(), 1),
        "signatures": lanes.account(),
    }


class Others:
    """How much of the machine was used, since this was made, by neither this process nor the children it had."""

    def __init__(self) -> None:
        self._began = self._read()

    @staticmethod
    def _read() -> tuple[float, float | None, float]:
        own = sum(
            used.ru_utime + used.ru_stime
            for used in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return time.monotonic(), kernel.busy_seconds(), own

    def share(self) -> float | None:
        """Of all its cores; None where the kernel does not tell. Children that still run count as others."""
        (began, busy_before, own_before), (now, busy, own) = self._began, self._read()
        if busy is None or busy_before is None or now <= began:
            return None
        others = busy - busy_before - (own - own_before)
        return round(min(1.0, max(0.0, others / (now - began) / cores())), 3)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def verify_us(rounds: int = 400) -> float:
    """Microseconds of CPU of one verification of a 32-byte message, the best of five runs."""
    key = SigningKey(bytes(32))
    message = bytes(32)
    signature = key.sign(message)
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            verify(key.public_bytes, message, signature)
        best = min(best, (time.process_time() - began) / rounds)
    return best * 1e6


def payments_limit(masternodes: int, verify_us: float) -> float:
    """Payments a second at which this machine would do nothing but check each payment's signature once at each node."""
    return cores() / (masternodes * verify_us / 1e6)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least ``percent`` of all do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * percent // 100))
    return round(ordered[int(rank) - 1], 3)


def middle(values: Sequence[float]) -> float:
    """The median of one or more."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """``{"median", "min", "max", "runs"}`` of repeated measurements; None of nothing."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    median = round(middle(known), 3)
    return {"median": median, "min": round(known[0], 3), "max": round(known[-1], 3), "runs": len(known)}


def allow_files(wanted: int) -> int:
    """Raises the limits on open files towards ``wanted``, as far as we may; how many are allowed now."""
    return open_files.allow_files(wanted, raise_hard=True)
