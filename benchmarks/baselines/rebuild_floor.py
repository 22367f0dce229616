"""The floor of a rebuild: read models filled inside PostgreSQL by plain SQL."""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from benchmarks.baselines.views import Tables

CONNECTIONS = 2
SETTINGS = {"work_mem": "64MB", "maintenance_work_mem": "64MB"}


class RebuildFloor:
    """One INSERT … SELECT per table, with keys and indexes last.

    It uses two connections at once, because a rebuild has two workers.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._fills = list(tables.statements("rebuild_floor.sql").values())

    def seconds(self) -> float:
        """Return the seconds to create, fill, index and analyse the tables."""
        start = perf_counter()
        self._tables.create()
        for statements in (self._fills, self._tables.indexes(), self._analyzes()):
            with ThreadPoolExecutor(CONNECTIONS) as threads:
                list(threads.map(self._execute, statements))
        return perf_counter() - start

    def _analyzes(self) -> list[bytes]:
        return [b"ANALYZE " + name.encode() for name in self._tables.names().values()]

    def _execute(self, statement: bytes) -> None:
        with self._tables.connect(**SETTINGS) as connection:
            connection.execute(statement)
