"""A generated log of interleaved conversations of very different lengths.

Equal seeds give equal logs. The conversations are plain chats, without tool calls, queued turns and repeated answers.
"""

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from random import Random
from typing import NamedTuple

import psycopg
from psycopg import sql

from benchmarks.workload.scripts import Script, Scripts, scripts
from eventlog.db.statements import load_statements
from eventlog.migrations import migrate

BEGINNING = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
OWNERS = 1000
NEW_CONVERSATIONS_A_SECOND = 1.0
PAUSE_S = 30.0
MOST_TURNS = 1000

_SQL = load_statements("benchmarks.workload", "generator.sql")


class GeneratedEvent(NamedTuple):
    """An event of the generated log.

    `at_us` counts from the beginning of the log.
    """

    at_us: int
    conversation_id: str
    version: int
    type: str
    data: str
    actor: str


def make_log(conninfo: str, schema: str, events: int, seed: int = 1) -> None:
    """Fill a new log in `schema` with `events` events and analyse its table."""
    write_log(conninfo, schema, islice(made_events(seed), events))


def write_log(conninfo: str, schema: str, events: Iterable[GeneratedEvent]) -> None:
    """Fill a new log in `schema` with these events and analyse its table."""
    migrate(conninfo, schema)
    position = 0
    options = f"-c search_path={schema} -c timezone=UTC -c synchronous_commit=off"
    with psycopg.connect(conninfo, autocommit=True, options=options) as connection:
        connection.execute(_SQL["create_staging"])
        with connection.cursor() as cursor, cursor.copy(_SQL["copy_staging"]) as copy:
            for position, event in enumerate(events, start=1):
                copy.write(_line(position, event))
        with connection.transaction():
            connection.execute(_SQL["insert_events"])
            connection.execute(_SQL["set_head"], [position])
        connection.execute(_SQL["drop_staging"])
        connection.execute(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier("events")))


def made_events(seed: int) -> Iterator[GeneratedEvent]:
    """Yield the endless events of a log in the order of time."""
    random = Random(seed)
    all_scripts = scripts(random)
    due: list[tuple[int, int, GeneratedEvent, Iterator[GeneratedEvent]]] = []
    begins_us = 0
    for number in count():
        while due and due[0][0] <= begins_us:
            _, its_number, event, remaining = due[0]
            yield event
            following = next(remaining, None)
            if following is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (following.at_us, its_number, following, remaining))
        remaining = _conversation_events(random, all_scripts, begins_us)
        heapq.heappush(due, (begins_us, number, next(remaining), remaining))
        begins_us += int(random.expovariate(NEW_CONVERSATIONS_A_SECOND) * 1_000_000)


def _conversation_events(random: Random, all_scripts: Scripts, at_us: int) -> Iterator[GeneratedEvent]:
    """Yield the events of one conversation."""
    conversation_id, owner = made_id(random, at_us), f"owner-{random.randrange(OWNERS)}"
    ids: dict[str, str] = {}
    version = 0
    for script in _conversation_scripts(random, all_scripts):
        new = {name: made_id(random, at_us) for name in ("turn", "question", "answer")}
        ids = {**new, "owner": owner, "deleted": ids.get("question", ""), "asked": str(version + 1)}
        for step in script:
            at_us, version = at_us + step.after_us, version + 1
            yield GeneratedEvent(at_us, conversation_id, version, step.type, step.template % ids, f"user:{owner}")
        at_us += 1 + int(random.lognormvariate(0, 1) * PAUSE_S * 1_000_000)


def _conversation_scripts(random: Random, all_scripts: Scripts) -> Iterator[Script]:
    """Yield the scripts of one conversation.

    Most conversations have a few turns, and some have very many.
    """
    yield random.choice(all_scripts.beginnings)
    for _ in range(min(int(random.paretovariate(1.2)), MOST_TURNS)):
        kinds = (all_scripts.completed, all_scripts.recorded, all_scripts.failed, all_scripts.cancelled)
        (kind,) = random.choices(kinds, weights=(92, 3, 3, 2))
        yield random.choice(kind)
        if random.random() < 0.02:
            yield random.choice(all_scripts.deletions)
        if random.random() < 0.02:
            yield random.choice(all_scripts.updates)
    if random.random() < 0.05:
        yield random.choice(all_scripts.ends)


def made_id(random: Random, at_us: int) -> str:
    """Return a UUIDv7 for a time in the generated log."""
    millis = (int(BEGINNING.timestamp()) * 1_000_000 + at_us) // 1000
    digits = f"{millis:012x}7{random.getrandbits(12):03x}8{random.getrandbits(60):015x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _line(position: int, event: GeneratedEvent) -> str:
    """Return the row in the text format of COPY."""
    recorded_at = (BEGINNING + timedelta(microseconds=event.at_us)).isoformat()
    identity = f"{position}\t{event.conversation_id}\t{event.version}\t{event.type}"
    # JSON contains no tab and no line break, but it can contain a backslash.
    data = event.data.replace("\\", "\\\\")
    return f"{identity}\t{data}\t{event.actor}\t{recorded_at}\n"
