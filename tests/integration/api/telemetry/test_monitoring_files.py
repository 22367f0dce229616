"""The alert rules, the dashboard and the page name metrics and labels that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.api.conftest import Serve
from tests.support.http.api_client import Api
from tests.support.models.model_scripts import BAD_KEY, Script
from tests.support.models.model_server import ModelServer

DOCS = Path(__file__).parents[4] / "docs"
PAGE = (DOCS / "operations.md").read_text()
RULES = [
    rule for group in yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
COUNTED_RARELY = {"turnlog_http_rejected_total": {"route"}}
"""Metrics with labels have no sample before they were counted. No request is rejected in these tests."""


@pytest.fixture(scope="module")
def samples(shared_database_url: str, serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serve(shared_database_url, data_dir=tmp_path_factory.mktemp("data")) as api:
        yield api


@pytest.fixture(scope="module")
def metrics(samples: Api, models: ModelServer) -> dict[str, set[str]]:
    """The labels of every metric by its name, after a good turn and a failed one."""
    models.script("monitored", Script())
    models.script("monitored-failure", BAD_KEY)
    for model in ("monitored", "monitored-failure"):
        samples.turn(samples.conversation()["id"], model)
    found: dict[str, set[str]] = dict(COUNTED_RARELY)
    for family in text_string_to_metric_families(samples.http.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return {name: labels for name, labels in found.items() if not name.endswith("_created")}


def names(query: str) -> set[str]:
    return set(re.findall(r"\bturnlog_\w+", query))


def labels(query: str) -> set[str]:
    grouped = re.findall(r"by \(([^)]*)\)", query)
    selected = re.findall(r"(\w+)(?:=|!=|=~|!~)\"", query)
    return {label.strip() for group in grouped for label in group.split(",")} | set(selected)


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_a_query_uses_existing_metrics_and_labels(metrics: dict[str, set[str]], query: str) -> None:
    used = names(query)
    assert used <= metrics.keys()
    allowed = {"instance", "job"}.union(*(metrics[name] for name in used))
    assert labels(query) <= allowed
    assert query.count("(") == query.count(")")


def test_the_page_describes_every_metric_and_no_other(metrics: dict[str, set[str]]) -> None:
    rows = re.findall(r"^\| `(turnlog_\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    described = {name: set(re.findall(r"`(\w+)`", shown)) for name, shown in rows}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics}
    assert described.keys() == families
    for name, shown in described.items():
        existing = metrics.get(name, metrics.get(f"{name}_count", set()))
        assert shown == existing, name


def test_the_page_says_what_to_do_about_every_alert() -> None:
    assert re.findall(r"^\| `(Turnlog\w+)` \|", PAGE, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_a_rule_is_complete() -> None:
    for rule in RULES:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"].endswith(".")


def test_the_dashboard_has_a_query_for_each_metric_of_the_process(metrics: dict[str, set[str]]) -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for query in QUERIES for name in names(query)}
    assert {name for name in families - shown if not name.startswith("turnlog_projection_")} == set()


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
