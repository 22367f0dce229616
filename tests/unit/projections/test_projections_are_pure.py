"""Replaying the log has no side effects: a projection computes, and has nothing to do anything else with."""

import ast
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.events import ConversationEvent
from projections.catalog import PROJECTIONS
from projections.models.listing import ListingProjection
from projections.projection import Projection
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
"""What the modules of projections use; `eventlog` and `psycopg` are for the readers beside them."""

_heard: list[str] | None = None


def _hear(event: str, _: tuple[Any, ...]) -> None:
    if _heard is not None and event.startswith(("socket.", "subprocess.", "os.", "open", "urllib.", "shutil.")):
        _heard.append(event)


sys.addaudithook(_hear)


def side_effects(projection: Projection, events: Sequence[ConversationEvent]) -> list[str]:
    """Return what Python's audit tells of files, sockets and processes while a projection works."""
    global _heard
    wanted = projection.select(events)
    projection.changes(wanted)  # loads the SQL file
    _heard = heard = []
    try:
        projection.changes(wanted)
        projection.rows(wanted)
    finally:
        _heard = None
    return heard


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_opens_no_file_no_socket_and_no_process(projection: Projection) -> None:
    assert side_effects(projection, one_of_each()) == []


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_gives_the_same_for_the_same_events(projection: Projection) -> None:
    wanted = projection.select(one_of_each())
    assert projection.changes(wanted) == projection.changes(wanted)
    assert projection.rows(wanted) == projection.rows(wanted)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_a_projection_is_given_nothing_to_act_with(projection: Projection) -> None:
    assert vars(type(projection)(7)) == {"build": 7}
    assert not inspect.iscoroutinefunction(projection.changes)
    assert not inspect.iscoroutinefunction(projection.rows)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_the_module_of_a_projection_imports_nothing_that_acts(projection: Projection) -> None:
    tree = ast.parse(Path(inspect.getfile(type(projection))).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in imported} <= MAY_IMPORT


def test_a_side_effect_would_be_heard() -> None:
    class Acts(ListingProjection):
        def rows(self, events: Sequence[ConversationEvent]) -> Any:
            Path(__file__).read_text()
            return {}

    assert side_effects(Acts(), one_of_each()) == ["open"]
