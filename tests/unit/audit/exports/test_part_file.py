"""A file knows its hash, and reports an error of the disk once it is asked."""

import errno
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from audit.exports.parquet_events import ParquetEvents
from audit.exports.part_file import PartFile, bounded_lines

FULL = Path("/dev/full")


def test_a_file_knows_its_size_and_its_hash(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "file")
    assert file.write(b"ab") == 2
    assert file.write(memoryview(b"cde")) == 3
    file.finish()
    assert (tmp_path / "file").read_bytes() == b"abcde"
    assert (file.bytes, file.sha256, file.closed) == (5, sha256(b"abcde").hexdigest(), True)


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_an_error_of_the_disk_is_raised_when_asked() -> None:
    file = PartFile(FULL)
    file.write(bytes(1_000_000))
    with pytest.raises(OSError, match="No space left on device") as caught:
        file.check()
    assert caught.value.errno == errno.ENOSPC
    assert file.write(b"more") == 4
    with pytest.raises(OSError, match="No space left"):
        file.finish()
    file.close()


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
def test_a_writer_of_parquet_ends_on_a_full_disk() -> None:
    file = PartFile(FULL)
    writer = ParquetEvents(file)
    writer.close()
    with pytest.raises(OSError, match="No space left"):
        file.finish()
    file.close()


def test_a_dropped_file_takes_no_more(tmp_path: Path) -> None:
    file = PartFile(tmp_path / "file")
    file.write(b"ab")
    file.drop()
    file.write(b"cd")
    file.finish()
    assert (tmp_path / "file").read_bytes() == b"ab"


def test_a_line_that_is_too_long_is_cut() -> None:
    assert list(bounded_lines(BytesIO(b"ab\n\nabcdefg\nab"), 4)) == [b"ab\n", b"\n", b"abcd", b"efg\n", b"ab"]
