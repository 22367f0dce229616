"""Liveness, readiness, the root, and the documentation of the API."""

from importlib.metadata import version

import pytest

from projections.catalog import PROJECTIONS
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem


def test_a_running_process_is_alive(api: Api) -> None:
    response = api.http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_ready_process_reports_the_positions_of_the_log_and_its_projections(api: Api) -> None:
    response = api.http.post("/v1/conversations", json={})
    ready = api.get("/readyz")
    assert ready["status"] == "ready"
    assert ready["position"] >= int(response.headers["turnlog-position"])
    assert ready["projections"].keys() == {projection.name for projection in PROJECTIONS}
    assert all(not projection["stopped"] for projection in ready["projections"].values())


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, application/json", "text/plain", ""])
def test_the_root_names_the_server_and_its_links(api: Api, accept: str) -> None:
    response = api.http.get("/", headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    index = response.json()
    assert index.keys() == {"name", "version", "links"}
    assert (index["name"], index["version"]) == ("Turnlog", api.get("/openapi.json")["info"]["version"])
    assert index["version"] == version("turnlog")
    assert {"docs", "openapi", "conversations", "health"} <= index["links"].keys()
    for link in index["links"].values():
        assert api.http.get(link).status_code == 200


def test_a_browser_gets_the_root_as_a_page(api: Api) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    response = api.http.get("/", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["vary"] == "Accept"
    index = api.get("/")
    assert all(f'href="{link}"' in response.text for link in index["links"].values())
    assert index["version"] in response.text


def test_the_documentation_page_is_served(api: Api) -> None:
    response = api.http.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/v1/conversations"),
        ("get", "/v1/conversations"),
        ("delete", "/v1/conversations"),
        ("get", "/v1/conversations/{conversation_id}"),
        ("patch", "/v1/conversations/{conversation_id}"),
        ("delete", "/v1/conversations/{conversation_id}"),
        ("post", "/v1/conversations/{conversation_id}/messages"),
        ("get", "/v1/conversations/{conversation_id}/messages"),
        ("get", "/v1/conversations/{conversation_id}/messages/{message_id}"),
        ("delete", "/v1/conversations/{conversation_id}/messages/{message_id}"),
        ("get", "/v1/conversations/{conversation_id}/context"),
        ("get", "/v1/conversations/{conversation_id}/log"),
        ("post", "/v1/conversations/{conversation_id}/turns"),
        ("get", "/v1/conversations/{conversation_id}/turns"),
        ("get", "/v1/conversations/{conversation_id}/turns/{turn_id}"),
        ("get", "/v1/conversations/{conversation_id}/turns/{turn_id}/stream"),
        ("post", "/v1/conversations/{conversation_id}/turns/{turn_id}/cancel"),
        ("post", "/v1/turns"),
        ("post", "/v1/conversations/{conversation_id}/turns/{turn_id}/deltas"),
        ("post", "/v1/conversations/{conversation_id}/turns/{turn_id}/complete"),
        ("post", "/v1/conversations/{conversation_id}/turns/{turn_id}/fail"),
        ("get", "/v1/events"),
        ("get", "/v1/conversations/{conversation_id}/events"),
        ("get", "/v1/projections"),
        ("get", "/v1/projections/{name}"),
        ("post", "/v1/projections/{name}/rebuild"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
        ("get", "/"),
    ],
)
def test_the_openapi_document_describes_every_operation(api: Api, method: str, path: str) -> None:
    operation = api.get("/openapi.json")["paths"][path][method]
    assert operation["summary"]
    assert ("requestBody" in operation) == (method in {"post", "patch"} and not path.endswith(("/cancel", "/rebuild")))


def test_the_openapi_document_names_the_parameters_of_a_list(api: Api) -> None:
    operation = api.get("/openapi.json")["paths"]["/v1/conversations"]["get"]
    assert {parameter.get("name") for parameter in operation["parameters"]} >= {"limit", "cursor", "agent_id", "q"}


def test_an_unknown_path_is_a_problem(api: Api) -> None:
    check_problem(api.http.get("/v1/nothing"), 404, "NOT_FOUND")
    check_problem(api.http.get("/v1/conversations/"), 404, "NOT_FOUND")


def test_an_unknown_method_gets_a_problem_with_the_allowed_methods(api: Api) -> None:
    response = api.http.put("/v1/conversations", json={})
    check_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert "GET" in response.headers["allow"]
