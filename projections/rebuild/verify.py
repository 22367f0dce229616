"""Verifying: a projection is built into scratch tables and compared."""

from collections.abc import Sequence

from projections import builds
from projections.errors import NothingToVerifyError
from projections.projection import Projection
from projections.rebuild.builder import Builder
from projections.rebuild.comparison import Comparison, compare


async def verify(builder: Builder, projections: Sequence[Projection]) -> list[Comparison]:
    """Compare the live build of each projection with what the log gives.

    Reads and writes go on meanwhile.

    Raises:
        NothingToVerifyError: a projection has no live build.
        RebuildRunningError: another process rebuilds or verifies one of them.
        ProjectionFailedError: a projection raises at an event.
        BuildFailedError: PostgreSQL refuses something.
        BuildInterruptedError: the database or a worker has gone.
    """
    await builder.claim(projections)
    await _drop_scratch(builder, projections)
    positions = [await _live_position(builder, projection) for projection in projections]
    scratch: list[Projection] = []
    try:
        for projection, position in zip(projections, positions, strict=True):
            scratch.append(await builder.create(projection, "scratch"))
            await builder.plan(scratch[-1:], position)
        await builder.load(scratch)
        return [await _compare(builder, projection) for projection in scratch]
    finally:
        await _drop_scratch(builder, projections)


async def _live_position(builder: Builder, projection: Projection) -> int:
    live = await builds.find_live(builder.connection, projection)
    if live is None:
        raise NothingToVerifyError(projection.name)
    return live[1]


async def _compare(builder: Builder, scratch: Projection) -> Comparison:
    comparison = await compare(builder, scratch, "scratch")
    if comparison is None:
        raise NothingToVerifyError(scratch.name)
    return comparison


async def _drop_scratch(builder: Builder, projections: Sequence[Projection]) -> None:
    for projection in projections:
        for build in await builds.find_builds(builder.connection, projection.name):
            if build.state == "scratch":
                async with builder.connection.transaction():
                    await builds.drop(builder.connection, build)
