"""The log as recorders of the eventsourcing library.

The library is synchronous. One event loop in its own thread does the work for all calling threads.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    Notification,
    StoredEvent,
    Subscription,
)

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.feeds.feed import Feed
from eventlog.feeds.wakeup import Wakeup
from eventlog.library.loop_thread import LoopThread
from eventlog.log import LAST_VERSION
from eventlog.mapper import Row, aggregate_of, new_row_of
from eventlog.opening import OpenLog

LAST_POSITION = 2**63 - 1
PAGE_EVENTS = 500
POLL_INTERVAL_S = 1.0

_SQL = load_statements("eventlog", "log.sql")


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
            "aggregate": aggregate_of(event.topic),
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


def _notification(row: Row) -> Notification:
    stored = row.stored()
    return Notification(
        originator_id=stored.originator_id,
        originator_version=stored.originator_version,
        topic=stored.topic,
        state=stored.state,
        id=row.position,
    )
