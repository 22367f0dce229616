"""One leader applies each event once. A broken projection stops alone."""

import asyncio
from collections.abc import Callable, Sequence

import psycopg
import pytest
from psycopg import sql

from domain.events import ConversationEvent, ConversationStarted
from projections import engine
from projections.progress import Progress
from projections.projection import Change, Projection, Rows, json_text
from tests.support.histories.builders import Story
from tests.support.store import PATIENCE_S, Store, rows, until, value

pytestmark = pytest.mark.usefixtures("impatient_engines")

POISON = "poison"
BREAKS: dict[str, Callable[[], Change]] = {
    "raises": lambda: _raise(),
    "is refused as data": lambda: Change(b"INSERT INTO seen_poisoned VALUES ('no uuid', 1)", {}),
    "has no table": lambda: Change(b"DELETE FROM not_there", {}),
    "asks too much of the server": lambda: Change(
        b"INSERT INTO seen_poisoned SELECT gen_random_uuid(), length(repeat(repeat('x', 1000000), 2000))", {}
    ),
    "divides by zero": lambda: Change(
        b"INSERT INTO seen_poisoned SELECT gen_random_uuid(), 1 / (count(*) = -1)::integer FROM seen_poisoned", {}
    ),
}


def _raise() -> Change:
    raise ValueError("cannot be projected")


class Seen(Projection):
    """A projection that records events, and fails at the title `poison` until fixed."""

    version = 1
    types = frozenset({ConversationStarted})

    def __init__(self, name: str, poison: Callable[[], Change] | None = None) -> None:
        super().__init__()
        self.name = name  # pyright: ignore[reportAttributeAccessIssue] - each of these has a name of its own
        self.tables = (f"seen_{name}",)  # pyright: ignore[reportAttributeAccessIssue]
        self.poison = poison

    def on_build(self, build: int) -> "Seen":
        return self

    def definitions(self) -> list[bytes]:
        return [b"CREATE TABLE seen_%s (conversation_id uuid, version integer)" % self.name.encode()]

    def changes(self, events: Sequence[ConversationEvent]) -> list[Change]:
        if self.poison and any(isinstance(event, ConversationStarted) and event.title == POISON for event in events):
            return [self.poison()]
        insert = (
            b"INSERT INTO seen_%s SELECT * FROM json_to_recordset(%%(rows)s::json)"
            b" AS e(conversation_id uuid, version integer)" % self.name.encode()
        )
        seen = [{"conversation_id": event.originator_id, "version": event.originator_version} for event in events]
        return [Change(insert, {"rows": json_text(seen)})] if events else []

    def rows(self, events: Sequence[ConversationEvent]) -> Rows:
        return {self.tables[0]: [(event.originator_id, event.originator_version) for event in events]}


def install(conninfo: str, *projections: Projection) -> None:
    with psycopg.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        for projection in projections:
            for definition in projection.definitions():
                connection.execute(definition)
            register = "INSERT INTO projections (name, version, position, updated_at) VALUES (%s, 1, 0, now())"
            connection.execute(register, [projection.name])


async def write(store: Store, *titles: str) -> int:
    position = 0
    for title in titles:
        position = await store.append(Story(title=title).events)
    return position


def seen(conninfo: str, table: str = "seen_all") -> int:
    """Return the number of events a projection recorded, once each."""
    statements = {
        "seen_all": "SELECT conversation_id, version FROM seen_all",
        "seen_well": "SELECT conversation_id, version FROM seen_well",
        "seen_poisoned": "SELECT conversation_id, version FROM seen_poisoned",
    }
    noted = rows(conninfo, statements[table])  # pyright: ignore[reportArgumentType]
    assert len(set(noted)) == len(noted)
    return len(noted)


def leaders(conninfo: str) -> list[int]:
    """Return the process ids of the connections that lead a projection."""
    statement = (
        "SELECT DISTINCT pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
        "WHERE locktype = 'advisory' AND granted AND d.datname = current_database()"
    )
    return [row[0] for row in rows(conninfo, statement)]


async def reached(progress: Progress, position: int) -> None:
    assert await progress.wait(position, PATIENCE_S) == []


@pytest.mark.parametrize("how", BREAKS)
async def test_a_failing_event_stops_only_its_projection_until_it_is_fixed(
    here: Store, database_url: str, how: str
) -> None:
    well, poisoned = Seen("well"), Seen("poisoned", BREAKS[how])
    install(database_url, well, poisoned)
    async with here.projecting(well, poisoned) as progress:
        position = await write(here, "one", "two", POISON, "four")
        assert await progress.wait(position, PATIENCE_S) == ["poisoned"]
        await until(lambda: progress.stopped == {"poisoned"})
        assert (progress.positions["poisoned"], seen(database_url, "seen_poisoned")) == (2, 2)
        assert seen(database_url, "seen_well") == 4
        stopped = "SELECT error_position FROM projections WHERE name = 'poisoned' AND error IS NOT NULL"
        assert rows(database_url, stopped) == [(3,)]

        later = await write(here, "five")
        assert await progress.wait(later, PATIENCE_S) == ["poisoned"]
        assert seen(database_url, "seen_well") == 5

        poisoned.poison = None
        await until(lambda: not progress.stopped)
        await reached(progress, later)
    assert seen(database_url, "seen_poisoned") == 5
    assert rows(database_url, "SELECT error, error_position FROM projections") == [(None, None)] * 2


@pytest.mark.parametrize("state", ["53100", "25006", "57014", "58030", "XX000"])
async def test_no_event_is_blamed_for_a_failure_of_the_database(
    here: Store, database_url: str, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    """Fail with each SQLSTATE of such a failure.

    The disk is full or broken, the database is read-only, the statement is cancelled, or PostgreSQL fails.
    """
    seen_all = Seen("all")
    install(database_url, seen_all)
    async with here.projecting(seen_all) as progress:
        await reached(progress, await write(here, "one"))
        fail_inserts(database_url, state)
        position = await write(here, "two", "three")
        await until(lambda: "projections waits for the store" in caplog.text)
        assert not progress.stopped
        rows(database_url, "DROP TRIGGER fails ON seen_all")
        await reached(progress, position)
    assert seen(database_url) == 3
    assert rows(database_url, "SELECT error FROM projections") == [(None,)]


def fail_inserts(conninfo: str, state: str) -> None:
    """Make every insert into `seen_all` fail with an SQLSTATE."""
    function = (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'cannot now' USING ERRCODE = TG_ARGV[0]; END $$"
    )
    with psycopg.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        connection.execute(function)
        trigger = sql.SQL("CREATE TRIGGER fails BEFORE INSERT ON seen_all FOR EACH ROW EXECUTE FUNCTION fail({})")
        connection.execute(trigger.format(sql.Literal(state)))


async def test_other_processes_learn_that_a_projection_stopped(here: Store, there: Store, database_url: str) -> None:
    poisoned = Seen("poisoned", _raise)
    install(database_url, poisoned)
    async with here.projecting(poisoned):
        await until(lambda: leaders(database_url))
        async with there.projecting(poisoned) as progress:
            position = await write(there, "one", POISON)
            assert await progress.wait(position, PATIENCE_S) == ["poisoned"]
            poisoned.poison = None
            await until(lambda: not progress.stopped)
            await reached(progress, position)


async def test_one_of_two_engines_leads_and_both_know_the_position(
    here: Store, there: Store, database_url: str
) -> None:
    projection = Seen("all")
    install(database_url, projection)
    async with here.projecting(projection) as one, there.projecting(projection) as other:
        position = await write(here, *"abc")
        await asyncio.gather(reached(one, position), reached(other, position))
        position = await write(there, *"def")
        await asyncio.gather(reached(one, position), reached(other, position))
        assert len(leaders(database_url)) == 1
    assert seen(database_url) == 6


async def test_another_process_leads_after_the_leaders_connection_is_killed(
    here: Store, there: Store, database_url: str
) -> None:
    projection = Seen("all")
    install(database_url, projection)
    async with here.projecting(projection) as one, there.projecting(projection) as other:
        await reached(other, await write(there, "a"))
        (leader,) = leaders(database_url)
        rows(database_url, "SELECT pg_terminate_backend(%s)", [leader])
        await until(lambda: leaders(database_url) not in ([], [leader]))
        position = await write(there, "b")
        await asyncio.gather(reached(one, position), reached(other, position))
    assert seen(database_url) == 2


async def test_another_process_leads_after_the_leader_stops(here: Store, there: Store, database_url: str) -> None:
    projection = Seen("all")
    install(database_url, projection)
    async with there.projecting(projection) as progress:
        async with here.projecting(projection):
            await reached(progress, await write(here, "a"))
        await reached(progress, await write(there, "b"))
    assert seen(database_url) == 2


async def test_every_event_is_applied_once_and_none_blamed_while_leaders_are_killed(
    here: Store, there: Store, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    projection = Seen("all")
    install(database_url, projection)

    async def write_many(store: Store) -> int:
        return await write(store, *map(str, range(100)))

    async with here.projecting(projection) as one, there.projecting(projection) as other:
        writing = [asyncio.create_task(write_many(store)) for store in (here, there)]
        for enough in (20, 60, 120):
            await until(lambda enough=enough: max(one.positions["all"], other.positions["all"]) >= enough)
            for leader in leaders(database_url):
                rows(database_url, "SELECT pg_terminate_backend(%s)", [leader])
        await asyncio.gather(*writing)
        await asyncio.gather(reached(one, 200), reached(other, 200))
    assert seen(database_url) == 200
    assert "stops at position" not in caplog.text


async def test_events_that_another_process_applied_are_not_applied_again(here: Store, database_url: str) -> None:
    projection = Seen("all")
    install(database_url, projection)
    async with here.projecting(projection) as progress:
        await reached(progress, await write(here, "a"))
        rows(database_url, "UPDATE projections SET position = 2")
        await here.append(Story(title="b").events)
        await until(lambda: progress.positions["all"] == 2)
        await reached(progress, await write(here, "c"))
    assert seen(database_url) == 2


async def test_unused_events_advance_the_position_of_a_projection(here: Store, database_url: str) -> None:
    projection = Seen("all")
    install(database_url, projection)
    story = Story()
    story.say()
    async with here.projecting(projection) as progress:
        await reached(progress, await here.append(story.events))
    assert seen(database_url) == 1
    assert value(database_url, "SELECT position FROM projections") == 2


async def test_a_new_projection_catches_up_with_a_long_log_in_batches(
    here: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BATCH_EVENTS", 7)
    position = await here.append([event for _ in range(50) for event in Story().events])
    projection = Seen("all")
    install(database_url, projection)
    async with here.projecting(projection) as progress:
        await reached(progress, position)
    assert seen(database_url) == 50
