"""Consistency proofs of RFC 9162, sections 2.1.4: a tree only grew."""

from collections.abc import Sequence

from audit.proofs.merkle_tree import EMPTY_ROOT, left_leaves, node_hash


def consistency_ranges(old_size: int, new_size: int) -> list[range]:
    """Return the leaves under each hash of the proof between two sizes, in its order.

    Each hash is the root of these leaves as a tree of their own. The proof from an empty tree and the proof between
    equal sizes have no hashes.

    Raises:
        ValueError: the new tree is smaller.
    """
    if not 0 <= old_size <= new_size:
        raise ValueError(f"a tree of {old_size} leaves does not grow to {new_size}")
    ranges: list[range] = []
    if old_size == 0:
        return ranges
    first, end, known = 0, new_size, True
    while old_size < end:
        middle = first + left_leaves(end - first)
        if old_size <= middle:
            ranges.append(range(middle, end))
            end = middle
        else:
            ranges.append(range(first, middle))
            first, known = middle, False
    if not known:
        ranges.append(range(first, end))
    return ranges[::-1]


def verify_consistency(old_size: int, new_size: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Return whether a proof shows that the old tree is the beginning of the new one.

    This is the algorithm of section 2.1.4.2 with its names. The section leaves out an empty old tree, which every tree
    begins with, and equal sizes, which need equal roots.
    """
    if not 0 <= old_size <= new_size:
        return False
    if old_size in (0, new_size):
        begins = old_root == (new_root if old_size else EMPTY_ROOT)
        return not proof and begins and (new_size > 0 or new_root == EMPTY_ROOT)
    if not proof:
        return False
    path = [old_root, *proof] if old_size.bit_count() == 1 else list(proof)
    fn, sn = old_size - 1, new_size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root
