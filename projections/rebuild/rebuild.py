"""Blue/green rebuilds, rollbacks and pruning of builds."""

from collections.abc import Callable, Sequence

from projections import builds
from projections.builds import Build
from projections.catalog import install_one
from projections.errors import BuildFailedError, NothingKeptError, ProjectionFailedError
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection
from projections.rebuild.builder import Builder
from projections.rebuild.comparison import compare
from projections.rebuild.switch import Switched, switch

Failures = list[ProjectionFailedError | BuildFailedError]


def _ignore(_: Switched) -> None:
    """Do nothing."""


async def rebuild(
    builder: Builder, projections: Sequence[Projection], on_switched: Callable[[Switched], None] = _ignore
) -> list[Switched]:
    """Load each projection into a new build beside the live one, and switch to it.

    Builds that an earlier run has left unfinished are resumed. A build that fails is dropped, and the others go on.

    Raises:
        RebuildRunningError: another process rebuilds or verifies one of them.
        ProjectionFailedError: a projection raises at an event; the first such error, after all others were built.
        BuildFailedError: PostgreSQL refuses something; the same.
        BuildInterruptedError: the database or a worker has gone. The next run resumes the builds.
    """
    await builder.claim(projections)
    failures: Failures = []
    building = [build for each in projections if (build := await _begin(builder, each, failures))]
    await builder.plan(building, await builder.log.head())
    loaded = await _load(builder, building, failures)
    switched: list[Switched] = []
    for projection in loaded:
        try:
            compared = await compare(builder, projection, "building")
            switched.append(await switch(builder, projection, "building", compared))
        except (ProjectionFailedError, BuildFailedError) as error:
            failures.append(error)
            await _give_up(builder, projection, error)
        else:
            on_switched(switched[-1])
    if failures:
        raise failures[0]
    return switched


async def roll_back(builder: Builder, projections: Sequence[Projection]) -> list[Switched]:
    """Let the build that was live before catch up, and make it live again.

    Raises:
        NothingKeptError: there is none.
        RebuildRunningError, ProjectionFailedError, BuildFailedError, BuildInterruptedError: as `rebuild` says.
    """
    await builder.claim(projections)
    kept = [await _find_kept(builder, projection) for projection in projections]
    return [await switch(builder, each, "kept") for each in kept]


async def prune(builder: Builder, projections: Sequence[Projection]) -> list[Build]:
    """Drop the builds that are not live in this release, and return them.

    These are kept and unfinished builds, and all of older versions.

    Raises:
        RebuildRunningError: another process rebuilds or verifies one of them.
    """
    await builder.claim(projections)
    dropped: list[Build] = []
    for projection in projections:
        every = await builds.find_builds(builder.connection, projection.name)
        live = builds.find_newest([each for each in every if each.is_version_of(projection)], "live")
        for build in every if live else []:
            if build != live and build.version <= projection.version:
                with translate_build_errors(projection.name):
                    async with builder.connection.transaction():
                        await builds.drop(builder.connection, build, with_views=not build.is_version_of(projection))
                dropped.append(build)
    return dropped


async def _begin(builder: Builder, projection: Projection, failures: Failures) -> Projection | None:
    try:
        return await _find_own(builder, projection, "building") or await builder.create(projection, "building")
    except BuildFailedError as error:
        failures.append(error)
        return None


async def _load(builder: Builder, building: Sequence[Projection], failures: Failures) -> Sequence[Projection]:
    """Load builds, give up those that fail, and return the others."""
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


async def _find_own(builder: Builder, projection: Projection, state: str) -> Projection | None:
    """Return the projection on its newest build in `state`, or None."""
    every = await builds.find_builds(builder.connection, projection.name)
    build = builds.find_newest([each for each in every if each.is_version_of(projection)], state)
    return projection.on_build(build.build) if build else None


async def _find_kept(builder: Builder, projection: Projection) -> Projection:
    kept = await _find_own(builder, projection, "kept")
    if kept is None:
        raise NothingKeptError(projection.name)
    return kept


async def _give_up(builder: Builder, projection: Projection, error: ProjectionFailedError | BuildFailedError) -> None:
    """Drop a build that failed, unless it is live already.

    A version without a live build goes back to the state after its installation, and the error is recorded there.
    """
    with translate_build_errors(projection.name):
        async with builder.connection.transaction():
            live = await builds.find_live(builder.connection, projection)
            if live is None or live[0].build != projection.build:
                await builds.drop(builder.connection, projection, with_views=live is None)
                await install_one(builder.connection, projection)
            if live is None:
                await builds.record_error(builder.connection, projection.on_build(1), str(error), error.position)
