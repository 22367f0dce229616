"""The files of an export that hold conversations: a file, those in a folder, or those in a zip archive."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from audit.imports.checked_bytes import Readable
from audit.imports.errors import ImportFormatError

# ChatGPT splits a large export into conversations-000.json, conversations-001.json and so on.
_CONVERSATIONS = re.compile(r"conversations(?:-(\d+))?\.json")
_ARCHIVE = b"PK\x03\x04"
_DAMAGED = "damaged in the archive"


def export_files(path: Path) -> Iterator[tuple[str, Readable]]:
    """Yield the name of each file with conversations, and the open file until the next is asked for.

    Raises:
        ImportFormatError: the folder or the archive has no such file, or the archive is damaged.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        yield from _in_folder(path)
        return
    with path.open("rb") as file:
        is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
        if not is_archive:
            file.seek(0)
            yield path.name, file
    if is_archive:
        yield from _in_archive(path)


def _in_folder(folder: Path) -> Iterator[tuple[str, Readable]]:
    for name in _chosen([file.name for file in folder.iterdir()], folder.name):
        with (folder / name).open("rb") as file:
            yield name, file


def _in_archive(path: Path) -> Iterator[tuple[str, Readable]]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ImportFormatError(f"{path.name}: a damaged zip archive") from error
    with archive:
        for member in _chosen(archive.namelist(), path.name):
            name = PurePosixPath(member).name
            try:
                file = archive.open(member)
            except zipfile.BadZipFile as error:
                raise ImportFormatError(f"{name}: {_DAMAGED}") from error
            except RuntimeError as error:
                raise ImportFormatError(f"{name}: encrypted, or packed in a way that is unknown here") from error
            with file:
                yield name, _ArchivedFile(file)


def _chosen(names: list[str], place: str) -> list[str]:
    """Return the names of files with conversations, in the order of their numbers."""
    matches = [(match, name) for name in names if (match := _CONVERSATIONS.fullmatch(PurePosixPath(name).name))]
    if not matches:
        raise ImportFormatError(f"{place}: no conversations.json is in it")
    return [name for match, name in sorted(matches, key=lambda found: (int(found[0][1] or 0), found[1]))]


class _ArchivedFile:
    """A file in an archive, whose damage is an import error."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ImportFormatError(_DAMAGED) from error
