"""Reads with `as_of` answer what the same request was answered then."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.events import ConversationEvent
from tests.integration.api.conftest import GivenModel
from tests.integration.api.resources.test_images import IMAGE
from tests.support.histories.builders import Story
from tests.support.http.api_client import Api
from tests.support.http.refusals import check_invalid
from tests.support.http.resources import check_position, check_problem
from tests.support.store import opened, value
from tests.support.waiting import eventually

PATHS = [
    "/v1/conversations",
    "/v1/conversations/{id}",
    "/v1/conversations/{id}/messages",
    "/v1/conversations/{id}/messages/{message}",
    "/v1/conversations/{id}/context",
    "/v1/agents",
    "/v1/agents/{label}",
]


class Place:
    """A conversation with an agent of its own, whose answers are remembered."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.label = f"agent-{uuid4().hex}"
        message = {"role": "user", "content": "Hello"}
        self.defined = api.http.put(f"/v1/agents/{self.label}", json={"system_prompt": "Be brief."})
        started = api.conversation(agent_id=self.label, title="First", messages=[message])
        self.path = f"/v1/conversations/{started['id']}"
        (said,) = api.messages(started["id"])
        self.ids = {"label": self.label, "id": started["id"], "message": said["id"]}
        self.then: dict[int, dict[str, Any]] = {}

    def remember(self, response: httpx.Response) -> None:
        """Remember what all requests are answered at the position of a write."""
        self.then[check_position(response)] = self.answers()

    def answers(self, **as_of: Any) -> dict[str, Any]:
        """Return what all requests are answered, now or as of a moment."""
        given: dict[str, dict[str, Any]] = {
            "/v1/conversations": {"agent_id": self.label, "sort": "created"},
            "/v1/conversations/{id}/messages": {"order": "desc", "include": "superseded"},
        }
        found: dict[str, Any] = {}
        for path in PATHS:
            response = self.api.http.get(path.format(**self.ids), params={**given.get(path, {}), **as_of})
            found[path] = (response.status_code, response.json(), response.headers.get("etag"))
        return found


def test_each_request_is_answered_as_it_was_after_each_write(fresh_api: Api, given_model: GivenModel) -> None:
    place, http = Place(fresh_api), fresh_api.http
    path, message, agent = place.path, place.ids["message"], f"/v1/agents/{place.label}"
    place.remember(http.patch(path, json={"title": "Second", "metadata": {"n": 1}}))
    place.remember(http.post(f"{path}/messages", json={"role": "assistant", "content": "Hi"}))
    answered = fresh_api.turn(place.ids["id"], given_model(["Good", " day"]))
    place.remember(answered)
    place.remember(http.put(agent, json={"system_prompt": "Explain.", "temperature": 0.5}))
    again = f"{path}/messages/{answered.json()['user_message']['id']}/regenerate"
    place.remember(http.post(again, json={"model": given_model(["Good evening"])}))
    edit = {"content": "Hello again", "replace_from": message, "model": given_model(["Yes?"])}
    place.remember(http.post(f"{path}/turns", json=edit))
    place.remember(http.delete(f"{path}/messages/{message}"))
    place.remember(http.delete(agent))
    place.remember(http.delete(path))
    for position, answers in place.then.items():
        then = place.answers(as_of=position)
        for request, answer in answers.items():
            assert then[request] == answer, (position, request)
    conversation, shown_message = "/v1/conversations/{id}", "/v1/conversations/{id}/messages/{message}"
    statuses = [(answers[conversation][0], answers[shown_message][0]) for answers in place.then.values()]
    assert statuses == [*[(200, 200)] * 6, *[(200, 404)] * 2, (410, 410)]
    assert place.answers(as_of=3)[conversation][1]["title"] == "First"
    assert place.answers(as_of=1)[conversation][0] == 404
    assert place.answers(as_of=1)["/v1/agents/{label}"][1] == place.defined.json()


def test_every_position_of_a_turn_can_be_read_while_it_runs_and_later(fresh_api: Api) -> None:
    id_ = fresh_api.conversation()["id"]
    path = f"/v1/conversations/{id_}"
    begun = fresh_api.http.post(f"{path}/turns", json={"content": "Hello", "generate": False})
    turn = f"{path}/turns/{begun.json()['id']}"
    then = {check_position(begun): (fresh_api.get(path), fresh_api.messages(id_))}
    for seq, chunk in ((2, "Be"), (3, "cause")):
        position = check_position(fresh_api.http.post(f"{turn}/deltas", json={"seq": seq, "chunks": [chunk]}))
        then[position] = (fresh_api.get(path), fresh_api.messages(id_))
    position = check_position(fresh_api.http.post(f"{turn}/complete", json={}))
    then[position] = (fresh_api.get(path), fresh_api.messages(id_))
    for at, (conversation, messages) in then.items():
        assert fresh_api.get(path, as_of=at) == conversation
        assert fresh_api.messages(id_, as_of=at) == messages
        answer = messages[-1]
        assert fresh_api.get(f"{path}/messages/{answer['id']}", as_of=at) == answer
    texts = [["".join(block["text"] for block in messages[-1]["content"])] for _, messages in then.values()]
    assert texts == [[""], ["Be"], ["Because"], ["Because"]]
    assert [messages[-1]["status"] for _, messages in then.values()] == [*["streaming"] * 3, "completed"]


def test_a_time_means_the_last_event_recorded_by_then(fresh_api: Api) -> None:
    created = fresh_api.conversation(title="First")
    path = f"/v1/conversations/{created['id']}"
    renamed = fresh_api.http.patch(path, json={"title": "Second"}).json()
    assert fresh_api.get(path, as_of=created["updated_at"]) == created
    assert fresh_api.get(path, as_of=renamed["updated_at"]) == renamed
    before = datetime.fromisoformat(created["created_at"]) - timedelta(microseconds=1)
    check_problem(fresh_api.http.get(path, params={"as_of": before.isoformat()}), 404, "CONVERSATION_NOT_FOUND")
    assert fresh_api.get("/v1/conversations", as_of=before.isoformat()) == {"data": [], "next_cursor": None}


def test_an_answer_names_its_position_and_its_version(fresh_api: Api) -> None:
    created = fresh_api.conversation(title="First")
    path = f"/v1/conversations/{created['id']}"
    renamed = fresh_api.http.patch(path, json={"title": "Second"})
    then = fresh_api.http.get(path, params={"as_of": created["updated_at"]})
    assert (then.headers["turnlog-position"], then.headers["etag"]) == ("1", '"1"')
    for each in ("/v1/conversations", "/v1/agents", f"{path}/messages", f"{path}/context"):
        assert fresh_api.http.get(each, params={"as_of": "2"}).headers["turnlog-position"] == "2"
    assert "turnlog-position" not in fresh_api.http.get(path).headers
    headers = {"If-Match": then.headers["etag"]}
    check_problem(fresh_api.http.patch(path, json={"title": "x"}, headers=headers), 412, "VERSION_MISMATCH")
    assert fresh_api.http.head(path, params={"as_of": "1"}).headers["etag"] == '"1"'
    assert fresh_api.get(path) == renamed.json()


@pytest.fixture(scope="module")
def known(api: Api) -> dict[str, str]:
    """The ids of a conversation with messages, and of an agent. Read only."""
    label = f"agent-{uuid4().hex}"
    api.http.put(f"/v1/agents/{label}", json={})
    id_ = api.conversation(messages=[{"role": "user", "content": str(number)} for number in range(5)])["id"]
    return {"id": id_, "label": label, "message": api.messages(id_)[0]["id"]}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("as_of", ["999999999999", "9999-01-01T00:00:00Z"])
def test_the_future_cannot_be_read(api: Api, known: dict[str, str], path: str, as_of: str) -> None:
    check_problem(api.http.get(path.format(**known), params={"as_of": as_of}), 400, "INVALID_AS_OF")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("as_of", ["", "-1", "1.5", "yesterday", "2026-01-01", "1" * 19, "٣", "null"])
def test_what_is_no_moment_is_refused(api: Api, known: dict[str, str], path: str, as_of: str) -> None:
    check_invalid(api.http.get(path.format(**known), params={"as_of": as_of}), "query", "as_of")


@pytest.mark.parametrize("path", PATHS)
def test_before_the_beginning_nothing_exists(api: Api, known: dict[str, str], path: str) -> None:
    for as_of in ("0", "1970-01-01T00:00:00Z"):
        response = api.http.get(path.format(**known), params={"as_of": as_of})
        if path in {"/v1/conversations", "/v1/agents"}:
            assert response.json() == {"data": [], "next_cursor": None}
            assert response.headers["turnlog-position"] == "0"
        else:
            check_problem(response, 404, "AGENT_NOT_FOUND" if "agents" in path else "CONVERSATION_NOT_FOUND")


def test_the_filters_and_orders_are_those_of_then(fresh_api: Api) -> None:
    one = fresh_api.conversation(title="b", metadata={"k": "v"})
    fresh_api.conversation(title="a")
    position = value_of_head(fresh_api)
    fresh_api.http.patch(f"/v1/conversations/{one['id']}", json={"title": "0", "metadata": {}})
    fresh_api.message(one["id"])
    fresh_api.conversation(title="c")
    requests: list[tuple[dict[str, str], list[str]]] = [
        ({}, ["a", "b"]),
        ({"sort": "created"}, ["a", "b"]),
        ({"sort": "title"}, ["a", "b"]),
        ({"q": "B"}, ["b"]),
        ({"metadata.k": "v"}, ["b"]),
        ({"status": "running"}, []),
        ({"active_after": one["created_at"]}, ["a"]),
        ({"active_before": "2999-01-01T00:00:00Z", "status": "idle"}, ["a", "b"]),
    ]
    for parameters, titles in requests:
        page = fresh_api.get("/v1/conversations", as_of=position, **parameters)
        assert [each["title"] for each in page["data"]] == titles, parameters
    assert fresh_api.get("/v1/conversations", as_of=position, q="0")["data"] == []


def value_of_head(api: Api) -> int:
    """Return the position of the last event."""
    return int(api.get("/readyz")["position"])


@pytest.mark.parametrize("sort", ["active", "created", "title"])
def test_all_pages_of_a_listing_are_of_one_moment(fresh_api: Api, sort: str) -> None:
    ids = [fresh_api.conversation(title=f"t{number}")["id"] for number in range(7)]
    position = value_of_head(fresh_api)
    expected = ids if sort == "title" else ids[::-1]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = fresh_api.get("/v1/conversations", as_of=position, limit=2, sort=sort, **cursor)
        seen += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        # Each of these would move the pages of now.
        fresh_api.conversation(title="0")
        fresh_api.message(ids[0])
        fresh_api.http.patch(f"/v1/conversations/{ids[3]}", json={"title": "z"})
    assert seen == expected


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_all_pages_of_messages_are_of_one_moment(fresh_api: Api, order: str) -> None:
    id_ = fresh_api.conversation(messages=[{"role": "user", "content": str(number)} for number in range(9)])["id"]
    position = value_of_head(fresh_api)
    then = [message["id"] for message in fresh_api.messages(id_, order=order)]
    fresh_api.http.delete(f"/v1/conversations/{id_}/messages/{then[4]}")
    fresh_api.message(id_)
    pages = fresh_api.pages(f"/v1/conversations/{id_}/messages", as_of=position, limit=4, order=order)
    assert [message["id"] for page in pages for message in page] == then


def test_a_cursor_is_valid_at_its_moment_only(fresh_api: Api) -> None:
    messages = [{"role": "user", "content": str(number)} for number in range(4)]
    fresh_api.conversation()
    id_ = fresh_api.conversation(messages=messages)["id"]
    for label in ("a", "b"):
        fresh_api.http.put(f"/v1/agents/{label}", json={})
    fresh_api.conversation()
    head = value_of_head(fresh_api)
    at = fresh_api.get(f"/v1/conversations/{id_}")["updated_at"]
    for path in ("/v1/conversations", f"/v1/conversations/{id_}/messages", "/v1/agents"):
        given: list[dict[str, Any]] = [{}, {"as_of": head}, {"as_of": head - 1}]
        if path.endswith("messages"):
            given.append({"as_of": at})
        cursors = [fresh_api.get(path, limit=1, **each)["next_cursor"] for each in given]
        assert all(cursors)
        for number, cursor in enumerate(cursors):
            for other, each in enumerate(given):
                response = fresh_api.http.get(path, params={"cursor": cursor, "limit": 1, **each})
                if number == other:
                    assert response.status_code == 200
                else:
                    check_problem(response, 400, "INVALID_CURSOR")


def test_a_time_is_the_same_however_it_is_written(fresh_api: Api) -> None:
    id_ = fresh_api.conversation(messages=[{"role": "user", "content": "x"}] * 3)["id"]
    at = datetime.fromisoformat(fresh_api.get(f"/v1/conversations/{id_}")["updated_at"])
    path = f"/v1/conversations/{id_}/messages"
    cursor = fresh_api.get(path, limit=1, as_of=at.isoformat())["next_cursor"]
    elsewhere = (at + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%f+02:00")
    assert len(fresh_api.get(path, cursor=cursor, as_of=elsewhere)["data"]) == 2


def test_later_pages_of_a_time_do_not_show_what_was_recorded_since(fresh_api: Api, database_url: str) -> None:
    """An event decided before a time may be recorded after the first page was read."""
    for number in range(3):
        fresh_api.conversation(title=f"t{number}")
    at = datetime.now(UTC)
    eventually(lambda: fresh_api.http.get("/v1/conversations", params={"as_of": at.isoformat()}).status_code == 200)
    first = fresh_api.http.get("/v1/conversations", params={"as_of": at.isoformat(), "limit": "2", "sort": "title"})
    late = Story(owner="local", title="t9", begins=at - timedelta(hours=1))
    asyncio.run(append(database_url, late.events))
    given = {"as_of": at.isoformat(), "limit": "2", "sort": "title"}
    second = fresh_api.http.get("/v1/conversations", params={**given, "cursor": first.json()["next_cursor"]})
    assert [each["title"] for each in second.json()["data"]] == ["t2"]
    assert second.headers["turnlog-position"] == first.headers["turnlog-position"]
    assert len(fresh_api.get("/v1/conversations", as_of=at.isoformat())["data"]) == 4


async def append(conninfo: str, events: Sequence[ConversationEvent]) -> None:
    async with opened(conninfo) as store:
        await store.append(events)


def test_images_of_the_past_have_their_bytes(api: Api) -> None:
    id_ = api.conversation()["id"]
    sent = api.http.post(f"/v1/conversations/{id_}/messages", json={"role": "user", "content": [IMAGE]})
    position, path = check_position(sent), f"/v1/conversations/{id_}/messages/{sent.json()['id']}"
    api.http.delete(path)
    assert api.get(path, as_of=position)["content"] == [IMAGE]
    assert api.messages(id_, as_of=position)[0]["content"] == [IMAGE]
    (sent_to_model,) = api.get(f"/v1/conversations/{id_}/context", as_of=position)["messages"]
    assert IMAGE["data"] in str(sent_to_model)


@pytest.mark.usefixtures("broken_listing")
def test_the_past_is_read_from_the_log_where_a_read_model_is_stopped(fresh_api: Api, database_url: str) -> None:
    started = fresh_api.http.post("/v1/conversations", json={"title": "Poison"})
    path = f"/v1/conversations/{started.json()['id']}"
    check_problem(fresh_api.http.get(path), 404, "CONVERSATION_NOT_FOUND")
    position = value(database_url, "SELECT position FROM head")
    assert fresh_api.get(path, as_of=position) == started.json()
    assert fresh_api.get("/v1/conversations", as_of=position)["data"] == [started.json()]
