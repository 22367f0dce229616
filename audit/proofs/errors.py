"""The errors of proofs, one tree. Each message is one line.

ProofError
├── NoteError          a signed note or its key is malformed, or no trusted key has signed it
├── CheckpointError    the text of a checkpoint is malformed
└── SigningKeyError    the file of the signing key cannot be used
"""


class ProofError(Exception):
    """The root of the errors of proofs."""


class NoteError(ProofError):
    """A signed note or its key is malformed, or no trusted key has signed it."""


class CheckpointError(ProofError):
    """The text of a checkpoint is malformed."""


class SigningKeyError(ProofError):
    """The file of the signing key cannot be used."""
