"""Events of an export as Parquet, by pyarrow, which is an extra of the package."""

from collections.abc import Generator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from audit.exports.errors import ExportDamagedError
from audit.exports.event_rows import DELIMITER, QUOTE
from audit.exports.exported_event import ExportedEvent
from audit.exports.part_file import PartFile

BLOCK_BYTES = 8 * 1024 * 1024
GROUP_BYTES = 32 * 1024 * 1024
"""The size of the texts of a row group, compressed to about a tenth."""
READ_EVENTS = 4096

# pyarrow has no types.
_arrow: Any = import_module("pyarrow")
_compute: Any = import_module("pyarrow.compute")
_csv: Any = import_module("pyarrow.csv")
_parquet: Any = import_module("pyarrow.parquet")

_TEXT, _BYTES, _MOMENT = _arrow.string(), _arrow.binary(), _arrow.timestamp("us", tz="UTC")
_COLUMNS: dict[str, Any] = {
    "position": _arrow.int64(),
    "recorded_at": _MOMENT,
    "aggregate": _TEXT,
    "aggregate_id": _TEXT,
    "version": _arrow.int32(),
    "type": _TEXT,
    "actor": _TEXT,
    "request_id": _TEXT,
    "data": _TEXT,
    "salt": _BYTES,
    "content_hash": _BYTES,
    "digest": _BYTES,
    "idempotency_owner": _TEXT,
    "idempotency_key": _TEXT,
    "fingerprint": _BYTES,
}
"""The columns of the file. The rows from PostgreSQL have the same, with times as numbers and bytes as digits."""
_SCHEMA: Any = _arrow.schema(list(_COLUMNS.items()))
_READ_AS: dict[Any, Any] = {_MOMENT: _arrow.int64(), _BYTES: _TEXT}
_COMPRESSED = ("data", "idempotency_key", "salt", "digest", "content_hash", "fingerprint")
"""The columns whose values are all different, so that a dictionary of them would only cost time."""
_EPOCH_US = 946_684_800 * 1_000_000
"""Microseconds from 1970 to 2000."""


class ParquetEvents:
    """Writes rows as row groups, compressed with Zstandard."""

    def __init__(self, file: PartFile) -> None:
        self._writer: Any = _parquet.ParquetWriter(
            _arrow.PythonFile(file, mode="w"),
            _SCHEMA,
            compression="zstd",
            use_dictionary=[name for name in _COLUMNS if name not in _COMPRESSED],
        )
        self._waiting: list[Any] = []
        self._size = 0

    def write(self, block: bytes) -> None:
        """Write some rows in CSV."""
        self._waiting.append(_table(block))
        self._size += len(block)
        if self._size >= GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        """Write what is left, and the end of the file."""
        try:
            if self._waiting:
                self._write_group()
        finally:
            self._writer.close()

    def _write_group(self) -> None:
        table = _arrow.concat_tables(self._waiting)
        self._waiting, self._size = [], 0
        self._writer.write_table(table, row_group_size=table.num_rows)


def read_parquet(path: Path) -> Generator[ExportedEvent]:
    """Yield the events of a file.

    Raises:
        ExportDamagedError: it is no such file, or a row holds no event.
        OSError: the file cannot be read.
    """
    number = 0
    with path.open("rb") as file:
        try:
            with closing(_parquet.ParquetFile(file)) as opened:
                if opened.schema_arrow.remove_metadata() != _SCHEMA:
                    raise ExportDamagedError(f"{path.name}: its columns are not those of an export.")
                for batch in opened.iter_batches(batch_size=READ_EVENTS):
                    for row in zip(*map(_values, batch.columns), strict=True):
                        number += 1
                        yield _event(*row)
        except (_arrow.ArrowException, AttributeError, OSError, TypeError, ValueError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # an error of the disk. Those of pyarrow have no number
            raise ExportDamagedError(f"{path.name}: damaged after row {number}.") from error


def _table(block: bytes) -> Any:
    """Return rows in CSV as a table with the columns of a file."""
    read = _csv.read_csv(
        _arrow.BufferReader(block),
        # The rows are one block of the parser, because one row may be larger than its blocks usually are.
        _csv.ReadOptions(column_names=list(_COLUMNS), block_size=len(block) + 1, use_threads=False),
        _csv.ParseOptions(delimiter=DELIMITER, quote_char=QUOTE, newlines_in_values=True),
        # PostgreSQL writes NULL as nothing, and an empty text as two quotes.
        _csv.ConvertOptions(
            column_types={name: _READ_AS.get(kind, kind) for name, kind in _COLUMNS.items()},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    columns = [_column(read.column(name).combine_chunks(), kind) for name, kind in _COLUMNS.items()]
    return _arrow.table(columns, schema=_SCHEMA)


def _column(read: Any, kind: Any) -> Any:
    if kind == _BYTES:
        return _unhexed(_arrow.concat_arrays(read.chunks) if isinstance(read, _arrow.ChunkedArray) else read)
    return read.view(kind) if kind == _MOMENT else read


def _unhexed(digits: Any) -> Any:
    """Return the bytes of hexadecimal digits, all of a column at once."""
    valid, offsets, data = digits.buffers()
    ends = _arrow.Array.from_buffers(_arrow.int32(), len(digits) + 1, [None, offsets])
    halves = _compute.divide(ends, _arrow.scalar(2, _arrow.int32())).buffers()[1]
    return _arrow.Array.from_buffers(
        _BYTES, len(digits), [valid, halves, _arrow.py_buffer(bytes.fromhex(_ascii(data)))], digits.null_count
    )


def _ascii(data: Any) -> str:
    return "" if data is None else str(memoryview(data), "ascii")


def _values(column: Any) -> list[Any]:
    """Return a column's values, texts as bytes in UTF-8 and times in microseconds."""
    if column.type == _TEXT:
        return column.cast(_BYTES).to_pylist()
    return (column.view(_arrow.int64()) if column.type == _MOMENT else column).to_pylist()


def _event(position: Any, at_us: Any, aggregate: Any, id_: Any, version: Any, *others: Any) -> ExportedEvent:
    bytes_of_id = bytes.fromhex(id_.decode().replace("-", ""))
    event = ExportedEvent(position, at_us - _EPOCH_US, aggregate, bytes_of_id, version, *others)
    if None in (aggregate, event.type, event.actor, event.data, event.digest):
        raise ValueError("a value is missing")
    return event
