"""The files of an export are found in a folder and in an archive."""

import zipfile
from functools import partial
from pathlib import Path

import pytest

from audit.imports.errors import ImportFormatError
from audit.imports.export_files import export_files
from tests.support.exports.files import archive

PARTS = {
    "export/conversations-010.json": "10",
    "export/conversations-002.json": "2",
    "export/shared_conversations.json": "none",
    "export/chat.html": "none",
    "export/file-7.png": b"\x89PNG",
    "__MACOSX/export/._conversations-002.json": "none",
}


def read(path: Path) -> list[tuple[str, bytes]]:
    return [(name, b"".join(iter(partial(file.read, 1000), b""))) for name, file in export_files(path)]


def refusal(path: Path) -> str:
    with pytest.raises(ImportFormatError) as refused:
        read(path)
    return str(refused.value)


def test_any_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text("{}")
    assert read(tmp_path / "chats.jsonl") == [("chats.jsonl", b"{}")]
    (tmp_path / "short").write_text("{")
    assert read(tmp_path / "short") == [("short", b"{")]


def test_the_parts_of_an_export_are_read_in_their_order(tmp_path: Path) -> None:
    expected = [("conversations-002.json", b"2"), ("conversations-010.json", b"10")]
    assert read(archive(tmp_path / "export.zip", PARTS)) == expected
    with zipfile.ZipFile(tmp_path / "export.zip") as packed:
        packed.extractall(tmp_path)
    assert read(tmp_path / "export") == expected


def test_an_archive_is_told_by_its_bytes(tmp_path: Path) -> None:
    assert read(archive(tmp_path / "export.bin", {"conversations.json": "[]"})) == [("conversations.json", b"[]")]


def test_an_export_without_conversations_is_refused(tmp_path: Path) -> None:
    assert (
        refusal(archive(tmp_path / "photos.zip", {"a.png": b"\x89PNG"})) == "photos.zip: no conversations.json is in it"
    )
    (tmp_path / "photos").mkdir()
    assert refusal(tmp_path / "photos") == "photos: no conversations.json is in it"


def test_a_file_that_is_missing_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing.json")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "export.zip", {"conversations.json": "[]" * 100_000})
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(path) == "export.zip: a damaged zip archive"


def test_a_damaged_file_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("conversations.json", "[1234567890]")
    path.write_bytes(path.read_bytes().replace(b"[1234567890]", b"[1234567891]"))
    assert refusal(path) == "damaged in the archive"


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_with_a_changed_byte_is_read_or_refused_in_one_line(tmp_path: Path, packing: int) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", packing) as written:
        written.writestr("é/conversations.json", "[1234567890]")
    whole = path.read_bytes()
    refusals: list[str] = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
        try:
            read(path)
        except (ImportFormatError, OSError) as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert [text for text in refusals if "\n" in text] == []


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "export.zip", {"conversations.json": "[]"})
    packed = bytearray(path.read_bytes())
    packed[6] |= 1  # the flag of encryption, in the file's own header and in the directory
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(packed)
    assert refusal(path) == "conversations.json: encrypted, or packed in an unknown way"
