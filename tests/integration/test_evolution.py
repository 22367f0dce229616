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

from domain.conversation import ConversationSnapshot
from domain.events import ENVELOPE_FIELDS, ConversationEvent, ConversationStarted, MessageAdded, TurnStarted
from eventlog import mapper
from projections import workers
from projections.building import Builder, open_builder
from projections.catalog import PROJECTIONS, install
from projections.errors import ProjectionFailedError
from projections.past import build_past
from projections.rebuild import rebuild
from tests.golden.replay import VERSIONS, conversation
from tests.support.api_client import Api, frames_of
from tests.support.builders import Story, some_id
from tests.support.naive_views.catalog import NAIVE
from tests.support.naive_views.rows import in_order
from tests.support.serving import ServedApp
from tests.support.store import PATIENCE_S, Store, opened, rows, until, value
from turns.gateway import ModelGateway

pytestmark = pytest.mark.usefixtures("impatient_engines")

OLDER = ConversationStarted.class_version
NAMES = {projection.name for projection in PROJECTIONS}
UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "a type": ("MessageWhispered", {"words": "Psst"}),
    "a version": ("MessageAdded", {"class_version": 99, "words": "Psst"}),
    "a version that is no number": ("MessageAdded", {"class_version": "two"}),
    "a shape": ("MessageAdded", {"words": "no message"}),
}


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
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda number, *_: ThreadPoolExecutor(number))  # pyright: ignore


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


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server start without what it needs to ask a model; no test here asks one."""

    async def load_nothing(_: ModelGateway) -> None:
        pass

    monkeypatch.setattr(ModelGateway, "warm_up", load_nothing)


@pytest.mark.usefixtures("_no_model")
def test_a_server_shows_and_sends_an_image_that_an_earlier_release_stored_in_its_event(prepared_url: str) -> None:
    old = Story(owner="local")
    (said,) = old.say()
    assert isinstance(said, MessageAdded)
    image = {"type": "image", "media_type": "image/gif", "data": "R0lGODlh"}
    data = {**said.model_dump(mode="json", exclude=set(ENVELOPE_FIELDS)), "content": [image]}
    with ServedApp(prepared_url) as served, httpx.Client(base_url=served.url, timeout=30) as http:
        api, path = Api(http), f"/v1/conversations/{old.id}"
        started = old.events[0].model_dump(mode="json", exclude=set(ENVELOPE_FIELDS))
        store_row(prepared_url, old.events[0], "ConversationStarted", started)
        store_row(prepared_url, said, "MessageAdded", data)
        api.message(str(old.id), [image])
        assert [message["content"] for message in api.messages(str(old.id))] == [[image], [image]]
        assert api.get(f"{path}/messages/{said.message_id}")["content"] == [image]
        sent = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlh"}}
        context = api.get(f"{path}/context")["messages"]
        assert [part for message in context for part in message["content"]] == [sent, sent]
        stored = [event["data"]["content"][0].keys() for event in api.events(str(old.id))[1:]]
        assert stored == [{"type", "media_type", "data"}, {"type", "media_type", "sha256"}]


NOT_YET = {
    ("TurnStarted", 1): {"user_message_version", "tools", "generate"},
    ("TurnStarted", 2): {"user_message_version", "tools"},
    ("MessageDeleted", 1): {"superseded"},
    ("MessageAdded", 1): set[str](),
}
"""The fields that the shapes of earlier releases did not have."""


def store_as_then(conninfo: str, event: ConversationEvent, release: int) -> int:
    """Write a row as an earlier release would have and return its position; a shape it had already is today's."""
    version = min(release, event.class_version)
    without = ENVELOPE_FIELDS | NOT_YET.get((event.TOPIC, version), set())
    shape = {} if version == 1 else {"class_version": version}
    return store_row(conninfo, event, event.TOPIC, {**shape, **event.model_dump(mode="json", exclude=set(without))})


def told_then() -> tuple[Story, MessageAdded]:
    """Return a conversation as earlier releases could tell it, whose client runs the last turn, and what was unsaid."""
    story = Story(owner="local")
    story.ask("Why so?")
    story.stream("Be", "cause")
    story.complete("Because")
    unsaid = story.messages()[-1]
    story.unsay(unsaid.message_id)
    story.say("Be brief", "system")
    story.ask("Why not?", generate=False)
    story.stream("Well")
    return story, unsaid


def store_snapshot_as_then(conninfo: str, story: Story) -> None:
    """Keep the state as the release before tools and queues did, under another title, by which it is recognized."""
    snapshot = ConversationSnapshot.take(story.state).model_dump(mode="json", exclude={"originator_version"})
    state: dict[str, Any] = {**snapshot["state"], "title": "from the snapshot"}
    turn: dict[str, Any] = {
        "started_version": state["turn"]["first_version"],
        "started_at": state["updated_at"],
        **{field: state["turn"][field] for field in ("id", "user_message_id", "message_id", "model", "generate")},
    }
    older = {field: value for field, value in state.items() if field not in {"queue", "open_calls"}}
    data = {**snapshot, "class_version": 2, "state": {**older, "turn": turn}}
    insert = "INSERT INTO snapshots (conversation_id, version, type, data) VALUES (%s, %s, %s, %s::jsonb)"
    rows(conninfo, insert, [story.id, story.state.version, ConversationSnapshot.TOPIC, to_json(data).decode()])


def texts(api: Api, story: Story) -> list[str]:
    """Return what the messages of a conversation say, without one that says nothing yet."""
    return [block["text"] for message in api.messages(str(story.id)) for block in message["content"]]


@pytest.mark.usefixtures("_no_model")
@pytest.mark.parametrize("release", [1, 2])
def test_a_server_streams_and_continues_the_turns_of_an_earlier_release(prepared_url: str, release: int) -> None:
    story, unsaid = told_then()
    # That a client runs the model itself came with the second release.
    releases = [release if getattr(event, "generate", True) else 2 for event in story.events]
    *_, head = [store_as_then(prepared_url, event, then) for event, then in zip(story.events, releases, strict=True)]
    store_snapshot_as_then(prepared_url, story)
    first, last = (event for event in story.events if isinstance(event, TurnStarted))
    level = {"Turnlog-Position": str(head)}
    with ServedApp(prepared_url) as served, httpx.Client(base_url=served.url, timeout=30, headers=level) as http:
        api, path = Api(http), f"/v1/conversations/{story.id}"
        with http.stream("GET", f"{path}/turns/{first.turn_id}/stream") as response:
            seen = list(frames_of(response))
        names = ["turn.started", "delta", "delta", "block.done", "turn.completed"]
        assert [frame.event for frame in seen] == names
        assert seen[0].data["user_message"]["content"] == [{"type": "text", "text": "Why so?"}]
        assert seen[-1].data["message"]["id"] == str(unsaid.message_id)
        running = f"{path}/turns/{last.turn_id}"
        assert http.post(f"{running}/deltas", json={"seq": 3, "chunks": [" …"]}).json() == {"next_seq": 4}
        assert http.post(f"{running}/complete", json={}).json()["status"] == "completed"
        assert texts(api, story) == ["Why so?", "Be brief", "Why not?", "Well …"]
        context = [(sent["role"], sent["content"]) for sent in api.get(f"{path}/context")["messages"]]
        assert context[0] == ("system", "Be brief")
        assert "Because" not in str(context)
        shown = http.patch(path, json={"metadata": {"n": 1}}).json()
        assert (shown["title"], shown["message_count"], shown["status"]) == ("from the snapshot", 4, "idle")
        instead = {"content": "Instead", "generate": False, "replace_from": str(first.user_message_id)}
        assert http.post(f"{path}/turns", json=instead).status_code == 201
        assert texts(api, story) == ["Instead"]


@pytest.mark.usefixtures("_today_is_later", "_no_model")
def test_a_server_shows_and_continues_a_conversation_of_an_older_shape(
    prepared_url: str,
) -> None:
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
    today = MessageAdded.class_version
    monkeypatch.setattr(MessageAdded, "class_version", today + 1)
    monkeypatch.setattr(MessageAdded, f"upcast_v{today}_v{today + 1}", staticmethod(upcast), raising=False)


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
