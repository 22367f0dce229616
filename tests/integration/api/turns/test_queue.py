"""`on_busy`: turns wait in a queue that survives restarts, or interrupt."""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, Frame, frames_of
from tests.support.http.resources import check_conversation, check_position, check_problem, check_turn
from tests.support.models.model_scripts import Hang, Pause, Script, ToolFragment
from tests.support.models.model_server import ModelServer
from tests.support.waiting import eventually

HELD = Script(["Hold", Hang()])


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@contextmanager
def held(api: Api, id_: str, given_model: GivenModel) -> Generator[str]:
    """Run a turn until the end of the block, then cancel it. Yields its id."""
    with api.stream(id_, given_model(HELD)) as turn:
        frames = turn.frames
        yield [next(frames), next(frames)][0].data["turn_id"]
        list(frames)


def path(id_: str, turn_id: str) -> str:
    return f"/v1/conversations/{id_}/turns/{turn_id}"


def turns(api: Api, id_: str) -> list[dict[str, Any]]:
    """Return the turns of a conversation, oldest first."""
    return api.get(f"/v1/conversations/{id_}/turns", limit=100)["data"][::-1]


def queued(api: Api, id_: str, count: int) -> list[str]:
    """Return the ids of the queued turns as soon as there are `count` of them."""
    waiting = [turn["id"] for turn in turns(api, id_) if turn["status"] == "queued"]
    return waiting if len(waiting) == count else []


def replayed(api: Api, id_: str, turn_id: str) -> list[Frame]:
    with api.http.stream("GET", f"{path(id_, turn_id)}/stream") as response:
        return list(frames_of(response))


def texts(api: Api, id_: str) -> list[str]:
    return ["".join(block["text"] for block in message["content"]) for message in api.messages(id_, limit=100)]


def test_queued_turns_run_one_after_another_in_order(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor
) -> None:
    model = given_model(["Yes"])
    waiting: list[Future[httpx.Response]] = []
    with held(api, id_, given_model) as first:
        for number in range(3):
            waiting.append(threads.submit(api.turn, id_, model, content=f"Ask {number}", on_busy="queue"))
            eventually(lambda number=number: queued(api, id_, number + 1))
        conversation = api.get(f"/v1/conversations/{id_}")
        check_conversation(conversation)
        assert (conversation["status"], conversation["active_turn_id"]) == ("running", first)
        for turn in turns(api, id_)[1:]:
            check_turn(turn)
            assert (turn["status"], turn["started_at"], turn["ended_at"]) == ("queued", None, None)
        eventually(lambda: texts(api, id_) == ["Hi", "Hold"])
        problem = check_problem(api.turn(id_, model), 409, "CONVERSATION_LOCKED", "active_turn_id")
        assert problem["active_turn_id"] == first
        api.http.post(f"{path(id_, first)}/cancel")
    answers = [future.result() for future in waiting]
    for response in answers:
        assert response.status_code == 201
        check_position(response)
        check_turn(response.json()["turn"])
    assert [answer.json()["user_message"]["content"][0]["text"] for answer in answers] == ["Ask 0", "Ask 1", "Ask 2"]
    assert texts(api, id_) == ["Hi", "Hold", "Ask 0", "Yes", "Ask 1", "Yes", "Ask 2", "Yes"]
    assert turns(api, id_)[1:] == [answer.json()["turn"] for answer in answers]
    assert api.get(f"/v1/conversations/{id_}")["status"] == "idle"


def test_a_queued_turns_stream_is_silent_until_it_starts(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor
) -> None:
    queueing = api.stream(id_, given_model(["Yes"]), content="And?", on_busy="queue")
    with held(api, id_, given_model) as first, queueing as turn:
        (turn_id,) = eventually(lambda: queued(api, id_, 1))
        also = threads.submit(replayed, api, id_, turn_id)
        api.http.post(f"{path(id_, first)}/cancel")
        seen = list(turn.frames)
    assert [frame.event for frame in seen] == ["turn.started", "delta", "block.done", "turn.completed"]
    assert [frame.data["seq"] for frame in seen] == [1, 2, 3, 4]
    assert seen[0].data["user_message"]["content"] == [{"type": "text", "text": "And?"}]
    assert also.result() == seen == replayed(api, id_, turn_id)


def test_a_queued_turn_starts_at_once_if_no_turn_runs(api: Api, id_: str, given_model: GivenModel) -> None:
    answer = api.turn(id_, given_model(["Yes"]), on_busy="queue")
    assert (answer.status_code, answer.json()["turn"]["status"]) == (201, "completed")
    assert "TurnQueued" not in [event["type"] for event in api.events(id_)]


def test_a_queued_turn_can_be_cancelled_and_the_next_one_moves_up(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor
) -> None:
    model = given_model(["Yes"])
    with held(api, id_, given_model) as first:
        withdrawn = threads.submit(api.turn, id_, model, content="Gone", on_busy="queue")
        (turn_id,) = eventually(lambda: queued(api, id_, 1))
        stays = threads.submit(api.turn, id_, model, content="Stays", on_busy="queue")
        eventually(lambda: queued(api, id_, 2))
        cancelled = api.http.post(f"{path(id_, turn_id)}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        check_turn(cancelled.json())
        assert withdrawn.result().json() == {"user_message": None, "assistant_message": None, "turn": cancelled.json()}
        assert api.get(f"/v1/conversations/{id_}")["active_turn_id"] == first
        check_problem(api.http.post(f"{path(id_, turn_id)}/cancel"), 409, "TURN_NOT_ACTIVE")
        api.http.post(f"{path(id_, first)}/cancel")
    assert stays.result().json()["turn"]["status"] == "completed"
    assert texts(api, id_) == ["Hi", "Hold", "Stays", "Yes"]
    (only,) = replayed(api, id_, turn_id)
    assert (only.event, only.data["seq"], only.data["turn"]) == ("turn.cancelled", 1, cancelled.json())
    assert (only.data["message"], only.data["error"]) == (None, None)


def test_an_interrupting_turn_cancels_the_running_one_and_precedes_the_queue(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor, models: ModelServer
) -> None:
    with held(api, id_, given_model) as first:
        later = threads.submit(api.turn, id_, given_model(["Later"]), content="Queued", on_busy="queue")
        eventually(lambda: queued(api, id_, 1))
        now = api.turn(id_, given_model(["Now"]), content="Stop", on_busy="interrupt")
    assert (now.status_code, now.json()["turn"]["status"]) == (201, "completed")
    assert later.result().json()["turn"]["status"] == "completed"
    assert texts(api, id_) == ["Hi", "Hold", "Stop", "Now", "Queued", "Later"]
    cancelled = api.get(path(id_, first))
    assert cancelled["status"] == "cancelled"
    assert api.messages(id_)[1]["status"] == "interrupted"


def test_an_interrupt_from_another_server_stops_the_model(
    database_url: str, serve: Serve, given_model: GivenModel, models: ModelServer
) -> None:
    model = given_model(HELD)
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        with here.stream(id_, model) as turn:
            assert [next(turn.frames).event for _ in range(2)] == ["turn.started", "delta"]
            answer = there.turn(id_, given_model(["Now"]), content="Stop", on_busy="interrupt")
            assert [frame.event for frame in turn.frames][-1] == "turn.cancelled"
        assert answer.json()["turn"]["status"] == "completed"
        (request,) = [request for request in models.requests if request.model == model]
        assert request.given_up.wait(5)


def test_an_interrupt_ends_a_turn_that_waits_for_tool_results(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor
) -> None:
    calls = Script(["Hold", Pause(0.3), ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls")
    waits = threads.submit(api.turn, id_, given_model(calls))
    eventually(lambda: turns(api, id_))
    later = threads.submit(api.turn, id_, given_model(["Later"]), content="Queued", on_busy="queue")
    eventually(lambda: queued(api, id_, 1))
    assert waits.result().json()["turn"]["status"] == "requires_action"
    now = api.turn(id_, given_model(["Now"]), content="Stop", on_busy="interrupt")
    assert now.json()["turn"]["status"] == later.result().json()["turn"]["status"] == "completed"
    assert [turn["status"] for turn in turns(api, id_)] == ["cancelled", "completed", "completed"]
    assert [message["role"] for message in api.messages(id_)][:4] == ["user", "assistant", "tool", "user"]


def test_concurrent_interrupts_all_run(api: Api, id_: str, given_model: GivenModel) -> None:
    model = given_model(Script(["Yes", Pause(0.02), "."]))
    with ThreadPoolExecutor(6) as threads:
        interrupting = [
            threads.submit(api.turn, id_, model, content=str(number), on_busy="interrupt") for number in range(6)
        ]
        answers = [future.result() for future in interrupting]
    assert [answer.status_code for answer in answers] == [201] * 6
    statuses = [turn["status"] for turn in turns(api, id_)]
    assert len(statuses) == 6 and set(statuses) <= {"completed", "cancelled"}
    assert api.get(f"/v1/conversations/{id_}")["status"] == "idle"
    roles = [message["role"] for message in api.messages(id_, limit=100)]
    assert roles.count("user") == 6 - sum(answer.json()["user_message"] is None for answer in answers)


def test_a_hundred_turns_can_be_queued(api: Api, id_: str, given_model: GivenModel) -> None:
    with held(api, id_, given_model) as first:
        for _ in range(100):
            body = {"content": "x", "generate": False, "on_busy": "queue"}
            response = api.http.post(f"/v1/conversations/{id_}/turns", json=body)
            assert (response.status_code, response.json()["status"]) == (201, "queued")
        problem = check_problem(api.turn(id_, "default", on_busy="queue"), 409, "CONVERSATION_LOCKED", "active_turn_id")
        assert problem["active_turn_id"] == first
        assert api.http.delete(f"/v1/conversations/{id_}").status_code == 204
    assert [event["type"] for event in api.get(f"/v1/conversations/{id_}/log", limit=100, type="TurnCancelled")["data"]]


def test_a_client_gets_a_frame_when_its_queued_turn_starts(api: Api, id_: str, given_model: GivenModel) -> None:
    with held(api, id_, given_model) as first:
        body = {"content": "Mine", "generate": False, "on_busy": "queue"}
        turn = api.http.post(f"/v1/conversations/{id_}/turns", json=body).json()
        deltas = f"{path(id_, turn['id'])}/deltas"
        check_problem(api.http.post(deltas, json={"seq": 2, "chunks": ["x"]}), 409, "TURN_NOT_ACTIVE")
        with api.http.stream("GET", f"{path(id_, turn['id'])}/stream") as response:
            api.http.post(f"{path(id_, first)}/cancel")
            frames = frames_of(response)
            assert next(frames).event == "turn.started"
            assert api.http.post(deltas, json={"seq": 2, "chunks": ["x"]}).json() == {"next_seq": 3}
            api.http.post(f"{path(id_, turn['id'])}/complete", json={})
            assert [frame.event for frame in frames] == ["delta", "block.done", "turn.completed"]


def test_a_repeated_request_attaches_to_its_queued_turn(
    api: Api, id_: str, given_model: GivenModel, threads: ThreadPoolExecutor
) -> None:
    key, body = {"Idempotency-Key": f"queue-{id_}"}, {"content": "Once", "on_busy": "queue"}
    body["model"] = given_model(["Yes"])
    with held(api, id_, given_model) as first:
        both = [
            threads.submit(api.http.post, f"/v1/conversations/{id_}/turns", json=body, headers=key) for _ in range(2)
        ]
        eventually(lambda: queued(api, id_, 1))
        api.http.post(f"{path(id_, first)}/cancel")
    one, other = (future.result() for future in both)
    assert one.json() == other.json()
    assert texts(api, id_) == ["Hi", "Hold", "Once", "Yes"]


def test_queued_turns_keep_their_order_after_a_restart(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    model = given_model(["Yes"])
    with ThreadPoolExecutor(3) as threads:
        with serve(database_url) as before:
            id_ = before.conversation()["id"]
            threads.submit(lambda: before.turn(id_, given_model(HELD)))
            eventually(lambda: texts(before, id_) == ["Hi", "Hold"])
            for number in range(2):
                threads.submit(before.turn, id_, model, content=f"Ask {number}", on_busy="queue")
                eventually(lambda number=number: queued(before, id_, number + 1))
        with serve(database_url) as after:
            statuses = ["failed", "completed", "completed"]
            eventually(lambda: [turn["status"] for turn in turns(after, id_)] == statuses)
            assert texts(after, id_) == ["Hi", "Hold", "Ask 0", "Yes", "Ask 1", "Yes"]


def test_an_invalid_on_busy_is_refused(api: Api, id_: str) -> None:
    for on_busy in ("wait", "", None, 1):
        check_problem(api.turn(id_, "default", on_busy=on_busy), 422, "VALIDATION_FAILED", "errors")
