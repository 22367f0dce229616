"""The state and the rebuilds of projections over HTTP."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from projections.catalog import PROJECTIONS
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem
from tests.support.waiting import eventually

NAMES = [projection.name for projection in PROJECTIONS]


def metrics(api: Api) -> dict[tuple[str, str], float]:
    """Return the metrics by name and projection."""
    response = api.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(response.text)
    return {
        (sample.name, sample.labels.get("projection", "")): sample.value
        for family in families
        for sample in family.samples
    }


def rebuilt(api: Api, name: str, build: int) -> bool:
    return api.get(f"/v1/projections/{name}")["build"] == build


def test_every_projection_reports_its_state(fresh_api: Api) -> None:
    fresh_api.conversation()
    page = fresh_api.get("/v1/projections")
    assert page["next_cursor"] is None
    assert [projection["name"] for projection in page["data"]] == NAMES
    for projection in page["data"]:
        assert projection == fresh_api.get(f"/v1/projections/{projection['name']}")
        assert projection["position"] == projection["head"] == 1
        assert (projection["lag_events"], projection["lag_seconds"], projection["error"]) == (0, 0.0, None)
        assert (projection["status"], projection["build"], projection["rebuild"]) == ("running", 1, None)


def test_an_unknown_projection_is_not_found(api: Api) -> None:
    for method, path in (("GET", "/v1/projections/nope"), ("POST", "/v1/projections/nope/rebuild")):
        check_problem(api.http.request(method, path), 404, "PROJECTION_NOT_FOUND")


def test_a_rebuild_switches_reads_and_keeps_the_build_before(fresh_api: Api) -> None:
    conversation = fresh_api.conversation()
    response = fresh_api.http.post("/v1/projections/listing/rebuild")
    assert response.status_code == 202
    assert response.json()["name"] == "listing"
    eventually(lambda: rebuilt(fresh_api, "listing", 2))
    (kept,) = fresh_api.get("/v1/projections/listing")["other_builds"]
    assert (kept["build"], kept["state"]) == (1, "kept")
    assert fresh_api.get("/v1/conversations")["data"] == [conversation]
    fresh_api.conversation()
    assert len(fresh_api.get("/v1/conversations")["data"]) == 2


def test_the_second_of_two_concurrent_rebuilds_is_refused(fresh_api: Api) -> None:
    first = fresh_api.http.post("/v1/projections/history/rebuild")
    second = fresh_api.http.post("/v1/projections/history/rebuild")
    # The first may end before the second starts. Then nothing is refused.
    if second.status_code != 202:
        check_problem(second, 409, "WRITE_CONFLICT")
    assert first.status_code == 202
    eventually(lambda: fresh_api.get("/v1/projections/history")["build"] > 1)


def test_the_metrics_report_the_same_state(fresh_api: Api) -> None:
    fresh_api.conversation()
    values = metrics(fresh_api)
    assert (values["turnlog_store_up", ""], values["turnlog_log_position", ""]) == (1, 1)
    for name in NAMES:
        assert values["turnlog_projection_position", name] == 1
        assert values["turnlog_projection_lag_events", name] == values["turnlog_projection_lag_seconds", name] == 0
        assert values["turnlog_projection_stopped", name] == 0


def test_a_stopped_projection_reports_the_event_the_error_and_its_lag(fresh_api: Api, broken_listing: None) -> None:
    fresh_api.conversation()
    fresh_api.http.post("/v1/conversations", json={"title": "Poison"})
    fresh_api.conversation()
    listing: dict[str, Any] = fresh_api.get("/v1/projections/listing")
    assert (listing["status"], listing["position"], listing["lag_events"]) == ("stopped", 1, 2)
    assert listing["lag_seconds"] > 0
    assert listing["error"]["position"] == 2
    assert fresh_api.get("/readyz")["projections"]["listing"]["error"] == listing["error"]
    values = metrics(fresh_api)
    assert values["turnlog_projection_stopped", "listing"] == 1
    assert values["turnlog_projection_error_position", "listing"] == 2
    assert values["turnlog_projection_lag_events", "listing"] == 2
    assert values["turnlog_projection_stopped", "history"] == 0
