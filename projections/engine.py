"""The engine: follows the feed and applies each batch to the projections it leads, rows and position in one step."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pydantic_core import from_json, to_json

from eventlog.background import Background
from eventlog.channels import Channels
from eventlog.db.connection import abort, is_alive, is_unavailable, translated_errors
from eventlog.db.database import Database
from eventlog.errors import StoreUnavailableError
from eventlog.feed import Feed
from eventlog.mapper import Recorded
from projections import builds
from projections.apply import PositionLostError, apply
from projections.builds import Connection
from projections.progress import Progress
from projections.projection import Projection
from projections.refusals import told
from projections.transaction import find_by_keys

BATCH_EVENTS = 500
RETRY_LEAD_S = 0.5
RETRY_ERROR_S = 1.0
MAX_RETRY_ERROR_S = 60.0

_TOPIC = "projected_builds"
_log = logging.getLogger(__name__)


@dataclass
class _Led:
    """A projection this process leads, on its live build: where it is, and when to try again after an error."""

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

    The lead is an advisory lock of the very connection that writes, so who loses the one loses the other. What is led
    is a version of a projection, on the build that is live; when a rebuild makes another one live, the next batch is
    refused, and the lead goes on there. Projections at one position share a transaction; one that raises is applied
    alone, event by event, until the event is found that stops it, and is tried again later, while the others go on.
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
        self._led: dict[str, _Led] = {}
        self._take_lead_at = 0.0
        self._background = Background()
        self._connection: Connection | None = None
        self._polling = False
        channels.subscribe(_TOPIC, self._heard)
        channels.on_reconnect(self._forget)

    async def open(self) -> None:
        """Start to run."""
        self._background.keep("projections", self._run)

    async def close(self) -> None:
        """Stop after the batch under way is undone; whoever leads next reads it again."""
        if self._connection is not None and self._database.given_up:
            abort(self._connection)
        await self._background.close()

    async def _run(self) -> None:
        try:
            async with await self._database.reconnect() as connection:
                self._connection = connection
                with translated_errors():
                    await find_by_keys(connection)
                    await self._lead(connection)
        finally:
            self._lose_lead()

    async def _lead(self, connection: Connection) -> None:
        with self._feed.subscribed() as wakeup:
            while True:
                if monotonic() >= self._take_lead_at:
                    await self._take_lead(connection)
                try:
                    advanced = await self._advance(connection)
                except PositionLostError as error:
                    _log.info("projections look again where they are: %s", error)
                    self._lose_lead()
                    continue
                if not advanced:
                    await wakeup.wait(RETRY_LEAD_S)
                    if not await is_alive(connection):
                        # The locks have gone with it, and perhaps the end of the log.
                        raise StoreUnavailableError("The connection of the projections has ended.")

    async def _take_lead(self, connection: Connection) -> None:
        for projection in self._projections:
            led = self._led.get(projection.name)
            # A rebuild may have cured what an error has stopped; it is not for the next try to find out.
            if led is None or (led.failures and await self._was_switched(connection, led)):
                await self._try_lead(connection, projection)
        self._take_lead_at = monotonic() + RETRY_LEAD_S

    async def _try_lead(self, connection: Connection, projection: Projection) -> None:
        live = await builds.find_live(connection, projection)
        if live is None:
            self._progress.set_stopped({projection.name}, of=[projection.name])
        elif await builds.try_lock(connection, f"{self._database.schema}:{projection.name}:{projection.version}"):
            # Read again: until the lock was taken, its last holder may have moved on.
            led = self._led[projection.name] = _Led(*(await builds.find_live(connection, projection) or live))
            self._progress.restart(projection.name, led.position)
            self._progress.set_stopped(set(), of=[projection.name])

    async def _was_switched(self, connection: Connection, led: _Led) -> bool:
        live = await builds.find_live(connection, led.projection)
        return live is None or live[0].build != led.projection.build

    def _lose_lead(self) -> None:
        self._led.clear()
        self._take_lead_at = 0.0

    async def _advance(self, connection: Connection) -> bool:
        """Apply the next batch to every projection that has one, and return whether there was any."""
        advanced = False
        groups: dict[int, list[_Led]] = {}
        for led in self._led.values():
            if led.ready and led.position < self._feed.head:
                groups.setdefault(led.position, []).append(led)
        for position, group in groups.items():
            batch = await self._read(position, group)
            if batch:
                await self._apply_isolated(connection, group, batch)
            # Without a batch and an error the log is shorter than was announced: there is nothing to do yet.
            advanced = advanced or bool(batch) or any(led.failures for led in group)
        if groups:
            self._tell()
        return advanced

    async def _read(self, position: int, group: list[_Led]) -> list[Recorded]:
        return await self._feed.read(position, 1 if any(led.failures for led in group) else BATCH_EVENTS)

    async def _apply_isolated(self, connection: Connection, group: list[_Led], batch: list[Recorded]) -> None:
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

    async def _narrow(self, connection: Connection, group: list[_Led], batch: list[Recorded]) -> None:
        for led in group:
            for item in batch:
                await self._apply_isolated(connection, [led], [item])
                if led.failures:
                    break

    async def _apply(self, connection: Connection, group: list[_Led], batch: list[Recorded]) -> None:
        await apply(connection, [led.projection for led in group], "live", group[0].position, batch)
        for led in group:
            led.position, led.failures = batch[-1].position, 0

    async def _record_error(self, connection: Connection, led: _Led, position: int, error: Exception) -> None:
        led.fail()
        _log.error("projection %s stops at position %s: %s", led.projection.name, position, told(error))
        await builds.record_error(connection, led.projection, told(error), position)

    def _tell(self) -> None:
        positions = {led.projection.name: led.position for led in self._led.values()}
        stopped = {name for name, led in self._led.items() if led.failures}
        self._progress.advance(positions)
        self._progress.set_stopped(stopped, of=positions)
        news = [(name, led.projection.version, led.position, bool(led.failures)) for name, led in self._led.items()]
        self._channels.notify_soon(_TOPIC, lambda: to_json(news).decode())

    def _heard(self, payload: str | None) -> None:
        if payload is None:
            self._poll_soon()
        elif len(self._led) < len(self._projections):
            self._take_news(from_json(payload))

    def _forget(self) -> None:
        self._progress.forget()
        self._poll_soon()

    def _poll_soon(self) -> None:
        if not self._polling:
            self._polling = True
            self._background.once("poll-projections", self._poll)

    async def _poll(self) -> None:
        """Read what other processes' projections have reached, in case their announcements were missed."""
        try:
            while True:
                generation = self._database.generation
                known = await builds.read_builds(self._database)
                if generation == self._database.generation:  # else these are positions that may have been lost
                    break
        except StoreUnavailableError:
            return
        finally:
            self._polling = False
        self._take_news([[b.name, b.version, b.position, b.error is not None] for b in known if b.state == "live"])

    def _take_news(self, news: Sequence[Sequence[Any]]) -> None:
        """Take name, version, position and whether it is stopped of what other processes lead."""
        serving = {(projection.name, projection.version) for projection in self._projections}
        mine = [(name, position, stopped) for name, version, position, stopped in news if (name, version) in serving]
        self._progress.advance({name: position for name, position, _ in mine})
        self._progress.set_stopped({name for name, _, stopped in mine if stopped}, of=[name for name, _, _ in mine])
