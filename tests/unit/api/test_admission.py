"""A server answers to its host names, and to pages of allowed origins."""

from types import SimpleNamespace

import httpx
import pytest
from httpx import ASGITransport, AsyncClient

from api.app import create_app
from api.network.admission import EXPOSED_HEADERS
from api.settings import load_settings
from tests.support.http.credentials import WITHOUT_AUTHENTICATION

APP = "https://app.example.com"


async def answer(method: str, path: str, headers: list[tuple[str, str]], **settings: str) -> httpx.Response:
    app = create_app(load_settings(**{"auth": "keys", **settings}), "")
    app.fastapi.state.services = SimpleNamespace(
        progress=None, request_limit=None, authenticator=WITHOUT_AUTHENTICATION
    )
    transport = ASGITransport(app, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="http://server") as http:
        return await http.request(method, path, headers=headers)


async def host_status(host: str, **settings: str) -> int:
    return (await answer("GET", "/healthz", [("Host", host)], **settings)).status_code


@pytest.mark.parametrize(
    "host",
    ["example.com", "EXAMPLE.com:8000", "example.com.", "a.b.example.org", "10.0.0.1", "[::1]:80", "[::1]"],
)
async def test_the_listed_hosts_are_served(host: str) -> None:
    assert await host_status(host, allowed_hosts="example.com,*.example.org,10.0.0.1,::1") == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "a.example.com",
        "evilexample.org",
        "example.com.evil.example",
        "example.com:x",
        "example.com:8000@evil.example",
        "u@example.com",
        "10.0.0.2",
        "[::2]",
        "::1",
        "",
        "[",
        "a/b",
    ],
)
async def test_other_hosts_are_refused_on_every_path(host: str) -> None:
    for path in ("/healthz", "/v1/conversations", "/docs", "/nowhere"):
        response = await answer("GET", path, [("Host", host)], allowed_hosts="example.com,*.example.org,10.0.0.1,::1")
        assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("settings", [{}, {"allowed_hosts": "*"}])
async def test_any_host_is_served_by_default(settings: dict[str, str]) -> None:
    assert await host_status("any.example:1234", **settings) == 200


@pytest.mark.parametrize("settings", [{}, {"allowed_hosts": "a.example"}])
async def test_two_hosts_are_refused(settings: dict[str, str]) -> None:
    response = await answer("GET", "/healthz", [("Host", "a.example"), ("Host", "a.example")], **settings)
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("headers", [[("Origin", APP)], [("Origin", "null")], [("Sec-Fetch-Site", "cross-site")]])
async def test_the_origin_of_a_write_is_no_ground_for_a_refusal(headers: list[tuple[str, str]]) -> None:
    # No key comes with it by itself, so it is 401 or 404 like the same write of a program.
    written = await answer("POST", "/nowhere", headers)
    assert written.status_code == (await answer("POST", "/nowhere", [])).status_code


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/conversations/x/events", "/nowhere", "/healthz"])
async def test_a_preflight_of_an_allowed_origin_is_granted(path: str, method: str) -> None:
    sent = [
        ("Origin", APP),
        ("Access-Control-Request-Method", method),
        ("Access-Control-Request-Headers", "authorization,idempotency-key,x-stainless-os"),
    ]
    response = await answer("OPTIONS", path, sent, cors_origins=APP)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == APP
    assert response.headers["access-control-allow-headers"] == "authorization,idempotency-key,x-stainless-os"
    assert method in response.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_of_another_origin_is_refused() -> None:
    sent = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")]
    response = await answer("OPTIONS", "/v1/turns", sent, cors_origins=APP)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/v1/conversations/x", None), ("/nowhere", 404), ("/openapi.json", 200), ("/readyz", 500)],
)
async def test_answers_and_problems_can_be_read_by_an_allowed_page(path: str, status: int | None) -> None:
    response = await answer("GET", path, [("Origin", APP)], cors_origins=f"http://other,{APP}")
    assert status in {None, response.status_code}
    assert response.headers["access-control-allow-origin"] == APP
    assert response.headers["access-control-expose-headers"] == ", ".join(EXPOSED_HEADERS)
    assert "Origin" in response.headers["vary"]


async def test_answers_cannot_be_read_by_another_page() -> None:
    response = await answer("GET", "/healthz", [("Origin", "https://evil.example")], cors_origins=APP)
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    assert "Origin" in response.headers["vary"]


async def test_every_page_may_read_if_all_origins_are_allowed() -> None:
    response = await answer("GET", "/healthz", [("Origin", "https://evil.example")], cors_origins="*")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_an_allowed_local_page_may_write_without_authentication(site: str) -> None:
    page = "http://localhost:3000"
    headers = [("Host", "localhost:8000"), ("Origin", page), ("Sec-Fetch-Site", site)]
    written = await answer("POST", "/nowhere", headers, auth="none", cors_origins=page)
    assert written.status_code == 404
    assert written.headers["access-control-allow-origin"] == page
    for refused in (
        [headers[0], ("Origin", "http://localhost:3001"), headers[2]],
        [*headers, ("Origin", "http://localhost:3001")],
        [headers[0], headers[2]],
        [("Host", "evil.example"), *headers[1:]],
    ):
        response = await answer("POST", "/nowhere", refused, auth="none", cors_origins=page)
        assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")
