"""Rebuilding projections without downtime, going back to an earlier build, and dropping what is no longer needed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from projections import builds
from projections.builds import SQL, Build, Connection
from projections.catalog import install_one
from projections.errors import BuildFailedError, NothingKeptError, ProjectionFailedError
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection
from projections.rebuild import comparison
from projections.rebuild.builder import Builder
from projections.rebuild.catch_up import catch_up, follow, read_position
from projections.rebuild.comparison import Comparison
from projections.rebuild.locks import frozen_live_builds, retry_on_lock_timeout


class Switched(NamedTuple):
    """A build that is read from now on, instead of an older one (None: there was none), and how the two compared."""

    projection: Projection
    replaced: Build | None
    compared: Comparison | None


Failures = list[ProjectionFailedError | BuildFailedError]


def _nothing(_: Switched) -> None:
    """Tell nobody."""


async def rebuild(
    builder: Builder, projections: Sequence[Projection], on_switched: Callable[[Switched], None] = _nothing
) -> list[Switched]:
    """Build each projection anew beside what is read, bring it level with that, and let it be read instead.

    What an earlier run has left unfinished is gone on with. A build that cannot be is removed; the others go on.

    Raises:
        RebuildRunningError: somebody else is at it.
        ProjectionFailedError: a projection cannot take an event; the first such error, after all others were built.
        BuildFailedError: PostgreSQL refuses something; the same.
        BuildInterruptedError: the database or a worker has gone; the next run goes on from here.
    """
    await builder.claim(projections)
    failures: Failures = []
    building = [build for each in projections if (build := await _begun(builder, each, failures))]
    await builder.plan(building, await builds.head(builder.connection))
    loaded = await _loaded(builder, building, failures)
    switched: list[Switched] = []
    for projection in loaded:
        try:
            switched.append(await _take_over(builder, projection))
        except (ProjectionFailedError, BuildFailedError) as error:
            failures.append(error)
            await _give_up(builder, projection, error)
        else:
            on_switched(switched[-1])
    if failures:
        raise failures[0]
    return switched


async def roll_back(builder: Builder, projections: Sequence[Projection]) -> list[Switched]:
    """Bring the build that was read before level with the log, and let it be read again.

    Raises:
        NothingKeptError: there is none.
        RebuildRunningError, ProjectionFailedError, BuildFailedError, BuildInterruptedError: as `rebuild` says.
    """
    await builder.claim(projections)
    kept = [await _kept(builder, projection) for projection in projections]
    return [await _switch(builder, each, "kept") for each in kept]


async def prune(builder: Builder, projections: Sequence[Projection]) -> list[Build]:
    """Drop every build that is not read by this release: kept ones, unfinished ones and those of older versions.

    Raises:
        RebuildRunningError: somebody is building.
    """
    await builder.claim(projections)
    dropped: list[Build] = []
    for projection in projections:
        known = await builds.find_builds(builder.connection, projection.name)
        live = builds.find_newest([each for each in known if each.is_version_of(projection)], "live")
        for build in known if live else []:
            if build != live and build.version <= projection.version:
                with translate_build_errors(projection.name):
                    async with builder.connection.transaction():
                        await builds.drop(builder.connection, build, with_views=not build.is_version_of(projection))
                dropped.append(build)
    return dropped


async def _begun(builder: Builder, projection: Projection, failures: Failures) -> Projection | None:
    try:
        return await _unfinished(builder, projection) or await builder.create(projection, "building")
    except BuildFailedError as error:
        failures.append(error)
        return None


async def _loaded(builder: Builder, building: Sequence[Projection], failures: Failures) -> Sequence[Projection]:
    """Load builds; give up those that cannot be, and return the others."""
    while building:
        try:
            await builder.load(building)
        except (ProjectionFailedError, BuildFailedError) as error:
            failures.append(error)
            for projection in building:
                if projection.name in error.names:
                    await _give_up(builder, projection, error)
            building = [each for each in building if each.name not in error.names]
        else:
            break
    return building


async def _unfinished(builder: Builder, projection: Projection) -> Projection | None:
    known = await builds.find_builds(builder.connection, projection.name)
    build = builds.find_newest([each for each in known if each.is_version_of(projection)], "building")
    return projection.on_build(build.build) if build else None


async def _kept(builder: Builder, projection: Projection) -> Projection:
    known = await builds.find_builds(builder.connection, projection.name)
    build = builds.find_newest([each for each in known if each.is_version_of(projection)], "kept")
    if build is None:
        raise NothingKeptError(projection.name)
    return projection.on_build(build.build)


async def _take_over(builder: Builder, projection: Projection) -> Switched:
    compared = await compare(builder, projection, "building")
    switched = await _switch(builder, projection, "building")
    return switched._replace(compared=compared)


async def compare(builder: Builder, projection: Projection, state: str) -> Comparison | None:
    """Compare a build with what is read of its version, both at one position; None where that cannot be.

    That is where nothing of its version is read yet, or where what is read has stopped before what is in the build.
    """
    return await retry_on_lock_timeout(projection, partial(_compare, builder, projection, state))


async def _compare(builder: Builder, projection: Projection, state: str) -> Comparison | None:
    await catch_up(builder, projection, state, partial(_position_of_live, projection))
    begun: comparison.Comparing | None = None
    async with await builder.database.connect() as connection, connection.transaction():
        async with frozen_live_builds(builder.database, projection) as (_, live):
            ours = next((each for each in live if each.is_version_of(projection)), None)
            if ours:
                await follow(builder, projection, state, ours.position)
            if ours and await read_position(builder, projection) == ours.position:
                begun = await comparison.begin(connection, ours, projection)
        return await begun.result() if begun else None


async def _position_of_live(projection: Projection, connection: Connection) -> int:
    found = await builds.find_live(connection, projection)
    return found[1] if found else 0


async def _switch(builder: Builder, projection: Projection, state: str) -> Switched:
    switched = await retry_on_lock_timeout(projection, partial(_try_to_switch, builder, projection, state))
    await _drop_superseded(builder, projection)
    return switched


async def _try_to_switch(builder: Builder, projection: Projection, state: str) -> Switched:
    await catch_up(builder, projection, state, builds.head)
    async with frozen_live_builds(builder.database, projection) as (holder, live):
        # What is read never goes back; where nothing is, the newest event is to be in it.
        upto = max((build.position for build in live), default=await builds.head(holder))
        await follow(builder, projection, state, upto)
        replaced = next((each for each in live if each.is_version_of(projection)), None)
        if replaced:
            await builds.set_state(holder, replaced, "kept")
        await builds.set_state(holder, projection, "live")
        await holder.execute(SQL["forget_plan"], builds.identity(projection))
        with translate_build_errors(projection.name):
            newest = all(build.version <= projection.version for build in live)
            await builds.show_build(holder, projection, newest=newest)
    return Switched(projection, replaced, None)


async def _drop_superseded(builder: Builder, projection: Projection) -> None:
    """Keep one earlier build of a version, the last that was read."""
    known = await builds.find_builds(builder.connection, projection.name)
    kept = sorted(
        (each for each in known if each.is_version_of(projection) and each.state == "kept"),
        key=lambda each: each.updated_at,
    )
    for build in kept[:-1]:
        with translate_build_errors(projection.name):
            async with builder.connection.transaction():
                await builds.drop(builder.connection, build)


async def _give_up(builder: Builder, projection: Projection, error: ProjectionFailedError | BuildFailedError) -> None:
    """Remove a build that cannot be; a version of which nothing is read yet is left as its installation made it.

    The error is kept there, as it is of a projection that an event has stopped.
    """
    with translate_build_errors(projection.name):
        async with builder.connection.transaction():
            live = await builds.find_live(builder.connection, projection)
            if live is None or live[0].build != projection.build:  # what has been switched to is read now
                await builds.drop(builder.connection, projection, with_views=live is None)
                await install_one(builder.connection, projection)
            if live is None:
                await builds.record_error(builder.connection, projection.on_build(1), str(error), error.position)
