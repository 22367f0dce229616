"""Limits per owner, over two servers on one log."""

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import Hang
from tests.support.waiting import eventually

Servers = tuple[Api, Api]


@pytest.fixture
def limited(request: pytest.FixtureRequest, database_url: str, serve: Serve) -> Iterator[Servers]:
    """Two servers with the settings of the test."""
    with serve(database_url, **request.param) as one, serve(database_url, **request.param) as other:
        yield one, other


def check_limited(response: httpx.Response) -> int:
    """Check a refusal and return the seconds until the client may try again."""
    check_problem(response, 429, "RATE_LIMITED")
    return int(response.headers["retry-after"])


@pytest.mark.parametrize("limited", [{"limit_requests_per_minute": 20}], indirect=True)
def test_the_requests_of_a_minute_are_counted_over_all_servers(limited: Servers) -> None:
    answers = [api.http.get("/v1/conversations") for _ in range(20) for api in limited]
    passed = [answer for answer in answers if answer.status_code == 200]
    assert 10 < len(passed) <= 20
    assert {1 <= check_limited(answer) <= 60 for answer in answers if answer not in passed} == {True}
    for api in limited:
        check_limited(api.http.post("/v1/conversations", json={"unknown": 1}))
        for path in ("/healthz", "/readyz", "/metrics", "/", "/docs"):
            assert api.http.get(path).status_code == 200


@pytest.mark.parametrize("limited", [{"limit_running_turns": 2}], indirect=True)
def test_running_turns_are_counted_over_all_servers(limited: Servers, given_model: GivenModel) -> None:
    one, other = limited
    hanging = [Hang()]
    ids = [one.conversation()["id"] for _ in range(3)]
    with ExitStack() as stack:
        for api, id_ in zip(limited, ids, strict=False):
            answer = stack.enter_context(api.stream(id_, given_model(hanging)))
            assert next(answer.frames).event == "turn.started"
        for api in limited:
            assert check_limited(api.turn(ids[2], given_model(["Hi"]))) == 1
            check_limited(api.http.post("/v1/turns", json={"content": "Hi"}))
        # A refused turn has recorded nothing.
        assert one.messages(ids[2]) == []
        turn_id = one.get(f"/v1/conversations/{ids[0]}")["active_turn_id"]
        assert other.http.post(f"/v1/conversations/{ids[0]}/turns/{turn_id}/cancel").status_code == 200
        assert other.turn(ids[2], given_model(["Hi"])).status_code == 201
        assert one.turn(ids[2], given_model(["Hi"])).status_code == 201


@pytest.mark.parametrize("limited", [{"limit_running_turns": 1}], indirect=True)
def test_a_queued_turn_does_not_count_and_waits_for_the_limit(limited: Servers, given_model: GivenModel) -> None:
    one, other = limited
    first, second = (one.conversation()["id"] for _ in range(2))
    with one.stream(first, given_model([Hang()])) as running:
        turn_id = next(running.frames).data["turn_id"]
        with other.stream(first, given_model(["Queued"]), on_busy="queue") as queued:
            # The answer has begun, so the turn is queued.
            check_limited(other.turn(second, given_model(["Hi"])))
            assert one.http.post(f"/v1/conversations/{first}/turns/{turn_id}/cancel").status_code == 200
            assert [frame.event for frame in queued.frames][-1] == "turn.completed"
    assert one.turn(second, given_model(["Hi"])).status_code == 201


@pytest.mark.parametrize("limited", [{"limit_running_turns": 1}], indirect=True)
def test_a_turn_can_be_interrupted_at_the_limit(limited: Servers, given_model: GivenModel) -> None:
    one, other = limited
    id_ = one.conversation()["id"]
    with one.stream(id_, given_model([Hang()])) as running:
        assert next(running.frames).event == "turn.started"
        assert other.turn(id_, given_model(["Instead"]), on_busy="interrupt").status_code == 201
        assert [frame.event for frame in running.frames][-1] == "turn.cancelled"


@pytest.mark.parametrize("limited", [{"limit_running_turns": 1}], indirect=True)
@pytest.mark.parametrize("end", ["complete", "fail", "cancel", "delete"])
def test_a_turn_whose_client_runs_the_model_counts_until_it_ends(
    limited: Servers, given_model: GivenModel, end: str
) -> None:
    one, other = limited
    first, second = (one.conversation()["id"] for _ in range(2))
    turn = one.turn(first, "any", generate=False).json()
    check_limited(one.turn(second, given_model(["Hi"])))
    if end == "delete":
        assert other.http.delete(f"/v1/conversations/{first}").status_code == 204
    else:
        body = {"detail": "Broken."} if end == "fail" else {}
        path = f"/v1/conversations/{first}/turns/{turn['id']}/{end}"
        assert other.http.post(path, json=body).status_code == 200
    assert one.turn(second, given_model(["Hi"])).status_code == 201


@pytest.mark.parametrize("limited", [{"limit_running_turns": 1}], indirect=True)
def test_a_turn_that_waits_for_results_does_not_count(
    limited: Servers, calling_model: str, given_model: GivenModel
) -> None:
    one, other = limited
    first, second = (one.conversation()["id"] for _ in range(2))
    waiting = one.turn(first, calling_model).json()
    assert waiting["turn"]["status"] == "requires_action"
    calls = [block for block in waiting["assistant_message"]["content"] if block["type"] == "tool_use"]
    results = {"results": [{"tool_use_id": call["id"], "content": "1"} for call in calls]}
    path = f"/v1/conversations/{first}/turns/{waiting['turn']['id']}/tool_results"

    def started() -> bool:
        return other.turn(second, given_model(["Hi"])).status_code == 201

    eventually(started)  # the server that ran it may not have told the others yet
    with other.stream(second, given_model([Hang()])) as running:
        turn_id = next(running.frames).data["turn_id"]
        check_limited(one.http.post(path, json=results))
        assert other.http.post(f"/v1/conversations/{second}/turns/{turn_id}/cancel").status_code == 200
    assert one.http.post(path, json=results).json()["turn"]["status"] == "completed"


@pytest.mark.parametrize("limited", [{"limit_open_streams": 2}], indirect=True)
def test_open_streams_are_counted_over_all_servers(limited: Servers, given_model: GivenModel) -> None:
    one, other = limited
    id_ = one.conversation()["id"]
    with one.http.stream("GET", "/v1/events") as first:
        assert first.status_code == 200
        with other.stream(id_, given_model([Hang()])) as answer:
            turn_id = next(answer.frames).data["turn_id"]
            turn = f"/v1/conversations/{id_}/turns/{turn_id}"
            for path in ("/v1/events", f"/v1/conversations/{id_}/events", f"{turn}/stream"):
                assert check_limited(one.http.get(path)) == 1
                assert one.http.head(path).status_code == 200
            events = len(one.events(id_))
            body = {"content": "Hi", "stream": True}
            check_limited(other.http.post("/v1/turns", json=body))
            check_limited(other.http.post(f"/v1/conversations/{id_}/turns", json=body))
            assert len(one.events(id_)) == events
            assert one.http.post(f"{turn}/cancel").status_code == 200  # no stream
            assert [frame.event for frame in answer.frames][-1] == "turn.cancelled"

        def reopened() -> bool:
            with one.http.stream("GET", f"{turn}/stream") as again:
                return again.status_code == 200 and [frame.event for frame in frames_of(again)][-1] == "turn.cancelled"

        eventually(reopened)


@pytest.mark.parametrize("limited", [{"limit_open_streams": 1}], indirect=True)
def test_a_stream_whose_client_has_gone_does_not_count(limited: Servers) -> None:
    one, other = limited
    for api in (one, other, one):

        def opened(api: Api = api) -> bool:
            with api.http.stream("GET", "/v1/events") as feed:
                return feed.status_code == 200

        eventually(opened)


def test_without_limits_nothing_is_counted(api: Api) -> None:
    assert [api.http.get("/v1/conversations").status_code for _ in range(100)] == [200] * 100
