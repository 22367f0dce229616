"""The log behind the eventsourcing library: its recorders on group commit, and the factory that wires them.

`PERSISTENCE_MODULE=eventlog.recorder` with `TURNLOG_DATABASE_URL` (and, if it is not `turnlog`,
`TURNLOG_LOG_SCHEMA`) makes any of the library's applications record here. The library is synchronous, so one event
loop in a thread of its own does the writing for every thread that calls.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from threading import Thread
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    TrackingRecorder,
)
from eventsourcing.utils import Environment

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.errors import StoreUnavailableError, UnstorableEventError, VersionTakenError
from eventlog.feed import Feed
from eventlog.log import LAST_VERSION
from eventlog.mapper import Row, new_row_of
from eventlog.migrations import migrate
from eventlog.opening import OpenLog, open_log

LAST_POSITION = 2**63 - 1

T = TypeVar("T")
_SQL = load_statements("eventlog", "log.sql")


class LoopThread:
    """An event loop in a thread, for callers that have none."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="eventlog", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the loop and return what it returns, with its errors as the library knows them."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except VersionTakenError as error:
            raise IntegrityError(str(error)) from error
        except UnstorableEventError as error:
            raise DataError(str(error)) from error
        except StoreUnavailableError as error:
            raise OperationalError(str(error)) from error

    def close(self) -> None:
        """Stop the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SnapshotRecorder(AggregateRecorder):
    """Keeps the library's snapshots beside the log."""

    def __init__(self, database: Database, loop: LoopThread) -> None:
        self._database = database
        self._loop = loop

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Keep snapshots; one that is there already stays as it is."""
        for event in stored_events:
            self._loop.run(self._insert(event))
        return None

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return snapshots of one conversation."""
        parameters = {
            "conversation_id": originator_id,
            "after": gt or 0,
            "last": LAST_VERSION if lte is None else lte,
            "limit": limit,
        }
        rows = self._loop.run(self._database.fetch(_SQL["read_snapshots"], parameters))
        found = [StoredEvent(row[1], row[2], row[3], row[4].encode()) for row in rows]
        return found if desc else found[::-1]

    async def _insert(self, event: StoredEvent) -> None:
        parameters = {
            "conversation_id": event.originator_id,
            "version": event.originator_version,
            "type": event.topic,
            "data": event.state.decode(),
        }
        await self._database.fetch(_SQL["write_snapshot"], parameters)


class LogRecorder(ApplicationRecorder):
    """Records and reads the log for the library; many threads' appends share commits."""

    def __init__(self, log: OpenLog, loop: LoopThread) -> None:
        self._database = log.database
        self._writer = log.writer
        self._feed = log.feed
        self._loop = loop

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Record events together and return their positions.

        Raises:
            IntegrityError: another writer recorded one of the versions first.
            DataError: PostgreSQL cannot hold a value of an event.
            OperationalError: the database does not answer.
        """
        if not stored_events:
            return []
        last = self._loop.run(self._append(stored_events))
        return range(last - len(stored_events) + 1, last + 1)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return events of one conversation."""
        statement = _SQL["read_conversation_backwards" if desc else "read_conversation"]
        parameters = {
            "conversation_id": originator_id,
            "first": (gt or 0) + 1,
            "last": LAST_VERSION if lte is None else lte,
            "limit": limit,
        }
        rows = self._loop.run(self._database.fetch(statement, parameters))
        return [Row(*row).stored() for row in rows]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return a section of the log."""
        parameters = {
            "first": (start or 0) + (0 if inclusive_of_start or start is None else 1),
            "last": LAST_POSITION if stop is None else stop,
            "types": list(topics),
            "limit": limit,
        }
        rows = self._loop.run(self._database.fetch(_SQL["read_notifications"], parameters))
        return [_notification(Row(*row)) for row in rows]

    def max_notification_id(self) -> int | None:
        """Return the position of the last event, None for an empty log."""
        rows = self._loop.run(self._database.fetch(_SQL["read_head"]))
        return rows[0][0] or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Follow the log from a position on."""
        return LogSubscription(self, self._feed, self._loop, gt, topics)

    async def _append(self, stored_events: Sequence[StoredEvent]) -> int:
        return await self._writer.append(list(map(new_row_of, stored_events)))


class LogSubscription(ListenNotifySubscription[LogRecorder]):
    """The library's subscription, woken by the log's feed; it listens before it pulls."""

    def __init__(
        self, recorder: LogRecorder, feed: Feed, loop: LoopThread, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._loop = loop
        self._following = loop.run(self._follow(feed))
        self._has_been_notified.set()

    def stop(self) -> None:
        """Stop the subscription; the library does so again when it is thrown away."""
        if self._has_been_stopped:
            return
        super().stop()
        if hasattr(self, "_following"):
            self._loop.run(self._cancel())

    async def _follow(self, feed: Feed) -> asyncio.Task[None]:
        return asyncio.create_task(self._ring(feed))

    async def _ring(self, feed: Feed) -> None:
        with feed.subscribed() as wakeup:
            while True:
                self._has_been_notified.set()
                await wakeup.wait(1.0)

    async def _cancel(self) -> None:
        self._following.cancel()


class LogFactory(InfrastructureFactory[TrackingRecorder]):
    """Wires the library's applications to the log."""

    DATABASE_URL = "TURNLOG_DATABASE_URL"
    LOG_SCHEMA = "TURNLOG_LOG_SCHEMA"

    def __init__(self, env: Environment | dict[str, str] | None) -> None:
        super().__init__(env)
        conninfo, schema = self.env.get(self.DATABASE_URL) or "", self.env.get(self.LOG_SCHEMA) or "turnlog"
        self._closed = False
        migrate(conninfo, schema)
        self._loop = LoopThread()
        self._stack = AsyncExitStack()
        self._log = self._loop.run(self._stack.enter_async_context(open_log(conninfo, schema)))

    def application_recorder(self) -> ApplicationRecorder:
        """Return the recorder of the log."""
        return LogRecorder(self._log, self._loop)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Return the recorder of snapshots; events of aggregates are recorded by applications only."""
        return SnapshotRecorder(self._log.database, self._loop)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        """Refuse: projections here keep their positions themselves."""
        raise NotImplementedError("projections of this log keep their own positions")

    def process_recorder(self) -> ProcessRecorder:
        """Refuse: projections here keep their positions themselves."""
        raise NotImplementedError("projections of this log keep their own positions")

    def close(self) -> None:
        """Commit what is waiting and close everything; the library may ask twice."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._stack.aclose())
            self._loop.close()


def _notification(row: Row) -> Notification:
    stored = row.stored()
    return Notification(
        originator_id=stored.originator_id,
        originator_version=stored.originator_version,
        topic=stored.topic,
        state=stored.state,
        id=row.position,
    )
