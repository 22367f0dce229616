"""Projections are pure, so replaying the log has no side effects."""

import ast
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.aggregates import AggregateEvent
from projections.catalog import PROJECTIONS
from projections.models.listing import ListingProjection
from projections.projection import Projection
from tests.support.histories.agents import one_of_each_agent
from tests.support.histories.builders import one_of_each

MAY_IMPORT = {
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "domain",
    "eventlog",
    "functools",
    "itertools",
    "orjson",
    "projections",
    "psycopg",
    "pydantic_core",
    "typing",
    "uuid",
}
"""The packages that projection modules import. Their readers need `eventlog` and `psycopg`."""

EVENTS: list[AggregateEvent] = [*one_of_each(), *one_of_each_agent()]

_recorded: list[str] | None = None


def _record(event: str, _: tuple[Any, ...]) -> None:
    if _recorded is not None and event.startswith(("socket.", "subprocess.", "os.", "open", "urllib.", "shutil.")):
        _recorded.append(event)


sys.addaudithook(_record)


def side_effects(projection: Projection, events: Sequence[AggregateEvent]) -> list[str]:
    """Return the audit events of files, sockets and processes during a projection."""
    global _recorded
    wanted = projection.select(events)
    projection.changes(wanted)  # loads the SQL file
    _recorded = recorded = []
    try:
        projection.changes(wanted)
        projection.rows(wanted)
    finally:
        _recorded = None
    return recorded


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_opens_no_file_no_socket_and_no_process(projection: Projection) -> None:
    assert side_effects(projection, EVENTS) == []


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_returns_the_same_result_for_the_same_events(projection: Projection) -> None:
    wanted = projection.select(EVENTS)
    assert projection.changes(wanted)
    assert projection.changes(wanted) == projection.changes(wanted)
    assert projection.rows(wanted) == projection.rows(wanted)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_has_no_state_but_its_build(projection: Projection) -> None:
    assert vars(type(projection)(7)) == {"build": 7}
    assert not inspect.iscoroutinefunction(projection.changes)
    assert not inspect.iscoroutinefunction(projection.rows)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_the_module_of_a_projection_imports_nothing_with_side_effects(projection: Projection) -> None:
    tree = ast.parse(Path(inspect.getfile(type(projection))).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in imported} <= MAY_IMPORT


def test_a_side_effect_would_be_detected() -> None:
    class Acts(ListingProjection):
        def rows(self, events: Sequence[AggregateEvent]) -> Any:
            Path(__file__).read_text()
            return {}

    assert side_effects(Acts(), EVENTS) == ["open"]
