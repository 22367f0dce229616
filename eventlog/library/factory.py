"""The factory by which the eventsourcing library gets its recorders of the log."""

from contextlib import AsyncExitStack

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.utils import Environment

from eventlog.library.loop_thread import LoopThread
from eventlog.library.recorder import LogRecorder, SnapshotRecorder
from eventlog.migrations import migrate
from eventlog.opening import open_log


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
