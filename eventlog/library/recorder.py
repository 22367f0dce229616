"""The log as recorders of the eventsourcing library, and their factory.

The library is synchronous. One event loop in its own thread does the work for all calling threads.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack
from threading import Thread
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactory,
    IntegrityError,
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
from eventlog.wakeup import Wakeup

LAST_POSITION = 2**63 - 1
PAGE_EVENTS = 500
POLL_INTERVAL_S = 1.0

T = TypeVar("T")
_SQL = load_statements("eventlog", "log.sql")


class LoopThread:
    """Runs an event loop in its own thread, for synchronous callers."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="eventlog", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, run on the loop.

        Raises:
            IntegrityError: another writer recorded one of the versions first.
            DataError: PostgreSQL cannot hold a value of an event.
            OperationalError: the database does not answer.
        """
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
    """Stores the library's snapshots beside the log."""

    def __init__(self, database: Database, loop: LoopThread) -> None:
        self._database = database
        self._loop = loop

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Store snapshots. An existing one is not changed."""
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
        """Return the snapshots of one conversation."""
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
    """Records and reads events for the library.

    Appends of several threads share commits.
    """

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
        """Return the events of one conversation."""
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
        """Return the events of a section of the log, in order."""
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
        """Return a subscription to the events after the position `gt`."""
        return LogSubscription(self, self._feed, self._loop, gt, topics)

    async def _append(self, stored_events: Sequence[StoredEvent]) -> int:
        return await self._writer.append(list(map(new_row_of, stored_events)))


class LogSubscription(Subscription[LogRecorder]):
    """Follows the log from a position. One thread at a time may iterate."""

    def __init__(
        self, recorder: LogRecorder, feed: Feed, loop: LoopThread, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._log_recorder = recorder
        self._position = gt or 0
        self._types = topics
        self._loop = loop
        self._pending: deque[Notification] = deque()
        self._closed = False
        self._subscription = ExitStack()
        self._wakeup = loop.run(self._subscribe(feed))

    def stop(self) -> None:
        """End the iteration, also where it waits in another thread."""
        if not self._closed:
            self._closed = True
            super().stop()
            self._loop.run(self._unsubscribe())

    def __next__(self) -> Notification:
        """Return the next event, as soon as it is recorded.

        Raises:
            OperationalError: the database does not answer.
        """
        while not self._closed:
            if self._pending:
                notification = self._pending.popleft()
                self._position = notification.id
                return notification
            self._pending.extend(self._next_page())
            if not self._pending:
                self._loop.run(self._wakeup.wait(POLL_INTERVAL_S))
        raise StopIteration

    def _next_page(self) -> Sequence[Notification]:
        return self._log_recorder.select_notifications(
            self._position, PAGE_EVENTS, topics=self._types, inclusive_of_start=False
        )

    async def _subscribe(self, feed: Feed) -> Wakeup:
        return self._subscription.enter_context(feed.subscribed())

    async def _unsubscribe(self) -> None:
        self._subscription.close()
        self._wakeup.set()


class LogFactory(InfrastructureFactory[TrackingRecorder]):
    """Makes the recorders of one log from the environment of an application."""

    DATABASE_URL = "TURNLOG_DATABASE_URL"
    LOG_SCHEMA = "TURNLOG_LOG_SCHEMA"

    def __init__(self, env: Environment | dict[str, str] | None) -> None:
        super().__init__(env)
        conninfo, schema = self.env.get(self.DATABASE_URL) or "", self.env.get(self.LOG_SCHEMA) or "turnlog"
        self._closed = False
        migrate(conninfo, schema)
        self._loop = LoopThread()
        self._stack = AsyncExitStack()
        try:
            self._log = self._loop.run(self._stack.enter_async_context(open_log(conninfo, schema)))
        except BaseException:
            self._loop.close()
            raise

    def application_recorder(self) -> ApplicationRecorder:
        """Return the recorder of the log."""
        return LogRecorder(self._log, self._loop)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Return the recorder of snapshots. Only applications record events."""
        return SnapshotRecorder(self._log.database, self._loop)

    def tracking_recorder(self, tracking_recorder_class: type[TrackingRecorder] | None = None) -> TrackingRecorder:
        """Raise NotImplementedError, as projections of this log store their own positions."""
        raise NotImplementedError("projections of this log store their own positions")

    def process_recorder(self) -> ProcessRecorder:
        """Raise NotImplementedError, as projections of this log store their own positions."""
        raise NotImplementedError("projections of this log store their own positions")

    def close(self) -> None:
        """Commit the waiting appends and close everything.

        The library may call this twice.
        """
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
