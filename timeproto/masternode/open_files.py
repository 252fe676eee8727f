"""Open files: a connection is one, and a system may allow fewer than a node has wallets.

A node that runs out of them can accept nobody, not even a masternode. So it asks at the start for as many as it may
ever need, and where it is not given them accepts fewer wallets, and says so.
"""

from __future__ import annotations

import resource

from timeproto import limits
from timeproto.errors import ConfigurationError
from timeproto.storage.rows import OPEN_FILES
from timeproto.web import bounds

SPARE = 128
"""Files beside the store's and the connections': logs, threads' wake-ups, webhooks, whoever is being turned away."""
LEAST = 64
"""Wallets that a node must be able to serve."""


def needed(masternodes: int, *, web: bool) -> int:
    """Files that a node may have open at once, with ``limits.CONNECTIONS`` wallets and every place kept for others."""
    windows = bounds.WEB_CONNECTIONS + bounds.WEB_CONNECTIONS_PER_BLOCK if web else 0
    # both directions: those that come in have their places, those that go out are ours
    return limits.CONNECTIONS + 4 * masternodes + windows + OPEN_FILES + SPARE


def allow_files(wanted: int, *, raise_hard: bool = False) -> int:
    """Raises the soft limit towards ``wanted``, as far as the hard one (which only root may raise) lets it; what it is
    now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    for most in (max(hard, wanted), hard) if raise_hard else (hard,):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections(masternodes: int, *, web: bool) -> tuple[int, str | None]:
    """Wallets that may be connected, and a sentence if they are fewer than ``limits.CONNECTIONS``.

    :class:`ConfigurationError` if they are so few that the node is of no use."""
    wanted = needed(masternodes, web=web)
    allowed = allow_files(wanted)
    if allowed >= wanted:
        return limits.CONNECTIONS, None
    room = limits.CONNECTIONS - (wanted - allowed)
    told = f"{allowed:,} open files are allowed and {wanted:,} are wanted (ulimit -n, LimitNOFILE=)"
    if room < LEAST:
        raise ConfigurationError(f"{told}: too few to serve wallets")
    return room, f"{told}: {room:,} wallets are served at once, not {limits.CONNECTIONS:,}"
