"""Following: a loaded build is brought level with the log, or with what is read, batch by batch."""

from collections.abc import Awaitable, Callable

from eventlog.mapper import Recorded
from projections import builds
from projections.apply import PositionLostError, apply
from projections.builds import Connection
from projections.errors import BuildFailedError, BuildInterruptedError, ProjectionFailedError
from projections.postgres_errors import describe_error, error_message, is_out_of_resources, is_transient
from projections.projection import Projection
from projections.rebuild.builder import Builder, BuildStep

BATCH_EVENTS = 500
LEVEL_EVENTS = 500


async def follow(builder: Builder, projection: Projection, state: str, upto: int) -> None:
    """Apply the log to a build up to a position; one that is further on already stays where it is.

    Raises:
        ProjectionFailedError: the projection cannot take an event.
    """
    position = await read_position(builder, projection)
    while position < upto:
        batch = await builder.log.after(position, min(BATCH_EVENTS, upto - position))
        await _apply(builder, projection, state, position, batch)
        position = batch[-1].position
        builder.report(BuildStep(projection.name, "following", position, max(upto, position)))


async def catch_up(
    builder: Builder, projection: Projection, state: str, goal: Callable[[Connection], Awaitable[int]]
) -> None:
    """Apply the log to a build until little is left up to a goal that moves."""
    while (upto := await goal(builder.connection)) - await read_position(builder, projection) > LEVEL_EVENTS:
        await follow(builder, projection, state, upto)


async def read_position(builder: Builder, projection: Projection) -> int:
    """Return up to where a build has read the log."""
    known = await builds.find_builds(builder.connection, projection.name)
    return next(each.position for each in known if builds.identity(each) == builds.identity(projection))


async def _apply(builder: Builder, projection: Projection, state: str, position: int, batch: list[Recorded]) -> None:
    try:
        await apply(builder.connection, [projection], state, position, batch)
    except PositionLostError as error:
        raise BuildInterruptedError(f"Somebody else works on {error}.") from error
    except Exception as error:  # a projection may raise anything
        if is_transient(error):
            raise
        if is_out_of_resources(error):
            raise BuildFailedError(projection.name, error_message(error)) from error
        if len(batch) == 1:
            raise ProjectionFailedError(projection.name, position + 1, describe_error(error)) from error
        for item in batch:
            await _apply(builder, projection, state, item.position - 1, [item])
