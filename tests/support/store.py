"""The log's parts of one process, opened for a test.

Several of them on one database act as several processes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from commands.agent_definitions import AgentDefinitions
from commands.commands import Caller, ClientMessage, Commands
from commands.conversation_starts import ConversationStarts
from commands.executor import CommandExecutor
from commands.tokens import Tokenizer
from domain.aggregates import AggregateEvent
from domain.content import TextBlock
from domain.events import ConversationEvent
from eventlog.db.database import Database
from eventlog.feeds.channels import Channels
from eventlog.feeds.feed import Feed
from eventlog.log import Log
from eventlog.mapper import ConversationMapper, JSONBytesTranscoder, new_row
from eventlog.opening import open_log
from eventlog.writer import GroupCommitWriter
from projections.engine import Engine
from projections.progress import Progress
from projections.projection import Projection
from tests.support.waiting import PATIENCE_S, eventually, pauses_s

ALICE = Caller("alice", "user:alice", "req-1")
HELLO = ClientMessage("user", (TextBlock(text="Hello"),))
MAPPER = ConversationMapper(JSONBytesTranscoder())


class WordTokenizer(Tokenizer):
    """A tokenizer that counts words and needs no loading."""

    name = "words"

    def count(self, text: str) -> int:
        return len(text.split())


@dataclass(frozen=True)
class Store:
    """The log's parts of one process."""

    database: Database
    log: Log
    feed: Feed
    writer: GroupCommitWriter
    conversations: CommandExecutor
    commands: Commands

    async def append(self, events: Sequence[AggregateEvent]) -> int:
        """Record events without a decision and return the position of the last."""
        return await self.writer.append(list(map(new_row, events)), None, events)

    @asynccontextmanager
    async def projecting(self, *projections: Projection) -> AsyncGenerator[Progress]:
        """Run projections in this process, which also listens to other processes."""
        progress = Progress(projection.name for projection in projections)
        channels = Channels(self.database)
        engine = Engine(self.database, self.feed, channels, progress, projections)
        await channels.open()
        await engine.open()
        try:
            yield progress
        finally:
            await engine.close()
            await channels.close()


@asynccontextmanager
async def opened(conninfo: str, schema: str = "turnlog", *, listening: bool = True) -> AsyncGenerator[Store]:
    """Open the log.

    Without `listening` this process neither receives nor sends notifications.
    """
    async with open_log(conninfo, schema, listening=listening) as log:
        conversations = CommandExecutor(log.log, log.writer)
        starts = ConversationStarts(conversations, AgentDefinitions(log.log))
        commands = Commands(conversations, WordTokenizer(), log.images, starts)
        try:
            yield Store(log.database, log.log, log.feed, log.writer, conversations, commands)
        finally:
            await conversations.close()


async def started(store: Store, **fields: Any) -> UUID:
    """Start a conversation as Alice and return its id."""
    return (await store.commands.start(ALICE, **fields)).state.id


async def nothing(conversation_id: UUID, turn_id: UUID) -> None:
    """Recover no turn."""


async def until(condition: Callable[[], Any]) -> None:
    """Wait until `condition` holds, and fail on a timeout."""
    pauses = pauses_s()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the condition is in another process, which cannot set an event here
            await asyncio.sleep(next(pauses))


def rows(conninfo: str, statement: LiteralString, parameters: Sequence[Any] = (), schema: str = "turnlog") -> list[Any]:
    """Return the rows of a statement, run on a new connection."""
    with psycopg.connect(conninfo, autocommit=True, options=f"-c search_path={schema} -c timezone=UTC") as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def value(conninfo: str, statement: LiteralString, parameters: Sequence[Any] = (), schema: str = "turnlog") -> Any:
    """Return the first value of the first row of a statement."""
    found: TupleRow = rows(conninfo, statement, parameters, schema)[0]
    return found[0]


SESSIONS: LiteralString = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'turnlog'"


def end_sessions(conninfo: str) -> int:
    """End all sessions of the log, wait for it and return their number."""
    # Waiting for each in turn would take 0.1 s per session, the interval at which PostgreSQL checks for its end.
    pids = [row[0] for row in rows(conninfo, f"SELECT pid, pg_terminate_backend(pid) {SESSIONS}")]
    gone = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s))"
    eventually(lambda: value(conninfo, gone, [pids]))
    return len(pids)


def plant(conninfo: str, events: Sequence[ConversationEvent]) -> None:
    """Append events that the writer would refuse, each by one statement."""
    for row in map(new_row, events):
        rows(
            conninfo,
            "WITH next AS (UPDATE head SET position = position + 1 RETURNING position) "
            "INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest) "
            "SELECT position, %s, %s, %s, %s, %s, %s, %s, '' FROM next",
            [row.aggregate, row.aggregate_id, row.version, row.type, row.data.decode(), row.actor, row.recorded_at],
        )


@contextmanager
def blocked_head(conninfo: str) -> Generator[Callable[[], None]]:
    """Block all appends in the database until the block ends.

    Calling the yielded function ends the blocking earlier.
    """
    with psycopg.connect(conninfo, options="-c search_path=turnlog") as connection:
        connection.execute("SELECT position FROM head FOR UPDATE")
        yield connection.rollback


async def blocked_backend(conninfo: str) -> int:
    """Wait until a session of the log waits for a lock, and return its process id."""
    blocked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    found: list[Any] = []
    await until(lambda: found.extend(rows(conninfo, blocked)) or found)
    return found[0][0]
