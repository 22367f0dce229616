"""The composition root: opens everything that a serving process needs, in order, and closes it in reverse."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.settings import Settings
from domain.events import TurnQueued
from eventlog.broadcast import Broadcast
from eventlog.channels import Channels
from eventlog.commands import Commands
from eventlog.conversations import Conversations
from eventlog.database import Database
from eventlog.feed import Feed
from eventlog.images import Images
from eventlog.log import Log
from eventlog.migrations import migrate
from eventlog.tokens import Tokenizer
from eventlog.writer import GroupCommitWriter
from projections.catalog import PROJECTIONS, install
from projections.context import Context
from projections.engine import Engine
from projections.history import History
from projections.jobs import RebuildJobs
from projections.listing import Listing
from projections.progress import Progress
from turns.cancels import Cancels
from turns.client_turns import ClientTurns
from turns.feeds import Feeds
from turns.gateway import ModelGateway
from turns.leases import Leases
from turns.model_call import ModelTimeouts
from turns.queue import TurnQueue
from turns.recovery import Recovery
from turns.runs import Runs
from turns.streams import Streams
from turns.turn_contexts import TurnContexts
from turns.turn_log import TurnKey, TurnReader
from turns.turns import Turns


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
    context: Context
    reader: TurnReader
    contexts: TurnContexts
    turns: Turns
    cancels: Cancels
    streams: Streams
    client_turns: ClientTurns
    feeds: Feeds
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
        database = Database(conninfo, settings.log_schema)
        await database.open()
        stack.push_async_callback(database.close)
        channels, log = Channels(database), Log(database)
        feed = Feed(log, channels)
        stack.push_async_callback(feed.close)
        broadcast = Broadcast(feed)
        await broadcast.open()
        stack.push_async_callback(broadcast.close)
        await feed.refresh()  # who follows from now on must not begin with the past
        writer = GroupCommitWriter(database, feed.committed)
        await writer.open()
        stack.push_async_callback(writer.close)
        progress = Progress(projection.name for projection in PROJECTIONS)
        engine = Engine(database, feed, channels, progress, PROJECTIONS)
        conversations = Conversations(log, writer)
        stack.push_async_callback(conversations.close)
        tokenizer, images = Tokenizer(), Images(database)
        commands, context = Commands(conversations, tokenizer, images), Context(database, log)
        gateway = _gateway(settings)
        stack.push_async_callback(gateway.aclose)
        leases = Leases(database, lambda conversation_id, turn_id: recovery.recover(conversation_id, turn_id))
        reader = TurnReader(log, tokenizer, images)
        contexts = TurnContexts(log, context, progress, gateway, settings.max_context_tokens)
        runs = Runs(conversations, tokenizer, gateway, contexts, progress, broadcast, reader, leases)

        async def start_queued(key: TurnKey, queued: TurnQueued) -> None:
            await turns.start_queued(key, queued)

        queue = TurnQueue(log, broadcast, leases, start_queued)
        recovery = Recovery(conversations, reader, queue)
        cancels = Cancels(conversations, reader, runs, channels, broadcast)
        turns = Turns(commands, reader, runs, queue, cancels, leases)
        streams = Streams(runs, queue, reader, broadcast, progress)
        await channels.open()
        stack.push_async_callback(channels.close)
        await engine.open()
        stack.push_async_callback(engine.close)
        await leases.open()
        stack.push_async_callback(leases.close)
        stack.push_async_callback(turns.drain, 0)
        stack.push_async_callback(_finished, asyncio.create_task(_warm_up(tokenizer, gateway)))
        rebuilds = RebuildJobs(database)
        rebuilds.open()
        stack.push_async_callback(rebuilds.close)
        yield Services(
            settings=settings,
            database=database,
            log=log,
            feed=feed,
            progress=progress,
            images=images,
            commands=commands,
            listing=Listing(database),
            history=History(database),
            context=context,
            reader=reader,
            contexts=contexts,
            turns=turns,
            cancels=cancels,
            streams=streams,
            client_turns=ClientTurns(conversations, tokenizer, reader, leases),
            feeds=Feeds(conversations, feed, broadcast, streams),
            rebuilds=rebuilds,
        )


def prepare(conninfo: str, schema: str) -> None:
    """Bring the log's schema and the projections' tables up to date; many processes may do so at once."""
    migrate(conninfo, schema)
    install(conninfo, schema)


async def _warm_up(tokenizer: Tokenizer, gateway: ModelGateway) -> None:
    """Load what the first request would otherwise wait for."""
    await asyncio.to_thread(tokenizer.load)
    await gateway.warm_up()
    # What is loaded now stays for good: the garbage collector need not look at litellm's million objects again.
    gc.collect()
    gc.freeze()


async def _finished(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, whatever it is."""
    task.cancel()
    await asyncio.wait([task])


def _gateway(settings: Settings) -> ModelGateway:
    timeouts = ModelTimeouts(
        first_token_s=settings.model_first_token_timeout_s,
        between_tokens_s=settings.model_between_tokens_timeout_s,
        total_s=settings.model_total_timeout_s,
    )
    return ModelGateway(api_base=settings.model_api_base, api_key=settings.model_api_key, timeouts=timeouts)
