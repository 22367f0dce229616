"""Images of an export are found by their pointers, in a folder and in an archive."""

import zipfile
from base64 import b64encode
from pathlib import Path

import pytest

from audit.imports import export_images as module
from audit.imports.errors import ImportFormatError
from audit.imports.export_images import export_images
from audit.imports.imported_conversation import ImageReference
from domain.content import ImageBlock
from tests.support.exports.files import archive

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
GIF = b"GIF89a\x01\0\x01\0"
FILES = {
    "export/conversations.json": b"[]",
    "export/file-AbC1-holiday.png": PNG,
    "export/file-AbC12.dat": GIF,
    "export/dalle-generations/file-Xy9-1f2e.webp": PNG,
    "export/user-1/file_00ab-sanitized.jpg": GIF,
    "export/file-Doc1-plan.pdf": b"%PDF-1.7",
}


def block(media_type: str, data: bytes) -> ImageBlock:
    return ImageBlock(media_type=media_type, data=b64encode(data).decode())


EXPECTED = {
    "file-service://file-AbC1": block("image/png", PNG),
    "file-service://file-AbC12": block("image/gif", GIF),
    "sediment://file-Xy9": block("image/png", PNG),
    "sediment://file_00ab#part": block("image/gif", GIF),
    "file-service://file-Doc1": None,
    "file-service://file-AbC": None,
    "file-AbC1": None,
    "../file-AbC1-holiday.png": None,
}


@pytest.fixture(params=["archive", "folder"])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    packed = archive(tmp_path / "export.zip", FILES)
    if request.param == "archive":
        return packed
    with zipfile.ZipFile(packed) as opened:
        opened.extractall(tmp_path)
    return tmp_path / "export"


def find(path: Path, reference: str) -> ImageBlock | None:
    with export_images(path) as find_image:
        return find_image(ImageReference(reference=reference))


@pytest.mark.parametrize(("reference", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_an_image_is_found_by_its_pointer(export: Path, reference: str, expected: ImageBlock | None) -> None:
    assert find(export, reference) == expected


def test_an_image_that_is_too_large_is_not_read(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", len(PNG) - 1)
    assert find(export, "file-service://file-AbC1") is None
    assert find(export, "file-service://file-AbC12") == block("image/gif", GIF)


def test_a_single_file_has_no_images(tmp_path: Path) -> None:
    (tmp_path / "conversations.json").write_text("[]")
    (tmp_path / "file-AbC1.png").write_bytes(PNG)
    assert find(tmp_path / "conversations.json", "file-service://file-AbC1") is None


def test_a_damaged_image_in_an_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("file-AbC1-holiday.png", PNG)
    path.write_bytes(path.read_bytes().replace(PNG, PNG[:-1] + b"!"))
    with pytest.raises(ImportFormatError, match=r"^file-AbC1-holiday\.png: damaged in the archive$"):
        find(path, "file-service://file-AbC1")
