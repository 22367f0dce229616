"""Durable single-event appends, against the eventsourcing library's recorder."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import count, cycle

from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from benchmarks.measure import CALLERS, Measurement, Plan, Target
from benchmarks.workload.callers import Work, rate, thread_rate
from benchmarks.workload.store import CALLER, open_store, text_message
from benchmarks.workload.texts import turns
from commands.tokens import Tokenizer
from domain.decisions import conversations
from eventlog.clock import new_id
from eventlog.library import LogFactory
from eventlog.mapper import ConversationMapper, JSONBytesTranscoder, NewRow, new_row_of
from eventlog.writer import GroupCommitWriter

NAME = "appends"
BASELINE = "eventsourcing's PostgresApplicationRecorder, 32 threads"


async def run(plan: Plan) -> list[Measurement]:
    """Return appends per second of 32 coroutines and of 32 threads."""
    states = message_states()
    with _library_recorder(plan.conninfo) as library, _log_recorder(plan.conninfo) as recorder:
        async with open_store(plan.conninfo) as store:
            figures = await plan.interleave(
                {
                    "library": lambda seconds: thread_rate(seconds, _threads(library, states)),
                    "writer": lambda seconds: rate(seconds, writing_coroutines(store.writer, states)),
                    "recorder": lambda seconds: thread_rate(seconds, _threads(recorder, states)),
                }
            )
    library_rounds = figures["library"]
    return [
        Measurement(
            NAME, "group commit, 32 coroutines", "appends/s", figures["writer"], BASELINE, library_rounds, Target(20)
        ),
        Measurement(
            NAME, "group commit, 32 threads (LogRecorder)", "appends/s", figures["recorder"], BASELINE, library_rounds
        ),
    ]


def message_states() -> list[bytes]:
    """Return the recorded bytes of different messages of 200 characters."""
    mapper, tokenizer = ConversationMapper(JSONBytesTranscoder()), Tokenizer()
    states: list[bytes] = []
    for turn in turns():
        message = text_message("user", turn.question)
        draft = conversations.Draft(
            new_id(), message.role, message.content, tokenizer.count(turn.question), tokenizer.name
        )
        events = conversations.start_conversation(new_id(), CALLER.origin(), messages=[draft])
        states.append(mapper.to_stored_event(events[1]).state)
    return states


def _events(states: list[bytes]) -> Iterator[StoredEvent]:
    """Yield endless events of a new conversation."""
    conversation_id = new_id()
    for version, state in zip(count(1), cycle(states), strict=False):
        yield StoredEvent(conversation_id, version, "MessageAdded", state)


def _rows(rows: list[NewRow]) -> Iterator[NewRow]:
    """Yield the same endless events as rows for the writer."""
    conversation_id = new_id()
    for version, row in zip(count(1), cycle(rows), strict=False):
        yield row._replace(aggregate_id=conversation_id, version=version)


def writing_coroutines(writer: GroupCommitWriter, states: list[bytes]) -> list[Work]:
    """Return callers that each append these messages to a conversation, one by one."""
    rows = [new_row_of(StoredEvent(new_id(), 1, "MessageAdded", state)) for state in states]

    def caller() -> Work:
        events = _rows(rows)
        return lambda: writer.append([next(events)])

    return [caller() for _ in range(CALLERS)]


def _threads(recorder: ApplicationRecorder, states: list[bytes]) -> list[Callable[[], object]]:
    def caller() -> Callable[[], object]:
        events = _events(states)
        return lambda: recorder.insert_events([next(events)])

    return [caller() for _ in range(CALLERS)]


@contextmanager
def _library_recorder(conninfo: str) -> Generator[PostgresApplicationRecorder]:
    address = conninfo_to_dict(conninfo)
    with PostgresDatastore(
        dbname=str(address["dbname"]),
        host=str(address["host"]),
        port=str(address["port"]),
        user=str(address["user"]),
        password="",
        pool_size=CALLERS,
        connect_timeout=30,
    ) as datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        yield recorder


@contextmanager
def _log_recorder(conninfo: str) -> Generator[ApplicationRecorder]:
    factory = LogFactory(Environment("benchmarks", {LogFactory.DATABASE_URL: conninfo}))
    try:
        yield factory.application_recorder()
    finally:
        factory.close()
