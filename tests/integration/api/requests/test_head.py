"""HEAD is answered like GET on every route, without the body."""

from uuid import uuid4

import httpx
import pytest

from api.app import create_app
from api.http.route import JSONRoute
from api.settings import load_settings
from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem

GETS = sorted(
    route.path
    for route in create_app(load_settings(), "").fastapi.routes
    if isinstance(route, JSONRoute) and "GET" in (route.methods or ())
)
STREAMS = {path for path in GETS if path.endswith(("/stream", "/events"))}
CHANGING = {"/metrics", "/readyz", "/v1/projections"}
"""Paths whose content may differ between two requests."""


@pytest.fixture
def ids(api: Api, given_model: GivenModel) -> dict[str, str]:
    """The ids in the paths: a turn that has ended, its conversation and its answer."""
    turn: dict[str, str] = api.turn(api.conversation()["id"], given_model(["Hello"])).json()["turn"]
    assert api.http.put("/v1/agents/support", json={}).is_success
    return {**turn, "turn_id": turn["id"], "name": "listing", "agent_id": "support"}


def headers(response: httpx.Response) -> dict[str, str]:
    """Return the headers of a response that do not depend on its body."""
    return {name: value for name, value in response.headers.items() if name not in {"date", "transfer-encoding"}}


def test_the_tested_routes_include_streams() -> None:
    assert len(STREAMS) == 3


@pytest.mark.parametrize(
    "path",
    [path for path in GETS if path not in STREAMS]
    + ["/docs", "/docs/oauth2-redirect", "/openapi.json", "/static-offline-docs/swagger-ui.css"],
)
def test_head_is_answered_like_get_without_a_body(api: Api, ids: dict[str, str], path: str) -> None:
    path = path.format(**ids)
    got, head_response = api.http.get(path), api.http.head(path)
    assert (got.status_code, head_response.status_code, head_response.content) == (200, 200, b"")
    if path not in CHANGING:
        assert headers(head_response) == headers(got)


@pytest.mark.parametrize("path", sorted(STREAMS))
def test_head_of_a_stream_has_its_headers_and_ends_at_once(api: Api, ids: dict[str, str], path: str) -> None:
    path = path.format(**ids)
    head_response = api.http.head(path)
    with api.http.stream("GET", path) as got:
        assert headers(head_response) == headers(got)
    assert (head_response.status_code, head_response.content) == (200, b"")
    assert head_response.headers["content-type"].startswith("text/event-stream")
    assert api.http.get("/healthz").status_code == 200  # on the same connection


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/conversations?limit=x", 422),
        ("/v1/conversations?cursor=x", 400),
        ("/nowhere", 404),
        ("/v1/conversations/{id}", 404),
        ("/v1/conversations/{id}/events", 404),
        ("/v1/turns", 405),
    ],
)
def test_head_is_refused_like_get(api: Api, path: str, status: int) -> None:
    path = path.format(id=uuid4())
    got, head_response = api.http.get(path), api.http.head(path)
    assert (got.status_code, head_response.status_code, head_response.content) == (status, status, b"")
    assert headers(head_response) == headers(got)


@pytest.mark.parametrize("path", GETS)
def test_the_allowed_methods_include_head_where_they_include_get(api: Api, ids: dict[str, str], path: str) -> None:
    response = api.http.request("TRACE", path.format(**ids))
    check_problem(response, 405, "METHOD_NOT_ALLOWED")
    allowed = response.headers["allow"].split(", ")
    assert {"GET", "HEAD"} <= set(allowed)
    assert allowed == sorted(set(allowed))


def test_head_waits_for_a_position_like_get(api: Api) -> None:
    response = api.http.head("/v1/conversations", headers={"Turnlog-Position": "x"})
    assert response.status_code == 422


def test_the_openapi_document_does_not_repeat_operations_for_head(api: Api) -> None:
    assert not [path for path, item in api.get("/openapi.json")["paths"].items() if "head" in item]
