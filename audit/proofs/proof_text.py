"""Inclusion proofs as text, as C2SP's https://c2sp.org/tlog-proof."""

from typing import NamedTuple

from audit.proofs.base64_lines import to_base64

HEADER = "c2sp.org/tlog-proof@v1"


class InclusionProof(NamedTuple):
    """A proof that a leaf is in the tree of a checkpoint.

    `leaf_index` counts from 0. `note` is the signed checkpoint. `extra` is data that the signature does not cover, such
    as the event from which the leaf is computed.
    """

    leaf_index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes

    def text(self) -> str:
        """Return the proof as text."""
        hashes = "".join(f"{to_base64(each)}\n" for each in self.hashes)
        return f"{HEADER}\nextra {to_base64(self.extra)}\nindex {self.leaf_index}\n{hashes}\n{self.note}"
