"""Files of exports, and files that are read in small pieces."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class InPieces:
    """A file of which each read returns at most `size` bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self._rest = data
        self._size = size

    def read(self, size: int, /) -> bytes:
        taken = min(size, self._size)
        piece, self._rest = self._rest[:taken], self._rest[taken:]
        return piece


def json_file(path: Path, *conversations: object) -> Path:
    """Write conversations as one array, and return the path."""
    path.write_text(json.dumps(conversations, ensure_ascii=False))
    return path


def json_lines(path: Path, *conversations: object) -> Path:
    """Write conversations as one line each, and return the path."""
    path.write_text("".join(f"{json.dumps(each)}\n" for each in conversations))
    return path


def archive(path: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write a zip archive of these files, and return the path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return path
