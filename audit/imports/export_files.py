"""The files of an export that hold conversations, also in a folder or archive."""

import lzma
import re
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from audit.imports.checked_bytes import Readable
from audit.imports.errors import ImportFormatError, at

# ChatGPT splits a large export into conversations-000.json, conversations-001.json and so on.
_CONVERSATIONS = re.compile(r"conversations(?:-(\d{1,9}))?\.json")
_ARCHIVE = b"PK\x03\x04"
_DAMAGED = "damaged in the archive"
_DAMAGES = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError)
"""The errors of zipfile for damaged bytes. The name of a file may be no UTF-8 any more."""


def export_files(path: Path) -> Iterator[tuple[str, Readable]]:
    """Yield each file with conversations: its name, and the file, which is open.

    Raises:
        ImportFormatError: the folder or the archive has no such file, or the archive is damaged.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        for name in _chosen([file.name for file in path.iterdir()], path.name):
            with (path / name).open("rb") as file:
                yield name, file
    elif is_archive(path):
        with opened_archive(path) as archive:
            for member in _chosen(archive.namelist(), path.name):
                with at(base_name(member)), opened_member(archive, member) as file:
                    yield base_name(member), file
    else:
        with path.open("rb") as file:
            yield path.name, file


def export_bytes(path: Path) -> int:
    """Return the size of all files with conversations, unpacked.

    Raises:
        ImportFormatError: the folder or the archive has no such file, or the archive is damaged.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        return sum((path / name).stat().st_size for name in _chosen([file.name for file in path.iterdir()], path.name))
    if is_archive(path):
        with opened_archive(path) as archive:
            return sum(archive.getinfo(member).file_size for member in _chosen(archive.namelist(), path.name))
    return path.stat().st_size


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive, whatever its name is."""
    with path.open("rb") as file:
        return file.read(len(_ARCHIVE)) == _ARCHIVE


def opened_archive(path: Path) -> zipfile.ZipFile:
    """Return an open zip archive.

    Raises:
        ImportFormatError: it is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except (*_DAMAGES, NotImplementedError) as error:  # a version that it does not know
        raise ImportFormatError(f"{path.name}: a damaged zip archive") from error


@contextmanager
def opened_member(archive: zipfile.ZipFile, member: str) -> Generator[Readable]:
    """Open a file in an archive.

    Raises:
        ImportFormatError: it is damaged, encrypted, or packed in an unknown way.
    """
    try:
        file = archive.open(member)
    except _DAMAGES as error:
        raise ImportFormatError(_DAMAGED) from error
    except RuntimeError as error:  # NotImplementedError too
        raise ImportFormatError("encrypted, or packed in an unknown way") from error
    with file:
        yield _ArchivedFile(file)


def base_name(member: str) -> str:
    """Return the name of a file in an archive, without its folders."""
    return PurePosixPath(member).name


def _chosen(names: list[str], place: str) -> list[str]:
    """Return the names of files with conversations, in the order of their numbers."""
    matches = [(match, name) for name in names if (match := _CONVERSATIONS.fullmatch(base_name(name)))]
    if not matches:
        raise ImportFormatError(f"{place}: no conversations.json is in it")
    return [found[1] for found in sorted(matches, key=lambda found: (int(found[0][1] or 0), found[1]))]


class _ArchivedFile:
    """A file in an archive, whose damage is an import error."""

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except _DAMAGES as error:
            raise ImportFormatError(_DAMAGED) from error
