"""The database enforces the guarantees of the log: append-only and numbered once."""

import asyncio
from multiprocessing import get_context
from typing import Any, LiteralString

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.proofs.event_digest import DigestedEvent
from domain.conversation import ConversationSnapshot
from domain.events import ConversationEvent
from tests.golden.record import examples
from tests.support.histories.builders import Story, one_of_each, some_id
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
        "SELECT position, aggregate::text, aggregate_id, version, type, actor, request_id, recorded_at, salt, data::text,"
        " content_hash, digest FROM events ORDER BY position",
    )
    assert len(stored) == len(one_of_each())
    assert [DigestedEvent(*fields).digest() for *fields, _ in stored] == [row[-1] for row in stored]


def test_postgresql_prints_jsonb_as_all_digests_assume(database_url: str) -> None:
    # Digests cover this text. A version of PostgreSQL that prints another one needs a function that prints this.
    written = r'''{"b": 1.50, "aa": [1e3, -0.0, 12345678901234567890], "": {"z": null, "y": true},
        "a": "\u0041\n\t\u0001\u007f\"\\\/é\ud83d\ude00"}'''
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
