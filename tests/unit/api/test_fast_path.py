"""The fast path to the JSON routes answers as the application does."""

import logging
from types import SimpleNamespace
from uuid import UUID

import pytest
from fastapi import APIRouter, FastAPI, Response
from httpx import ASGITransport, AsyncClient
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.app import create_app
from api.auth.access import Access
from api.http import problems
from api.http.call import json_response
from api.http.fast_path import FastPath
from api.http.problems import handle_http_exception
from api.http.route import JSONRoute
from api.http.same_machine import refusal
from api.network.admission import Admission
from api.settings import load_settings
from cli.server import configure
from domain.errors import ConversationNotFoundError
from tests.support.histories.builders import some_id
from tests.support.http.credentials import WITHOUT_AUTHENTICATION


class ThingRoute(JSONRoute):
    access = {f"{method} /v1/things/{{conversation_id}}": Access.WRITES for method in ("GET", "POST", "DELETE")}


router = APIRouter(route_class=ThingRoute)
LOCAL = {"host": "localhost"}


@router.get("/v1/things/{conversation_id}")
async def read(conversation_id: UUID) -> Response:
    return json_response({"id": conversation_id}, headers={"ETag": '"1"'})


@router.post("/v1/things/{conversation_id}")
async def refuse(conversation_id: UUID) -> Response:
    raise ConversationNotFoundError(conversation_id)


@router.delete("/v1/things/{conversation_id}")
async def fail(conversation_id: UUID) -> Response:
    raise RuntimeError("the secret inside")


class CountingApp(FastAPI):
    """An application that counts its requests."""

    count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        await super().__call__(scope, receive, send)


@pytest.fixture
def app() -> CountingApp:
    app = CountingApp(
        routes=router.routes,
        redirect_slashes=False,
        middleware=[Middleware(Admission, refusal=refusal)],
        exception_handlers={HTTPException: handle_http_exception},
    )
    app.state.services = SimpleNamespace(progress=None, request_limit=None, authenticator=WITHOUT_AUTHENTICATION)
    return app


async def answer(app: ASGIApp, method: str, path: str, headers: dict[str, str] = LOCAL) -> tuple[int, bytes]:
    async with AsyncClient(transport=ASGITransport(app), base_url="http://localhost") as http:
        response = await http.request(method, path, headers=headers)
    return response.status_code, response.content


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 404), ("DELETE", 500)])
async def test_a_json_route_is_reached_without_the_application(app: CountingApp, method: str, status: int) -> None:
    path = f"/v1/things/{some_id()}"
    short = await answer(FastPath(app, refusal), method, path)
    assert (short[0], app.count) == (status, 0)
    assert short == await answer(app, method, path)


@pytest.mark.parametrize("path", ["/v1/things/x?a=1", "/v1/things/x", "/v1/things/%00"])
async def test_invalid_input_gets_the_same_answer_as_from_the_application(app: CountingApp, path: str) -> None:
    short = await answer(FastPath(app, refusal), "GET", path)
    assert app.count == 0
    assert short == await answer(app, "GET", path)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/nowhere", LOCAL, 404),
        ("GET", "/v1/things/a/b", LOCAL, 404),
        ("GET", "/v1/things/a/", LOCAL, 404),
        ("GET", "/openapi.json", LOCAL, 200),
        ("PUT", "/v1/things/x", LOCAL, 405),
        ("HEAD", "/v1/things/x", LOCAL, 405),
        ("GET", "/v1/things/x", {"host": "evil.example"}, 403),
        ("POST", "/v1/things/x", {**LOCAL, "sec-fetch-site": "cross-site"}, 403),
    ],
)
async def test_the_application_answers_any_other_request(
    app: CountingApp, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    short = await answer(FastPath(app, refusal), method, path, headers)
    assert (short[0], app.count) == (status, 1)
    assert short == await answer(app, method, path, headers)


async def test_an_unexpected_error_is_logged_and_not_disclosed(
    app: CountingApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(problems, "_log", logging.getLogger("here"))
    status, body = await answer(FastPath(app, refusal), "DELETE", f"/v1/things/{some_id()}")
    assert status == 500
    assert b"INTERNAL_ERROR" in body
    assert b"secret" not in body
    assert "the secret inside" in caplog.text


async def test_the_created_application_has_the_fast_path() -> None:
    app = create_app(load_settings(), "")
    assert configure(app).app is app
    app.fastapi.state.services = SimpleNamespace(request_limit=None, authenticator=WITHOUT_AUTHENTICATION)
    app.fastapi.router.routes.clear()  # an answer after this does not come from FastAPI
    assert b"CONVERSATION_NOT_FOUND" in (await answer(app, "GET", "/v1/conversations/x"))[1]
