"""The switch: a build that has caught up becomes live."""

from functools import partial
from typing import NamedTuple

from projections import builds
from projections.builds import Build
from projections.live_views import show_build
from projections.postgres_errors import translate_build_errors
from projections.projection import Projection
from projections.rebuild.builder import Builder
from projections.rebuild.catch_up import catch_up, follow
from projections.rebuild.comparison import Comparison
from projections.rebuild.locks import frozen_live_builds, retry_on_lock_timeout


class Switched(NamedTuple):
    """A build that is live now, and its comparison with the one it replaced."""

    projection: Projection
    replaced: Build | None
    compared: Comparison | None


async def switch(builder: Builder, projection: Projection, state: str, compared: Comparison | None = None) -> Switched:
    """Let a build in `state` catch up with the log, and make it live.

    Raises:
        ProjectionFailedError: the projection raises at an event.
        BuildFailedError: PostgreSQL refuses the new views.
        ViewInUseError: another view depends on one that has to change.
        BuildInterruptedError: another transaction holds a lock for too long, or the database has gone.
    """
    replaced = await retry_on_lock_timeout(projection, partial(_switch, builder, projection, state))
    await _drop_older_kept(builder, projection)
    return Switched(projection, replaced, compared)


async def _switch(builder: Builder, projection: Projection, state: str) -> Build | None:
    await catch_up(builder, projection, state, builder.log.head)
    async with frozen_live_builds(builder.database, projection) as (holder, live):
        # Readers never see an older position than before. Without a live build they see the newest event.
        upto = max((build.position for build in live), default=await builder.log.head())
        await follow(builder, projection, state, upto)
        replaced = next((each for each in live if each.is_version_of(projection)), None)
        if replaced:
            await builds.set_state(holder, replaced, "kept")
        await builds.set_state(holder, projection, "live")
        await builds.forget_plan(holder, projection)
        with translate_build_errors(projection.name):
            newest = all(build.version <= projection.version for build in live)
            await show_build(holder, projection, newest=newest)
    return replaced


async def _drop_older_kept(builder: Builder, projection: Projection) -> None:
    """Keep one earlier build of the version, the last that was live."""
    every = await builds.find_builds(builder.connection, projection.name)
    kept = [each for each in every if each.is_version_of(projection) and each.state == "kept"]
    for build in sorted(kept, key=lambda each: each.updated_at)[:-1]:
        with translate_build_errors(projection.name):
            async with builder.connection.transaction():
                await builds.drop(builder.connection, build)
