"""Inclusion proofs as text, in the form of C2SP's tlog-proof (https://c2sp.org/tlog-proof).

The text holds the leaf's index, the proof, a signed checkpoint, and the event that the leaf's digest is made of.
"""

import re
from typing import NamedTuple

from audit.proofs.base64_lines import from_base64, to_base64
from audit.proofs.errors import ProofTextError
from audit.proofs.merkle_tree import HASH_BYTES

HEADER = "c2sp.org/tlog-proof@v1"
_LINES = re.compile(
    rf"{re.escape(HEADER)}\n(?:extra (?P<extra>[^\n]+)\n)?index (?P<index>0|[1-9][0-9]{{0,18}})\n"
    r"(?P<proof>(?:[^\n]+\n)*)\n(?P<note>.*)",
    re.ASCII | re.DOTALL,
)


class InclusionProof(NamedTuple):
    """A proof that a leaf is in the tree of a checkpoint.

    `extra` is data that the signature does not cover, such as the event itself. `note` is the signed checkpoint.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes = b""

    def text(self) -> str:
        """Return the proof as text."""
        extra = f"extra {to_base64(self.extra)}\n" if self.extra else ""
        hashes = "".join(f"{to_base64(each)}\n" for each in self.hashes)
        return f"{HEADER}\n{extra}index {self.index}\n{hashes}\n{self.note}"


def parse_proof(text: str) -> InclusionProof:
    """Return the proof of a text.

    Raises:
        ProofTextError: the text is no inclusion proof.
    """
    found = _LINES.fullmatch(text)
    if not found:
        raise ProofTextError(f"This is no inclusion proof: it has not the form of {HEADER}.")
    try:
        extra = from_base64(found["extra"] or "")
        hashes = tuple(map(from_base64, found["proof"].split("\n")[:-1]))
    except ValueError:
        raise ProofTextError("This is no inclusion proof: a line is no base64.") from None
    if any(len(each) != HASH_BYTES for each in hashes):
        raise ProofTextError("This is no inclusion proof: a hash has not 32 bytes.")
    return InclusionProof(int(found["index"]), hashes, found["note"], extra)
