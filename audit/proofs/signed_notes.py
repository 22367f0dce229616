"""Signed notes of C2SP (https://c2sp.org/signed-note@v1.0.0), with Ed25519 keys.

A note is a text, an empty line, and a line for each signature: an em dash, the key's name, and base64.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.proofs.base64_lines import from_base64, to_base64
from audit.proofs.errors import NoteError

ED25519 = b"\x01"
KEY_ID_BYTES = 4
MAX_SIGNATURES = 100
_DASH = "\N{EM DASH} "


class NoteKey(NamedTuple):
    """A public key and its name, by which notes are verified."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature of this key."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the key in the form that `parse_key` reads: name+id+base64."""
        return f"{self.name}+{self.id.hex()}+{to_base64(ED25519 + self.public)}"


class Signer(NamedTuple):
    """A private key and its name, by which notes are signed."""

    name: str
    private: Ed25519PrivateKey

    @property
    def key(self) -> NoteKey:
        """The public key."""
        return NoteKey(self.name, self.private.public_key().public_bytes_raw())


class _Signature(NamedTuple):
    name: str
    key_id: bytes
    signature: bytes


def parse_key(text: str) -> NoteKey:
    """Return the public key of a text: name+id+base64.

    Raises:
        NoteError: the text is no Ed25519 key, or its id does not fit.
    """
    name, _, rest = text.partition("+")
    key_id, plus, encoded = rest.partition("+")
    try:
        decoded = from_base64(encoded)
    except ValueError:
        decoded = b""
    if not plus or not decoded:
        raise NoteError("A key has the form name+id+base64.")
    check_name(name)
    if decoded[:1] != ED25519 or len(decoded) != 33:
        raise NoteError(f"The key {name} is no Ed25519 key.")
    key = NoteKey(name, decoded[1:])
    if key.id.hex() != key_id:
        raise NoteError(f"The id of the key {name} does not belong to it.")
    return key


def check_name(name: str) -> None:
    """Check the name of a key.

    Raises:
        NoteError: it is empty, or has a space or a plus.
    """
    if not name or "+" in name or any(each.isspace() for each in name):
        raise NoteError("The name of a key is a text without spaces and plus signs.")


def sign_note(text: str, *signers: Signer) -> str:
    """Return a text as a note with the signatures of some keys.

    Raises:
        NoteError: the text cannot be signed, or a key has no valid name.
    """
    _check_text(text)
    lines: list[str] = []
    for signer in signers:
        check_name(signer.name)
        signature = signer.private.sign(text.encode())
        lines.append(f"{_DASH}{signer.name} {to_base64(signer.key.id + signature)}\n")
    return f"{text}\n{''.join(lines)}"


def open_note(note: bytes, keys: Sequence[NoteKey]) -> str:
    """Return the text of a note that one of the keys has signed.

    Signatures of other keys are ignored.

    Raises:
        NoteError: the note is malformed, no key of `keys` has signed it, or a signature of one does not match.
    """
    text, signatures = _split(note)
    verified = False
    for signature in signatures:
        for key in keys:
            if (key.name, key.id) == (signature.name, signature.key_id):
                _verify(key, signature, text)
                verified = True
    if not verified:
        raise NoteError("No known key has signed this.")
    return text


def _verify(key: NoteKey, signature: _Signature, text: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature.signature, text.encode())
    except (InvalidSignature, ValueError):
        raise NoteError(f"The signature of {key.name} does not belong to this text.") from None


def _split(note: bytes) -> tuple[str, list[_Signature]]:
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise NoteError("This is no signed note: it is not in UTF-8.") from None
    text, separator, lines = whole.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise NoteError("This is no signed note: it has no signature lines after an empty line.")
    text += "\n"
    _check_text(text)
    signed = lines[:-1].split("\n")
    if len(signed) > MAX_SIGNATURES:
        raise NoteError(f"This note has more than {MAX_SIGNATURES} signatures.")
    return text, [_parse_signature(line) for line in signed]


def _check_text(text: str) -> None:
    if any(each < " " and each != "\n" for each in text):
        raise NoteError("A note has no control characters.")
    if not text.endswith("\n"):
        raise NoteError("The text of a note ends with a line break.")


def _parse_signature(line: str) -> _Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        decoded = from_base64(encoded)
    except ValueError:
        decoded = b""
    if not line.startswith(_DASH) or not space or len(decoded) <= KEY_ID_BYTES:
        raise NoteError("This is no signed note: a signature line is malformed.")
    check_name(name)
    return _Signature(name, decoded[:KEY_ID_BYTES], decoded[KEY_ID_BYTES:])
