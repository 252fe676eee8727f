"""Who may ask how much: the cost of requests, by address block, over all its connections.

Those who ask too fast are answered later, so a burst costs nobody an error; only those whose debt grows past
its bound are refused, and told when to come back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import ip_address
from typing import Any

from timeproto.errors import ErrorCode, Refusal
from timeproto.network.throttle import TokenBucket
from timeproto.web import bounds


def block_of(host: str) -> str:
    """The block of addresses that one household or server has: an IPv4 address, the first 64 bits of an IPv6 one."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.exploded[:19]


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Budgets:
    """Token buckets by payer; the one that was used longest ago makes room for a new one."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def charge(self, payer: Hashable, cost: float) -> float:
        """Seconds until the answer may be given; raises ``over_limit`` past the largest debt."""
        bucket = self._buckets.pop(payer, None)
        if bucket is None:
            bucket = TokenBucket(bounds.WEB_COST_PER_SECOND, bounds.WEB_COST_BURST, self._clock)
            while len(self._buckets) >= bounds.WEB_BLOCKS_KNOWN:
                self._buckets.popitem(last=False)
        self._buckets[payer] = bucket
        wait = bucket.take(cost)
        if wait * bounds.WEB_COST_PER_SECOND > bounds.WEB_COST_DEBT:
            bucket.take(-cost)
            raise Refusal(
                ErrorCode.OVER_LIMIT,
                "too many requests from this address",
                limit="web_cost_per_second",
                value=int(bounds.WEB_COST_PER_SECOND),
                cost=int(cost),
                retry_after_ms=int(wait * 1000),
            )
        return wait

    def forget(self, payer: Hashable) -> None:
        self._buckets.pop(payer, None)
