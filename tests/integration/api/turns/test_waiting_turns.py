"""Turns that wait for results while servers start and stop."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from cli import server
from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http import plain_http
from tests.support.http.api_client import frames_of
from tests.support.http.resources import check_problem
from tests.support.http.tool_turns import ANSWER, CALLS, RESULTS, replayed, results_path, waiting
from tests.support.models.model_scripts import Hang, Script
from tests.support.store import rows
from tests.support.waiting import eventually
from turns.frames import tail
from turns.frames.replay import TurnReader
from turns.upkeep import leases


def test_results_may_be_sent_to_any_server(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    model = given_model(CALLS, ANSWER)
    with serve(database_url) as here, serve(database_url) as there:
        id_ = here.conversation()["id"]
        turn = waiting(here, id_, model)
        whole = there.http.post(results_path(turn), json={"results": RESULTS})
        assert (whole.status_code, whole.json()["turn"]["status"]) == (200, "completed")
        assert replayed(here, turn) == replayed(there, turn)


def test_a_waiting_turn_continues_after_a_restart(database_url: str, serve: Serve, given_model: GivenModel) -> None:
    model = given_model(CALLS, ANSWER)
    with serve(database_url) as before:
        turn = waiting(before, before.conversation()["id"], model)
    with serve(database_url) as after:
        path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}"
        assert after.get(path) == turn
        whole = after.http.post(results_path(turn), json={"results": RESULTS}).json()
        assert whole["turn"]["status"] == "completed"


def test_refused_results_leave_the_lease_of_the_turn_unchanged(
    database_url: str, serve: Serve, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_INTERVAL_S", 0.05)
    with serve(database_url) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, Script(["It", Hang()])))
        with api.http.stream("POST", results_path(turn), json={"results": RESULTS, "stream": True}) as response:
            frames = frames_of(response)
            assert next(frames).event == "delta"
            check_problem(api.http.post(results_path(turn), json={"results": RESULTS}), 409, "TURN_NOT_ACTIVE")
            expiry = "SELECT expires_at FROM leases WHERE turn_id = %s"
            seen = rows(database_url, expiry, [turn["id"]])
            eventually(lambda: rows(database_url, expiry, [turn["id"]]) > seen)
            api.http.post(results_path(turn).replace("tool_results", "cancel"))


@pytest.mark.parametrize("size", range(1, 12))
def test_a_replay_continues_past_answered_calls(
    database_url: str, serve: Serve, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    read = TurnReader.read

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.02)
        return await read(*arguments, **options)

    with serve(database_url) as api:
        turn = waiting(api, api.conversation()["id"], given_model(CALLS, ANSWER))
        api.http.post(results_path(turn), json={"results": RESULTS})
        whole = replayed(api, turn)
        assert whole[-1].event == "turn.completed"
        monkeypatch.setattr(TurnReader, "read", slowly)
        monkeypatch.setattr(tail, "FIRST_PAGE_EVENTS", size)
        monkeypatch.setattr(tail, "PAGE_EVENTS", 3)
        assert replayed(api, turn) == whole


def test_a_server_stops_without_waiting_for_readers_of_a_waiting_turn(
    database_url: str, serve: Serve, given_model: GivenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLOSING_TIMEOUT_S", 3600)  # a server that waits does not stop in the time of `serve`
    with plain_http.Client(timeout=30) as reader, ExitStack() as reading:
        with serve(database_url) as api:
            turn = waiting(api, api.conversation()["id"], given_model(CALLS))
            url = api.http.base_url.join(results_path(turn).replace("tool_results", "stream"))
            answer = reading.enter_context(reader.stream("GET", url, headers={"Last-Event-ID": "7"}))
            assert answer.status_code == 200
        assert list(frames_of(answer)) == []
