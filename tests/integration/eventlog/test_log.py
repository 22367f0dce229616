"""The database enforces the guarantees of the log: append-only and numbered once."""

import asyncio
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audit.proofs.event_digest import DigestedEvent
from domain.conversation import ConversationSnapshot
from domain.events import ConversationEvent
from eventlog.db.statements import load_statements
from tests.golden.record import examples
from tests.support.histories.builders import BEGINNING, Story, one_of_each, some_id
from tests.support.store import opened, rows, value

WRITERS, CONVERSATIONS, EACH = 4, 5, 10


@pytest.fixture
async def log_url(database_url: str) -> str:
    """A database with a few events in its log."""
    async with opened(database_url, listening=False) as store:
        await store.append(one_of_each())
    return database_url


CHANGES: list[LiteralString] = [
    "UPDATE events SET data = '{}' WHERE position = 1",
    "UPDATE events SET version = version + 100",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events WHERE false",
    "TRUNCATE events",
    "INSERT INTO events SELECT * FROM events ON CONFLICT (aggregate_id, version) DO UPDATE SET actor = 'eve'",
    "WITH gone AS (DELETE FROM events RETURNING 1) SELECT count(*) FROM gone",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_the_log_cannot_be_changed_even_by_a_superuser(log_url: str, change: LiteralString) -> None:
    before = rows(log_url, "SELECT * FROM events ORDER BY position")
    assert value(log_url, "SELECT usesuper FROM pg_user WHERE usename = current_user")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        rows(log_url, change)
    assert rows(log_url, "SELECT * FROM events ORDER BY position") == before


async def test_the_log_cannot_be_truncated_with_all_other_tables(log_url: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rows(log_url, "TRUNCATE events, head, snapshots, projections CASCADE")


COPY: LiteralString = (
    "INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest) "
    "SELECT {position}, aggregate, {aggregate_id}, {version}, type, data, actor, recorded_at, digest "
    "FROM events WHERE position = 1"
)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (("1", "gen_random_uuid()", "1"), psycopg.errors.UniqueViolation),
        (("99", "aggregate_id", "1"), psycopg.errors.UniqueViolation),
        (("99", "gen_random_uuid()", "0"), psycopg.errors.CheckViolation),
    ],
)
async def test_a_position_and_a_version_are_unique_and_start_at_one(
    log_url: str, values: tuple[LiteralString, LiteralString, LiteralString], error: type[psycopg.Error]
) -> None:
    position, aggregate_id, version = values
    with pytest.raises(error):
        rows(log_url, COPY.format(position=position, aggregate_id=aggregate_id, version=version))


@pytest.mark.parametrize("row", ["false, 0", "true, 0", "NULL, 0"])
async def test_the_log_has_one_head(log_url: str, row: LiteralString) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        rows(log_url, "INSERT INTO head VALUES (" + row + ")")


async def test_every_digest_is_the_sha256_of_its_event(log_url: str) -> None:
    wrong = rows(
        log_url,
        "SELECT position FROM events WHERE digest IS DISTINCT FROM event_digest(position, aggregate, aggregate_id,"
        " version, type, data, actor, request_id, recorded_at, salt, content_hash)",
    )
    assert wrong == []
    stored = rows(
        log_url,
        "SELECT position, aggregate::text, aggregate_id, version, type, actor, request_id, recorded_at, salt,"
        " data::text, content_hash, digest FROM events ORDER BY position",
    )
    assert len(stored) == len(one_of_each())
    assert [DigestedEvent(*fields).digest() for *fields, _ in stored] == [row[-1] for row in stored]


def test_postgresql_prints_jsonb_as_all_digests_assume(database_url: str) -> None:
    # Digests cover this text. A version of PostgreSQL that prints another one needs a function that prints this.
    written = r"""{"b": 1.50, "aa": [1e3, -0.0, 12345678901234567890], "": {"z": null, "y": true},
        "a": "\u0041\n\t\u0001\u007f\"\\\/é\ud83d\ude00"}"""
    printed = r'{"": {"y": true, "z": null}, "a": "A\n\t\u0001' + "\x7f" + r'\"\\/é😀", "b": 1.50, "aa": '
    printed += "[1000, 0.0, 12345678901234567890]}"
    assert value(database_url, "SELECT %s::jsonb::text", [written]) == printed
    assert value(database_url, "SELECT %s::jsonb::text", [printed]) == printed


async def test_an_event_is_stored_with_its_envelope_in_columns_and_the_rest_as_json(database_url: str) -> None:
    story = Story(title="Grüße", metadata={"n": 2**70})
    async with opened(database_url, listening=False) as store:
        await store.append(story.events)
    (row,) = rows(
        database_url,
        "SELECT position, aggregate, aggregate_id, version, type, data::text, actor, request_id FROM events",
    )
    data = '{"title": "Grüße", "agent_id": null, "metadata": {"n": 1180591620717411303424}, "owner_id": "alice", '
    data += '"agent_number": null, "class_version": 2}'
    assert row == (1, "conversation", story.id, 1, "ConversationStarted", data, "user:alice", "req-1")
    assert rows(database_url, "SELECT recorded_at FROM events") == [(story.events[0].timestamp,)]


numbers = st.integers(-(2**100), 2**100) | st.floats(-(2.0**53), 2.0**53)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


async def test_any_valid_json_is_read_from_the_table_unchanged(database_url: str) -> None:
    metadata: list[dict[str, Any]] = []

    @settings(max_examples=100, database=None)
    @given(st.dictionaries(texts, values, max_size=4))
    def collect(value: dict[str, Any]) -> None:
        metadata.append(value)

    collect()
    events = [Story(metadata=each).events[0] for each in metadata]
    async with opened(database_url, listening=False) as store:
        await store.append(events)
        assert [item.event for item in await store.log.after(0, 1000)] == events


async def test_every_kind_of_event_and_block_is_read_from_the_table_unchanged(database_url: str) -> None:
    events = [event for event in examples() if not isinstance(event, ConversationSnapshot)]
    alone = [event.model_copy(update={"originator_id": some_id(), "originator_version": 1}) for event in events]
    async with opened(database_url, listening=False) as store:
        await store.append(alone)
        assert [item.event for item in await store.log.after(0, 1000)] == alone


def test_concurrent_processes_number_their_events_without_a_gap(database_url: str) -> None:
    with get_context("spawn").Pool(WRITERS) as pool:
        written = pool.map(write, [database_url] * WRITERS)
    total = WRITERS * CONVERSATIONS * EACH
    assert sorted(position for positions in written for position in positions) == list(range(EACH, total + 1, EACH))
    assert [row[0] for row in rows(database_url, "SELECT position FROM events ORDER BY 1")] == list(range(1, total + 1))
    assert value(database_url, "SELECT position FROM head") == total


def test_positions_are_in_the_order_of_commits(database_url: str) -> None:
    """A reader that saw a position has seen all before it.

    No other append gets a number while one is open.
    """
    with psycopg.connect(database_url, options="-c search_path=turnlog") as one:
        one.execute("UPDATE head SET position = position + 1")
        with (
            psycopg.connect(database_url, options="-c search_path=turnlog -c lock_timeout=50") as other,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            other.execute("UPDATE head SET position = position + 1")


_all_times: dict[str, list[datetime]] = {}


@settings(
    max_examples=20,
    phases=[Phase.generate],  # the examples share a log, which cannot be emptied
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seconds=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_a_time_means_the_last_event_in_log_order_that_was_recorded_at_or_before_it(
    database_url: str, seconds: list[int]
) -> None:
    """The clock may step back, and several events may have the same time."""

    async def positions() -> list[int]:
        async with opened(database_url, listening=False) as store:
            await store.append([Story().events[0].model_copy(update={"timestamp": each}) for each in added])
            return [await store.log.position_of(moment) for moment in moments]

    added = [BEGINNING + timedelta(seconds=each) for each in seconds]
    times = _all_times.setdefault(database_url, [])
    times += added
    moments = [BEGINNING + timedelta(seconds=tenth / 2) for tenth in range(-1, 20)]
    early = [[place for place, at in enumerate(times, start=1) if at <= moment] for moment in moments]
    assert asyncio.run(positions()) == [max(each, default=0) for each in early]


async def test_a_position_means_itself_and_the_end_of_the_log_is_not_in_the_future(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        assert await store.log.position_of(BEGINNING) == 0
        story = Story(begins=datetime.now(UTC) + timedelta(hours=1))
        await store.append(story.events)
        assert [await store.log.position_of(position) for position in (0, 1, 7)] == [0, 1, 7]
        end = await store.log.end()
    # The clock of the server that recorded the event is ahead of the database's.
    assert end == (1, story.events[0].timestamp)
    moments = [1, 2, end.at, end.at + timedelta(microseconds=1), BEGINNING]
    assert [end.is_before(moment) for moment in moments] == [False, True, False, True, False]


def write(conninfo: str) -> list[int]:
    """Record conversations in a new process.

    Return the position of the last event of each.
    """

    async def work() -> list[int]:
        async with opened(conninfo, listening=False) as store:
            return [await store.append(conversation_of(EACH)) for _ in range(CONVERSATIONS)]

    return asyncio.run(work())


def conversation_of(events: int) -> list[ConversationEvent]:
    story = Story()
    for _ in range(events - 1):
        story.say()
    return story.events


STARTS: LiteralString = (
    "INSERT INTO events (position, recorded_at, aggregate_id, version, aggregate, type, data, actor, digest)"
    " SELECT n, now(), gen_random_uuid(), 1, 'conversation', 'ConversationStarted',"
    " jsonb_build_object('owner_id', 'alice', 'agent_id', 'agent-' || mod(n, 10), 'agent_number', n), 'user:alice', ''"
    " FROM generate_series(1, 20000) AS n"
)
LOOKUPS: dict[str, tuple[dict[str, Any], str]] = {
    "read_agent_number": ({"owner_id": "alice", "agent_id": "agent-7"}, "events_agent_number"),
    "find_owned": ({"owner_id": "alice", "conversation_id": some_id()}, "events_owner"),
    "read_newest": ({"aggregate_ids": [some_id(), some_id()], "upto": 9}, "events_pkey"),
    "read_agents": ({"agent_ids": [some_id(), some_id()], "upto": 9}, "events_pkey"),
}


def test_a_start_finds_its_agent_and_its_number_in_an_index(database_url: str) -> None:
    rows(database_url, STARTS)
    rows(database_url, "VACUUM ANALYZE events")
    statements = load_statements("eventlog", "log.sql")
    with psycopg.connect(database_url, options="-c search_path=turnlog") as connection:
        for name, (parameters, index) in LOOKUPS.items():
            row = connection.execute("EXPLAIN (FORMAT JSON) " + statements[name], parameters).fetchone()
            plan = str(row)
            assert index in plan and "Seq Scan" not in plan, (name, plan)
        found = connection.execute(statements["read_agent_number"], LOOKUPS["read_agent_number"][0]).fetchone()
    assert found == (19997,)
