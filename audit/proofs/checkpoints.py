"""Checkpoints of C2SP (https://c2sp.org/tlog-checkpoint): the text to sign."""

import re
from typing import NamedTuple

from audit.proofs.base64_lines import from_base64, to_base64
from audit.proofs.errors import CheckpointError
from audit.proofs.merkle_tree import HASH_BYTES

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class Checkpoint(NamedTuple):
    """The head of a log's tree: the log's name, the number of leaves, and the root."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the text to sign.

        Raises:
            CheckpointError: a line is empty, or holds a line break.
        """
        lines = (self.origin, str(self.size), to_base64(self.root), *self.extensions)
        if any(not line or "\n" in line for line in lines):
            raise CheckpointError("A checkpoint has no empty line.")
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint of a signed text.

    Raises:
        CheckpointError: the text is no checkpoint.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines) or not text.endswith("\n"):
        raise CheckpointError("This is no checkpoint: it has fewer than three lines, or an empty one.")
    origin, size, encoded, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointError("This is no checkpoint: the second line is no size.")
    try:
        root = from_base64(encoded)
    except ValueError:
        root = b""
    if len(root) != HASH_BYTES:
        raise CheckpointError("This is no checkpoint: the third line is no SHA-256 in base64.")
    return Checkpoint(origin, int(size), root, tuple(extensions))
