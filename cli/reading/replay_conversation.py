"""`turnlog replay`: play a conversation in the terminal as it happened."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import click

from cli.database_options import FailedError, WrongUseError, database_options
from cli.reading.moments import EXAMPLE, check_recorded, moment_of
from cli.reading.opened_log import read_log
from cli.reading.playback import Piece, Playback, Scene
from cli.reading.transcript import Transcript
from cli.terminal import has_colours, width
from eventlog.log import LAST_POSITION, AsOf, Log
from eventlog.log_search import EventFilter, LogSearch
from eventlog.mapper import Recorded
from eventlog.opening import OpenLog

PAGE_EVENTS = 100
"""So many events are in memory at once. Each may have megabytes."""
IDLE_PAUSE_S = 3.0
"""How long a pause between turns is played, unless --max-pause says otherwise."""

_OFFSET = re.compile(r"(\d{1,8}(?:\.\d{1,6})?)([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Sleep = Callable[[float], Awaitable[Any]]


class Pace(NamedTuple):
    """How fast a conversation is played.

    Pauses are cut to `max_pause_s`. With None those between turns are cut to 3 s, and the others not at all.
    """

    speed: float = 1.0
    max_pause_s: float | None = None

    def longest_s(self, *, idle: bool) -> float:
        """Return the longest pause at speed 1."""
        if self.max_pause_s is not None:
            return self.max_pause_s
        return IDLE_PAUSE_S if idle else math.inf


class Start:
    """The moment at which playing begins. Everything before it is shown at once.

    It is a position, a time, a time since the conversation began, or None for the begin.
    """

    def __init__(self, moment: AsOf | timedelta | None) -> None:
        self._moment = moment

    def is_reached(self, scene: Scene) -> bool:
        """Return whether a scene is to be played. The scenes come in their order."""
        if isinstance(self._moment, timedelta):
            self._moment = scene.at + self._moment
        if self._moment is None:
            return True
        return scene.position >= self._moment if isinstance(self._moment, int) else scene.at >= self._moment


@click.command()
@click.argument("conversation", type=click.UUID)
@click.option("--speed", metavar="X", type=float, default=1.0, help="Play so many times as fast.")
@click.option(
    "--max-pause",
    metavar="SECONDS",
    type=float,
    help="Cut longer pauses to this.  [default: 3 between turns, none inside them]",
)
@click.option("--from", "start", metavar="WHEN", help=f"Begin at {EXAMPLE}, or so long after the begin, such as 90s.")
@click.option("--as-of", metavar="WHEN", help="Play what was recorded up to a moment, and nothing later.")
@database_options
def replay(
    conversation: UUID,
    data_dir: Path | None,
    database_url: str | None,
    *,
    speed: float,
    max_pause: float | None,
    start: str | None,
    as_of: str | None,
) -> None:
    """Play a conversation as it happened, chunk by chunk.

    Ctrl-C ends it.
    """
    if not 0 < speed < math.inf:
        raise WrongUseError("--speed: must be more than 0.")
    if max_pause is not None and not 0 <= max_pause < math.inf:
        raise WrongUseError("--max-pause: must be a number of seconds.")
    begins = None if start is None else _start(start)
    until = None if as_of is None else moment_of("--as-of", as_of)

    async def work(opened: OpenLog) -> None:
        await check_recorded(opened.log, until, None if isinstance(begins, timedelta) else begins)
        upto = LAST_POSITION if until is None else await opened.log.position_of(until)
        await _check_exists(LogSearch(opened.database), conversation, begins, upto)
        transcript = Transcript(lambda text: click.echo(text, nl=False), width, colours=has_colours())
        try:
            scenes = _scenes(_events(opened.log, conversation, upto))
            await play(scenes, transcript, Pace(speed, max_pause), Start(begins))
        finally:
            transcript.end()

    read_log(data_dir, database_url, work, watched=True)


async def play(
    scenes: AsyncIterable[Scene], transcript: Transcript, pace: Pace, start: Start, sleep: Sleep = asyncio.sleep
) -> None:
    """Write scenes with the pauses between them."""
    last: datetime | None = None
    plays = False
    async for scene in scenes:
        plays = plays or start.is_reached(scene)
        pause_s = (scene.at - last).total_seconds() if last is not None else 0.0
        if pause_s > 0:
            shortened_s = min(pause_s, pace.longest_s(idle=scene.idle))
            if scene.idle and shortened_s < pause_s:
                transcript.show([Piece(f"… {spoken(pause_s)} later", "quiet", whole=True)])
            await sleep(shortened_s / pace.speed)
        transcript.show(scene.pieces)
        last = scene.at if plays else None


def spoken(seconds: float) -> str:
    """Return a duration in its two largest units."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def _start(text: str) -> AsOf | timedelta:
    """Return the begin that `--from` names.

    Raises:
        WrongUseError: it is neither a moment nor a duration.
    """
    if found := _OFFSET.fullmatch(text):
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    return moment_of("--from", text)


async def _check_exists(search: LogSearch, conversation: UUID, begins: AsOf | timedelta | None, upto: int) -> None:
    """Check that the conversation existed at a position, and lasted until a moment.

    Raises:
        FailedError: it did not.
    """
    first = await search.in_conversation(conversation, EventFilter(), None, 1)
    if not first.records or "conversation_id" not in first.records[0]:
        raise FailedError(f"No conversation {conversation}.")
    began = first.records[0]
    if began["position"] > upto:
        raise FailedError(f"The conversation began later, at position {began['position']}.")
    if isinstance(begins, timedelta):
        last = await search.in_conversation(conversation, EventFilter(), None, 1, newest_first=True)
        lasted = last.records[0]["recorded_at"] - began["recorded_at"]
        if begins > lasted:
            raise FailedError(f"The conversation ended after {spoken(lasted.total_seconds())}.")


async def _events(log: Log, conversation: UUID, upto: int) -> AsyncGenerator[Recorded]:
    """Yield the events of a conversation up to a position."""
    version = 0
    while page := await log.events(conversation, version + 1, limit=PAGE_EVENTS):
        for item in page:
            if item.position > upto:
                return
            yield item
        version = page[-1].event.originator_version


async def _scenes(events: AsyncIterable[Recorded]) -> AsyncGenerator[Scene]:
    playback = Playback()
    async for recorded in events:
        for scene in playback.scenes(recorded):
            yield scene
