"""Turns whose client runs the model are recorded in batches, in order, each once."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.http.api_client import Api, Frame, frames_of
from tests.support.http.resources import check_message, check_problem, check_turn
from tests.support.store import rows
from tests.support.waiting import eventually
from turns.upkeep import expired_leases

Post = Callable[..., httpx.Response]


@pytest.fixture
def turn(api: Api) -> dict[str, Any]:
    """A turn that the client runs."""
    response = api.http.post("/v1/turns", json={"content": "Why so?", "generate": False, "model": "mine"})
    assert response.status_code == 201
    check_turn(response.json())
    assert (response.json()["status"], response.json()["model"]) == ("running", "mine")
    return response.json()


@pytest.fixture
def post(api: Api, turn: dict[str, Any]) -> Post:
    """Return a function that posts to one of the routes of the turn."""

    def posted(route: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        return api.http.post(f"{path(turn)}/{route}", json=body, headers=headers)

    return posted


def path(turn: dict[str, Any]) -> str:
    return f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}"


def frames(api: Api, turn: dict[str, Any], after: int = 0) -> list[Frame]:
    with api.http.stream("GET", f"{path(turn)}/stream", headers={"Last-Event-ID": str(after)}) as response:
        return list(frames_of(response))


def texts(seen: list[Frame]) -> list[str]:
    return [frame.data["text"] for frame in seen if frame.event == "delta"]


def test_the_streamed_chunks_are_the_answer(api: Api, turn: dict[str, Any], post: Post) -> None:
    assert post("deltas", seq=2, chunks=["Be", "cau"]).json() == {"next_seq": 4}
    assert post("deltas", seq=4, chunks=["se."]).json() == {"next_seq": 5}
    used = {"input_tokens": 3, "output_tokens": 2, "cost_usd": 0.25}
    ended = post("complete", usage=used, finish_reason="length")
    assert ended.status_code == 200
    check_turn(ended.json())
    assert (ended.json()["status"], ended.json()["finish_reason"]) == ("completed", "length")
    assert ended.json()["usage"] == {**used, "cached_input_tokens": 0, "reasoning_tokens": 0, "estimated": False}
    assert ended.json()["duration_ms"] >= ended.json()["time_to_first_token_ms"] > 0
    answer = api.messages(turn["conversation_id"])[-1]
    check_message(answer)
    assert (answer["id"], answer["content"]) == (turn["message_id"], [{"type": "text", "text": "Because."}])
    seen = frames(api, turn)
    assert texts(seen) == ["Be", "cau", "se."]
    assert [frame.event for frame in seen][-2:] == ["block.done", "turn.completed"]
    assert [frame.data["seq"] for frame in seen] == list(range(1, len(seen) + 1))


def test_readers_follow_the_turn_live(api: Api, turn: dict[str, Any], post: Post) -> None:
    with api.http.stream("GET", f"{path(turn)}/stream") as response:
        seen = frames_of(response)
        assert next(seen).event == "turn.started"
        for seq, chunk in enumerate(["one", "two", "three"], start=2):
            post("deltas", seq=seq, chunks=[chunk])
            frame = next(seen)
            assert (frame.id, frame.data["text"]) == (str(seq), chunk)
        post("complete")
        assert [frame.event for frame in seen] == ["block.done", "turn.completed"]


def test_a_repeated_batch_is_ignored_and_a_gap_is_refused(api: Api, turn: dict[str, Any], post: Post) -> None:
    post("deltas", seq=2, chunks=["a", "b"])
    for seq, chunks, next_seq in ((2, ["a", "b"], 4), (3, ["b"], 4), (2, [], 4), (3, ["b", "c"], 5), (2, ["a"], 5)):
        response = post("deltas", seq=seq, chunks=chunks)
        assert (response.status_code, response.json()) == (200, {"next_seq": next_seq})
    problem = check_problem(post("deltas", seq=6, chunks=["e"]), 409, "DELTA_OUT_OF_ORDER", "next_seq")
    assert problem["next_seq"] == 5
    post("complete")
    assert texts(frames(api, turn)) == ["a", "b", "c"]


def test_an_idempotent_repeat_gives_the_first_answer(post: Post) -> None:
    key = {"Idempotency-Key": f"batch-{id(post)}"}
    first = post("deltas", key, seq=2, chunks=["a", "b"])
    post("deltas", seq=4, chunks=["c"])
    again = post("deltas", key, seq=2, chunks=["a", "b"])
    assert (again.status_code, again.json()) == (200, first.json())
    end = {"Idempotency-Key": f"end-{id(post)}"}
    assert post("complete", end).json() == post("complete", end).json()


def test_a_failed_turn_keeps_the_recorded_text(api: Api, turn: dict[str, Any], post: Post) -> None:
    post("deltas", seq=2, chunks=["so far"])
    failed = post("fail", detail="My model fell over.").json()
    assert (failed["status"], failed["error"]) == ("failed", {"code": "model_error", "detail": "My model fell over."})
    answer = api.messages(turn["conversation_id"])[-1]
    assert (answer["content"][0]["text"], answer["status"]) == ("so far", "interrupted")


def test_a_turn_locks_the_conversation_and_can_be_cancelled(api: Api, turn: dict[str, Any], post: Post) -> None:
    second = api.http.post(path(turn).rsplit("/", 1)[0], json={"content": "And?"})
    assert check_problem(second, 409, "CONVERSATION_LOCKED", "active_turn_id")["active_turn_id"] == turn["id"]
    post("deltas", seq=2, chunks=["so far"])
    cancelled = api.http.post(f"{path(turn)}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert api.messages(turn["conversation_id"])[-1]["content"][0]["text"] == "so far"


@pytest.mark.parametrize(
    ("route", "body"), [("deltas", {"seq": 2, "chunks": ["x"]}), ("complete", {}), ("fail", {"detail": "x"})]
)
def test_an_ended_unknown_or_server_run_turn_accepts_nothing(
    api: Api, turn: dict[str, Any], post: Post, route: str, body: dict[str, Any]
) -> None:
    post("complete")
    check_problem(post(route, **body), 409, "TURN_NOT_ACTIVE")
    never = path({**turn, "id": turn["conversation_id"]})
    check_problem(api.http.post(f"{never}/{route}", json=body), 404, "TURN_NOT_FOUND")
    check_problem(
        api.http.post(f"{path({**turn, 'conversation_id': turn['id']})}/{route}", json=body),
        404,
        "CONVERSATION_NOT_FOUND",
    )
    mine = api.http.post("/v1/turns", json={"content": "Hi"}).json()["turn"]
    check_problem(api.http.post(f"{path(mine)}/{route}", json=body), 409, "TURN_NOT_ACTIVE")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("deltas", {"seq": 1, "chunks": ["x"]}),
        ("deltas", {"seq": 2}),
        ("deltas", {"seq": 2, "chunks": [""]}),
        ("deltas", {"seq": 2, "chunks": ["\0"]}),
        ("deltas", {"seq": 2, "chunks": "x"}),
        ("deltas", {"seq": "2", "chunks": ["x"]}),
        ("complete", {"finish_reason": "tired"}),
        ("complete", {"usage": {"input_tokens": -1, "output_tokens": 0}}),
        ("complete", {"usage": {"input_tokens": 1}}),
        ("fail", {}),
        ("fail", {"detail": ""}),
    ],
)
def test_invalid_batches_and_ends_are_refused(post: Post, route: str, body: dict[str, Any]) -> None:
    check_problem(post(route, **body), 422, "VALIDATION_FAILED")


def test_a_turn_of_a_silent_client_ends_and_keeps_its_text(
    fresh_api: Api, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expired_leases, "LOOK_INTERVAL_S", 0.02)
    monkeypatch.setattr(expired_leases, "EXPIRED_FOR_S", 0.05)
    turn = fresh_api.http.post("/v1/turns", json={"content": "Why?", "generate": False}).json()
    fresh_api.http.post(f"{path(turn)}/deltas", json={"seq": 2, "chunks": ["so far"]})
    # The minute that a client has between two batches is over.
    assert rows(database_url, "UPDATE leases SET expires_at = now() WHERE expires_at > now() RETURNING turn_id")
    eventually(lambda: fresh_api.get(path(turn))["status"] == "failed")
    assert fresh_api.get(path(turn))["error"]["code"] == "client_lost"
    assert frames(fresh_api, turn)[-1].data["message"]["content"][0]["text"] == "so far"
