"""Inclusion proofs have the form of C2SP's tlog-proof."""

from audit.proofs.proof_text import InclusionProof

NOTE = "example.com/log\n8\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/log AAAAAAA=\n"
ZEROS = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def test_the_hashes_stand_between_the_index_and_the_checkpoint() -> None:
    proof = InclusionProof(7, (bytes(32), bytes(32)), NOTE, b"event")
    assert proof.text() == f"c2sp.org/tlog-proof@v1\nextra ZXZlbnQ=\nindex 7\n{ZEROS}\n{ZEROS}\n\n{NOTE}"


def test_the_proof_of_the_only_leaf_has_no_hashes() -> None:
    assert InclusionProof(0, (), NOTE, b"event").text() == f"c2sp.org/tlog-proof@v1\nextra ZXZlbnQ=\nindex 0\n\n{NOTE}"
