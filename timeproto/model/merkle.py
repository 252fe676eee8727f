"""Merkle trees of RFC 6962 section 2.1: SHA-256, leaves prefixed 0x00, nodes 0x01, odd nodes promoted.

A tree of one leaf has that leaf's hash as its root; the empty tree's root is SHA-256 of nothing. No leaf is
ever doubled, so no two lists of leaves share a root.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256 as _sha256

from timeproto.model.canonical import sha256

_BEGUN = _sha256(b"\x01")
"""The hash of a node, begun: to copy it takes less than to begin anew (0.29 instead of 0.38 µs for the whole)."""

TOGETHER = 1024
"""Leaves of a tree whose paths are made together at most. A step has tens of votes, or hundreds; a batch may have
12,288, and to make all its paths for one takes 3 ms and 6 MB."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data)


class MerkleTree:
    """All levels of a tree, so that every path is a walk, and no hash is made or spelled twice."""

    __slots__ = ("_levels", "_paths", "size")

    def __init__(self, leaves: Sequence[bytes], *, hashed: bool = False) -> None:
        """``hashed``: these are the leaves' hashes already."""
        self.size = len(leaves)
        # Leaves and nodes are hashed in place: a masternode makes a dozen of each for every payment.
        level = list(leaves) if hashed else [_sha256(b"\x00" + data).digest() for data in leaves]
        self._levels = [level]
        self._paths: list[bytes] | None = None
        while len(level) > 1:
            above = []
            for left, right in zip(level[::2], level[1::2], strict=False):
                node = _BEGUN.copy()
                node.update(left + right)
                above.append(node.digest())
            if len(level) % 2:
                above.append(level[-1])
            self._levels.append(above)
            level = above

    @property
    def root(self) -> bytes:
        return self._levels[-1][0] if self.size else sha256(b"")

    def path(self, index: int) -> list[bytes]:
        """The audit path of leaf ``index``, from the bottom up."""
        self._require_leaf(index)
        # At the root there is no sibling, nor at the end of a level that is odd.
        return [
            level[sibling] for height, level in enumerate(self._levels) if (sibling := index >> height ^ 1) < len(level)
        ]

    def packed_path(self, index: int) -> bytes:
        """The same path, its nodes end to end. Who asks for one asks for many: all are made together, each from the
        path of the node above. Not those of a tree that is as large as a liar makes one, for a single vote."""
        if self.size > TOGETHER:
            return b"".join(self.path(index))
        self._require_leaf(index)
        if self._paths is None:
            self._paths = self._make_paths()
        return self._paths[index]

    def _make_paths(self) -> list[bytes]:
        paths = [b""]
        for level in reversed(self._levels[:-1]):
            nodes = [*level, b""] if len(level) % 2 else level  # the last node has no sibling
            paths = [nodes[index ^ 1] + paths[index >> 1] for index in range(len(level))]
        return paths

    def _require_leaf(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise IndexError(f"leaf {index} of a tree of {self.size}")


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that ``path`` leads to from the :func:`leaf_hash` of a leaf, or None if the path does not fit (RFC 9162
    §2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last = leaf, size - 1
    for sibling in path:
        if not last:
            return None
        above = _BEGUN.copy()
        if index & 1 or index == last:
            above.update(sibling + node)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            above.update(node + sibling)
        node = above.digest()
        index, last = index >> 1, last >> 1
    return None if last else node
