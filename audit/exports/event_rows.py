"""Reads the rows of an export from PostgreSQL, section by section."""

from collections.abc import Callable, Generator
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from audit.exports.export_manifest import ExportFilter, ExportFormat
from eventlog.db.statements import load_statements

DELIMITER, QUOTE = "\x02", "\x01"
"""The characters of the CSV, which no text of JSON holds."""
SECTION_POSITIONS = 20_000
"""The positions that one statement reads. A short statement does not keep PostgreSQL from removing old rows."""

Report = Callable[[int, int], None]
"""Takes the position up to which the log was read, and that of the end."""

SyncConnection = psycopg.Connection[TupleRow]

_SQL = load_statements("audit.exports", "event_rows.sql")
_PLACES: dict[ExportFormat, tuple[int, bytes]] = {
    "jsonl": (len('{"position":'), b","),
    "parquet": (0, DELIMITER.encode()),
}
"""Where the position of a row begins, and what follows it."""
_LONGEST_POSITION = 20


class Block(NamedTuple):
    """Some rows of an export, with the positions of the first and of the last."""

    data: bytes
    events: int
    first: int
    last: int


class EventRows:
    """The wanted events of a log, as rows for one format."""

    def __init__(
        self,
        connection: SyncConnection,
        format_name: ExportFormat,
        wanted: ExportFilter,
        block_bytes: int,
        section_positions: int = SECTION_POSITIONS,
    ) -> None:
        self._connection = connection
        self._statement: LiteralString = "\n".join([_SQL[format_name], _SQL["wanted"], _SQL["copied"]])
        self._images: LiteralString = "\n".join([_SQL["images"], _SQL["wanted"]])
        self._place = _PLACES[format_name]
        self._wanted = wanted.model_dump(include={"conversation_id", "type", "owner_id"}, by_alias=False)
        self._block_bytes = block_bytes
        self._section_positions = section_positions

    def blocks(self, after: int, upto: int, report: Report) -> Generator[Block]:
        """Yield the rows after one position and up to another.

        Where a block ends depends only on the rows since `after`.

        Raises:
            psycopg.Error: the database does not answer.
        """
        rows: list[Any] = []
        size, section = 0, after
        while section < upto:
            end = min(section + self._section_positions, upto)
            parameters = {**self._wanted, "after": section, "upto": end}
            with self._connection.cursor() as cursor, cursor.copy(self._statement, parameters) as copy:
                for row in copy:
                    rows.append(row)
                    size += len(row)
                    if size >= self._block_bytes:
                        yield self._block(rows)
                        rows, size = [], 0
            section = end
            report(section, upto)
        if rows:
            yield self._block(rows)

    def images(self, connection: SyncConnection, after: int, upto: int) -> list[bytes]:
        """Return the SHA-256 of the images that events of a section refer to, in order.

        While `blocks` is not at its end, it needs a connection of its own.
        """
        found = connection.execute(self._images, {**self._wanted, "after": after, "upto": upto}, binary=True)
        return sorted(row[0] for row in found)

    def _block(self, rows: list[Any]) -> Block:
        return Block(b"".join(rows), len(rows), self._position(rows[0]), self._position(rows[-1]))

    def _position(self, row: Any) -> int:
        begin, end = self._place
        return int(bytes(row[begin : begin + _LONGEST_POSITION]).partition(end)[0])
