"""Merkle trees: every honest path leads to the root, and no other does."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from timeproto.model.merkle import TOGETHER, MerkleTree, leaf_hash, root_from_path

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=40, unique=True)


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 as it is written there, for comparison."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + recursive_root(leaves[:split]) + recursive_root(leaves[split:])).digest()


class Trees(SynchronousTestCase):
    @given(LEAVES)
    def test_root_is_the_rfcs(self, leaves: list[bytes]) -> None:
        """Built level by level or by the recursion of the RFC, the root is the same."""
        self.assertEqual(MerkleTree(leaves).root, recursive_root(leaves))

    @given(LEAVES)
    def test_every_path_leads_to_the_root(self, leaves: list[bytes]) -> None:
        """Each leaf is proved by its own path, which is no longer than the tree is high."""
        tree = MerkleTree(leaves)
        for index, leaf in enumerate(leaves):
            path = tree.path(index)
            self.assertEqual(root_from_path(leaf_hash(leaf), index, tree.size, path), tree.root)
            self.assertLessEqual(len(path), (tree.size - 1).bit_length())
            self.assertIsNone(root_from_path(leaf_hash(leaf), index, tree.size, [*path, tree.root]))

    @given(LEAVES, st.data())
    def test_any_change_leads_elsewhere(self, leaves: list[bytes], data: st.DataObject) -> None:
        """Another leaf, another index, a flipped bit, a node more, less or moved: never the root."""
        tree = MerkleTree(leaves)
        index = data.draw(st.integers(0, tree.size - 1))
        path = tree.path(index)
        wrong = [(leaves[index] + b"x", index, path), (leaves[index], index, [*path, tree.root])]
        wrong += [(leaves[index], other, path) for other in range(-1, tree.size + 2) if other != index]
        wrong += [(leaves[other], index, path) for other in range(tree.size) if other != index]
        if path:
            at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
            flipped = bytearray(path[at])
            flipped[bit // 8] ^= 1 << bit % 8
            wrong += [
                (leaves[index], index, path[:-1]),
                (leaves[index], index, path[1:]),
                (leaves[index], index, [*path[:at], bytes(flipped), *path[at + 1 :]]),
            ]
        if len(path) > 1:
            wrong.append((leaves[index], index, [path[1], path[0], *path[2:]]))
        for leaf, place, nodes in wrong:
            self.assertNotEqual(root_from_path(leaf_hash(leaf), place, tree.size, nodes), tree.root)

    @given(LEAVES, st.integers(-2, 80), st.data())
    def test_another_size_proves_nothing_new(self, leaves: list[bytes], size: int, data: st.DataObject) -> None:
        """Under a wrong size a path fails, or still proves the very same leaf; it never proves another one."""
        tree = MerkleTree(leaves)
        index = data.draw(st.integers(0, tree.size - 1))
        for at, leaf in enumerate(leaves):
            if at != index:
                self.assertNotEqual(root_from_path(leaf_hash(leaf), at, size, tree.path(index)), tree.root)

    def test_a_node_is_no_leaf(self) -> None:
        """The two hashes under a node, passed off as one leaf of a smaller tree, do not lead to its root."""
        leaves = [bytes([at]) for at in range(4)]
        tree = MerkleTree(leaves)
        inner = tree.path(2)[1], tree.path(0)[1]
        self.assertNotEqual(root_from_path(leaf_hash(inner[0] + inner[1]), 0, 1, []), tree.root)
        pair = hashlib.sha256(b"\x00" + leaves[0]).digest() + hashlib.sha256(b"\x00" + leaves[1]).digest()
        self.assertNotEqual(root_from_path(leaf_hash(pair), 0, 2, [inner[1]]), tree.root)

    def test_no_leaf_is_ever_doubled(self) -> None:
        """A list and the list with its last leaf repeated have different roots (the flaw of older trees)."""
        for size in range(1, 20):
            leaves = [bytes([at]) for at in range(size)]
            self.assertNotEqual(MerkleTree(leaves).root, MerkleTree([*leaves, leaves[-1]]).root)

    def test_empty_tree(self) -> None:
        """No leaves have the hash of nothing as their root, and no path leads to it."""
        self.assertEqual(MerkleTree([]).root, hashlib.sha256().digest())
        self.assertIsNone(root_from_path(leaf_hash(b""), 0, 0, []))
        self.assertRaises(IndexError, MerkleTree([]).path, 0)

    def test_paths_outside_the_tree(self) -> None:
        """Asking for a leaf that is not there is an error, not somebody else's path."""
        tree = MerkleTree([b"a", b"b", b"c"])
        for index in (-1, 3, 2**32):
            self.assertRaises(IndexError, tree.path, index)
            self.assertRaises(IndexError, tree.packed_path, index)

    def test_packed_paths_are_the_same_paths(self) -> None:
        """In trees of every shape, made together or one by one."""
        for size in (*range(1, 40), TOGETHER, TOGETHER + 1):
            tree = MerkleTree([b"%d" % at for at in range(size)])
            for index in {*range(0, size, 1 + size // 50), size - 1}:
                self.assertEqual(tree.packed_path(index), b"".join(tree.path(index)))

    def test_a_large_tree_makes_no_path_that_nobody_asks_for(self) -> None:
        """A liar's batch of many thousand votes, one of them for a payment of somebody's, costs its proof no more."""
        for size, are_made in ((TOGETHER, True), (TOGETHER + 1, False)):
            tree = MerkleTree([b"%d" % at for at in range(size)])
            tree.packed_path(7)
            self.assertEqual(tree._paths is not None, are_made)
