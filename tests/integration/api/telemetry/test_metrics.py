"""The metrics of requests, commits, turns and models."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.meters import MAX_MODELS
from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.models.model_scripts import Refusal
from tests.support.waiting import eventually


def value(api: Api, name: str, **labels: str) -> float:
    """Return a metric, 0 where it was never counted."""
    found = [
        sample.value
        for family in text_string_to_metric_families(api.http.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return sum(found)


def labels(api: Api, name: str, label: str) -> set[str]:
    families = text_string_to_metric_families(api.http.get("/metrics").text)
    return {each.labels[label] for family in families for each in family.samples if each.name == name}


REQUESTS = "turnlog_http_request_duration_seconds_count"


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/conversations/{id}", "/v1/conversations/{conversation_id}", "200"),
        ("HEAD", "/v1/conversations/{id}", "/v1/conversations/{conversation_id}", "200"),
        ("GET", "/v1/conversations/not-an-id", "/v1/conversations/{conversation_id}", "404"),
        ("POST", "/v1/conversations", "/v1/conversations", "422"),
        ("GET", "/v1/nothing/at/all", "unmatched", "404"),
        ("GET", "/openapi.json", "/openapi.json", "200"),
        ("GET", "/docs", "/docs", "200"),
        ("GET", "/static-offline-docs/nothing", "/static-offline-docs", "404"),
        ("DELETE", "/openapi.json", "/openapi.json", "405"),
    ],
)
def test_a_request_counts_by_route_method_and_status(api: Api, method: str, path: str, route: str, status: str) -> None:
    id_ = api.conversation()["id"]
    before = value(api, REQUESTS, route=route, method=method, status=status)
    response = api.http.request(method, path.format(id=id_), content=b"[" if method == "POST" else None)
    assert str(response.status_code) == status
    assert value(api, REQUESTS, route=route, method=method, status=status) == before + 1


def test_an_unknown_method_has_one_label(fresh_api: Api) -> None:
    for method in ("PROPFIND", "MKCOL"):
        fresh_api.http.request(method, "/v1/conversations")
    assert value(fresh_api, REQUESTS, method="OTHER") == 2
    assert labels(fresh_api, REQUESTS, "method") <= {"OTHER", "GET"}


def test_appends_and_commits_are_counted(fresh_api: Api) -> None:
    id_ = fresh_api.conversation()["id"]
    for _ in range(3):
        fresh_api.message(id_)
    assert value(fresh_api, "turnlog_append_duration_seconds_count") == 4
    assert value(fresh_api, "turnlog_commit_duration_seconds_count") == 4
    assert value(fresh_api, "turnlog_commit_batch_appends_sum") == 4


def test_turns_are_counted_by_status_and_reason(fresh_api: Api, given_model: GivenModel) -> None:
    good, bad = given_model(["Hello"]), given_model(*[Refusal(401, "invalid_api_key")] * 3)
    assert fresh_api.turn(fresh_api.conversation()["id"], good).status_code == 201
    assert fresh_api.turn(fresh_api.conversation()["id"], bad).status_code == 502
    ended = "turnlog_turns_ended_total"
    assert value(fresh_api, ended, status="completed", reason="stop") == 1
    assert value(fresh_api, ended, status="failed", reason="model_auth") == 1
    assert value(fresh_api, "turnlog_model_time_to_first_token_seconds_count", model=good) == 1
    assert value(fresh_api, "turnlog_model_call_duration_seconds_count", model=good, outcome="completed") == 1
    # A model that never answered gets no label of its own.
    assert value(fresh_api, "turnlog_model_call_duration_seconds_count", model="other", outcome="model_auth") == 1
    assert bad not in labels(fresh_api, "turnlog_model_call_duration_seconds_count", "model")


def test_the_number_of_models_is_bounded(fresh_api: Api, given_model: GivenModel) -> None:
    id_ = fresh_api.conversation()["id"]
    for _ in range(MAX_MODELS + 5):
        assert fresh_api.turn(id_, given_model(["Hello"])).status_code == 201
    found = labels(fresh_api, "turnlog_model_call_duration_seconds_count", "model")
    assert len(found) <= MAX_MODELS + 1
    assert "other" in found


def test_open_streams_and_running_turns_are_those_of_now(fresh_api: Api, given_model: GivenModel) -> None:
    with fresh_api.http.stream("GET", "/v1/events") as response:
        assert response.status_code == 200
        assert value(fresh_api, "turnlog_open_streams") == 1
    assert value(fresh_api, "turnlog_running_turns") == 0
    assert eventually(lambda: value(fresh_api, "turnlog_open_streams") == 0)


def test_the_pool_and_the_event_loop_are_measured(fresh_api: Api) -> None:
    assert value(fresh_api, "turnlog_pool_connections") >= 1
    assert value(fresh_api, "turnlog_pool_max_connections") == 8
    assert value(fresh_api, "turnlog_pool_waiting_requests") == 0
    eventually(lambda: value(fresh_api, "turnlog_event_loop_lag_seconds_count") >= 1)


def test_every_metric_has_a_help_text(fresh_api: Api) -> None:
    families: list[Any] = list(text_string_to_metric_families(fresh_api.http.get("/metrics").text))
    assert [each.name for each in families if not each.documentation.endswith((".", "did."))] == []
    assert all(each.name.startswith("turnlog_") for each in families)
