"""How the read models are: where each build is, how far behind, what stopped it, and how its rebuild comes along."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from projections import builds
from projections.builds import Build
from projections.projection import Projection

_SQL = load_statements("projections", "status.sql")


class RebuildProgress(NamedTuple):
    """How far a build has come: events of the log's first `target` that are in it, their rate, and how long yet.

    `running` is false where whoever built it has gone; the next rebuild resumes it.
    """

    build: int
    phase: str
    position: int
    target: int
    events_per_s: float | None
    eta_s: float | None
    running: bool


class Status(NamedTuple):
    """One projection: the build that is read (None before there is one) and the one that is being built, if any."""

    name: str
    version: int
    live: Build | None
    lag_events: int
    lag_s: float
    rebuild: RebuildProgress | None
    others: tuple[Build, ...]

    @property
    def stopped(self) -> Build | None:
        """The build that an error has stopped: what is read, or what was to be read first; None if none was."""
        waiting = [each for each in self.others if each.version == self.version]
        build = self.live or builds.find_newest(waiting, "building")
        return build if build and build.error else None


class LogStatus(NamedTuple):
    """The log's head and every projection of this release."""

    head: int
    projections: list[Status]


async def read_status(database: Database, projections: Sequence[Projection]) -> LogStatus:
    """Return how the projections of this release are.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    head_row = await database.fetch_one(builds.SQL["read_head"])
    head = head_row[0] if head_row else 0
    known = await builds.read_builds(database)
    return LogStatus(head, [await _status(database, projection, known, head) for projection in projections])


async def _status(database: Database, projection: Projection, known: Sequence[Build], head: int) -> Status:
    live = builds.find_newest([build for build in known if build.is_version_of(projection)], "live")
    others = tuple(build for build in known if build.name == projection.name and build != live)
    position = live.position if live else 0
    # The head was read first, so a build may be ahead of it.
    lag_events = max(0, head - position)
    lag_s = await _lag_s(database, position) if lag_events else 0.0
    rebuild = await _rebuild(database, projection)
    return Status(projection.name, projection.version, live, lag_events, lag_s, rebuild, others)


async def _lag_s(database: Database, position: int) -> float:
    """Return how long ago the first event after `position` was recorded, in seconds."""
    row = await database.fetch_one(_SQL["read_recorded_at"], [position + 1])
    return max(0.0, (datetime.now(UTC) - row[0]).total_seconds()) if row else 0.0


async def _rebuild(database: Database, projection: Projection) -> RebuildProgress | None:
    lock = builds.rebuild_lock(database.schema, projection.name)
    row = await database.fetch_one(_SQL["read_rebuild"], [lock, projection.name, projection.version])
    if row is None:
        return None
    build, phase, position, target, left, parts, resumed_at, resumed_parts, running = row
    if phase != "loading":
        return RebuildProgress(build, phase, position, target, None, None, running)
    loaded, before = (target * (parts - some) // max(parts, 1) for some in (left, resumed_parts))
    elapsed_s = (datetime.now(UTC) - resumed_at).total_seconds()
    rate = (loaded - before) / elapsed_s if running and elapsed_s > 0 and loaded > before else None
    return RebuildProgress(build, phase, loaded, target, rate, (target - loaded) / rate if rate else None, running)
