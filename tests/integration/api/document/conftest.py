"""An API with authentication, and what the paths of its routes name."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.api.conftest import Serve
from tests.support.http.callers import Caller, Guarded
from tests.support.http.openapi_document import DocumentedOperation
from tests.support.models.model_scripts import Script, ToolFragment
from tests.support.models.model_server import ANY_MODEL, ModelServer

CALLING_MODEL = "calling-model"
RUNNING = ("/deltas", "/complete", "/fail", "/cancel")
"""The operations of a turn that has not ended."""

Prepare = Callable[[Caller, DocumentedOperation], dict[str, str]]


@pytest.fixture(scope="session")
def guarded(shared_database_url: str, serve: Serve) -> Iterator[Guarded]:
    """An API with authentication by keys, whose model answers under every name."""
    with ModelServer() as models:
        models.script(ANY_MODEL, Script(["Hello", " there"]))
        call = ToolFragment(0, "call_weather", "get_weather", '{"city": "Bern"}')
        models.script(CALLING_MODEL, Script(["Let me see.", call], finish_reason="tool_calls"))
        with serve(shared_database_url, auth="keys", model_api_base=models.url) as api:
            yield Guarded(api, shared_database_url)


@pytest.fixture(scope="session")
def prepare() -> Prepare:
    """Return a function that makes what a path names, and returns the ids."""

    def prepared(caller: Caller, operation: DocumentedOperation) -> dict[str, str]:
        if "{agent_id}" in operation.path:
            agent_id = "support"
            response = caller.send("PUT", f"/v1/agents/{agent_id}", json={})
            assert response.status_code in (200, 201), response.text
            return {"agent_id": agent_id}
        if "{conversation_id}" not in operation.path:
            return {}
        id_ = caller.conversation()["id"]
        path = f"/v1/conversations/{id_}/turns"
        if operation.path.endswith("/tool_results"):
            body: dict[str, Any] = {"content": "Do I need an umbrella?", "model": CALLING_MODEL}
            turn = _created(caller, path, body)["turn"]
            assert turn["status"] == "requires_action"
        else:
            turn = _created(caller, path, {"content": "Hello", "generate": False})
            if not operation.path.endswith(RUNNING):
                assert caller.send("POST", f"{path}/{turn['id']}/complete", json={}).status_code == 200
        return {"conversation_id": id_, "message_id": turn["user_message_id"], "turn_id": turn["id"]}

    return prepared


def _created(caller: Caller, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = caller.send("POST", path, json=body)
    assert response.status_code == 201, response.text
    return response.json()
