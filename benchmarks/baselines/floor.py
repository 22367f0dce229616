"""Messages written without a domain: by a batched writer and by single INSERTs.

The batched writer is the floor of other benchmarks.
"""

import asyncio
import gc
from asyncio import Future
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime
from hashlib import sha256
from itertools import count
from random import Random
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from pydantic_core import to_json

from benchmarks.measure import CALLERS
from benchmarks.workload.callers import ExhaustedError, Work, rate
from benchmarks.workload.texts import Turn
from domain.aggregates import ENVELOPE_FIELDS
from domain.content import TextBlock
from domain.events import MessageAdded
from eventlog.clock import new_id, now
from eventlog.db.database import Database
from eventlog.db.statements import load_statements
from eventlog.salts import SALT_BYTES

CONVERSATIONS = 200
MOST_TURNS_A_SECOND = 20_000

_SQL = load_statements("benchmarks.baselines", "floor.sql")
_PLACEHOLDER = UUID(int=0)


class Row(NamedTuple):
    """One row of the log, ready to be sent."""

    aggregate: str
    aggregate_id: UUID
    version: int
    type: str
    data: str
    actor: str
    request_id: str | None
    recorded_at: datetime
    digest: bytes
    salt: bytes


class Rows:
    """Prebuilt turns of two rows each, over 200 conversations.

    The rows equal those of the log byte for byte.
    """

    def __init__(self, turns: list[Turn]) -> None:
        self._random = Random(0)
        self._turns = [(_data("user", turn.question), _data("assistant", turn.answer)) for turn in turns]
        self._versions = {new_id(): count(2) for _ in range(CONVERSATIONS)}
        self._conversations = list(self._versions)

    def turns(self, number: int) -> list[tuple[Row, Row]]:
        """Return the next turns."""
        return [self._turn() for _ in range(number)]

    def _turn(self) -> tuple[Row, Row]:
        conversation_id = self._random.choice(self._conversations)
        question, answer = self._random.choice(self._turns)
        return self._row(conversation_id, question), self._row(conversation_id, answer)

    def _row(self, conversation_id: UUID, data: str) -> Row:
        message_id = str(new_id())
        data = data.replace(str(_PLACEHOLDER), message_id)
        digest = sha256(message_id.encode()).digest()
        place = "conversation", conversation_id, next(self._versions[conversation_id])
        return Row(*place, "MessageAdded", data, "user:local", None, now(), digest, digest[:SALT_BYTES])


class BatchedWriter:
    """Writer that puts all waiting rows into one statement, repeatedly."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection
        self._waiting: list[tuple[Row, Future[None]]] = []
        self._wake = asyncio.Event()

    def append(self, row: Row) -> Future[None]:
        """Return a future that is done when the row is committed."""
        done: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        self._wake.set()
        return done

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._waiting = self._waiting, []
            columns = map(list, zip(*(row for row, _ in batch), strict=True))
            try:
                await self._connection.execute(_SQL["insert_batch"], [len(batch), len(batch), *columns])
            except psycopg.Error as error:
                for _, done in batch:
                    done.set_exception(error)
            else:
                for _, done in batch:
                    done.set_result(None)


class Floor:
    """Both ways to write messages without a domain, in turns per second."""

    def __init__(
        self, turns: list[Turn], writer: BatchedWriter, connections: Sequence[AsyncConnection[TupleRow]]
    ) -> None:
        self._rows = Rows(turns)
        self._writer = writer
        self._connections = connections
        self._positions = count(1)

    async def batched(self, seconds: float) -> float:
        """Return turns per second of 32 callers that share the batched writer.

        Each caller waits until its row is committed.
        """
        with self._prebuilt(seconds) as turns:
            return await rate(seconds, [self._through_writer(turns) for _ in range(CALLERS)])

    async def bare(self, seconds: float) -> float:
        """Return turns per second of 32 connections with single INSERTs.

        Each message is one INSERT and one commit.
        """
        with self._prebuilt(seconds) as turns:
            return await rate(seconds, [self._through(connection, turns) for connection in self._connections])

    @contextmanager
    def _prebuilt(self, seconds: float) -> Generator[Iterator[tuple[Row, Row]]]:
        """Provide more turns than can be written, hidden from the garbage collector."""
        turns = self._rows.turns(int(seconds * MOST_TURNS_A_SECOND))
        gc.collect()
        gc.freeze()
        try:
            yield iter(turns)
        finally:
            gc.unfreeze()

    def _through_writer(self, turns: Iterator[tuple[Row, Row]]) -> Work:
        async def turn() -> None:
            for row in _next(turns):
                await self._writer.append(row)

        return turn

    def _through(self, connection: AsyncConnection[TupleRow], turns: Iterator[tuple[Row, Row]]) -> Work:
        async def turn() -> None:
            for row in _next(turns):
                await connection.execute(_SQL["insert_one"], [next(self._positions), *row])

        return turn


@asynccontextmanager
async def open_floor(database: Database, turns: list[Turn]) -> AsyncGenerator[Floor]:
    """Create the floor's tables beside those of the log and open its connections."""
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await database.connect()) for _ in range(CALLERS + 1)]
        for name, statement in _SQL.items():
            if not name.startswith("insert"):
                await connections[0].execute(statement)
        writer = BatchedWriter(connections.pop())
        task = asyncio.create_task(writer.run())
        stack.callback(task.cancel)
        yield Floor(turns, writer, connections)


def _next(turns: Iterator[tuple[Row, Row]]) -> tuple[Row, Row]:
    turn = next(turns, None)
    if turn is None:
        raise ExhaustedError
    return turn


def _data(role: str, text: str) -> str:
    event = MessageAdded.model_validate(
        {
            "originator_id": _PLACEHOLDER,
            "originator_version": 1,
            "timestamp": now(),
            "actor": "user:local",
            "message_id": _PLACEHOLDER,
            "role": role,
            "author_id": "user:local" if role == "user" else None,
            "content": (TextBlock(text=text),),
            "in_reply_to": None if role == "user" else _PLACEHOLDER,
            "tokens": len(text) // 5,
            "encoding": "o200k_base",
        }
    )
    return to_json(event, exclude=set(ENVELOPE_FIELDS)).decode()
