"""Rows in PostgreSQL's CSV become Parquet, and are read again."""

from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.exports import parquet_events
from audit.exports.errors import ExportDamagedError
from audit.exports.exported_event import ExportedEvent
from audit.exports.parquet_events import ParquetEvents, read_parquet
from audit.exports.part_file import PartFile

# U+0000 is in no text of PostgreSQL.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=8).map(str.encode)
some_bytes = st.binary(max_size=40)
events = st.builds(
    ExportedEvent,
    position=st.integers(1, 2**63 - 1),
    recorded_us=st.integers(-(10**15), 10**16),
    aggregate=st.sampled_from([b"conversation", b"agent"]),
    aggregate_id=st.binary(min_size=16, max_size=16),
    version=st.integers(1, 2**31 - 1),
    type=texts,
    actor=texts,
    request_id=st.none() | texts,
    data=texts,
    salt=st.none() | some_bytes,
    content_hash=st.none() | some_bytes,
    digest=some_bytes,
    idempotency_owner=st.none() | texts,
    idempotency_key=st.none() | texts,
    fingerprint=st.none() | some_bytes,
)
EPOCH_US = 946_684_800_000_000
BYTES = ("salt", "content_hash", "digest", "fingerprint")


def in_csv(event: ExportedEvent) -> bytes:
    """Return a row as PostgreSQL's COPY writes it."""
    id_ = event.aggregate_id.hex()
    shown = event._asdict() | {
        "position": b"%d" % event.position,
        "recorded_us": b"%d" % (event.recorded_us + EPOCH_US),
        "aggregate_id": "-".join((id_[:8], id_[8:12], id_[12:16], id_[16:20], id_[20:])).encode(),
        "version": b"%d" % event.version,
    }
    for name in BYTES:
        shown[name] = None if shown[name] is None else shown[name].hex().encode()
    return b"\x02".join(map(quoted, shown.values())) + b"\n"


def quoted(value: bytes | None) -> bytes:
    if value is None:
        return b""
    if value and not any(special in value for special in b"\x01\x02\r\n"):
        return value
    return b"\x01" + value.replace(b"\x01", b"\x01\x01") + b"\x01"


def write(path: Path, *blocks: list[ExportedEvent]) -> None:
    file = PartFile(path)
    writer = ParquetEvents(file)
    for block in blocks:
        writer.write(b"".join(map(in_csv, block)))
    writer.close()
    file.finish()


@given(st.lists(st.lists(events, min_size=1, max_size=5), max_size=3), st.sampled_from([1, 10**9]))
def test_what_is_written_is_read(blocks: list[list[ExportedEvent]], group_bytes: int) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet_events, "GROUP_BYTES", group_bytes)
        path = Path(directory) / "events.parquet"
        write(path, *blocks)
        assert list(read_parquet(path)) == [event for block in blocks for event in block]


EVENT = ExportedEvent(
    1, 0, b"agent", bytes(16), 1, b"AgentDefined", b"user:a", None, b'{"a": 1}', b"s" * 16, None, b"d" * 32
)


def test_a_row_may_be_larger_than_the_blocks_of_the_parser(tmp_path: Path) -> None:
    large = EVENT._replace(data=b'{"a": "%s"}' % (b"x" * 5_000_000))
    write(tmp_path / "events.parquet", [EVENT, large, EVENT])
    assert list(read_parquet(tmp_path / "events.parquet")) == [EVENT, large, EVENT]


def test_equal_rows_give_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, [EVENT] * 100)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_duckdb_reads_the_types(tmp_path: Path) -> None:
    write(tmp_path / "events.parquet", [EVENT])
    with duckdb.connect() as connection:
        found = connection.execute(f"DESCRIBE SELECT * FROM '{tmp_path}/events.parquet'").fetchall()
    types = {name: kind for name, kind, *_ in found}
    assert types["position"] == "BIGINT"
    assert types["recorded_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["version"] == "INTEGER"
    assert {types[name] for name in BYTES} == {"BLOB"}
    assert types["data"] == "VARCHAR"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"no Parquet at all"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.parquet").write_bytes(content)
    with pytest.raises(ExportDamagedError, match=r"^events\.parquet: damaged after row 0\.$"):
        list(read_parquet(tmp_path / "events.parquet"))


def test_other_columns_are_named(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS position) TO '{tmp_path}/events.parquet' (FORMAT parquet)")
    with pytest.raises(ExportDamagedError, match="its columns are not those of an export"):
        list(read_parquet(tmp_path / "events.parquet"))
