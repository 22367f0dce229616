"""Pages of other sites can neither read through a rebound name nor write."""

from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem

ELSEWHERE = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.0.1",
    "[::2]",
    "localhost:8000@evil.example",
    "localhost:x",
    "localhost.",
    "localhost.:8000",
    "a/b",
    "[",
    "",
]


@pytest.mark.parametrize("host", ELSEWHERE)
@pytest.mark.parametrize("path", ["/v1/conversations", "/healthz", "/docs", "/nowhere"])
def test_a_request_to_a_foreign_host_is_refused(api: Api, host: str, path: str) -> None:
    check_problem(api.http.get(path, headers={"Host": host}), 403, "FORBIDDEN")
    check_problem(api.http.post(path, headers={"Host": host, "Idempotency-Key": "k"}), 403, "FORBIDDEN")


def test_one_wrong_host_among_two_is_refused(api: Api) -> None:
    with closing(HTTPConnection(api.http.base_url.host, api.http.base_url.port)) as connection:
        connection.putrequest("GET", "/v1/conversations", skip_host=True)
        connection.putheader("Host", "localhost")
        connection.putheader("Host", "evil.example")
        connection.endheaders()
        assert connection.getresponse().status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.2:9000", "[::1]", "[::1]:8000"])
def test_every_name_of_this_machine_is_served(api: Api, host: str) -> None:
    assert api.http.get("/v1/conversations", headers={"Host": host}).status_code == 200
    assert api.http.post("/v1/conversations", headers={"Host": host}).status_code == 201


@pytest.mark.parametrize(
    ("method", "suffix"), [("POST", "/messages"), ("POST", "/turns"), ("PATCH", ""), ("DELETE", "")]
)
def test_another_sites_page_cannot_write(api: Api, method: str, suffix: str) -> None:
    id_ = api.conversation()["id"]
    path, headers = f"/v1/conversations/{id_}{suffix}", {"Sec-Fetch-Site": "cross-site"}
    check_problem(api.http.request(method, path, headers=headers), 403, "FORBIDDEN")
    assert [event["type"] for event in api.events(id_)] == ["ConversationStarted"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "Same-Origin", "none, cross-site", "other"])
@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/projections/usage/rebuild", "/nowhere"])
def test_a_cross_site_page_cannot_write(api: Api, path: str, site: str) -> None:
    check_problem(api.http.post(path, headers={"Sec-Fetch-Site": site}), 403, "FORBIDDEN")


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_pages_of_the_server_and_the_user_can_write(api: Api, site: str) -> None:
    assert api.http.post("/v1/conversations", headers={"Sec-Fetch-Site": site}).status_code == 201


FOREIGN = [
    "null",
    "",
    "https://evil.example",
    "http://localhost",
    "http://localhost:8001",
    "http://localhost.:8000",
    "https://localhost:8000",
    "http://127.0.0.1:8000",
    "http://[::1]:8000",
    "http://localhost:8000.evil.example",
    "http://evil.example:8000@localhost:8000",
    "http://localhost:8000/",
    "http://localhost:8000 http://evil.example",
    "file://",
    "localhost:8000",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("site", [None, "same-origin", "none"])
@pytest.mark.parametrize(("method", "suffix"), [("POST", ""), ("PUT", ""), ("PATCH", "/x"), ("DELETE", "/x")])
def test_a_page_of_another_origin_cannot_write(
    api: Api, method: str, suffix: str, site: str | None, origin: str
) -> None:
    headers = {"Host": "localhost:8000", "Origin": origin, **({"Sec-Fetch-Site": site} if site else {})}
    check_problem(api.http.request(method, f"/v1/conversations{suffix}", headers=headers), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("LOCALHOST:8000", "http://localhost:8000"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "http://localhost:80"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_page_of_the_servers_origin_can_write(api: Api, host: str, origin: str) -> None:
    headers = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert api.http.post("/v1/conversations", headers=headers).status_code == 201


def test_one_foreign_origin_among_two_is_refused(api: Api) -> None:
    with closing(HTTPConnection("127.0.0.1", api.http.base_url.port)) as connection:
        connection.putrequest("POST", "/v1/conversations")
        connection.putheader("Origin", f"http://127.0.0.1:{api.http.base_url.port}")
        connection.putheader("Origin", "http://evil.example")
        connection.endheaders()
        assert connection.getresponse().status == 403


def test_a_page_cannot_write_without_a_host_to_compare_its_origin_with(api: Api) -> None:
    with closing(HTTPConnection("127.0.0.1", api.http.base_url.port)) as connection:
        connection.putrequest("POST", "/v1/conversations", skip_host=True)
        connection.putheader("Origin", "http://localhost")
        connection.endheaders()
        assert connection.getresponse().status in {400, 403}


def test_another_origins_page_gets_no_cors_headers(api: Api) -> None:
    response = api.http.get("/v1/conversations", headers={"Origin": "https://evil.example"})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_a_link_on_another_site_can_be_followed(api: Api) -> None:
    assert api.http.get("/docs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
