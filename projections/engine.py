"""The engine: follows the feed and applies each batch to the projections it leads, rows and position in one step."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from pydantic_core import from_json, to_json

from domain.events import ConversationEvent
from eventlog.channels import Channels
from eventlog.database import Database, translated_errors
from eventlog.errors import LogError, StoreUnavailableError
from eventlog.feed import Feed
from eventlog.mapper import Recorded
from eventlog.statements import load_statements
from projections.progress import Progress
from projections.projection import Change, Projection
from projections.transaction import run_together

BATCH_EVENTS = 500
RETRY_LEAD_S = 0.5
RETRY_ERROR_S = 1.0
MAX_RETRY_ERROR_S = 60.0

_TOPIC = "projected"
_SQL = load_statements("projections", "engine.sql")
_log = logging.getLogger(__name__)


class LeadLostError(Exception):
    """Another process moved a projection that this one believed to lead."""


@dataclass
class _Led:
    """A projection this process leads: where it is, and when to try again after an error."""

    projection: Projection
    position: int
    failures: int = 0
    retry_at: float = 0.0

    @property
    def ready(self) -> bool:
        return not self.failures or monotonic() >= self.retry_at

    def fail(self) -> None:
        self.retry_at = monotonic() + min(RETRY_ERROR_S * 2**self.failures, MAX_RETRY_ERROR_S)
        self.failures += 1


class Engine:
    """Runs projections in this process, each only while no other process leads it.

    The lead is an advisory lock of the very connection that writes, so who loses the one loses the other.
    Projections at one position share a transaction; one that raises is applied alone, event by event, until the
    event is found that stops it, and is tried again later, while the others go on.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        channels: Channels,
        progress: Progress,
        projections: Sequence[Projection],
    ) -> None:
        self._database = database
        self._feed = feed
        self._channels = channels
        self._progress = progress
        self._projections = projections
        self._led: dict[str, _Led] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        channels.on(_TOPIC, self._heard)

    async def open(self) -> None:
        """Start to run."""
        self._spawn(self._run())

    async def close(self) -> None:
        """Stop after the batch under way is undone; whoever leads next reads it again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with await self._database.connect() as connection:
                    with translated_errors():
                        await self._lead(connection)
            except (LogError, LeadLostError, psycopg.Error) as error:
                _log.warning("projections pause: %s", error)
                await asyncio.sleep(RETRY_LEAD_S)
            except Exception:  # noqa: BLE001 - a logged boundary of the process
                # An event that cannot even be read stops the projections, not the task that tries again.
                _log.exception("projections pause")
                await asyncio.sleep(RETRY_LEAD_S)
            finally:
                self._led.clear()

    async def _lead(self, connection: AsyncConnection[TupleRow]) -> None:
        with self._feed.subscribed() as log:
            while True:
                await self._take_lead(connection)
                if not await self._advance(connection):
                    await log.grown(RETRY_LEAD_S)

    async def _take_lead(self, connection: AsyncConnection[TupleRow]) -> None:
        for projection in self._projections:
            if projection.name in self._led:
                continue
            lock = f"{self._database.schema}:{projection.name}:{projection.version}"
            cursor = await connection.execute(_SQL["try_lead"], [lock])
            row = await cursor.fetchone()
            if row and row[0]:
                position = await self._position(connection, projection)
                self._led[projection.name] = _Led(projection, position)
                self._progress.restart(projection.name, position)

    async def _position(self, connection: AsyncConnection[TupleRow], projection: Projection) -> int:
        cursor = await connection.execute(_SQL["find_version"], [projection.name, projection.version])
        row = await cursor.fetchone()
        if row is None:
            raise LeadLostError(f"{projection.name} version {projection.version} is not installed")
        return row[0]

    async def _advance(self, connection: AsyncConnection[TupleRow]) -> bool:
        """Apply the next batch to every projection that has one; return whether there was any."""
        groups: dict[int, list[_Led]] = {}
        for led in self._led.values():
            if led.ready and led.position < self._feed.head:
                groups.setdefault(led.position, []).append(led)
        for position, group in groups.items():
            batch = await self._feed.read(position, 1 if any(led.failures for led in group) else BATCH_EVENTS)
            if batch:
                await self._apply_isolated(connection, group, batch)
        if groups:
            self._tell()
        return bool(groups)

    async def _apply_isolated(
        self, connection: AsyncConnection[TupleRow], group: list[_Led], batch: list[Recorded]
    ) -> None:
        try:
            await self._apply(connection, group, batch)
        except LeadLostError:
            raise
        except Exception as error:  # a projection may raise anything; it must not stop the others
            if connection.closed:
                raise
            if len(group) > 1 or len(batch) > 1:
                await self._narrow(connection, group, batch)
            else:
                await self._record_error(connection, group[0], batch[0], error)

    async def _narrow(self, connection: AsyncConnection[TupleRow], group: list[_Led], batch: list[Recorded]) -> None:
        for led in group:
            for item in batch:
                await self._apply_isolated(connection, [led], [item])
                if led.failures:
                    break

    async def _apply(self, connection: AsyncConnection[TupleRow], group: list[_Led], batch: list[Recorded]) -> None:
        changes = [led.projection.changes(_wanted(led.projection, batch)) for led in group]
        names = [led.projection.name for led in group]
        versions = [led.projection.version for led in group]
        before, after = group[0].position, batch[-1].position
        move = Change(_SQL["move_positions"].encode(), [after, datetime.now(UTC), names, versions, before])
        try:
            await run_together(connection, changes, move, len(group))
        except psycopg.errors.DivisionByZero as error:
            if {await self._position(connection, led.projection) for led in group} == {before}:
                raise  # the division was a projection's own
            raise LeadLostError(f"{', '.join(names)} moved without this process") from error
        for led in group:
            led.position, led.failures = after, 0

    async def _record_error(
        self, connection: AsyncConnection[TupleRow], led: _Led, item: Recorded, error: Exception
    ) -> None:
        projection = led.projection
        led.fail()
        _log.error("projection %s stops at position %s: %r", projection.name, item.position, error)
        parameters = [repr(error), item.position, datetime.now(UTC), projection.name, projection.version]
        await connection.execute(_SQL["record_error"], parameters)

    def _tell(self) -> None:
        positions = {led.projection.name: led.position for led in self._led.values()}
        stopped = {name for name, led in self._led.items() if led.failures}
        self._progress.advance(positions)
        self._progress.set_stopped(stopped, of=positions)
        self._channels.announce(_TOPIC, to_json({"positions": positions, "stopped": sorted(stopped)}).decode())

    def _heard(self, payload: str | None) -> None:
        if payload is None:
            self._spawn(self._poll())
        elif len(self._led) < len(self._projections):
            news = from_json(payload)
            self._progress.advance(news["positions"])
            self._progress.set_stopped(set(news["stopped"]), of=news["positions"])

    async def _poll(self) -> None:
        """Read what other processes' projections have reached, in case their announcements were missed."""
        try:
            rows = await self._database.fetch(_SQL["read_positions"])
        except StoreUnavailableError:
            return
        serving = {(projection.name, projection.version) for projection in self._projections}
        rows = [row for row in rows if (row[0], row[1]) in serving]
        self._progress.advance({row[0]: row[2] for row in rows})
        self._progress.set_stopped({row[0] for row in rows if row[3] is not None}, of=[row[0] for row in rows])

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _wanted(projection: Projection, batch: list[Recorded]) -> list[ConversationEvent]:
    return [item.event for item in batch if type(item.event) in projection.types]
