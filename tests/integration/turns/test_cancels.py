"""One server accepts a cancel, and the server that runs the turn carries it out."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from commands.tokens import Tokenizer
from eventlog.feeds import broadcast, channels
from tests.support.http import plain_http
from tests.support.http.api_client import Api
from tests.support.http.turn_streams import streamed
from tests.support.models.model_scripts import Hang, Script
from tests.support.models.model_server import ModelServer
from tests.support.servers.serving import ServedApp
from tests.support.waiting import NEVER_S, eventually
from turns import cancels
from turns.model.litellm_library import load_litellm

SPEAKING = Script(["one ", "two ", Hang()])


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with warnings.catch_warnings(), ModelServer() as server:
        warnings.simplefilter("ignore")
        load_litellm(Tokenizer())
        yield server


@pytest.fixture
def servers(database_url: str, models: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Api, Api]]:
    """Two servers on one log that do not poll.

    A cancel waits for its answer without a limit.
    """
    monkeypatch.setattr(channels, "POLL_INTERVAL_S", NEVER_S)
    monkeypatch.setattr(broadcast, "POLL_INTERVAL_S", NEVER_S)
    monkeypatch.setattr(cancels, "ANSWER_WAIT_S", NEVER_S)
    models.script("scripted", SPEAKING, Script(["second"]))
    settings: dict[str, Any] = {"model": "scripted", "model_api_base": models.url}
    with (
        plain_http.Client() as http_here,
        plain_http.Client() as http_there,
        ServedApp(database_url, **settings) as here,
        ServedApp(database_url, **settings) as there,
    ):
        http_here.base_url, http_there.base_url = here.url, there.url
        yield Api(http_here), Api(http_there)


def listens(here: Api, there: Api) -> None:
    """Return as soon as one server receives what the other records."""
    with streamed("GET", f"{here.http.base_url}/v1/events") as seen:
        id_ = there.conversation()["id"]
        while next(seen)["conversation_id"] != id_:
            pass


def test_a_cancel_is_carried_out_on_its_notification(servers: tuple[Api, Api], models: ModelServer) -> None:
    here, there = servers
    listens(here, there)
    listens(there, here)
    id_ = here.conversation()["id"]
    with here.stream(id_, "scripted") as turn:
        first = next(turn.frames)
        assert [next(turn.frames).data["text"] for _ in range(2)] == ["one ", "two "]
        answer = there.http.post(f"/v1/conversations/{id_}/turns/{first.data['turn_id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert [frame.event for frame in turn.frames] == ["block.done", "turn.cancelled"]
    eventually(lambda: models.requests[-1].gave_up)


def test_an_interrupt_is_carried_out_on_its_notification(servers: tuple[Api, Api], models: ModelServer) -> None:
    here, there = servers
    listens(here, there)
    listens(there, here)
    id_ = here.conversation()["id"]
    with here.stream(id_, "scripted") as turn:
        assert [next(turn.frames).event for _ in range(3)] == ["turn.started", "delta", "delta"]
        answer = there.turn(id_, "scripted", content="No, wait", on_busy="interrupt")
        assert [frame.event for frame in turn.frames] == ["block.done", "turn.cancelled"]
    assert (answer.status_code, answer.json()["turn"]["status"]) == (201, "completed")
