"""Turns fail whose tool results do not come in time."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ANSWER, CALLS, RESULTS, replayed, results_path, waiting
from tests.support.models.model_scripts import Pause, Script, ToolFragment
from tests.support.waiting import eventually

LIMIT_S = 0.3


def ended(api: Api, turn: dict[str, Any]) -> dict[str, Any]:
    """Wait until a turn has ended, and return it."""
    path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}"
    last = eventually(lambda: found if (found := api.get(path))["status"] != "requires_action" else None)
    assert isinstance(last, dict)
    return last  # pyright: ignore[reportUnknownVariableType]


def test_an_overdue_turn_fails_on_time_and_closes_its_calls(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    with serve(database_url, tool_results_timeout_s=LIMIT_S) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, ANSWER))
        failed = ended(api, turn)
        assert (failed["status"], failed["error"]["code"]) == ("failed", "tool_results_timeout")
        assert failed["usage"] == turn["usage"]
        last = replayed(api, turn)[-1]
        assert (last.event, last.data["turn"]) == ("turn.failed", failed)
        closed = api.messages(turn["conversation_id"])[-1]
        assert [(each["tool_use_id"], each["is_error"]) for each in closed["content"]] == [
            ("call_1", True),
            ("call_2", True),
        ]
        events = {event["type"]: event for event in api.events(turn["conversation_id"])}
        due = datetime.fromisoformat(events["TurnSuspended"]["data"]["results_due_at"])
        suspended, failed_at = (
            datetime.fromisoformat(events[name]["recorded_at"]) for name in ("TurnSuspended", "TurnFailed")
        )
        assert (due - suspended).total_seconds() == LIMIT_S
        assert failed_at >= due
        assert events["TurnFailed"]["actor"] == "system"
        check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")


def test_a_turn_that_was_overdue_before_a_server_started_fails_then(
    database_url: str, serve: Serve, given_model: GivenModel
) -> None:
    with serve(database_url) as before:
        before.http.put("/v1/agents/quick", json={"tool_results_timeout_s": LIMIT_S})
        turn = waiting(before, before.conversation(agent_id="quick")["id"], given_model(CALLS))
    with serve(database_url) as after:
        assert ended(after, turn)["error"]["code"] == "tool_results_timeout"


def test_results_in_time_keep_the_turn(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    with serve(database_url, tool_results_timeout_s=60) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, ANSWER))
        whole = api.http.post(results_path(turn), json={"results": RESULTS}).json()
        assert whole["turn"]["status"] == "completed"


@pytest.mark.parametrize("agents", [None, 3600.0])
def test_the_agents_limit_comes_before_that_of_the_server(
    database_url: str, serve: Serve, given_model: GivenModel, agents: float | None
) -> None:
    with serve(database_url, tool_results_timeout_s=LIMIT_S) as api:
        assert api.http.put("/v1/agents/patient", json={"tool_results_timeout_s": agents}).status_code == 201
        id_ = api.conversation(agent_id="patient")["id"]
        waiting(api, id_, given_model(CALLS))
        suspended = next(event for event in api.events(id_) if event["type"] == "TurnSuspended")
        due = datetime.fromisoformat(suspended["data"]["results_due_at"])
        waits_s = (due - datetime.fromisoformat(suspended["recorded_at"])).total_seconds()
        assert waits_s == (agents or LIMIT_S)


def test_of_two_servers_one_fails_the_turn(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    with (
        serve(database_url, tool_results_timeout_s=LIMIT_S) as one,
        serve(database_url, tool_results_timeout_s=LIMIT_S) as other,
    ):
        id_ = one.conversation()["id"]
        turn = waiting(one, id_, given_model(CALLS, ANSWER))
        assert ended(other, turn)["error"]["code"] == "tool_results_timeout"
        again = other.turn(id_, given_model(ANSWER))
        assert (again.status_code, again.json()["turn"]["status"]) == (201, "completed")
        failures = [event for event in one.events(id_) if event["type"] == "TurnFailed"]
        assert len(failures) == 1


def test_a_queued_turn_starts_after_an_overdue_one(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    calls = Script(["Hold", Pause(0.3), ToolFragment(0, "call_1", "add", "{}")], finish_reason="tool_calls")
    with serve(database_url, tool_results_timeout_s=LIMIT_S) as api, ThreadPoolExecutor(2) as threads:
        id_ = api.conversation()["id"]
        turns = f"/v1/conversations/{id_}/turns"
        waits = threads.submit(api.turn, id_, given_model(calls))
        eventually(lambda: api.get(turns)["data"])
        later = threads.submit(api.turn, id_, given_model(["Later"]), content="Queued", on_busy="queue")
        assert waits.result().json()["turn"]["status"] == "requires_action"
        assert later.result().json()["turn"]["status"] == "completed"
        assert [turn["status"] for turn in api.get(turns)["data"]] == ["completed", "failed"]
