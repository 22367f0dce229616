"""Hash ranges of leaves while all leaves of a tree pass by in order."""

from collections.abc import Sequence

from audit.proofs.merkle_tree import MerkleTree


class RangeHashes:
    """The hashes of ranges of leaves, such as those of a proof.

    Each range is a tree of its own. So a proof takes one pass over the leaves and little memory.
    """

    def __init__(self, ranges: Sequence[range]) -> None:
        self._ranges = ranges
        self._trees = [MerkleTree() for _ in ranges]

    def extend(self, first: int, leaves: Sequence[bytes]) -> None:
        """Take the leaves from the index `first` on, which follow those taken before."""
        for wanted, tree in zip(self._ranges, self._trees, strict=True):
            begin = max(wanted.start, first)
            end = min(wanted.stop, first + len(leaves))
            if begin < end:
                if begin != wanted.start + tree.size:
                    raise ValueError(f"leaf {wanted.start + tree.size} is missing before leaf {begin}")
                tree.extend(leaves[begin - first : end - first])

    def hashes(self) -> list[bytes]:
        """Return the hash of each range.

        Raises:
            ValueError: leaves are missing.
        """
        for wanted, tree in zip(self._ranges, self._trees, strict=True):
            if tree.size != len(wanted):
                raise ValueError(f"leaf {wanted.start + tree.size} is missing")
        return [tree.root() for tree in self._trees]
