"""Events of a newer release are refused or shown as stored. All else is served."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.events import ConversationDeleted
from tests.integration.api.conftest import GivenModel
from tests.integration.api.resources.test_event_feeds import facts, feed
from tests.support.histories.releases import store_row
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import Hang, Script
from tests.support.store import value
from tests.support.waiting import eventually

UNKNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "a type": ("BrandNew", {"words": "Psst"}),
    "a version": ("MessageAdded", {"class_version": 99, "words": "Psst"}),
    "a shape": ("MessageAdded", {"words": "no message"}),
    "the end of a turn": ("TurnCompleted", {"class_version": 99}),
}
NO_ID = "01900000-0000-7000-8000-000000000000"
COMMANDS: dict[str, tuple[str, str, Any]] = {
    "add a message": ("POST", "/messages", {"role": "user", "content": "x"}),
    "rename": ("PATCH", "", {"title": "x"}),
    "start a turn": ("POST", "/turns", {"content": "x"}),
    "queue a turn": ("POST", "/turns", {"content": "x", "on_busy": "queue"}),
    "start a turn of a client": ("POST", "/turns", {"content": "x", "generate": False}),
    "cancel a turn": ("POST", f"/turns/{NO_ID}/cancel", {}),
    "answer again": ("POST", f"/messages/{NO_ID}/regenerate", {}),
    "delete a message": ("DELETE", f"/messages/{NO_ID}", None),
    "delete": ("DELETE", "", None),
}


def write_unknown(conninfo: str, conversation_id: str, unknown: str) -> int:
    """Append an event as a newer release would, and return its position."""
    last = value(conninfo, "SELECT max(version) FROM events WHERE aggregate_id = %s", [conversation_id])
    place: dict[str, Any] = {"originator_id": UUID(conversation_id), "originator_version": last + 1}
    event = ConversationDeleted(**place, timestamp=datetime.now(UTC), actor="user:local")
    return store_row(conninfo, event, *UNKNOWN[unknown])


def check_refused(response: httpx.Response) -> None:
    problem = check_problem(response, 503, "STORE_UNAVAILABLE")
    assert problem["detail"].startswith("The log holds an event of a newer release: ")
    assert "retry-after" not in response.headers


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_commands_on_a_conversation_with_unknown_events_are_refused(
    fresh_api: Api, database_url: str, unknown: str
) -> None:
    known, fresh = (fresh_api.conversation(messages=[{"role": "user", "content": "x"}])["id"] for _ in range(2))
    fresh_api.message(known)  # so that its state is in the cache
    for id_ in (known, fresh):
        write_unknown(database_url, id_, unknown)
    last = value(database_url, "SELECT position FROM head")
    for id_ in (known, fresh):
        for method, path, body in COMMANDS.values():
            check_refused(fresh_api.http.request(method, f"/v1/conversations/{id_}{path}", json=body))
    assert value(database_url, "SELECT position FROM head") == last


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_other_conversations_are_served_as_before(fresh_api: Api, database_url: str, unknown: str) -> None:
    id_, other = fresh_api.conversation()["id"], fresh_api.conversation()["id"]
    write_unknown(database_url, id_, unknown)
    http, path = fresh_api.http, f"/v1/conversations/{other}"
    written = http.post(f"{path}/messages", json={"role": "user", "content": "x"})
    assert written.status_code == 201
    answered = http.post(f"{path}/turns", json={"content": "Hi"})
    if unknown in {"a version", "a shape"}:
        # The context is a read model that uses messages. It is stopped, so no model can be called.
        problem = check_problem(answered, 502, "MODEL_ERROR", "error", "conversation_id", "turn_id")
        assert problem["error"]["code"] == "model_unavailable"
    else:
        assert (answered.status_code, answered.json()["turn"]["status"]) == (201, "completed")
    if unknown != "a type":
        return  # the read models that use the type are stopped
    assert "turnlog-behind" not in {*written.headers, *answered.headers}
    position = answered.headers["turnlog-position"]
    shown = http.get(path, headers={"Turnlog-Position": position})
    assert (shown.status_code, shown.json()["message_count"]) == (200, 3)
    assert fresh_api.get(f"/v1/conversations/{fresh_api.conversation(title='new')['id']}")["title"] == "new"
    assert not any(each["stopped"] for each in fresh_api.get("/readyz")["projections"].values())


def test_a_newer_shape_is_reported_to_operators(fresh_api: Api, database_url: str) -> None:
    position = write_unknown(database_url, fresh_api.conversation()["id"], "a version")
    fresh_api.conversation()
    projections = eventually(
        lambda: (found := fresh_api.get("/readyz")["projections"])["listing"]["stopped"] and found  # type: ignore[return-value]
    )
    assert {name for name, each in projections.items() if each["stopped"]} == {"listing", "history", "context"}
    status = fresh_api.get("/v1/projections/listing")
    assert (status["position"], status["error"]["position"]) == (position - 1, position)
    written = fresh_api.http.post("/v1/conversations", json={})
    assert set(written.headers["turnlog-behind"].split(", ")) == {"listing", "history", "context"}


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_conversation_with_unknown_events_is_read_up_to_them(
    fresh_api: Api, database_url: str, unknown: str, given_model: GivenModel
) -> None:
    id_ = fresh_api.conversation(title="known")["id"]
    turn = fresh_api.turn(id_, given_model(["Hel", "lo"])).json()["turn"]
    write_unknown(database_url, id_, unknown)
    path = f"/v1/conversations/{id_}"
    assert fresh_api.get(path)["title"] == "known"
    assert len(fresh_api.messages(id_)) == len(fresh_api.get(f"{path}/context")["messages"]) == 2
    assert fresh_api.get(f"{path}/turns/{turn['id']}") == turn
    with fresh_api.http.stream("GET", f"{path}/turns/{turn['id']}/stream") as response:
        assert [frame.event for frame in frames_of(response)][-1] == "turn.completed"
    type_name, data = UNKNOWN[unknown]
    shown = fresh_api.events(id_)[-1]
    assert (shown["type"], shown["data"]) == (type_name, data)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_the_past_before_an_unknown_event_is_read(fresh_api: Api, database_url: str, unknown: str) -> None:
    id_ = fresh_api.conversation(title="known", messages=[{"role": "user", "content": "x"}])["id"]
    paths = [f"/v1/conversations/{id_}{rest}" for rest in ("", "/messages", "/context")]
    before = [fresh_api.get(path) for path in paths]
    position = write_unknown(database_url, id_, unknown)
    assert [fresh_api.get(path, as_of=position - 1) for path in paths] == before
    since = [fresh_api.http.get(path, params={"as_of": position}) for path in paths]
    if unknown == "a type":
        assert [response.json() for response in since] == before
    else:
        refused = [response for response in since if response.status_code != 200]
        assert refused
        for response in refused:
            check_refused(response)


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_feeds_show_unknown_events_as_stored_and_continue(fresh_api: Api, database_url: str, unknown: str) -> None:
    id_, other = fresh_api.conversation()["id"], fresh_api.conversation()["id"]
    write_unknown(database_url, id_, unknown)
    with feed(fresh_api, "/v1/events", 0) as every, feed(fresh_api, f"/v1/conversations/{id_}/events", 0) as one:
        assert facts(every, 3)[-1] == facts(one, 2)[-1] == fresh_api.events(id_)[-1]
        write_unknown(database_url, id_, unknown)
        fresh_api.http.post(f"/v1/conversations/{other}/messages", json={"role": "user", "content": "x"})
        assert facts(one, 1) == [fresh_api.events(id_)[-1]]
        assert facts(every, 2) == [fresh_api.events(id_)[-1], fresh_api.events(other)[-1]]


def test_live_turns_and_queues_of_other_conversations_continue(
    fresh_api: Api, database_url: str, given_model: GivenModel
) -> None:
    id_, other = fresh_api.conversation()["id"], fresh_api.conversation()["id"]
    hanging, model = given_model(Script(["so far", Hang()])), given_model(["Hello"])
    with fresh_api.stream(other, hanging) as turn, fresh_api.stream(other, model, on_busy="queue") as queued:
        first = [next(turn.frames) for _ in range(2)]
        write_unknown(database_url, id_, "a type")
        fresh_api.http.post(f"/v1/conversations/{other}/turns/{first[0].data['turn_id']}/cancel")
        assert [frame.event for frame in turn.frames][-1:] == ["turn.cancelled"]
        assert [frame.event for frame in islice(queued.frames, 9)][-1] == "turn.completed"


def test_a_queued_turn_behind_an_unknown_event_is_left_to_a_newer_release(
    fresh_api: Api, database_url: str, given_model: GivenModel, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = fresh_api.conversation()["id"]
    with fresh_api.stream(id_, given_model(Script(["so far", Hang()]))) as turn:
        assert [next(turn.frames).event for _ in range(2)] == ["turn.started", "delta"]
        with fresh_api.stream(id_, given_model(["Hello"]), on_busy="queue"):
            # After this the turn records nothing more, so the version of the event is free.
            eventually(lambda: any(event["type"] == "StreamDelta" for event in fresh_api.events(id_)))
            write_unknown(database_url, id_, "the end of a turn")
            fresh_api.conversation()  # the server learns the position of the log from this write
            eventually(lambda: "is left to a newer release" in caplog.text)
    fresh_api.conversation()
    check_refused(fresh_api.http.patch(f"/v1/conversations/{id_}", json={"title": "x"}))
