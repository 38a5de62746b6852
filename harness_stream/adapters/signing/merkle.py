"""Merkle trees of RFC 9162 §2.1: one signature for all records of a micro-batch, and a proof for each.

Rule of this file: a leaf is hashed behind 0x00 and a node behind 0x01, so that neither is ever taken for the other. The
root does not say how many leaves there are, so whoever signs it must sign their number as well.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES: Final = 32
_LEAF, _NODE = b"\x00", b"\x01"
# Index and number of leaves, then hashes. 4 bytes each: a micro-batch has 256 records at most.
_HEAD: Final = struct.Struct(">II")


class Proof(NamedTuple):
    """That a leaf is in a tree.

    Attributes:
        at: the leaf's index, from 0.
        size: leaves of the tree, at least 1.
        path: sibling hashes, from the leaf to the root.
    """

    at: int
    size: int
    path: tuple[bytes, ...]

    def packed(self) -> bytes:
        """Index and size, big-endian, and the path."""
        return _HEAD.pack(self.at, self.size) + b"".join(self.path)

    @classmethod
    def unpacked(cls, data: bytes) -> Self | None:
        """The proof in `data`, None if it is none."""
        path = data[_HEAD.size :]
        if len(data) < _HEAD.size or len(path) % HASH_BYTES:
            return None
        hashes = tuple(path[start : start + HASH_BYTES] for start in range(0, len(path), HASH_BYTES))
        at, size = _HEAD.unpack_from(data)
        return cls(at, size, hashes)


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf."""
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(_NODE + left + right).digest()


def tree(leaves: Sequence[bytes]) -> tuple[bytes, list[Proof]]:
    """Root, and each leaf's proof.

    Pairs are hashed level by level and an odd one out moves up as it is, which gives the tree that RFC 9162 defines by
    splitting at the largest power of two.

    Args:
        leaves: at least one.
    """
    level, size = [leaf_hash(data) for data in leaves], len(leaves)
    paths: list[list[bytes]] = [[] for _ in leaves]
    height = 0
    while len(level) > 1:
        for index, path in enumerate(paths):
            sibling = (index >> height) ^ 1
            if sibling < len(level):
                path.append(level[sibling])
        above = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = above + level[len(above) * 2 :]
        height += 1
    return level[0], [Proof(index, size, tuple(path)) for index, path in enumerate(paths)]


def root_of(data: bytes, proof: Proof) -> bytes | None:
    """The root that a proof leads to from a leaf (RFC 9162 §2.1.3.2); None if the proof fits no tree of its size."""
    if proof.at >= proof.size:
        return None
    at, last, found = proof.at, proof.size - 1, leaf_hash(data)
    for sibling in proof.path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None
