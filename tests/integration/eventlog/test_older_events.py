"""Events of earlier releases reach today's read models and servers."""

from itertools import chain
from typing import Any, LiteralString

import pytest
from pydantic_core import to_json

from domain.aggregates import ENVELOPE_FIELDS
from domain.conversation import ConversationSnapshot
from domain.events import ConversationEvent, ConversationStarted, MessageAdded, TurnStarted
from projections.catalog import PROJECTIONS
from projections.rebuild.rebuild import rebuild
from tests.golden.replay import VERSIONS, conversation
from tests.support.histories.builders import Story
from tests.support.histories.releases import store_row
from tests.support.http import plain_http
from tests.support.http.api_client import Api, frames_of
from tests.support.rebuilding import caught_up, check_read_models, in_threads, opened_builder
from tests.support.servers.serving import ServedApp
from tests.support.store import PATIENCE_S, Store, rows
from turns.model.gateway import ModelGateway

__all__ = ["in_threads"]
pytestmark = pytest.mark.usefixtures("impatient_engines", "prepared_url")
OLDER = ConversationStarted.class_version


@pytest.fixture
def _today_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add an earlier shape of ConversationStarted, with other names of two fields."""

    def upcast(state: dict[str, Any]) -> None:
        state["owner_id"], state["title"] = state.pop("owner"), state.pop("name")

    monkeypatch.setattr(ConversationStarted, "class_version", OLDER + 1)
    monkeypatch.setattr(ConversationStarted, f"upcast_v{OLDER}_v{OLDER + 1}", staticmethod(upcast), raising=False)


@pytest.fixture
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start servers without litellm. No test here calls a model."""

    async def load_nothing(_: ModelGateway) -> None:
        pass

    monkeypatch.setattr(ModelGateway, "warm_up", load_nothing)


def store_older_shape(conninfo: str, story: Story) -> int:
    """Store the start of a conversation as the previous release would have."""
    started = story.events[0]
    assert isinstance(started, ConversationStarted)
    shape = {} if OLDER == 1 else {"class_version": OLDER}
    data = {**shape, "owner": started.owner_id, "name": started.title}
    return store_row(conninfo, started, "ConversationStarted", data)


def two_shapes() -> tuple[Story, list[ConversationEvent]]:
    """Return a conversation that the previous release started.

    Today's release continued it, and started another one.
    """
    old, new = Story(title="Grüße"), Story(title="Later", metadata={"plan": "pro"})
    turn_events = [*old.ask("Why so?"), *old.complete("Because")]
    return old, [*turn_events, *new.events, *new.say(), *new.rename(title="Latest")]


async def test_every_shape_ever_stored_is_replayed_and_rebuilt(here: Store, prepared_url: str) -> None:
    events: list[Any] = []
    async with here.projecting(*PROJECTIONS) as progress:
        for stored in chain(*map(conversation, VERSIONS)):
            data = {field: value for field, value in stored.state.items() if field not in ENVELOPE_FIELDS}
            position = store_row(prepared_url, stored.event, stored.type, data)
            await here.feed.refresh()
            assert await progress.wait(position, PATIENCE_S) == []
            events.append(stored.event)
            check_read_models(prepared_url, events)
    async with opened_builder(prepared_url) as builder:
        switched = await rebuild(builder, PROJECTIONS)
    assert [each.compared and each.compared.differing for each in switched] == [0] * len(PROJECTIONS)
    check_read_models(prepared_url, events)


@pytest.mark.usefixtures("_today_is_later")
async def test_the_engine_upcasts_a_stored_row_of_an_older_shape(here: Store, prepared_url: str) -> None:
    old, later = two_shapes()
    store_older_shape(prepared_url, old)
    await here.append(later)
    await caught_up(here)
    check_read_models(prepared_url, [old.events[0], *later])
    shapes = "SELECT data -> 'class_version' FROM events WHERE type = 'ConversationStarted' ORDER BY position"
    assert rows(prepared_url, shapes) == [(None if OLDER == 1 else OLDER,), (OLDER + 1,)]


@pytest.mark.usefixtures("_today_is_later", "in_threads")
async def test_a_rebuild_upcasts_a_stored_row_of_an_older_shape(here: Store, prepared_url: str) -> None:
    old, later = two_shapes()
    store_older_shape(prepared_url, old)
    position = await here.append(later)
    async with opened_builder(prepared_url) as builder:
        await rebuild(builder, PROJECTIONS)
    check_read_models(prepared_url, [old.events[0], *later])
    loaded = "SELECT DISTINCT build, state, position FROM projections WHERE state = 'live'"
    assert rows(prepared_url, loaded) == [(2, "live", position)]


@pytest.mark.usefixtures("_today_is_later", "_no_model")
def test_a_server_shows_and_continues_a_conversation_of_an_older_shape(prepared_url: str) -> None:
    old = Story(title="Grüße", owner="local")
    store_older_shape(prepared_url, old)
    with ServedApp(prepared_url) as served, plain_http.Client(base_url=served.url, timeout=30) as http:
        api, path = Api(http), f"/v1/conversations/{old.id}"
        api.message(str(old.id), "Still here?")
        shown = http.get(path).json()
        assert (shown["title"], shown["metadata"], shown["message_count"]) == ("Grüße", {}, 1)
        renamed = http.patch(path, json={"metadata": {"plan": "pro"}}).json()
        assert (renamed["title"], renamed["metadata"]) == ("Grüße", {"plan": "pro"})
        assert [each["title"] for each in http.get("/v1/conversations").json()["data"]] == ["Grüße"]


@pytest.mark.usefixtures("_no_model")
def test_a_server_shows_and_sends_an_image_that_an_earlier_release_stored_in_its_event(prepared_url: str) -> None:
    old = Story(owner="local")
    (user_message,) = old.say()
    assert isinstance(user_message, MessageAdded)
    image = {"type": "image", "media_type": "image/gif", "data": "R0lGODlh"}
    data = {**user_message.model_dump(mode="json", exclude=set(ENVELOPE_FIELDS)), "content": [image]}
    with ServedApp(prepared_url) as served, plain_http.Client(base_url=served.url, timeout=30) as http:
        api, path = Api(http), f"/v1/conversations/{old.id}"
        started = old.events[0].model_dump(mode="json", exclude=set(ENVELOPE_FIELDS))
        store_row(prepared_url, old.events[0], "ConversationStarted", started)
        store_row(prepared_url, user_message, "MessageAdded", data)
        api.message(str(old.id), [image])
        assert [message["content"] for message in api.messages(str(old.id))] == [[image], [image]]
        assert api.get(f"{path}/messages/{user_message.message_id}")["content"] == [image]
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
"""The fields that each shape of an earlier release lacks."""


def store_as_release(conninfo: str, event: ConversationEvent, release: int) -> int:
    """Store a row as an earlier release would have, and return its position.

    A shape that the release had already is today's.
    """
    version = min(release, event.class_version)
    without = ENVELOPE_FIELDS | NOT_YET.get((event.TOPIC, version), set())
    shape = {} if version == 1 else {"class_version": version}
    return store_row(conninfo, event, event.TOPIC, {**shape, **event.model_dump(mode="json", exclude=set(without))})


def story_of_earlier_releases() -> tuple[Story, MessageAdded]:
    """Return a conversation that earlier releases could record.

    Its last turn is run by the client. Also return its deleted message.
    """
    story = Story(owner="local")
    story.ask("Why so?")
    story.stream("Be", "cause")
    story.complete("Because")
    deleted = story.messages()[-1]
    story.unsay(deleted.message_id)
    story.say("Be brief", "system")
    story.ask("Why not?", generate=False)
    story.stream("Well")
    return story, deleted


def store_snapshot_as_release(conninfo: str, story: Story) -> None:
    """Store a snapshot as the release before tools and queues did.

    It has another title, by which the test recognizes it.
    """
    snapshot = ConversationSnapshot.take(story.state).model_dump(mode="json", exclude={"originator_version"})
    state: dict[str, Any] = {**snapshot["state"], "title": "from the snapshot"}
    turn: dict[str, Any] = {
        "started_version": state["turn"]["first_version"],
        "started_at": state["updated_at"],
        **{field: state["turn"][field] for field in ("id", "user_message_id", "message_id", "model", "generate")},
    }
    older = {field: value for field, value in state.items() if field not in {"queue", "open_calls"}}
    data = {**snapshot, "class_version": 2, "state": {**older, "turn": turn}}
    columns: LiteralString = "INSERT INTO snapshots (aggregate, aggregate_id, version, type, data)"
    rows(
        conninfo,
        f"{columns} VALUES ('conversation', %s, %s, %s, %s::jsonb)",
        [story.id, story.state.version, ConversationSnapshot.TOPIC, to_json(data).decode()],
    )


def texts(api: Api, story: Story) -> list[str]:
    """Return the texts of the messages of a conversation, without an empty one."""
    return [block["text"] for message in api.messages(str(story.id)) for block in message["content"]]


@pytest.mark.usefixtures("_no_model")
@pytest.mark.parametrize("release", [1, 2])
def test_a_server_streams_and_continues_the_turns_of_an_earlier_release(prepared_url: str, release: int) -> None:
    story, deleted = story_of_earlier_releases()
    # Clients can run the model themselves since the second release.
    releases = [release if getattr(event, "generate", True) else 2 for event in story.events]
    *_, head = [store_as_release(prepared_url, event, then) for event, then in zip(story.events, releases, strict=True)]
    store_snapshot_as_release(prepared_url, story)
    first, last = (event for event in story.events if isinstance(event, TurnStarted))
    level = {"Turnlog-Position": str(head)}
    with ServedApp(prepared_url) as served, plain_http.Client(base_url=served.url, timeout=30, headers=level) as http:
        api, path = Api(http), f"/v1/conversations/{story.id}"
        with http.stream("GET", f"{path}/turns/{first.turn_id}/stream") as response:
            seen = list(frames_of(response))
        names = ["turn.started", "delta", "delta", "block.done", "turn.completed"]
        assert [frame.event for frame in seen] == names
        assert seen[0].data["user_message"]["content"] == [{"type": "text", "text": "Why so?"}]
        assert seen[-1].data["message"]["id"] == str(deleted.message_id)
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
