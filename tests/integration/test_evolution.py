"""Events evolve: what an earlier release stored reaches today's read models; what a later one stored stops them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from pydantic_core import to_json

from domain.events import ENVELOPE_FIELDS, ConversationEvent, ConversationStarted, MessageAdded
from eventlog import mapper
from projections import building, engine
from projections.building import Builder, open_builder
from projections.catalog import PROJECTIONS, install
from projections.errors import ProjectionFailedError
from projections.past import build_past
from projections.rebuild import rebuild
from tests.golden.replay import VERSIONS, conversation
from tests.support.api_client import Api
from tests.support.builders import Story, some_id
from tests.support.naive_views import NAIVE, in_order
from tests.support.serving import ServedApp
from tests.support.store import PATIENCE_S, Store, opened, rows, until, value
from turns.gateway import ModelGateway

OLDER = ConversationStarted.class_version
NAMES = {projection.name for projection in PROJECTIONS}
UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "a type": ("MessageWhispered", {"words": "Psst"}),
    "a version": ("MessageAdded", {"class_version": 99, "words": "Psst"}),
    "a version that is no number": ("MessageAdded", {"class_version": "two"}),
    "a shape": ("MessageAdded", {"words": "no message"}),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RETRY_LEAD_S", 0.05)
    monkeypatch.setattr(engine, "RETRY_ERROR_S", 0.02)
    monkeypatch.setattr(engine, "MAX_RETRY_ERROR_S", 0.1)


@pytest.fixture
def prepared_url(database_url: str) -> str:
    """A database with a log and the tables of all projections."""
    install(database_url)
    return database_url


@pytest.fixture
async def store(prepared_url: str) -> AsyncIterator[Store]:
    async with opened(prepared_url) as store:
        yield store


@pytest.fixture
def _loading_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a rebuild load in this process: a worker would know nothing of what a test changes here."""
    monkeypatch.setattr(building, "ProcessPoolExecutor", lambda workers, *_: ThreadPoolExecutor(workers))  # pyright: ignore


@pytest.fixture
def _today_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ConversationStarted have had one shape more before today's, which called two fields otherwise."""

    def upcast(state: dict[str, Any]) -> None:
        state["owner_id"], state["title"] = state.pop("owner"), state.pop("name")

    monkeypatch.setattr(ConversationStarted, "class_version", OLDER + 1)
    monkeypatch.setattr(ConversationStarted, f"upcast_v{OLDER}_v{OLDER + 1}", staticmethod(upcast), raising=False)


def store_row(conninfo: str, event: ConversationEvent, type_name: str, data: dict[str, Any]) -> int:
    """Write a row of any shape in the place of `event`, as another release would; return its position."""
    columns = [event.originator_id, event.originator_version, type_name, to_json(data).decode()]
    statement = (
        "WITH next AS (UPDATE head SET position = position + 1 RETURNING position) INSERT INTO events (position,"
        " conversation_id, version, type, data, actor, request_id, recorded_at, digest) SELECT next.position, e.*,"
        " event_digest(e.id, e.version, e.type, e.data, e.actor, e.request_id, e.at) FROM next, (VALUES (%s::uuid,"
        " %s::integer, %s::text, %s::jsonb, %s::text, %s::text, %s::timestamptz))"
        " AS e(id, version, type, data, actor, request_id, at) RETURNING position"
    )
    return value(conninfo, statement, [*columns, event.actor, event.request_id, event.timestamp])


def store_older_shape(conninfo: str, story: Story) -> int:
    """Write the start of a conversation as the release before would have."""
    started = story.events[0]
    assert isinstance(started, ConversationStarted)
    shape = {} if OLDER == 1 else {"class_version": OLDER}
    data = {**shape, "owner": started.owner_id, "name": started.title}
    return store_row(conninfo, started, "ConversationStarted", data)


def two_shapes() -> tuple[Story, list[ConversationEvent]]:
    """Return a conversation that the release before began, and what today's added to it and beside it."""
    old, new = Story(title="Grüße"), Story(title="Later", metadata={"plan": "pro"})
    asked = [*old.ask("Why so?"), *old.complete("Because")]
    return old, [*asked, *new.events, *new.say(), *new.rename(title="Latest")]


def check(conninfo: str, events: list[ConversationEvent]) -> None:
    """Hold the read models against the naive reading of `events`."""
    settings = "-c search_path=turnlog -c timezone=UTC"
    with psycopg.Connection[dict[str, Any]].connect(conninfo, row_factory=dict_row, options=settings) as connection:
        for table, naive in NAIVE.items():
            found = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
            assert in_order(found) == in_order(naive(events)), table


async def project(store: Store) -> None:
    """Run the projections until they have read the log."""
    await store.feed.refresh()
    async with store.projecting(*PROJECTIONS) as progress:
        await until(lambda: not progress.behind(store.feed.head))


async def build(conninfo: str, work: Callable[[Builder], Awaitable[Any]]) -> Any:
    async with open_builder(conninfo, "turnlog", 1, lambda _: None) as builder:
        return await work(builder)


async def test_every_shape_ever_stored_is_replayed_and_rebuilt(store: Store, prepared_url: str) -> None:
    events: list[ConversationEvent] = []
    async with store.projecting(*PROJECTIONS) as progress:
        for stored in chain(*map(conversation, VERSIONS)):
            data = {field: value for field, value in stored.state.items() if field not in ENVELOPE_FIELDS}
            position = store_row(prepared_url, stored.event, stored.type, data)
            await store.feed.refresh()
            assert await progress.wait(position, PATIENCE_S) == []
            events.append(stored.event)
            check(prepared_url, events)
    switched = await build(prepared_url, lambda builder: rebuild(builder, PROJECTIONS))
    assert [each.compared.differing for each in switched] == [0] * len(PROJECTIONS)
    check(prepared_url, events)


@pytest.mark.usefixtures("_today_is_later")
async def test_the_engine_lifts_a_stored_row_of_an_older_shape(store: Store, prepared_url: str) -> None:
    old, later = two_shapes()
    store_older_shape(prepared_url, old)
    await store.append(later)
    await project(store)
    check(prepared_url, [old.events[0], *later])
    shapes = "SELECT data -> 'class_version' FROM events WHERE type = 'ConversationStarted' ORDER BY position"
    assert rows(prepared_url, shapes) == [(None if OLDER == 1 else OLDER,), (OLDER + 1,)]


@pytest.mark.usefixtures("_today_is_later", "_loading_in_process")
async def test_a_rebuild_lifts_a_stored_row_of_an_older_shape(store: Store, prepared_url: str) -> None:
    old, later = two_shapes()
    store_older_shape(prepared_url, old)
    position = await store.append(later)
    await build(prepared_url, lambda builder: rebuild(builder, PROJECTIONS))
    check(prepared_url, [old.events[0], *later])
    loaded = "SELECT DISTINCT build, state, position FROM projections WHERE state = 'live'"
    assert rows(prepared_url, loaded) == [(2, "live", position)]


@pytest.mark.usefixtures("_today_is_later")
def test_a_server_shows_and_continues_a_conversation_of_an_older_shape(
    prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load_nothing(_: ModelGateway) -> None:
        """No test here asks a model."""

    monkeypatch.setattr(ModelGateway, "warm_up", load_nothing)
    old = Story(title="Grüße", owner="local")
    store_older_shape(prepared_url, old)
    with ServedApp(prepared_url) as served, httpx.Client(base_url=served.url, timeout=30) as http:
        api, path = Api(http), f"/v1/conversations/{old.id}"
        api.message(str(old.id), "Still here?")
        shown = http.get(path).json()
        assert (shown["title"], shown["metadata"], shown["message_count"]) == ("Grüße", {}, 1)
        renamed = http.patch(path, json={"metadata": {"plan": "pro"}}).json()
        assert (renamed["title"], renamed["metadata"]) == ("Grüße", {"plan": "pro"})
        assert [each["title"] for each in http.get("/v1/conversations").json()["data"]] == ["Grüße"]


@pytest.mark.parametrize("unknown", UNKNOWN)
async def test_what_the_code_does_not_know_stops_every_projection_before_it_and_recording_goes_on(
    store: Store, prepared_url: str, unknown: str, caplog: pytest.LogCaptureFixture
) -> None:
    story, other = Story(title="one"), Story(title="two")
    known = [*story.events, *story.say(), *story.say()]
    last_known = await store.append(known)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN[unknown])
    async with store.projecting(*PROJECTIONS) as progress:
        head = await store.append(other.events)
        await until(lambda: progress.stopped == NAMES)
        assert set(await progress.wait(head, PATIENCE_S)) == NAMES
        head = await store.append(other.say())
    assert (position, head) == (last_known + 1, position + 2)
    check(prepared_url, known)
    type_name, data = UNKNOWN[unknown]
    how = "cannot be read: ValidationError" if unknown == "a shape" else "is unknown"
    error = f"{type_name} version {data.get('class_version', 1)} of conversation {story.id} {how}"
    found = rows(prepared_url, "SELECT name, position, error_position, error FROM projections ORDER BY name")
    assert found == [(name, last_known, position, f"UnknownEventError('{error}')") for name in sorted(NAMES)]
    assert f"stops at position {position}" in caplog.text
    assert error in caplog.text


REFUSING: dict[str, Callable[[Builder], Awaitable[Any]]] = {
    "rebuild": lambda builder: rebuild(builder, PROJECTIONS),
    "a read model of the past": lambda builder: build_past(builder, PROJECTIONS, 10**6, "past"),
}


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("refusing", REFUSING)
async def test_what_the_code_does_not_know_is_refused_by_what_builds_and_nothing_is_left_behind(
    store: Store, prepared_url: str, unknown: str, refusing: str
) -> None:
    story, other = Story(), Story()
    await store.append(story.events)
    await project(store)
    everything = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'v') ORDER BY 1"
    builds = "SELECT name, version, build, state FROM projections ORDER BY 1, 2, 3"
    before = rows(prepared_url, everything), rows(prepared_url, builds)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN[unknown])
    await store.append(other.events)
    with pytest.raises(ProjectionFailedError, match=f"at position {position}: {UNKNOWN[unknown][0]} version") as raised:
        await build(prepared_url, REFUSING[refusing])
    assert raised.value.position == position
    assert (rows(prepared_url, everything), rows(prepared_url, builds)) == before
    assert rows(prepared_url, "SELECT 1 FROM rebuilds UNION ALL SELECT 1 FROM rebuild_parts") == []


@pytest.mark.usefixtures("_loading_in_process")
async def test_each_projection_refuses_an_unknown_type_when_it_is_built_alone(store: Store, prepared_url: str) -> None:
    story = Story()
    await store.append(story.events)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN["a type"])
    for projection in PROJECTIONS:
        with pytest.raises(ProjectionFailedError, match=f"Projection {projection.name} .* at position {position}: "):
            await build(prepared_url, lambda builder, it=projection: rebuild(builder, [it]))


def learn_to_whisper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process know the type as a later release would, which reads it as a message."""

    def upcast(state: dict[str, Any]) -> None:
        state |= {"content": [{"type": "text", "text": state.pop("words")}], "message_id": some_id()}
        state |= {"role": "user", "tokens": 1, "encoding": "words"}

    monkeypatch.setitem(mapper._STORABLE, "MessageWhispered", MessageAdded)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(MessageAdded, "class_version", 2)
    monkeypatch.setattr(MessageAdded, "upcast_v1_v2", staticmethod(upcast), raising=False)


async def test_stopped_projections_go_on_from_there_once_the_code_knows_the_type(
    store: Store, prepared_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story(title="one")
    await store.append(story.events)
    position = store_row(prepared_url, story.say()[0], *UNKNOWN["a type"])
    async with store.projecting(*PROJECTIONS) as progress:
        head = await store.append(story.rename(title="two"))
        await until(lambda: progress.stopped == NAMES)
    stopped = rows(prepared_url, "SELECT DISTINCT position, error_position FROM projections")
    assert stopped == [(position - 1, position)]

    learn_to_whisper(monkeypatch)
    await project(store)
    assert rows(prepared_url, "SELECT title, message_count FROM listing") == [("two", 1)]
    said = value(prepared_url, "SELECT content FROM history")
    assert said == [{"type": "text", "text": "Psst"}]
    assert rows(prepared_url, "SELECT DISTINCT position, error, error_position FROM projections") == [
        (head, None, None)
    ]
