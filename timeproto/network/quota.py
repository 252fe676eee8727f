"""Keys that an operator gives out, each with a quota of its own: who shows one pays from it, wherever it comes from.

A secret is told once, when it is minted. What is kept is its hash, which is enough to know it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from msgspec import Meta

from timeproto import limits
from timeproto.errors import ErrorCode, Refusal
from timeproto.model.canonical import I64, Hex32, Noun, sha256
from timeproto.network.budget import Quota
from timeproto.network.purse import Pace, Purse
from timeproto.wire.messages import Name

SECRET_SIZE = 32


class Key(Noun, frozen=True):
    """``digest`` is the SHA-256 of the secret's 32 bytes; ``minted_at`` Unix ms."""

    name: Name
    digest: Hex32
    cost_per_second: Annotated[int, Meta(ge=1, le=limits.KEY_COST_PER_SECOND)]
    minted_at: I64


class Keys:
    """The keys of one node. They are not slowed when the node has many wallets: that is what they are for."""

    def __init__(self, clock: Any, kept: Iterable[Key] = ()) -> None:
        """``clock``: an IReactorTime provider."""
        self._pace = Pace(clock)
        self._keys: dict[str, Key] = {}
        self._quotas: dict[str, Quota] = {}
        for key in kept:
            self._add(key)

    def _add(self, key: Key) -> None:
        rate = key.cost_per_second
        self._keys[key.name] = key
        self._quotas[key.digest] = Quota(key.name, Purse(rate, limits.KEY_BURST * rate, self._pace), self._pace)

    @property
    def kept(self) -> tuple[Key, ...]:
        return tuple(self._keys.values())

    def users(self, name: str) -> int:
        """How many connections have shown this key."""
        return len(self._quotas[self._keys[name].digest].accounts)

    def find(self, secret: str) -> Quota:
        """The quota of a secret (64 characters of hex); raises ``not_found``."""
        quota = self._quotas.get(sha256(bytes.fromhex(secret)).hex())
        if quota is None:
            raise Refusal(ErrorCode.NOT_FOUND, "this node knows no such key")
        return quota

    def mint(self, name: str, cost_per_second: int, now: int, random: Callable[[int], bytes] = os.urandom) -> str:
        """A new key's secret, which nobody can be told again; raises :class:`Refusal`. ``now``: Unix ms."""
        if name in self._keys:
            raise Refusal(ErrorCode.BAD_FIELD, f"there is a key named {name} already: revoke it first")
        if len(self._keys) >= limits.KEYS:
            raise Refusal(ErrorCode.OVER_LIMIT, f"at most {limits.KEYS} keys", limit="keys", value=limits.KEYS)
        secret = random(SECRET_SIZE)
        self._add(Key(name, sha256(secret).hex(), cost_per_second, now))
        return secret.hex()

    def revoke(self, name: str) -> None:
        """Whoever uses it pays for itself from now on; raises ``not_found``."""
        key = self._keys.pop(name, None)
        if key is None:
            raise Refusal(ErrorCode.NOT_FOUND, f"there is no key named {name}")
        for account in tuple(self._quotas.pop(key.digest).accounts):
            account.use(None)
