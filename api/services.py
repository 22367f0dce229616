"""The composition root: opens everything that a serving process needs, in order, and closes it in reverse."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from api.settings import Settings
from commands.commands import Commands
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from eventlog.background import cancel_and_wait
from eventlog.broadcast import Broadcast
from eventlog.channels import Channels
from eventlog.db.database import Database
from eventlog.feed import Feed
from eventlog.images import Images
from eventlog.log import Log
from eventlog.opening import open_log
from projections.catalog import PROJECTIONS, prepare
from projections.engine import Engine
from projections.models.context import Context
from projections.models.history import History
from projections.models.listing import Listing
from projections.progress import Progress
from projections.rebuild.jobs import RebuildJobs
from turns.cancels import Cancels
from turns.client_turns import ClientTurns
from turns.context_budget import ContextBudget
from turns.event_feeds import EventFeeds
from turns.frames.replay import TurnReader
from turns.leases import Leases
from turns.model.call import ModelTimeouts
from turns.model.gateway import ModelGateway
from turns.model_input import ModelInput
from turns.queue import TurnQueue
from turns.recovery import Recovery
from turns.turn_runner import TurnRunner
from turns.turn_streams import TurnStreams
from turns.turns import Turns

YOUNG_OBJECTS = 20_000
"""How many more objects than were freed make the garbage collector look at them; by Python's own measure, which is 700,
it takes a twentieth of the processor time of a message, to find next to nothing."""


@dataclass(frozen=True)
class Services:
    """What a serving process works with."""

    settings: Settings
    database: Database
    log: Log
    feed: Feed
    progress: Progress
    images: Images
    commands: Commands
    listing: Listing
    history: History
    reader: TurnReader
    model_input: ModelInput
    turns: Turns
    cancels: Cancels
    streams: TurnStreams
    client_turns: ClientTurns
    feeds: EventFeeds
    rebuilds: RebuildJobs

    async def drain(self, grace_s: float) -> None:
        """Take no new turns, let the running ones finish for so long, and end what is followed live."""
        await self.turns.drain(grace_s)
        self.feeds.close()
        self.streams.close()


@asynccontextmanager
async def open_services(settings: Settings, conninfo: str) -> AsyncGenerator[Services]:
    """Open a log and all that serves it; at the end running turns are ended and everything is closed.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(prepare, conninfo, settings.log_schema)
        opened = await _open_log(stack, conninfo, settings.log_schema)
        progress = Progress(projection.name for projection in PROJECTIONS)
        engine = Engine(opened.database, opened.feed, opened.channels, progress, PROJECTIONS)
        tokenizer, gateway = Tokenizer(), _gateway(settings)
        stack.push_async_callback(gateway.aclose)
        turning = _turn_services(settings, opened, progress, tokenizer, gateway)
        opened.database.on_reconnect(turning.client_turns.forget)
        opened.feed.on_rewind(lambda _: turning.streams.restart())
        await _open(stack, opened.channels)
        await _open(stack, engine)
        await turning.leases.open(turning.recovery.recover)
        stack.push_async_callback(turning.leases.close)
        stack.push_async_callback(turning.turns.drain, 0)
        stack.push_async_callback(cancel_and_wait, [asyncio.create_task(_warm_up(tokenizer, gateway))])
        rebuilds = RebuildJobs(opened.database)
        rebuilds.open()
        stack.push_async_callback(rebuilds.close)
        stack.push_async_callback(opened.database.give_up_if_away)
        yield _services(settings, opened, progress, turning, rebuilds)


class _Openable(Protocol):
    """What is at work from `open` to `close`."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


async def _open(stack: AsyncExitStack, service: _Openable) -> None:
    await service.open()
    stack.push_async_callback(service.close)


@dataclass(frozen=True)
class _LogServices:
    """The log, but for its channels, which open when all handlers are registered."""

    database: Database
    channels: Channels
    log: Log
    feed: Feed
    broadcast: Broadcast
    conversations: CommandExecutor
    images: Images


async def _open_log(stack: AsyncExitStack, conninfo: str, schema: str) -> _LogServices:
    opened = await stack.enter_async_context(open_log(conninfo, schema, listening=False))
    broadcast = Broadcast(opened.feed)
    await _open(stack, broadcast)
    await opened.feed.refresh()  # a subscriber that comes from now on must not begin with the past
    conversations = CommandExecutor(opened.log, opened.writer)
    stack.push_async_callback(conversations.close)
    return _LogServices(
        opened.database, opened.channels, opened.log, opened.feed, broadcast, conversations, opened.images
    )


@dataclass(frozen=True)
class _TurnServices:
    """What the turns of a process are made of."""

    commands: Commands
    reader: TurnReader
    model_input: ModelInput
    leases: Leases
    recovery: Recovery
    cancels: Cancels
    turns: Turns
    streams: TurnStreams
    client_turns: ClientTurns


def _turn_services(
    settings: Settings, opened: _LogServices, progress: Progress, tokenizer: Tokenizer, gateway: ModelGateway
) -> _TurnServices:
    commands = Commands(opened.conversations, tokenizer, opened.images)
    context = Context(opened.database, opened.log)
    budget = ContextBudget(gateway, settings.max_context_tokens)
    leases = Leases(opened.database)
    reader = TurnReader(opened.log, tokenizer, opened.images)
    model_input = ModelInput(opened.log, context, progress, budget)
    runner = TurnRunner(
        opened.conversations, tokenizer, gateway, model_input, progress, opened.broadcast, reader, leases
    )
    queue = TurnQueue(opened.log, opened.broadcast, leases)
    recovery = Recovery(opened.conversations, reader, queue)
    cancels = Cancels(opened.conversations, reader, runner, opened.channels, opened.broadcast)
    turns = Turns(commands, reader, runner, queue, cancels, leases)
    queue.open(turns.start_queued)
    streams = TurnStreams(runner, queue, reader, opened.broadcast, progress)
    client_turns = ClientTurns(opened.conversations, tokenizer, reader, leases)
    return _TurnServices(commands, reader, model_input, leases, recovery, cancels, turns, streams, client_turns)


def _services(
    settings: Settings, opened: _LogServices, progress: Progress, turning: _TurnServices, rebuilds: RebuildJobs
) -> Services:
    return Services(
        settings=settings,
        database=opened.database,
        log=opened.log,
        feed=opened.feed,
        progress=progress,
        images=opened.images,
        commands=turning.commands,
        listing=Listing(opened.database),
        history=History(opened.database),
        reader=turning.reader,
        model_input=turning.model_input,
        turns=turning.turns,
        cancels=turning.cancels,
        streams=turning.streams,
        client_turns=turning.client_turns,
        feeds=EventFeeds(opened.conversations, opened.feed, turning.streams),
        rebuilds=rebuilds,
    )


async def _warm_up(tokenizer: Tokenizer, gateway: ModelGateway) -> None:
    """Load what the first request would otherwise wait for."""
    await asyncio.to_thread(tokenizer.load)
    await gateway.warm_up()
    # What is loaded now stays for good: the garbage collector need not look at litellm's million objects again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _gateway(settings: Settings) -> ModelGateway:
    timeouts = ModelTimeouts(
        first_token_s=settings.model_first_token_timeout_s,
        between_tokens_s=settings.model_between_tokens_timeout_s,
        total_s=settings.model_total_timeout_s,
    )
    return ModelGateway(api_base=settings.model_api_base, api_key=settings.model_api_key, timeouts=timeouts)
