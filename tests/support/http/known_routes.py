"""Every route of the API, and requests to it whose resources exist."""

from typing import Any, NamedTuple

import httpx

from api.app import create_app
from api.auth.access import ROUTES, Access
from api.http.route import JSONRoute
from api.settings import load_settings
from tests.support.http.callers import Caller
from tests.support.http.openapi_document import application_document

BODIES: dict[str, Any] = {
    "/messages": {"role": "user", "content": "Hello"},
    "/turns": {"content": "Hello", "generate": False},
    "/regenerate": {},
    "/tool_results": {"results": [{"tool_use_id": "call", "content": "42"}]},
    "/deltas": {"seq": 2, "chunks": ["a"]},
    "/fail": {"detail": "over"},
}


class Place(NamedTuple):
    """A conversation with a message and a turn, whose ids fill the paths of routes."""

    conversation_id: str
    message_id: str
    turn_id: str

    def path(self, template: str) -> str:
        return template.format(**self._asdict(), name="listing", agent_id="support")


def routes() -> list[tuple[str, str]]:
    """Return every route of the OpenAPI document and of the application."""
    documented = {(operation.method, operation.path) for operation in application_document().operations}
    served = {
        (method, route.path)
        for route in create_app(load_settings(), "").fastapi.routes
        if isinstance(route, JSONRoute)
        for method in route.methods or ()
    }
    assert served - documented == {("HEAD", path) for method, path in documented if method == "GET"}
    return sorted(served)


ALL = routes()
OF_CONVERSATIONS = [(method, path) for method, path in ALL if "{conversation_id}" in path]


def access(method: str, path: str) -> Access:
    return ROUTES[f"{'GET' if method == 'HEAD' else method} {path}"]


def body_of(method: str, path: str) -> dict[str, Any]:
    if method not in {"POST", "PUT", "PATCH"}:
        return {}
    ending = next((name for name in BODIES if path.endswith(name)), None)
    return {"json": BODIES[ending] if ending else {}}


def new_place(caller: Caller, *, ended: bool = True) -> Place:
    id_ = caller.conversation()["id"]
    begun = caller.send("POST", f"/v1/conversations/{id_}/turns", json=BODIES["/turns"])
    assert begun.status_code == 201, begun.text
    turn = begun.json()
    if ended:
        done = caller.send("POST", f"/v1/conversations/{id_}/turns/{turn['id']}/complete", json={})
        assert done.status_code == 200, done.text
    return Place(id_, turn["user_message_id"], turn["id"])


def request(
    caller: Caller, method: str, template: str, place: Place, **headers: str
) -> tuple[int, httpx.Headers, bytes]:
    given = {**caller.headers, **headers}
    http = caller.guarded.api.http
    with http.stream(method, place.path(template), headers=given, **body_of(method, template)) as response:
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        return response.status_code, response.headers, b"" if streams else response.read()
