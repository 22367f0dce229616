"""Verifying: a projection is built once more into scratch tables and compared row by row with what is read."""

from collections.abc import Sequence

from projections import builds
from projections.errors import NothingToVerifyError
from projections.projection import Projection
from projections.rebuild.builder import Builder
from projections.rebuild.comparison import Comparison
from projections.rebuild.rebuild import compare


async def verify(builder: Builder, projections: Sequence[Projection]) -> list[Comparison]:
    """Return what comparing each projection found; writes and reads go on meanwhile, and nothing of this is left.

    Raises:
        NothingToVerifyError: nothing of a projection is read.
        RebuildRunningError: somebody else is at it.
        ProjectionFailedError: a projection cannot take an event.
        BuildFailedError: PostgreSQL refuses something.
        BuildInterruptedError: the database or a worker has gone.
    """
    await builder.claim(projections)
    await _drop_scratch(builder, projections)
    positions = [await _position(builder, projection) for projection in projections]
    scratch: list[Projection] = []
    try:
        for projection, position in zip(projections, positions, strict=True):
            scratch.append(await builder.create(projection, "scratch"))
            await builder.plan(scratch[-1:], position)
        await builder.load(scratch)
        return [await _compared(builder, projection) for projection in scratch]
    finally:
        await _drop_scratch(builder, projections)


async def _position(builder: Builder, projection: Projection) -> int:
    live = await builds.find_live(builder.connection, projection)
    if live is None:
        raise NothingToVerifyError(projection.name)
    return live[1]


async def _compared(builder: Builder, scratch: Projection) -> Comparison:
    compared = await compare(builder, scratch, "scratch")
    if compared is None:
        raise NothingToVerifyError(scratch.name)
    return compared


async def _drop_scratch(builder: Builder, projections: Sequence[Projection]) -> None:
    for projection in projections:
        for build in await builds.find_builds(builder.connection, projection.name):
            if build.state == "scratch":
                async with builder.connection.transaction():
                    await builds.drop(builder.connection, build)
