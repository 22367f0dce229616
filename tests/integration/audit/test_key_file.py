"""The signing key is made once, for its owner alone."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from audit.proofs.errors import SigningKeyError
from audit.proofs.key_file import read_key, read_or_make_key


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.touch(mode)
    path.write_bytes(data)
    path.chmod(mode)


def test_the_key_is_made_at_its_first_use_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.key"
    made = read_or_make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert os.listdir(path.parent) == ["checkpoint.key"]
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    kept = [read_or_make_key(path), read_key(path)]
    assert {key.private_bytes_raw() for key in kept} == {made.private_bytes_raw()}


def test_processes_that_make_the_key_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(read_or_make_key, [tmp_path / "checkpoint.key"] * 8))
    assert len({key.private_bytes_raw() for key in keys}) == 1
    assert os.listdir(tmp_path) == ["checkpoint.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "checkpoint.key"
    read_or_make_key(path)
    path.chmod(mode)
    with pytest.raises(SigningKeyError, match="open to other users"):
        read_or_make_key(path)


def test_a_file_without_an_ed25519_key_is_refused_and_kept(tmp_path: Path) -> None:
    of_another_kind = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for number, data in enumerate((b"", b"no key", of_another_kind)):
        path = tmp_path / str(number)
        write(path, data)
        with pytest.raises(SigningKeyError, match="holds no Ed25519 key"):
            read_or_make_key(path)
        assert path.read_bytes() == data


def test_a_missing_key_and_a_missing_place_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"checkpoint\.key is missing"):
        read_key(tmp_path / "checkpoint.key")
    (tmp_path / "file").touch()
    with pytest.raises(SigningKeyError, match="cannot be made") as caught:
        read_or_make_key(tmp_path / "file" / "checkpoint.key")
    assert "\n" not in str(caught.value)
