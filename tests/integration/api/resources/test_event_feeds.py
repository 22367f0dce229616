"""Live feeds of recorded events, resumable by position."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http import plain_http
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import Hang, Pause, Script
from tests.support.models.model_server import ModelServer

Item = dict[str, Any]


@contextmanager
def feed(api: Api, path: str, last_event_id: int | None = None, **parameters: Any) -> Generator[Iterator[Item]]:
    """Open a feed. An item has `event`, `data` and, for a recorded event, `id`."""
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    with (
        plain_http.Client(base_url=api.http.base_url, timeout=20) as http,
        http.stream("GET", path, params=parameters, headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield items(response.iter_lines())


def items(lines: Iterator[str]) -> Iterator[Item]:
    item: Item = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line == "":
            if item:
                yield item
            item = {}
        elif name == "data":
            item["data"] = json.loads(value)
        elif name:
            item[name] = value


def facts(seen: Iterator[Item], number: int) -> list[Any]:
    """Return the next recorded events and check that their ids, names and data agree."""
    found = list(islice((item for item in seen if "id" in item), number))
    for item in found:
        assert item["event"] == item["data"]["type"]
        assert item["id"] == str(item["data"]["position"])
    return [item["data"] for item in found]


def test_a_feed_of_a_conversation_starts_with_its_log(api: Api) -> None:
    id_ = api.conversation(messages=[{"role": "user", "content": "x"}] * 3)["id"]
    api.message(api.conversation()["id"])
    recorded = api.events(id_)
    for path, parameters in ((f"/v1/conversations/{id_}/events", {}), ("/v1/events", {"conversation_id": id_})):
        with feed(api, path, 0, **parameters) as seen:
            assert facts(seen, 4) == recorded
        with feed(api, path, recorded[1]["position"], **parameters) as seen:
            assert facts(seen, 2) == recorded[2:]


def test_a_feed_continues_with_new_events(api: Api) -> None:
    id_ = api.conversation()["id"]
    api.message(id_, "before")
    with feed(api, f"/v1/conversations/{id_}/events") as one, feed(api, "/v1/events", conversation_id=id_) as all_:
        for number in range(5):
            api.message(id_, f"{number}")
            for seen in (one, all_):
                (fact,) = facts(seen, 1)
                assert fact["data"]["content"] == [{"type": "text", "text": f"{number}"}]


def test_reconnects_neither_skip_nor_repeat_events(api: Api) -> None:
    id_ = api.conversation()["id"]
    last, found = 0, list[Any]()
    for number in range(6):
        api.message(id_, f"{number}")
        with feed(api, "/v1/events", last, conversation_id=id_) as seen:
            found += facts(seen, 2 if number == 0 else 1)
            last = found[-1]["position"]
    assert found == api.events(id_)


def test_the_server_filters_by_agent_and_type(api: Api) -> None:
    start = api.get("/readyz")["position"]
    mine = api.conversation(agent_id="feed-1", title="A")["id"]
    other = api.conversation(agent_id="feed-2")["id"]
    for id_ in (other, mine, other):
        api.message(id_)
    with feed(api, "/v1/events", start, agent_id="feed-1") as seen:
        assert [fact["type"] for fact in facts(seen, 2)] == ["ConversationStarted", "MessageAdded"]
    with feed(api, "/v1/events", start, type="MessageAdded") as seen:
        assert [fact["conversation_id"] for fact in facts(seen, 3)] == [other, mine, other]
    with feed(api, "/v1/events", start, type="MessageAdded", agent_id="feed-1") as seen:
        assert facts(seen, 1)[0]["conversation_id"] == mine
        api.message(other)
        api.message(mine, "at last")
        assert facts(seen, 1)[0]["data"]["content"][0]["text"] == "at last"


def test_two_devices_see_the_frames_and_the_events_of_a_turn(api: Api, given_model: GivenModel) -> None:
    id_ = api.conversation()["id"]
    model = given_model(["Hel", Pause(0.05), "lo"])
    with feed(api, f"/v1/conversations/{id_}/events") as one, feed(api, f"/v1/conversations/{id_}/events") as two:
        with api.stream(id_, model, content="Hi") as turn:
            streamed = [(frame.event, frame.data) for frame in turn.frames]
        for seen in (one, two):
            frames: list[Any] = []
            recorded: list[Any] = []
            while len(frames) < len(streamed) or len(recorded) < len(api.events(id_)) - 1:
                item = next(seen)
                (recorded if "id" in item else frames).append(item)
            assert [(frame["event"], frame["data"]) for frame in frames] == streamed
            assert [item["data"] for item in recorded] == api.events(id_)[1:]


def test_a_feed_that_is_opened_during_a_turn_gets_its_frames_from_the_first(
    api: Api, given_model: GivenModel, models: ModelServer
) -> None:
    id_ = api.conversation()["id"]
    model = given_model(Script(["so far", Hang()]))
    with api.stream(id_, model) as turn:
        assert [next(turn.frames).event for _ in range(2)] == ["turn.started", "delta"]
        with feed(api, f"/v1/conversations/{id_}/events") as seen:
            frames = islice((item for item in seen if "id" not in item), 2)
            assert [frame["event"] for frame in frames] == ["turn.started", "delta"]
            turn_id = api.get(f"/v1/conversations/{id_}")["active_turn_id"]
            api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel")
            assert "turn.cancelled" in (item["event"] for item in seen)


def test_large_events_are_complete_and_in_order(api: Api) -> None:
    id_ = api.conversation()["id"]
    for number in range(6):
        api.message(id_, f"{number}" * 400_000)
    recorded = api.events(id_)
    for path, parameters in ((f"/v1/conversations/{id_}/events", {}), ("/v1/events", {"conversation_id": id_})):
        with feed(api, path, 0, **parameters) as seen:
            assert facts(seen, 7) == recorded


def test_a_feed_without_a_position_starts_at_the_end_of_the_log(
    fresh_api: Api, serve: Serve, database_url: str
) -> None:
    fresh_api.conversation()
    with serve(database_url) as restarted, feed(restarted, "/v1/events") as seen:
        later = restarted.conversation()["id"]
        assert facts(seen, 1)[0]["conversation_id"] == later


def test_a_server_that_stops_ends_its_feeds(database_url: str, serve: Serve) -> None:
    with serve(database_url) as api:
        id_ = api.conversation()["id"]
        streams = [feed(api, path) for path in ("/v1/events", f"/v1/conversations/{id_}/events")]
        open_feeds = [stream.__enter__() for stream in streams]
    assert [list(seen) for seen in open_feeds] == [[], []]
    for stream in streams:
        stream.__exit__(None, None, None)


def test_a_deleted_conversation_still_has_a_feed(api: Api) -> None:
    id_ = api.conversation()["id"]
    api.http.delete(f"/v1/conversations/{id_}")
    with feed(api, f"/v1/conversations/{id_}/events", 0) as seen:
        assert [fact["type"] for fact in facts(seen, 2)] == ["ConversationStarted", "ConversationDeleted"]


def test_a_feed_of_an_unknown_conversation_is_refused(api: Api) -> None:
    unknown = "01900000-0000-7000-8000-000000000000"
    for path in (f"/v1/conversations/{unknown}/events", f"/v1/events?conversation_id={unknown}"):
        check_problem(api.http.get(path), 404, "CONVERSATION_NOT_FOUND")


@pytest.mark.parametrize("bad", ["x", "-1", "1.5", "1" * 19, "²"])
def test_an_id_that_is_not_a_number_is_refused(api: Api, bad: str) -> None:
    id_ = api.conversation()["id"]
    for path in ("/v1/events", f"/v1/conversations/{id_}/events"):
        response = api.http.get(path, headers={b"Last-Event-ID": bad.encode()})
        problem = check_problem(response, 422, "VALIDATION_FAILED")
        assert problem["errors"][0]["loc"] == ["header", "Last-Event-ID"]


@pytest.mark.parametrize("query", ["type=Nothing", "conversation_id=x", "agent_id=a%20b", "owner_id=bob"])
def test_an_invalid_filter_is_refused(api: Api, query: str) -> None:
    check_problem(api.http.get(f"/v1/events?{query}"), 422, "VALIDATION_FAILED")
