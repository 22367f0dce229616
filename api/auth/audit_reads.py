"""The record of what auditors and admins read, as events of the log."""

from typing import NamedTuple

from domain.audit import AuditRead
from eventlog.clock import new_id, now
from eventlog.errors import LogError, StoreUnavailableError, VersionTakenError
from eventlog.mapper import new_row
from eventlog.retry import retry
from eventlog.writer import Appender

MAX_AGGREGATE_EVENTS = 10_000
RETRY_PAUSES_S = (0.01,) * 20


class AuditedRead(NamedTuple):
    """A request as it is recorded, with the ids and the owner that it names."""

    method: str
    route: str
    ids: dict[str, str]
    owner_id: str | None
    parameters: tuple[str, ...]


class AuditReads:
    """Records the reads of auditors and admins that one process answers.

    The events belong to aggregates that no other process writes to. So the versions are counted here, and reads of
    several processes do not conflict.
    """

    def __init__(self, writer: Appender, max_aggregate_events: int = MAX_AGGREGATE_EVENTS) -> None:
        self._writer = writer
        self._max_aggregate_events = max_aggregate_events
        self._aggregate_id, self._version = new_id(), 0

    async def record(self, actor: str, request_id: str | None, read: AuditedRead) -> None:
        """Record a read. It may be answered when this returns.

        Raises:
            StoreUnavailableError: it may not be recorded, so it must not be answered.
        """

        async def attempt() -> None:
            event = self._next_event(actor, request_id, read)
            try:
                await self._writer.append([new_row(event)], events=[event])
            except LogError:
                self._leave(event)
                raise

        try:
            await retry(attempt, VersionTakenError, RETRY_PAUSES_S)
        except VersionTakenError:
            raise StoreUnavailableError("The read could not be recorded.") from None

    def _next_event(self, actor: str, request_id: str | None, read: AuditedRead) -> AuditRead:
        # Nothing is awaited from here to the append, so events are appended in the order of their versions.
        if self._version == self._max_aggregate_events:
            self._begin_aggregate()
        self._version += 1
        return AuditRead(
            originator_id=self._aggregate_id,
            originator_version=self._version,
            timestamp=now(),
            actor=actor,
            request_id=request_id,
            **read._asdict(),
        )

    def _leave(self, failed: AuditRead) -> None:
        # The version may be missing in the log: after an outage, or if the log has lost its newest events. The events
        # that wait behind it are then refused, recorded nowhere, and appended again to the next aggregate.
        if failed.originator_id == self._aggregate_id:
            self._begin_aggregate()

    def _begin_aggregate(self) -> None:
        self._aggregate_id, self._version = new_id(), 0
