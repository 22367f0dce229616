"""Inclusion proofs are read from the text that they are written as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.proofs.errors import ProofTextError
from audit.proofs.proof_text import HEADER, InclusionProof, parse_proof

NOTE = "example.com/log\n8\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/log AAAAAAA=\n"
HASH = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="

hashes = st.binary(min_size=32, max_size=32)


@given(st.integers(0, 10**19 - 1), st.lists(hashes, max_size=5), st.binary(max_size=50))
def test_every_proof_is_read_from_its_text(index: int, proof: list[bytes], extra: bytes) -> None:
    written = InclusionProof(index, tuple(proof), NOTE, extra)
    assert parse_proof(written.text()) == written


def test_a_proof_has_the_form_of_the_specification() -> None:
    proof = InclusionProof(7, (bytes(32),), NOTE, b"event")
    zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert proof.text() == f"{HEADER}\nextra ZXZlbnQ=\nindex 7\n{zeros}\n\n{NOTE}"


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        HEADER,
        f"{HEADER}\n{NOTE}",
        f"{HEADER}\nindex 07\n\n{NOTE}",
        f"{HEADER}\nindex -1\n\n{NOTE}",
        f"{HEADER}\nindex ٣\n\n{NOTE}",
        f"{HEADER}\nindex 1\nextra ZXZlbnQ=\n\n{NOTE}",
        f"{HEADER}\nextra ?\nindex 1\n\n{NOTE}",
        f"{HEADER}\nindex 1\n{HASH[4:]}\n\n{NOTE}",
        f"{HEADER}\nindex 1\n{HASH}\x85{HASH}\n\n{NOTE}",
        f"c2sp.org/tlog-proof@v2\nindex 1\n\n{NOTE}",
    ],
)
def test_a_malformed_text_is_refused_in_one_line(malformed: str) -> None:
    with pytest.raises(ProofTextError) as caught:
        parse_proof(malformed)
    assert "\n" not in str(caught.value)
