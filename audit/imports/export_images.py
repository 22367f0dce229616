"""The images of an export, found by the pointers in its messages."""

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from audit.imports.errors import at
from audit.imports.export_files import base_name, is_archive, opened_archive, opened_member
from audit.imports.imported_conversation import ImageReference
from audit.imports.source_parts import image_of_bytes
from domain.content import ImageBlock

MAX_IMAGE_BYTES = 32 * 1024 * 1024

# Such as sediment://file_0000ab, of which the export has file_0000ab-sanitized.png.
_POINTER = re.compile(r"(?:sediment|file-service)://(file[-_][0-9A-Za-z]+)")
_FILE = re.compile(r"(file[-_][0-9A-Za-z]+)[-.].*", re.DOTALL)

T = TypeVar("T")

FindImage = Callable[[ImageReference], ImageBlock | None]
"""Returns the image of a reference, or None if the export does not have it or no model takes it."""


@contextmanager
def export_images(path: Path) -> Generator[FindImage]:
    """Open the images of an export.

    They are in its folder or its archive. A single file has none.

    Raises:
        ImportFormatError: the archive is damaged.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        files = _by_id((file.name, file) for file in path.rglob("*") if file.is_file())

        def in_folder(reference: ImageReference) -> ImageBlock | None:
            file = files.get(_id_of(reference))
            if file is None or file.stat().st_size > MAX_IMAGE_BYTES:
                return None
            return image_of_bytes(file.read_bytes())

        yield in_folder
    elif is_archive(path):
        with opened_archive(path) as archive:
            members = _by_id((base_name(member), member) for member in archive.namelist())

            def in_archive(reference: ImageReference) -> ImageBlock | None:
                member = members.get(_id_of(reference))
                if member is None or archive.getinfo(member).file_size > MAX_IMAGE_BYTES:
                    return None
                with at(base_name(member)), opened_member(archive, member) as file:
                    return image_of_bytes(file.read(MAX_IMAGE_BYTES))

            yield in_archive
    else:
        yield lambda _: None


def _id_of(reference: ImageReference) -> str:
    pointer = _POINTER.match(reference.reference)
    return pointer[1] if pointer else ""


def _by_id(files: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return files by the id that their names begin with, of several the first."""
    found: dict[str, T] = {}
    for name, file in files:
        if match := _FILE.fullmatch(name):
            found.setdefault(match[1], file)
    return found
