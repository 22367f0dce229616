"""Inclusion proofs of RFC 9162, sections 2.1.3: a leaf is in a tree."""

from collections.abc import Sequence

from audit.proofs.merkle_tree import left_leaves, node_hash


def inclusion_ranges(index: int, size: int) -> list[range]:
    """Return the leaves under each hash of the proof for a leaf.

    The hashes are in the order of the proof. Each is the root of these leaves as a tree of their own. `index` counts
    from 0.

    Raises:
        ValueError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    ranges: list[range] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + left_leaves(end - first)
        if index < middle:
            ranges.append(range(middle, end))
            end = middle
        else:
            ranges.append(range(first, middle))
            first = middle
    return ranges[::-1]


def inclusion_root(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that a proof and the hash of a leaf lead to.

    None means that the proof has a wrong length. This is the algorithm of section 2.1.3.2 with its names.
    """
    if not 0 <= index < size:
        return None
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r if sn == 0 else None


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that the hash of a leaf is in a tree."""
    return inclusion_root(index, size, leaf, proof) == root
