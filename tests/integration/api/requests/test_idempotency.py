"""A repeated Idempotency-Key gives one effect and one answer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.http import route
from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_problem
from tests.support.models.model_scripts import BreakOff, Hang, Pause, Script


@pytest.fixture
def key() -> dict[str, str]:
    """A header with a key for this test."""
    return {"Idempotency-Key": uuid4().hex}


def at_once(request: Callable[[], httpx.Response], times: int = 6) -> list[httpx.Response]:
    barrier = Barrier(times)

    def ask(_: int) -> httpx.Response:
        barrier.wait()
        return request()

    with ThreadPoolExecutor(times) as executor:
        return list(executor.map(ask, range(times)))


def check_same(first: httpx.Response, *others: httpx.Response) -> None:
    for response in others:
        assert (response.status_code, response.content) == (first.status_code, first.content)
        assert response.headers["turnlog-position"] == first.headers["turnlog-position"]
        assert response.headers["content-type"] == first.headers["content-type"]


def test_a_repeated_start_gives_the_first_conversation(api: Api, key: dict[str, str]) -> None:
    body = {"title": "T", "metadata": {"b": 1, "a": 2.0}, "messages": [{"role": "user", "content": "x"}] * 3}
    first = api.http.post("/v1/conversations", json=body, headers=key)
    path = f"/v1/conversations/{first.json()['id']}"
    api.http.patch(path, json={"title": "Changed"})
    again = api.http.post("/v1/conversations", json=body, headers=key)
    assert again.json() == first.json()
    assert again.status_code == 201
    assert again.headers["turnlog-position"] == first.headers["turnlog-position"]
    assert len(api.events(first.json()["id"])) == 5


def test_a_repeated_message_gives_the_first_one(api: Api, id_: str, key: dict[str, str]) -> None:
    path, body = f"/v1/conversations/{id_}/messages", {"role": "user", "content": "x"}
    first = api.http.post(path, json=body, headers=key)
    api.message(id_)
    check_same(first, api.http.post(path, json=body, headers=key))
    assert len(api.messages(id_)) == 2


def test_a_repeated_request_is_answered_after_its_conversation_is_deleted(
    api: Api, id_: str, key: dict[str, str]
) -> None:
    path, body = f"/v1/conversations/{id_}/messages", {"role": "user", "content": "x"}
    first = api.http.post(path, json=body, headers=key)
    api.http.delete(f"/v1/conversations/{id_}")
    check_same(first, api.http.post(path, json=body, headers=key))


def test_a_repeated_turn_gives_the_first_answer(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel
) -> None:
    path, body = f"/v1/conversations/{id_}/turns", {"content": "x", "model": given_model(["Hel", "lo"])}
    first = api.http.post(path, json=body, headers=key)
    api.message(id_)
    check_same(first, api.http.post(path, json=body, headers=key))
    assert api.get(f"/v1/conversations/{id_}")["message_count"] == 3


def test_a_repeated_turn_that_failed_gives_the_first_failure(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel
) -> None:
    path, body = f"/v1/conversations/{id_}/turns", {"content": "x", "model": given_model(["Hel", BreakOff()])}
    first = api.http.post(path, json=body, headers=key)
    assert first.status_code == 502
    check_same(first, api.http.post(path, json=body, headers=key))


def test_a_repeated_turn_in_a_new_conversation_starts_only_one(
    api: Api, key: dict[str, str], given_model: GivenModel
) -> None:
    agent, model = f"agent-{uuid4().hex[:12]}", given_model(["Hello"])
    body = {"content": "x", "model": model, "agent_id": agent}
    first = api.http.post("/v1/turns", json=body, headers=key)
    check_same(first, api.http.post("/v1/turns", json=body, headers=key))
    assert len(api.get("/v1/conversations", agent_id=agent)["data"]) == 1


def test_a_repeated_streaming_turn_gives_the_same_frames(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel
) -> None:
    path = f"/v1/conversations/{id_}/turns"
    body = {"content": "x", "model": given_model(["Hel", "lo"]), "stream": True}
    first = api.http.post(path, json=body, headers=key)
    api.message(id_)
    check_same(first, api.http.post(path, json=body, headers=key))


def test_a_repeated_streaming_turn_attaches_to_the_running_one(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel
) -> None:
    model = given_model(["Hel", Pause(0.5), "lo"])
    with api.stream(id_, model, key) as first:
        first_frames = [next(first.frames), next(first.frames)]
        with api.stream(id_, model, key) as second:
            assert [next(second.frames), next(second.frames)] == first_frames
            assert list(second.frames) == list(first.frames)


def test_a_repeated_cancel_gives_the_cancelled_turn(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel
) -> None:
    with api.stream(id_, given_model(["Hel", Hang()])) as turn:
        turn_id = [next(turn.frames), next(turn.frames)][0].data["turn_id"]
        path = f"/v1/conversations/{id_}/turns/{turn_id}/cancel"
        answers = at_once(lambda: api.http.post(path, headers=key))
    assert answers[0].json()["status"] == "cancelled"
    check_same(answers[0], *answers[1:])
    api.message(id_)
    check_same(answers[0], api.http.post(path, headers=key))
    assert [event["type"] for event in api.events(id_)].count("TurnCancelled") == 1


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/{id}/messages"])
def test_concurrent_repeats_of_a_request_have_one_effect(api: Api, id_: str, key: dict[str, str], path: str) -> None:
    bodies: dict[str, Any] = {"/v1/conversations": {"title": "T"}}
    body = bodies.get(path, {"role": "user", "content": "x"})
    answers = at_once(lambda: api.http.post(path.format(id=id_), json=body, headers=key))
    assert answers[0].status_code == 201
    check_same(*answers)
    assert len(api.messages(id_)) == (0 if path == "/v1/conversations" else 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/turns", "/v1/conversations/{id}/turns"])
def test_concurrent_repeats_of_a_turn_start_one_turn(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel, path: str, stream: bool
) -> None:
    model = given_model(Script(["a", "b", "c"], delay_s=0.05))
    body = {"content": "x", "model": model, "stream": stream}
    answers = at_once(lambda: api.http.post(path.format(id=id_), json=body, headers=key))
    assert answers[0].status_code == (200 if stream else 201), answers[0].text
    check_same(*answers)
    if stream:
        assert [frame.event for frame in frames_of(answers[0])][-1] == "turn.completed"


def test_a_key_with_another_request_is_refused(api: Api, id_: str, key: dict[str, str]) -> None:
    path = f"/v1/conversations/{id_}/messages"
    api.http.post(path, json={"role": "user", "content": "x"}, headers=key)
    others: list[tuple[str, dict[str, Any]]] = [
        (path, {"role": "user", "content": "y"}),
        ("/v1/conversations", {"title": "T"}),
        (f"/v1/conversations/{api.conversation()['id']}/messages", {"role": "user", "content": "x"}),
        (f"/v1/conversations/{id_}/turns", {"content": "x"}),
    ]
    for other, body in others:
        response = api.http.post(other, json=body, headers=key)
        check_problem(response, 422, "IDEMPOTENCY_KEY_REUSED")
    assert len(api.messages(id_)) == 1


def test_a_refused_request_does_not_use_up_its_key(api: Api, id_: str, key: dict[str, str]) -> None:
    path = f"/v1/conversations/{id_}/messages"
    check_problem(api.http.post(path, json={"role": "user"}, headers=key), 422, "VALIDATION_FAILED")
    missing = f"/v1/conversations/{uuid4()}/messages"
    body = {"role": "user", "content": "x"}
    check_problem(api.http.post(missing, json=body, headers=key), 404, "CONVERSATION_NOT_FOUND")
    assert api.http.post(path, json=body, headers=key).status_code == 201


def test_keys_are_known_after_a_restart(
    database_url: str, serve: Serve, key: dict[str, str], given_model: GivenModel
) -> None:
    model = given_model(["Hel", "lo"])
    with serve(database_url) as api:
        id_ = api.conversation()["id"]
        requests: list[tuple[str, dict[str, Any]]] = [
            ("/v1/conversations", {"title": "T"}),
            (f"/v1/conversations/{id_}/messages", {"role": "user", "content": "x"}),
            (f"/v1/conversations/{id_}/turns", {"content": "x", "model": model}),
            (f"/v1/conversations/{id_}/turns", {"content": "y", "model": model, "stream": True}),
        ]
        keys = [{"Idempotency-Key": f"{key['Idempotency-Key']}-{number}"} for number in range(len(requests))]

        def ask(api: Api) -> list[httpx.Response]:
            pairs = zip(requests, keys, strict=True)
            return [api.http.post(path, json=body, headers=headers) for (path, body), headers in pairs]

        first = ask(api)
        recorded = len(api.events(id_))
    with serve(database_url) as api:
        for before, after in zip(first, ask(api), strict=True):
            check_same(before, after)
        assert len(api.events(id_)) == recorded


@pytest.mark.parametrize("bad", ["", "with space", "é", "x" * 256, "tab\tinside"])
def test_a_malformed_key_is_refused(api: Api, bad: str) -> None:
    headers = {b"Idempotency-Key": bad.encode()}
    problem = check_problem(api.http.post("/v1/conversations", json={}, headers=headers), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"] == ["header", "Idempotency-Key"]


def test_a_key_may_have_255_characters(api: Api) -> None:
    headers = {"Idempotency-Key": uuid4().hex.ljust(255, "~")}
    assert api.http.post("/v1/conversations", json={}, headers=headers).status_code == 201


def test_a_read_ignores_the_key(api: Api, key: dict[str, str]) -> None:
    for _ in range(2):
        assert api.http.get("/v1/conversations", headers=key).status_code == 200


def test_a_cancel_whose_key_was_used_meanwhile_still_ends_the_turn(
    api: Api, id_: str, key: dict[str, str], given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_yet(*_: Any) -> None:
        return None

    api.http.post("/v1/conversations", json={}, headers=key)
    with api.stream(id_, given_model(["Hel", Hang()])) as turn:
        turn_id = [next(turn.frames), next(turn.frames)][0].data["turn_id"]
        monkeypatch.setattr(route, "find_repeated", not_yet)
        api.http.post(f"/v1/conversations/{id_}/turns/{turn_id}/cancel", headers=key)
        monkeypatch.undo()
        assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
    assert api.message(id_)["status"] == "completed"
