"""The floor of a rebuild: the tables of the read models filled inside PostgreSQL, by SQL that knows no domain."""

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from benchmarks.baselines.views import Tables

CONNECTIONS = 2
SETTINGS = {"work_mem": "64MB", "maintenance_work_mem": "64MB"}


class RebuildFloor:
    """One INSERT … SELECT a table, keys and indexes last; two connections at once, as a rebuild has two workers."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._fills = list(tables.statements("rebuild_floor.sql").values())

    def seconds(self) -> float:
        """Return how long it takes to make, fill and index the tables and to give them statistics."""
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
