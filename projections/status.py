"""The status of the read models: positions, lags, errors and rebuilds."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.log import Log
from projections import builds
from projections.advisory_locks import rebuild_lock
from projections.builds import Build
from projections.projection import Projection

_SQL = load_statements("projections", "status.sql")


class RebuildProgress(NamedTuple):
    """The progress of a rebuild: `position` of `target` events are in it.

    `running` is false where its process has ended. The next rebuild resumes it.
    """

    build: int
    phase: str
    position: int
    target: int
    events_per_s: float | None
    eta_s: float | None
    running: bool


class Status(NamedTuple):
    """The status of one projection.

    `live` is the build that readers see, `others` are all other builds of the projection. `lag_events` and `lag_s` say
    how far `live` is behind the log.
    """

    name: str
    version: int
    live: Build | None
    lag_events: int
    lag_s: float
    rebuild: RebuildProgress | None
    others: tuple[Build, ...]

    @property
    def stopped(self) -> Build | None:
        """The build that an error has stopped, or None.

        This is the live build or, before there is one, the newest that is building.
        """
        own = [each for each in self.others if each.version == self.version]
        build = self.live or builds.find_newest(own, "building")
        return build if build and build.error else None

    @property
    def is_stopped(self) -> bool:
        """Whether an error has stopped it, or it has no live build yet."""
        return self.live is None or self.stopped is not None

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that stopped it, as clients see it, or None."""
        stopped = self.stopped
        return {"position": stopped.error_position, "detail": stopped.error} if stopped else None


class LogStatus(NamedTuple):
    """The log's head, and the status of every projection of this release."""

    head: int
    projections: list[Status]


async def read_status(database: Database, projections: Sequence[Projection]) -> LogStatus:
    """Return the status of `projections`.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    # The head is read first, so a build may be ahead of it.
    head = await Log(database).head()
    every = await builds.read_builds(database)
    return LogStatus(head, [await _status(database, projection, every, head) for projection in projections])


async def _status(database: Database, projection: Projection, every: Sequence[Build], head: int) -> Status:
    live = builds.find_newest([build for build in every if build.is_version_of(projection)], "live")
    others = tuple(build for build in every if build.name == projection.name and build != live)
    position = live.position if live else 0
    lag_events = max(0, head - position)
    lag_s = await _lag_s(database, position) if lag_events else 0.0
    rebuild = await _rebuild_progress(database, projection)
    return Status(projection.name, projection.version, live, lag_events, lag_s, rebuild, others)


async def _lag_s(database: Database, position: int) -> float:
    """Return how many seconds ago the first event after `position` was recorded."""
    row = await database.fetch_one(_SQL["read_recorded_at"], {"position": position + 1})
    return max(0.0, (datetime.now(UTC) - row[0]).total_seconds()) if row else 0.0


async def _rebuild_progress(database: Database, projection: Projection) -> RebuildProgress | None:
    lock = rebuild_lock(database.schema, projection.name)
    version = {"lock": lock, "name": projection.name, "version": projection.version}
    row = await database.fetch_one(_SQL["read_rebuild"], version)
    if row is None:
        return None
    build, phase, position, target, parts_left, parts, resumed_at, resumed_parts, running = row
    if phase != "loading":
        return RebuildProgress(build, phase, position, target, None, None, running)
    loaded, resumed_from = (target * (parts - left) // max(parts, 1) for left in (parts_left, resumed_parts))
    elapsed_s = (datetime.now(UTC) - resumed_at).total_seconds()
    rate = (loaded - resumed_from) / elapsed_s if running and elapsed_s > 0 and loaded > resumed_from else None
    return RebuildProgress(build, phase, loaded, target, rate, (target - loaded) / rate if rate else None, running)
