"""The store in this process, wired as in a server, without HTTP and model."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from uuid import UUID

from benchmarks.workload.texts import Turn
from commands.agent_definitions import AgentDefinitions
from commands.commands import Caller, ClientMessage, Commands
from commands.conversation_starts import ConversationStarts
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from domain.content import Role, TextBlock
from eventlog.db.database import Database
from eventlog.image_store import ImageStore
from eventlog.log import Log
from eventlog.migrations import migrate
from eventlog.opening import open_log
from eventlog.writer import GroupCommitWriter
from projections.catalog import install
from projections.engine import Engine
from projections.progress import Progress
from projections.projection import Projection

CALLER = Caller("local", "user:local")


class Store(NamedTuple):
    """The parts of an open store."""

    database: Database
    log: Log
    writer: GroupCommitWriter
    tokenizer: Tokenizer
    commands: Commands
    progress: Progress

    def fresh_commands(self) -> Commands:
        """Return commands without cached conversations, on the same connections."""
        executor = CommandExecutor(self.log, self.writer)
        starts = ConversationStarts(executor, AgentDefinitions(self.log))
        return Commands(executor, self.tokenizer, ImageStore(self.database), starts)


@asynccontextmanager
async def open_store(conninfo: str, projections: Sequence[Projection] = ()) -> AsyncGenerator[Store]:
    """Open the store with its feed and announcements and run these projections."""
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(migrate, conninfo)
        await asyncio.to_thread(install, conninfo)
        opened = await stack.enter_async_context(open_log(conninfo, listening=False))
        database, channels, log, writer = opened.database, opened.channels, opened.log, opened.writer
        tokenizer = Tokenizer()
        progress = Progress(projection.name for projection in projections)
        engine = Engine(database, opened.feed, channels, progress, projections)
        await channels.open()
        stack.push_async_callback(channels.close)
        if projections:
            await engine.open()
            stack.push_async_callback(engine.close)
        executor = CommandExecutor(log, writer)
        stack.push_async_callback(executor.close)
        tokenizer.load()
        starts = ConversationStarts(executor, AgentDefinitions(log))
        commands = Commands(executor, tokenizer, opened.images, starts)
        yield Store(database, log, writer, tokenizer, commands, progress)


async def start_conversations(store: Store, count: int, messages: Sequence[ClientMessage] = ()) -> list[UUID]:
    """Return the ids of `count` new conversations, each with these messages."""
    started = await asyncio.gather(*(store.commands.start(CALLER, messages=messages) for _ in range(count)))
    return [committed.state.id for committed in started]


async def settle(store: Store) -> None:
    """Wait for the projections, then analyse the tables as autovacuum does."""
    await store.progress.wait(await store.log.head(), 300)
    async with await store.database.connect() as connection:
        await connection.execute("VACUUM ANALYZE")


def text_message(role: Role, text: str) -> ClientMessage:
    """Return a message of one text block."""
    return ClientMessage(role, (TextBlock(text=text),))


def dialogue(turns: Sequence[Turn], count: int) -> list[ClientMessage]:
    """Return `count` messages, alternating between user and assistant."""
    speakers: tuple[Role, Role] = ("user", "assistant")
    messages = [text_message(role, text) for turn in turns for role, text in zip(speakers, turn, strict=True)]
    return [messages[number % len(messages)] for number in range(count)]
