"""The tree has the roots of RFC 9162, however it grows."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.proofs.merkle_tree import EMPTY_ROOT, MerkleTree, leaf_hash, node_hash
from tests.support.naive_merkle import LEAVES, ROOTS, mth

MAX_SIZE = 300
DATA = [Random(number).randbytes(32) for number in range(MAX_SIZE)]


def tree_of(data: list[bytes]) -> MerkleTree:
    tree = MerkleTree()
    tree.extend(data)
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots(size: int) -> None:
    assert tree_of(LEAVES[:size]).root() == mth(LEAVES[:size]) == ROOTS[size]


def test_a_leaf_a_node_and_nothing_have_hashes_of_their_own() -> None:
    # Without the prefixes, a node could be taken for a leaf that holds the hashes of its children.
    left, right = leaf_hash(b"l"), leaf_hash(b"r")
    assert leaf_hash(left + right) != node_hash(left, right)
    assert EMPTY_ROOT == ROOTS[0] != leaf_hash(b"") == ROOTS[1]


def test_every_size_has_the_root_of_the_definition() -> None:
    tree = MerkleTree()
    for size, data in enumerate(DATA):
        assert (tree.size, tree.root()) == (size, mth(DATA[:size]))
        tree.append(data)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_the_parts_in_which_a_tree_grows_do_not_matter(parts: list[int]) -> None:
    tree, size = MerkleTree(), 0
    for part in parts:
        tree.extend(DATA[size : size + part])
        size = min(size + part, MAX_SIZE)
    assert (tree.size, tree.root()) == (size, mth(DATA[:size]))


@given(st.lists(st.binary(max_size=3), max_size=20))
def test_leaves_may_have_any_length(data: list[bytes]) -> None:
    assert tree_of(data).root() == mth(data)


@given(st.integers(0, MAX_SIZE), st.data())
def test_a_stored_tree_grows_on(size: int, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, size))
    before = tree_of(DATA[:at])
    after = MerkleTree.load(at, before.state)
    after.extend(DATA[at:size])
    assert after.root() == mth(DATA[:size])
    assert len(before.state) == 32 * at.bit_count()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: MerkleTree(3, [bytes(32)]),
        lambda: MerkleTree(1, [bytes(31)]),
        lambda: MerkleTree(-1),
        lambda: MerkleTree.load(2, bytes(33)),
    ],
)
def test_subtrees_that_do_not_fit_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="leaves"):
        wrong()
