"""Group commit: many callers share a commit, and each gets its own result."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from uuid import uuid4

import pytest

from domain.events import ConversationEvent
from eventlog.db.database import Database
from eventlog.errors import (
    IdempotencyKeyTakenError,
    StoreUnavailableError,
    UnstorableEventError,
    VersionTakenError,
)
from eventlog.mapper import NewRow, Recorded, new_row
from eventlog.writer import CommitListener, GroupCommitWriter, Idempotency
from tests.support.histories.builders import Story, one_of_each
from tests.support.store import Store, blocked_backend, blocked_head, opened, rows, until, value

KEY = Idempotency("alice", "key-1", b"f" * 32)


def stored(events: list[ConversationEvent]) -> list[NewRow]:
    return list(map(new_row, events))


def broken() -> list[NewRow]:
    """Return an event that jsonb cannot store and the domain never makes."""
    (event,) = stored(Story(title="X").events)
    return [event._replace(data=event.data.replace(b'"X"', b'"\\u0000"'))]


async def settled_generation(store: Store) -> int:
    """Return the generation once the writer and the channels have connected."""
    await until(lambda: store.database.generation == 2)
    return store.database.generation


async def outcomes(*appends: Any) -> list[Any]:
    """Wait for appends that share a commit.

    Return their positions or the types of their errors.
    """
    done = await asyncio.gather(*appends, return_exceptions=True)
    return [type(item) if isinstance(item, Exception) else item for item in done]


@asynccontextmanager
async def writing(
    conninfo: str, on_commit: CommitListener = lambda head, recorded: None
) -> AsyncGenerator[GroupCommitWriter]:
    writer = GroupCommitWriter(Database(conninfo), on_commit)
    await writer.open()
    try:
        yield writer
    finally:
        await writer.close()


async def test_waiting_appends_share_a_commit_and_keep_their_order(database_url: str) -> None:
    heads: list[int] = []
    committed: list[Recorded] = []

    def on_commit(head: int, recorded: list[Recorded]) -> None:
        heads.append(head)
        committed.extend(recorded)

    async with writing(database_url, on_commit) as writer:
        stories = [Story() for _ in range(100)]
        appends = [writer.append(stored(story.events), None, story.events) for story in stories]
        assert await outcomes(*appends) == list(range(1, 101))
    assert committed == [(position, story.events[0]) for position, story in enumerate(stories, 1)]
    assert heads[-1] == 100
    assert value(database_url, "SELECT count(DISTINCT xmin::text) FROM events") == len(heads) <= 3


async def test_an_idle_writer_commits_nothing(database_url: str) -> None:
    heads: list[int] = []
    async with writing(database_url, lambda head, _: heads.append(head)):
        await asyncio.sleep(0)  # the writer is idle now
    assert heads == []


async def test_a_conflict_in_a_batch_refuses_only_the_loser(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        taken = Story().events
        await store.append(taken)
        first, last = Story().events, Story().events
        appends = [store.writer.append(stored(events)) for events in (first, taken, last)]
        assert await outcomes(*appends) == [2, VersionTakenError, 3]
    assert value(database_url, "SELECT position FROM head") == 3


async def test_the_first_of_two_commands_on_one_version_wins_in_a_batch(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        story = Story()
        other = [event.model_copy(update={"title": "other"}) for event in story.events]
        appends = [store.writer.append(stored(events)) for events in (story.events, other)]
        assert await outcomes(*appends) == [1, VersionTakenError]


async def test_the_events_of_a_command_are_recorded_all_or_none(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        story = Story()
        await store.append(story.events)
        story.say()
        other = Story().events
        appends = [store.writer.append([*stored(other), *stored(story.events)]), store.append(story.events[1:])]
        assert await outcomes(*appends) == [VersionTakenError, 2]
    assert value(database_url, "SELECT count(*) FROM events WHERE aggregate_id = %s", [other[0].originator_id]) == 0


async def test_an_idempotency_key_is_recorded_once(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        commands = [stored(Story().events) for _ in range(3)]
        appends = [store.writer.append(commands[0], KEY), store.writer.append(commands[1], KEY)]
        assert await outcomes(*appends) == [1, IdempotencyKeyTakenError]
        assert await outcomes(store.writer.append(commands[2], KEY)) == [IdempotencyKeyTakenError]
        found = await store.log.find_idempotent("alice", "key-1")
        assert found == (commands[0][0].aggregate_id, 1, 1, KEY.fingerprint)
        assert await store.log.find_idempotent("bob", "key-1") is None


async def test_two_owners_may_use_one_key(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        keys = {owner: KEY._replace(owner_id=owner) for owner in ("alice", "bob")}
        appends = [store.writer.append(stored(Story(owner=owner).events), key) for owner, key in keys.items()]
        assert await outcomes(*appends) == [1, 2]
        found = [await store.log.find_idempotent(owner, "key-1") for owner in keys]
        assert [command and command.position for command in found] == [1, 2]


async def test_all_actors_of_an_owner_share_its_keys(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        first, second = (stored(Story().events) for _ in range(2))
        by_service = [row._replace(actor="service:billing") for row in second]
        appends = [store.writer.append(first, KEY), store.writer.append(by_service, KEY)]
        assert await outcomes(*appends) == [1, IdempotencyKeyTakenError]


async def test_only_the_first_event_of_a_command_carries_its_key(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        story = Story()
        story.ask()
        await store.writer.append(stored(story.events), KEY)
    assert rows(database_url, "SELECT idempotency_key FROM events ORDER BY position") == [("key-1",), (None,), (None,)]


async def test_data_that_postgresql_cannot_store_refuses_only_its_command(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        first, last = Story().events, Story().events
        appends = [store.writer.append(events) for events in (stored(first), broken(), stored(last))]
        assert await outcomes(*appends) == [1, UnstorableEventError, 2]


async def test_the_stored_digest_equals_event_digest_with_and_without_a_request(database_url: str) -> None:
    with_request, without_request = (
        stored(one_of_each()),
        [row._replace(request_id=None) for row in stored(Story().events)],
    )
    async with writing(database_url) as writer:
        await asyncio.gather(writer.append(with_request), writer.append(without_request))
    right: LiteralString = (
        "digest = event_digest(position, aggregate, aggregate_id, version, type, data, actor,"
        " request_id, recorded_at, salt, content_hash)"
    )
    assert value(database_url, f"SELECT count(*) FROM events WHERE {right}") == len(with_request) + len(without_request)


async def test_text_is_stored_unchanged_for_any_client_encoding(database_url: str) -> None:
    async with writing(f"{database_url} client_encoding=latin1") as writer:
        await writer.append(stored(Story(title="Grüße ☃").events))
    assert value(database_url, "SELECT data ->> 'title' FROM events") == "Grüße ☃"


async def test_a_command_larger_than_a_batch_is_recorded_as_a_whole(database_url: str) -> None:
    story = Story()
    for _ in range(20):
        story.say("x" * 1_000_000)
    async with opened(database_url, listening=False) as store:
        small = [store.append(Story().events) for _ in range(3)]
        assert await outcomes(small[0], store.append(story.events), small[1], small[2]) == [1, 22, 23, 24]


@pytest.fixture
async def store(database_url: str) -> Any:
    async with opened(database_url) as opened_store:
        yield opened_store


async def test_a_connection_killed_in_a_commit_is_unavailable_and_the_next_append_works(
    store: Store, database_url: str
) -> None:
    await store.append(Story().events)
    with blocked_head(database_url) as release:
        lost = asyncio.ensure_future(store.append(Story().events))
        backend = await blocked_backend(database_url)
        rows(database_url, "SELECT pg_terminate_backend(%s)", [backend])
        with pytest.raises(StoreUnavailableError):
            await lost
        release()
    assert await store.append(Story().events) == 2
    assert value(database_url, "SELECT count(*) FROM events") == 2


async def test_appends_behind_a_lost_commit_are_recorded_by_the_next(store: Store, database_url: str) -> None:
    with blocked_head(database_url) as release:
        lost = asyncio.ensure_future(store.append(Story().events))
        backend = await blocked_backend(database_url)
        waiting = [asyncio.ensure_future(store.append(Story().events)) for _ in range(3)]
        await asyncio.sleep(0)
        rows(database_url, "SELECT pg_terminate_backend(%s)", [backend])
        with pytest.raises(StoreUnavailableError):
            await lost
        release()
    assert await asyncio.gather(*waiting) == [1, 2, 3]


async def test_closing_commits_waiting_appends_and_refuses_later_ones(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        waiting = [store.writer.append(stored(Story().events)) for _ in range(5)]
        closing = asyncio.ensure_future(store.writer.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError):
            await store.writer.append(stored(Story().events))
        await closing
        assert [future.result() for future in waiting] == [1, 2, 3, 4, 5]


async def test_a_cancelled_caller_disturbs_no_other_and_its_events_are_complete(database_url: str) -> None:
    async with opened(database_url, listening=False) as store:
        leaving, staying = (asyncio.ensure_future(store.append(one_of_each())) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == 2 * len(one_of_each())


async def test_a_missing_database_is_unavailable(database_url: str) -> None:
    async with writing(f"{database_url} dbname=absent") as writer:
        with pytest.raises(StoreUnavailableError):
            await writer.append(stored(Story().events))


async def test_a_database_without_a_log_is_unavailable_until_it_has_one(database_url: str) -> None:
    rows(database_url, "ALTER SCHEMA turnlog RENAME TO elsewhere")
    async with writing(database_url) as writer:
        with pytest.raises(StoreUnavailableError):
            await writer.append(stored(Story().events))
        rows(database_url, "ALTER SCHEMA elsewhere RENAME TO turnlog")
        assert await writer.append(stored(Story().events)) == 1


async def test_a_refused_append_affects_no_neighbour_and_keeps_the_connection(store: Store, database_url: str) -> None:
    """Use a key that no index accepts.

    PostgreSQL reports a program limit, which does not break the connection.
    """
    too_long = Idempotency("alice", "".join(str(uuid4()) for _ in range(400)), b"f" * 32)
    await store.append(Story().events)
    before = await settled_generation(store)
    appends = [
        store.append(Story().events),
        store.writer.append(stored(Story().events), too_long),
        store.append(Story().events),
    ]
    assert await outcomes(*appends) == [2, UnstorableEventError, 3]
    assert store.database.generation == before


async def test_a_read_only_database_refuses_appends_and_keeps_the_cache(store: Store, database_url: str) -> None:
    await store.append(Story().events)
    before = await settled_generation(store)
    rows(
        database_url,
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END $$",
    )
    rows(database_url, "CREATE TRIGGER fails BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION fail()")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.append(Story().events)
    rows(database_url, "DROP TRIGGER fails ON events")
    assert await store.append(Story().events) == 2
    assert store.database.generation == before
