"""Catching up: the log after a build's target is applied batch by batch."""

from collections.abc import Awaitable, Callable

from eventlog.mapper import Recorded
from projections import builds
from projections.apply import PositionLostError, apply
from projections.errors import BuildFailedError, BuildInterruptedError, ProjectionFailedError
from projections.postgres_errors import describe_error, error_message, is_out_of_resources, is_transient
from projections.projection import Projection
from projections.rebuild.builder import Builder, BuildStep

BATCH_EVENTS = 500
CAUGHT_UP_EVENTS = 500
"""A build this many events behind has caught up: the rest is applied while the live build is frozen."""


async def catch_up(builder: Builder, projection: Projection, state: str, goal: Callable[[], Awaitable[int]]) -> None:
    """Apply the log to a build until few events are left to `goal`.

    `goal` returns a position that may grow meanwhile.

    Raises:
        ProjectionFailedError: the projection raises at an event.
    """
    while (upto := await goal()) - await read_position(builder, projection) > CAUGHT_UP_EVENTS:
        await follow(builder, projection, state, upto)


async def follow(builder: Builder, projection: Projection, state: str, upto: int) -> None:
    """Apply the log to a build up to `upto`. A build beyond it does not change.

    Raises:
        ProjectionFailedError: the projection raises at an event.
    """
    position = await read_position(builder, projection)
    while position < upto:
        batch = await builder.log.after(position, min(BATCH_EVENTS, upto - position))
        await _apply(builder, projection, state, position, batch)
        position = batch[-1].position
        builder.report(BuildStep(projection.name, "following", position, max(upto, position)))


async def read_position(builder: Builder, projection: Projection) -> int:
    """Return the position of a build.

    Raises:
        BuildInterruptedError: another process has dropped it.
    """
    build = await builds.find_build(builder.connection, projection)
    if build is None:
        raise BuildInterruptedError(f"The build {projection} has gone.")
    return build.position


async def _apply(builder: Builder, projection: Projection, state: str, position: int, batch: list[Recorded]) -> None:
    try:
        await apply(builder.connection, [projection], state, position, batch)
    except PositionLostError as error:
        raise BuildInterruptedError(f"Another process works on {error}.") from error
    except Exception as error:  # a projection may raise anything
        if is_transient(error):
            raise
        if is_out_of_resources(error):
            raise BuildFailedError(projection.name, error_message(error)) from error
        if len(batch) == 1:
            raise ProjectionFailedError(projection.name, position + 1, describe_error(error)) from error
        for item in batch:
            await _apply(builder, projection, state, item.position - 1, [item])
