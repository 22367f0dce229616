"""Inclusion proofs are those of RFC 9162, and no other proof is accepted."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.proofs.inclusion import inclusion_ranges, verify_inclusion
from audit.proofs.merkle_tree import leaf_hash
from audit.proofs.range_hashes import RangeHashes
from tests.support.naive_merkle import INCLUSION, LEAVES, ROOTS, mth, path

MAX_SIZE = 300
DATA = [Random(number).randbytes(32) for number in range(MAX_SIZE)]


def proof_of(index: int, data: list[bytes]) -> list[bytes]:
    ranges = RangeHashes(inclusion_ranges(index, len(data)))
    for first in range(0, len(data), 7):
        ranges.extend(first, data[first : first + 7])
    return ranges.hashes()


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_the_published_proofs(index: int, size: int) -> None:
    published = [bytes.fromhex(each) for each in INCLUSION[index, size]]
    assert proof_of(index, LEAVES[:size]) == path(index, LEAVES[:size]) == published
    assert verify_inclusion(index, size, leaf_hash(LEAVES[index]), published, ROOTS[size])


def test_every_leaf_of_every_size_up_to_64_is_proven() -> None:
    for size in range(1, 65):
        root = mth(DATA[:size])
        for index in range(size):
            proof = proof_of(index, DATA[:size])
            assert proof == path(index, DATA[:size])
            assert verify_inclusion(index, size, leaf_hash(DATA[index]), proof, root)


@settings(max_examples=200)
@given(st.integers(1, MAX_SIZE), st.data())
def test_a_leaf_is_proven(size: int, draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, size - 1))
    proof = proof_of(index, DATA[:size])
    assert proof == path(index, DATA[:size])
    assert verify_inclusion(index, size, leaf_hash(DATA[index]), proof, mth(DATA[:size]))


@given(st.integers(1, MAX_SIZE), st.data())
def test_a_proof_of_something_else_is_refused(size: int, draw: st.DataObject) -> None:
    index = draw.draw(st.integers(0, size - 1))
    proof, root, leaf = path(index, DATA[:size]), mth(DATA[:size]), leaf_hash(DATA[index])
    other = bytes(32)
    assert not verify_inclusion(index, size, other, proof, root)
    assert not verify_inclusion(index, size, leaf, proof, other)
    assert not verify_inclusion(index, size, leaf, [*proof, other], root)
    assert not verify_inclusion(-1, size, leaf, proof, root)
    assert not verify_inclusion(size, size, leaf, proof, root)
    for at in range(len(proof)):
        assert not verify_inclusion(index, size, leaf, [*proof[:at], other, *proof[at + 1 :]], root)
        assert not verify_inclusion(index, size, leaf, [*proof[:at], *proof[at + 1 :]], root)
    for wrong in {index ^ (1 << bit) for bit in range(size.bit_length())} & set(range(size)):
        assert not verify_inclusion(wrong, size, leaf, proof, root)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (8, 7)])
def test_a_leaf_outside_the_tree_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"a tree of {size} leaves has no leaf {index}"):
        inclusion_ranges(index, size)


def test_the_ranges_of_a_proof_hold_every_other_leaf_once() -> None:
    for size in range(1, 65):
        for index in range(size):
            covered = [leaf for each in inclusion_ranges(index, size) for leaf in each]
            assert sorted([*covered, index]) == list(range(size))


def test_a_missing_leaf_is_noticed() -> None:
    ranges = RangeHashes(inclusion_ranges(0, 8))
    ranges.extend(0, DATA[:2])
    with pytest.raises(ValueError, match="leaf 2 is missing"):
        ranges.hashes()
    with pytest.raises(ValueError, match="leaf 2 is missing before leaf 3"):
        ranges.extend(3, DATA[3:8])
