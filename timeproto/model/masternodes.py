"""The set of registered voters, and the one function that says how many make a quorum (protocol, "Words")."""

from __future__ import annotations

from collections.abc import Iterable

from timeproto import limits
from timeproto.model.canonical import sha256, u32


def quorum(n: int) -> int:
    """⌊2n/3⌋ + 1: any two quorums share more than ⌊(n-1)/3⌋ masternodes. Never lowered by silence."""
    if n < 1:
        raise ValueError("a masternode set has at least one member")
    return 2 * n // 3 + 1


class MasternodeSet:
    """An immutable, ordered set of voters. The order (by key) gives each its ``index``."""

    __slots__ = ("_index", "hash", "keys", "quorum", "raw_hash")

    def __init__(self, keys: Iterable[str]) -> None:
        """``keys``: 32-byte public keys in lower-case hex, each once."""
        given = tuple(keys)
        self.keys = tuple(sorted(set(given)))
        if len(self.keys) != len(given):
            raise ValueError("a masternode is listed twice")
        if not 1 <= len(self.keys) <= limits.MASTERNODES:
            raise ValueError(f"a masternode set has 1 to {limits.MASTERNODES} members")
        self._index = {key: at for at, key in enumerate(self.keys)}
        self.quorum = quorum(len(self.keys))
        self.hash = set_hash(self.keys)
        self.raw_hash = bytes.fromhex(self.hash)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def index(self, key: str) -> int | None:
        """The member's position in the set, None for a stranger."""
        return self._index.get(key)

    @property
    def faulty(self) -> int:
        """f: how many members may be Byzantine."""
        return (len(self.keys) - 1) // 3

    def __repr__(self) -> str:
        return f"<MasternodeSet of {len(self.keys)}, quorum {self.quorum}, {self.hash[:8]}>"


def set_hash(keys: tuple[str, ...]) -> str:
    """SHA-256("timeproto/masternodes/v1" ‖ u32 count ‖ keys in ascending order), hex."""
    raw = b"".join(bytes.fromhex(key) for key in keys)
    return sha256(b"timeproto/masternodes/v1" + u32(len(keys)) + raw).hex()
