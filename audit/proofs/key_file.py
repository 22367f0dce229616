"""The file of the key that signs checkpoints, made at its first use."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from audit.proofs.errors import SigningKeyError

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_or_make_key(path: Path) -> Ed25519PrivateKey:
    """Return the key of a file. If there is none, make a key and write it.

    Of several processes that make one at the same time, all get the same.

    Raises:
        SigningKeyError: the file holds no Ed25519 key, is open to other users, or cannot be read or written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, Ed25519PrivateKey.generate())
        return read_key(path)
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be made: {error.strerror or error}.") from None


def read_key(path: Path) -> Ed25519PrivateKey:
    """Return the key of a file.

    Raises:
        SigningKeyError: the file is missing, holds no Ed25519 key, is open to other users, or cannot be read.
    """
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except FileNotFoundError:
        raise SigningKeyError(f"The signing key {path} is missing.") from None
    except OSError as error:
        raise SigningKeyError(f"The signing key {path} cannot be read: {error.strerror or error}.") from None
    if mode & OTHERS:
        raise SigningKeyError(f"The signing key {path} is open to other users. Close it with: chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyError(f"{path} holds no Ed25519 key.")
    return key


def _write(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a whole file, unless another process has written one meanwhile."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with the mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
