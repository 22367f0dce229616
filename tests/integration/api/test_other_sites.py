"""Requests that a browser carries here for another site's page: nothing is read by a rebound name, nothing written."""

from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.support.api_client import Api
from tests.support.resources import check_problem

ELSEWHERE = [
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.0.1",
    "[::2]",
    "localhost:8000@evil.example",
    "localhost:x",
    "a/b",
    "[",
    "",
]


@pytest.mark.parametrize("host", ELSEWHERE)
@pytest.mark.parametrize("path", ["/v1/conversations", "/healthz", "/docs", "/nowhere"])
def test_a_request_to_a_name_of_elsewhere_is_refused(api: Api, host: str, path: str) -> None:
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


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none"])
def test_pages_of_this_machine_and_the_user_can_write(api: Api, site: str) -> None:
    assert api.http.post("/v1/conversations", headers={"Sec-Fetch-Site": site}).status_code == 201


def test_a_link_on_another_site_can_be_followed(api: Api) -> None:
    assert api.http.get("/docs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
