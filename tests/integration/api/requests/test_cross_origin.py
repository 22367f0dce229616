"""A page of an allowed origin uses the API: JSON, problems and streams."""

from collections.abc import Iterator

import pytest

from tests.integration.api.conftest import GivenModel, Serve
from tests.support.http.api_client import Api, frames_of
from tests.support.http.resources import check_problem

PAGE = {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}


@pytest.fixture(scope="module")
def api(shared_database_url: str, serve: Serve) -> Iterator[Api]:
    """A server that allows one origin of this machine."""
    with serve(shared_database_url, cors_origins=PAGE["Origin"]) as api:
        yield api


def test_a_page_writes_and_reads(api: Api) -> None:
    created = api.http.post("/v1/conversations", json={"title": "T"}, headers=PAGE)
    assert created.status_code == 201
    read = api.http.get(f"/v1/conversations/{created.json()['id']}", headers=PAGE)
    assert read.headers["etag"] == '"1"'
    for response, header in ((created, "Turnlog-Position"), (read, "ETag")):
        assert response.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert header in response.headers["access-control-expose-headers"].split(", ")
        assert header in response.headers


def test_a_page_reads_problems(api: Api) -> None:
    invalid = api.http.post("/v1/conversations", json={"x": 1}, headers=PAGE)
    missing = api.http.get("/v1/nowhere", headers=PAGE)
    check_problem(invalid, 422, "VALIDATION_FAILED")
    check_problem(missing, 404, "NOT_FOUND")
    for response in (invalid, missing):
        assert response.headers["access-control-allow-origin"] == PAGE["Origin"]


def test_a_page_reads_streams(api: Api, given_model: GivenModel) -> None:
    body = {"content": "Hi", "stream": True, "model": given_model(["Hello"])}
    with api.http.stream("POST", "/v1/turns", json=body, headers=PAGE) as response:
        assert response.headers["access-control-allow-origin"] == PAGE["Origin"]
        *_, last = frames_of(response)
        assert last.event == "turn.completed"
    turn = last.data["turn"]
    path = f"/v1/conversations/{turn['conversation_id']}/turns/{turn['id']}/stream"
    with api.http.stream("GET", path, headers=PAGE) as response:
        assert response.headers["access-control-allow-origin"] == PAGE["Origin"]
        assert [frame.event for frame in frames_of(response)][-1] == "turn.completed"


def test_a_preflight_request_costs_no_route(api: Api) -> None:
    asked = {**PAGE, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "if-match"}
    response = api.http.options("/v1/conversations", headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-headers"] == "if-match"


def test_a_page_of_another_port_still_cannot_write(api: Api) -> None:
    response = api.http.post("/v1/conversations", headers={**PAGE, "Origin": "http://localhost:3001"})
    check_problem(response, 403, "FORBIDDEN")
    assert "access-control-allow-origin" not in response.headers
