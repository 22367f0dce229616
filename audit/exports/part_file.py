"""A file that is written from its begin to its end, with its size and its hash."""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

MAX_LINE_BYTES = 512 * 1024 * 1024
"""More than a line of an export can have. PostgreSQL holds a value of jsonb of at most 256 MiB."""


def bounded_lines(file: BinaryIO, max_bytes: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """Yield the lines of a file. A longer one is cut.

    So a file without line breaks takes no more memory.
    """
    return iter(partial(file.readline, max_bytes), b"")


class PartFile:
    """A file of an export while it is written.

    Libraries that write to Python's files can write to it. They see no error of the disk, which would leave them in the
    middle of a write. `check` and `finish` raise it.
    """

    def __init__(self, path: Path) -> None:
        # The directory may have been made by others, for others to read.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._hash = sha256()
        self._dropping = False
        self._error: OSError | None = None
        self.bytes = 0
        """The number of bytes that were written."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written, in hexadecimal digits."""
        return self._hash.hexdigest()

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def write(self, data: bytes | memoryview) -> int:
        """Write some bytes, unless an earlier write failed."""
        size = memoryview(data).nbytes
        if not self._dropping:
            try:
                self._file.write(data)
            except OSError as error:
                self._dropping, self._error = True, error
            else:
                self._hash.update(data)
                self.bytes += size
        return size

    def check(self) -> None:
        """Check that everything could be written until now.

        Raises:
            OSError: it could not.
        """
        if self._error is not None:
            raise self._error

    def flush(self) -> None:
        """Do nothing, because `finish` writes everything to the disk."""

    def drop(self) -> None:
        """Ignore what is written from now on.

        A library may write the end of a file that was given up.
        """
        self._dropping = True

    def finish(self) -> None:
        """Write everything to the disk and close the file.

        Raises:
            OSError: it cannot be written.
        """
        self.check()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close the file as it is."""
        with suppress(OSError):  # the rest of its buffer cannot be written either
            self._file.close()
