"""Consistency proofs are those of RFC 9162, and no other proof is accepted."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.proofs.consistency import consistency_ranges, verify_consistency
from audit.proofs.range_hashes import RangeHashes
from tests.support.naive_merkle import CONSISTENCY, LEAVES, ROOTS, mth
from tests.support.naive_merkle import proof as naive_proof

MAX_SIZE = 300
DATA = [Random(number).randbytes(32) for number in range(MAX_SIZE)]


def proof_of(old: int, data: list[bytes]) -> list[bytes]:
    ranges = RangeHashes(consistency_ranges(old, len(data)))
    ranges.extend(0, data)
    return ranges.hashes()


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_the_published_proofs(old: int, new: int) -> None:
    published = [bytes.fromhex(each) for each in CONSISTENCY[old, new]]
    assert proof_of(old, LEAVES[:new]) == naive_proof(old, LEAVES[:new]) == published
    assert verify_consistency(old, new, published, ROOTS[old], ROOTS[new])


def test_every_two_sizes_up_to_48_are_consistent() -> None:
    roots = [mth(DATA[:size]) for size in range(49)]
    for new in range(1, 49):
        for old in range(1, new + 1):
            proof = proof_of(old, DATA[:new])
            assert proof == naive_proof(old, DATA[:new])
            assert verify_consistency(old, new, proof, roots[old], roots[new])


@settings(max_examples=200, deadline=None)
@given(st.integers(1, MAX_SIZE), st.data())
def test_a_tree_is_consistent_with_every_earlier_one(new: int, draw: st.DataObject) -> None:
    old = draw.draw(st.integers(1, new))
    proof = proof_of(old, DATA[:new])
    assert proof == naive_proof(old, DATA[:new])
    assert verify_consistency(old, new, proof, mth(DATA[:old]), mth(DATA[:new]))


@settings(deadline=None)
@given(st.integers(2, MAX_SIZE), st.data())
def test_a_tree_with_another_beginning_is_refused(new: int, draw: st.DataObject) -> None:
    old = draw.draw(st.integers(1, new - 1))
    changed = draw.draw(st.integers(0, old - 1))
    other = [*DATA[:changed], b"changed", *DATA[changed + 1 : new]]
    assert not verify_consistency(old, new, naive_proof(old, other), mth(DATA[:old]), mth(other))
    assert not verify_consistency(old, new, naive_proof(old, DATA[:new]), mth(DATA[:old]), mth(other))


@settings(deadline=None)
@given(st.integers(2, MAX_SIZE), st.data())
def test_a_changed_proof_is_refused(new: int, draw: st.DataObject) -> None:
    old = draw.draw(st.integers(1, new - 1))
    proof, roots = naive_proof(old, DATA[:new]), (mth(DATA[:old]), mth(DATA[:new]))
    other = bytes(32)
    assert not verify_consistency(old, new, [], *roots)
    assert not verify_consistency(old, new, [*proof, other], *roots)
    assert not verify_consistency(old, new, proof, other, roots[1])
    assert not verify_consistency(old, new, proof, roots[0], other)
    for at in range(len(proof)):
        assert not verify_consistency(old, new, [*proof[:at], other, *proof[at + 1 :]], *roots)
        assert not verify_consistency(old, new, [*proof[:at], *proof[at + 1 :]], *roots)


def test_equal_sizes_need_equal_roots_and_no_proof() -> None:
    root = mth(DATA[:5])
    assert verify_consistency(5, 5, [], root, root)
    assert not verify_consistency(5, 5, [], root, bytes(32))
    assert not verify_consistency(5, 5, [root], root, root)


def test_every_tree_begins_with_the_empty_one() -> None:
    root = mth(DATA[:5])
    assert consistency_ranges(0, 5) == []
    assert verify_consistency(0, 5, [], ROOTS[0], root)
    assert verify_consistency(0, 0, [], ROOTS[0], ROOTS[0])
    assert not verify_consistency(0, 0, [], ROOTS[0], root)
    assert not verify_consistency(0, 5, [], root, root)
    assert not verify_consistency(0, 5, [root], ROOTS[0], root)


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 3)])
def test_a_tree_does_not_shrink(old: int, new: int) -> None:
    assert not verify_consistency(old, new, [], ROOTS[1], ROOTS[2])
    with pytest.raises(ValueError, match="does not grow"):
        consistency_ranges(old, new)
