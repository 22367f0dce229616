"""The engine applies each batch of the feed to the projections it leads."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pydantic_core import from_json, to_json

from eventlog.background import Background
from eventlog.db.connection import Connection, abort, is_alive, is_unavailable, translated_errors
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from eventlog.feeds.channels import Channels
from eventlog.feeds.feed import Feed
from eventlog.mapper import Recorded
from projections import builds
from projections.advisory_locks import leader_lock, try_lock
from projections.apply import PositionLostError, apply, force_index_plans
from projections.postgres_errors import describe_error
from projections.progress import Progress
from projections.projection import Projection

BATCH_EVENTS = 500
RETRY_LEAD_S = 0.5
RETRY_ERROR_S = 1.0
MAX_RETRY_ERROR_S = 60.0

_TOPIC = "projected_builds"
_log = logging.getLogger(__name__)


@dataclass
class _Lead:
    """A projection that this process leads, on its live build.

    `retry_at` is when to retry after `failures` errors.
    """

    projection: Projection
    position: int
    failures: int = 0
    retry_at: float = 0.0

    @property
    def ready(self) -> bool:
        return not self.failures or monotonic() >= self.retry_at

    def fail(self) -> None:
        self.retry_at = monotonic() + min(RETRY_ERROR_S * 2**self.failures, MAX_RETRY_ERROR_S)
        self.failures += 1


class Engine:
    """Runs projections in this process, each only while no other process leads it.

    A process leads a version of a projection on its live build. When a rebuild switches to another build, the next
    batch is refused, and the engine goes on with the new one. Projections at one position share a transaction. After an
    error each is applied alone, event by event, until the event is found at which it raises. That projection is retried
    later, and the others go on.
    """

    def __init__(
        self,
        database: Database,
        feed: Feed,
        channels: Channels,
        progress: Progress,
        projections: Sequence[Projection],
    ) -> None:
        self._database = database
        self._feed = feed
        self._channels = channels
        self._progress = progress
        self._projections = projections
        self._leads: dict[str, _Lead] = {}
        self._claim_at = 0.0
        self._background = Background()
        self._connection: Connection | None = None
        self._polling = False
        channels.subscribe(_TOPIC, self._on_notification)
        channels.on_new_generation(self._forget)

    async def open(self) -> None:
        """Start to run."""
        self._background.keep("projections", self._run)

    async def close(self) -> None:
        """Stop, and roll back the batch under way. The next leader reads it again."""
        if self._connection is not None and self._database.given_up:
            abort(self._connection)
        await self._background.close()

    async def _run(self) -> None:
        try:
            # The locks belong to the connection that writes, so a process that loses the one loses the other.
            async with await self._database.connect_to_log() as connection:
                self._connection = connection
                with translated_errors():
                    await force_index_plans(connection)
                    await self._follow(connection)
        finally:
            self._lose_leads()

    async def _follow(self, connection: Connection) -> None:
        with self._feed.subscribed() as wakeup:
            while True:
                if monotonic() >= self._claim_at:
                    await self._claim_leads(connection)
                try:
                    advanced = await self._advance(connection)
                except PositionLostError as error:
                    _log.info("projections read their positions again: %s", error)
                    self._lose_leads()
                    continue
                if not advanced:
                    await wakeup.wait(RETRY_LEAD_S)
                    if not await is_alive(connection):
                        # The locks have gone with it, and perhaps the end of the log.
                        raise StoreUnavailableError("The connection of the projections has ended.")

    async def _claim_leads(self, connection: Connection) -> None:
        for projection in self._projections:
            lead = self._leads.get(projection.name)
            # A switch may have removed the cause of an error, so a failed projection does not wait for its next retry.
            if lead is None or (lead.failures and await self._was_switched(connection, lead)):
                await self._claim_lead(connection, projection)
        self._claim_at = monotonic() + RETRY_LEAD_S

    async def _claim_lead(self, connection: Connection, projection: Projection) -> None:
        live = await builds.find_live(connection, projection)
        if live is None:
            self._progress.set_stopped({projection.name}, of=[projection.name])
        elif await try_lock(connection, leader_lock(self._database.schema, projection.name, projection.version)):
            # Read again: until the lock was taken, its last holder may have moved on.
            lead = self._leads[projection.name] = _Lead(*(await builds.find_live(connection, projection) or live))
            self._progress.restart(projection.name, lead.position)
            self._progress.set_stopped(set(), of=[projection.name])

    async def _was_switched(self, connection: Connection, lead: _Lead) -> bool:
        live = await builds.find_live(connection, lead.projection)
        return live is None or live[0].build != lead.projection.build

    def _lose_leads(self) -> None:
        self._leads.clear()
        self._claim_at = 0.0

    async def _advance(self, connection: Connection) -> bool:
        """Apply the next batch to every projection, and return whether one had any."""
        advanced = False
        groups: dict[int, list[_Lead]] = {}
        for lead in self._leads.values():
            if lead.ready and lead.position < self._feed.head:
                groups.setdefault(lead.position, []).append(lead)
        for position, group in groups.items():
            batch = await self._read(position, group)
            if batch:
                await self._apply_isolated(connection, group, batch)
            # An empty batch without an error says that the log ends before the announced head. There is nothing to do.
            advanced = advanced or bool(batch) or any(lead.failures for lead in group)
        if groups:
            self._publish()
        return advanced

    async def _read(self, position: int, group: list[_Lead]) -> list[Recorded]:
        return await self._feed.read(position, 1 if any(lead.failures for lead in group) else BATCH_EVENTS)

    async def _apply_isolated(self, connection: Connection, group: list[_Lead], batch: list[Recorded]) -> None:
        try:
            await self._apply(connection, group, batch)
        except PositionLostError:
            raise
        except Exception as error:  # a projection may raise anything; it must not stop the others
            if connection.closed or is_unavailable(error):
                raise  # the event is not to blame
            if len(group) > 1 or len(batch) > 1:
                await self._narrow(connection, group, batch)
            else:
                await self._record_error(connection, group[0], batch[0].position, error)

    async def _narrow(self, connection: Connection, group: list[_Lead], batch: list[Recorded]) -> None:
        """Apply the batch to each projection alone, one event at a time, until it fails."""
        for lead in group:
            for item in batch:
                await self._apply_isolated(connection, [lead], [item])
                if lead.failures:
                    break

    async def _apply(self, connection: Connection, group: list[_Lead], batch: list[Recorded]) -> None:
        await apply(connection, [lead.projection for lead in group], "live", group[0].position, batch)
        for lead in group:
            lead.position, lead.failures = batch[-1].position, 0

    async def _record_error(self, connection: Connection, lead: _Lead, position: int, error: Exception) -> None:
        lead.fail()
        name = lead.projection.name
        fields = {"projection": name, "position": position}
        _log.error("projection %s stops at position %s: %s", name, position, error, exc_info=error, extra=fields)
        await builds.record_error(connection, lead.projection, describe_error(error), position)

    def _publish(self) -> None:
        """Publish the positions of the projections that this process leads."""
        positions = {lead.projection.name: lead.position for lead in self._leads.values()}
        stopped = {name for name, lead in self._leads.items() if lead.failures}
        self._progress.advance(positions)
        self._progress.set_stopped(stopped, of=positions)
        leads = [
            (name, lead.projection.version, lead.position, bool(lead.failures)) for name, lead in self._leads.items()
        ]
        self._channels.notify_soon(_TOPIC, lambda: to_json(leads).decode())

    def _on_notification(self, payload: str | None) -> None:
        if payload is None:
            self._poll_soon()
        elif len(self._leads) < len(self._projections):
            self._update_progress(from_json(payload))

    def _forget(self) -> None:
        self._progress.forget()
        self._poll_soon()

    def _poll_soon(self) -> None:
        if not self._polling:
            self._polling = True
            self._background.once("poll-projections", self._poll)

    async def _poll(self) -> None:
        """Read the positions of other processes' projections."""
        # Their notifications may have been missed.
        try:
            while True:
                generation = self._database.generation
                every = await builds.read_builds(self._database)
                # After a reconnect the log may have lost its end, and these positions with it.
                if generation == self._database.generation:
                    break
        except StoreUnavailableError:
            return
        finally:
            self._polling = False
        self._update_progress(
            [[b.name, b.version, b.position, b.error is not None] for b in every if b.state == "live"]
        )

    def _update_progress(self, leads: Sequence[Sequence[Any]]) -> None:
        """Take over the progress of projections that other processes lead.

        `leads` has name, version, position and whether it is stopped of each.
        """
        served = {(projection.name, projection.version) for projection in self._projections}
        found = [(name, position, stopped) for name, version, position, stopped in leads if (name, version) in served]
        self._progress.advance({name: position for name, position, _ in found})
        self._progress.set_stopped({name for name, _, stopped in found if stopped}, of=[name for name, _, _ in found])
