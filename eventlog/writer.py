"""Group commit: the writer of a process commits all waiting appends together."""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from itertools import count
from time import perf_counter
from typing import NamedTuple, Protocol
from uuid import UUID

import orjson
import psycopg
from psycopg import errors
from psycopg.pq.abc import PGresult

from domain.aggregates import AggregateEvent
from eventlog.background import Background
from eventlog.db.connection import Connection, is_alive, is_unavailable, time_limit
from eventlog.db.database import Database
from eventlog.db.prepared import execute_prepared
from eventlog.db.statements import load_statements, numbered
from eventlog.errors import (
    IdempotencyKeyTakenError,
    LogError,
    StoreUnavailableError,
    UnstorableEventError,
    VersionTakenError,
)
from eventlog.mapper import NewRow, Recorded
from eventlog.salts import Salts

CommitListener = Callable[[int, list[Recorded]], None]
BatchListener = Callable[[float, "list[CommittedAppend]"], None]
"""Called after each commit with its duration in seconds and its appends."""

MAX_BATCH_APPENDS = 1000
MAX_BATCH_BYTES = 16 * 1024 * 1024
APPEND_TIMEOUT_S = 5.0
"""Time limit of a commit.

After it the writer drops its connection. Waiting appends are answered within 10 s.
"""
MAX_PUBLISHED_BYTES = 64 * 1024
"""Events of larger appends are not passed to `on_commit`.

Readers find them in the table.
"""

_APPEND, _APPEND_PARAMETERS = numbered(load_statements("eventlog", "log.sql")["append"])
_log = logging.getLogger(__name__)


class Idempotency(NamedTuple):
    """An owner's idempotency key for a command, and the SHA-256 of its request."""

    owner_id: str
    key: str
    fingerprint: bytes


class CommittedAppend(NamedTuple):
    """An append that was committed, with its duration in seconds, waiting included."""

    events: Sequence[AggregateEvent]
    duration_s: float


class _Append(NamedTuple):
    """The events of one command, and the future of the position of the last."""

    rows: Sequence[NewRow]
    events: Sequence[AggregateEvent]
    idempotency: Idempotency | None
    size: int
    done: Future[int]
    generation: int | None
    began: float


class Appender(Protocol):
    """The part of the writer that commands use."""

    @property
    def generation(self) -> int:
        """The number of reconnects, after each of which the log may have lost events."""
        ...

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the log may have lost its newest events."""
        ...

    def append(
        self,
        rows: Sequence[NewRow],
        idempotency: Idempotency | None = None,
        events: Sequence[AggregateEvent] = (),
        generation: int | None = None,
    ) -> Future[int]:
        """Record events as a whole, and return a future of the last one's position."""
        ...


class GroupCommitWriter:
    """The one writer of a process.

    Appends that arrive during a commit share the next one.

    `on_commit` is called with the new head of the log and the committed events that callers gave as `events`.
    `on_batch` is called afterwards, with how long each append took.
    """

    def __init__(
        self,
        database: Database,
        on_commit: CommitListener = lambda head, recorded: None,
        on_batch: BatchListener = lambda commit_s, appends: None,
    ) -> None:
        self._database = database
        self._on_commit = on_commit
        self._on_batch = on_batch
        self._waiting: list[_Append] = []
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._background = Background()
        self._salts = Salts()
        self._closed = False

    async def open(self) -> None:
        """Start the writer."""
        self._background.keep("group-commit", self._run)

    @property
    def generation(self) -> int:
        """The number of the connection to the log. With a new one, events may be lost."""
        return self._database.generation

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        """Call `forget` when the log may have lost its newest events."""
        self._database.on_new_generation(forget)

    async def close(self) -> None:
        """Commit the waiting appends, then stop."""
        self._closed = True
        self._wake.set()
        await self._background.finish()
        await self._disconnect()

    def append(
        self,
        rows: Sequence[NewRow],
        idempotency: Idempotency | None = None,
        events: Sequence[AggregateEvent] = (),
        generation: int | None = None,
    ) -> Future[int]:
        """Record `rows` as a whole, and return a future of the last one's position.

        `events` are the same as domain objects, for `on_commit`. `generation` is the generation of the state that the
        events were decided on. The future raises VersionTakenError (also if the generation is no longer current),
        IdempotencyKeyTakenError, UnstorableEventError or StoreUnavailableError.
        """
        done: Future[int] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(StoreUnavailableError("The log is closing."))
            return done
        size = sum(len(row.data) for row in rows)
        self._waiting.append(_Append(rows, events, idempotency, size, done, generation, perf_counter()))
        self._wake.set()
        return done

    async def _run(self) -> None:
        while not self._closed or self._waiting:
            if not self._waiting:
                await self._wake.wait()
                self._wake.clear()
            elif await self._is_connected():
                self._refuse_outdated()
                if batch := self._take():
                    await self._commit(batch)

    async def _is_connected(self) -> bool:
        """Return whether a live connection exists.

        If none can be made, refuse the waiting appends.
        """
        if self._connection is not None:
            if await is_alive(self._connection):
                return True
            await self._disconnect()
        try:
            self._connection = await self._database.connect_to_log(durable=True)
        except Exception as error:  # noqa: BLE001 - no caller may wait for ever
            _log.warning("the writer cannot connect: %s", error.__cause__ or error)
            self._refuse_waiting(StoreUnavailableError("The store does not answer."))
            return False
        return True

    def _refuse_outdated(self) -> None:
        """Refuse appends that were decided on events that the log may have lost."""
        current = self._database.generation
        error = VersionTakenError("The connection to the log was renewed.")
        self._refuse_waiting(error, lambda append: append.generation not in (None, current))

    def _refuse_waiting(self, error: LogError, wanted: Callable[[_Append], bool] = lambda append: True) -> None:
        refused = [append for append in self._waiting if wanted(append)]
        self._waiting = [append for append in self._waiting if not wanted(append)]
        _refuse(refused, error)

    def _take(self) -> list[_Append]:
        size = 0
        for taken, append in enumerate(self._waiting):
            size += append.size
            if taken and (taken >= MAX_BATCH_APPENDS or size > MAX_BATCH_BYTES):
                batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
                return batch
        batch, self._waiting = self._waiting, []
        return batch

    async def _commit(self, batch: list[_Append]) -> None:
        began = perf_counter()
        try:
            base = await self._insert(batch)
        except psycopg.Error as error:
            if self._connection is None or self._connection.closed:
                _log.warning("append failed: %s", error)
                self._database.mark_unreachable()
                await self._disconnect()
                _refuse(batch, StoreUnavailableError("The store does not answer."))
            elif is_unavailable(error):
                _log.warning("append failed: %s", error)
                _refuse(batch, StoreUnavailableError("The store does not answer."))
            else:
                await self._commit_singly(batch, error)
        except Exception:  # noqa: BLE001 - a logged boundary of the process
            # The writer must go on after any error, or all later appends would wait for ever.
            _log.exception("append failed")
            await self._disconnect()
            _refuse(batch, StoreUnavailableError("The store could not take this."))
        else:
            self._answer(batch, base)
            ended = perf_counter()
            self._on_batch(ended - began, [CommittedAppend(each.events, ended - each.began) for each in batch])

    async def _commit_singly(self, batch: list[_Append], error: psycopg.Error) -> None:
        if len(batch) == 1:
            _refuse(batch, _translated(error))
            return
        for append in batch:
            if self._connection is None:
                _refuse([append], StoreUnavailableError("The store does not answer."))
            else:
                await self._commit([append])

    async def _insert(self, batch: list[_Append]) -> int:
        assert self._connection is not None
        parameters = {"rows": _rows(batch, self._salts), "predecessors": _predecessors(batch)}
        with time_limit(self._connection, APPEND_TIMEOUT_S):
            result = await execute_prepared(self._connection, _APPEND, *map(parameters.__getitem__, _APPEND_PARAMETERS))
        if result.get_value(0, 2) == b"t":
            raise _PredecessorMissing("the event before one of these is not in the log")
        size = sum(len(append.rows) for append in batch)
        if _integer(result, 1) != size:
            raise psycopg.InternalError(f"the head row is not one, or {size} events were not {size} rows")
        return _integer(result, 0)

    def _answer(self, batch: list[_Append], base: int) -> None:
        recorded: list[Recorded] = []
        for append in batch:
            if append.size <= MAX_PUBLISHED_BYTES:
                recorded += map(Recorded, count(base + 1), append.events)
            base += len(append.rows)
            if not append.done.done():
                append.done.set_result(base)
        self._on_commit(base, recorded)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


class _PredecessorMissing(psycopg.IntegrityError):
    """The version before an append is not in the log, which has lost events."""


def _predecessors(batch: list[_Append]) -> bytes:
    """Return the events that must be in the log before the batch, as a JSON array."""
    wanted: list[dict[str, object]] = []
    recorded: dict[UUID, int] = {}
    for append in batch:
        for row in append.rows:
            before = row.version - 1
            if before and recorded.get(row.aggregate_id) != before:
                wanted.append({"aggregate_id": row.aggregate_id, "version": before})
            recorded[row.aggregate_id] = row.version
    return orjson.dumps(wanted)


def _rows(batch: list[_Append], salts: Salts) -> bytes:
    """Return the batch as a JSON array with one object per event."""
    rows: list[dict[str, object]] = []
    for append in batch:
        first = len(rows)
        rows += [_row(row, salts.next(row)) for row in append.rows]
        if append.idempotency:
            owner_id, key, fingerprint = append.idempotency
            rows[first].update(idempotency_owner=owner_id, idempotency_key=key, fingerprint=f"\\x{fingerprint.hex()}")
    return orjson.dumps(rows)


def _row(new: NewRow, salt: bytes) -> dict[str, object]:
    return {
        "aggregate": new.aggregate,
        "aggregate_id": new.aggregate_id,
        "version": new.version,
        "type": new.type,
        "data": orjson.Fragment(new.data),
        "actor": new.actor,
        "request_id": new.request_id,
        "recorded_at": new.recorded_at,
        "salt": f"\\x{salt.hex()}",
    }


def _refuse(batch: list[_Append], error: LogError) -> None:
    for append in batch:
        if not append.done.done():
            append.done.set_exception(error)


def _translated(error: psycopg.Error) -> LogError:
    """Return the error of the log for PostgreSQL's refusal of one append."""
    if isinstance(error, _PredecessorMissing):
        return VersionTakenError("The version before this one is not in the log.")
    if isinstance(error, errors.UniqueViolation):
        # A sharding layer may number the constraint: events_pkey_102008.
        if (error.diag.constraint_name or "").startswith("events_idempotency"):
            return IdempotencyKeyTakenError("The idempotency key was recorded meanwhile.")
        # The number of a start with a limited agent is decided again like a version.
        return VersionTakenError("The version was recorded meanwhile.")
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | errors.ProgramLimitExceeded):
        return UnstorableEventError("PostgreSQL cannot hold a value of this event.")
    _log.error("PostgreSQL refuses an append: %s", error)
    return StoreUnavailableError("The store does not answer.")


def _integer(result: PGresult, column: int) -> int:
    return int(result.get_value(0, column) or 0)
