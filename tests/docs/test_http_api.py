"""docs/http-api.md lists the routes, frames and error codes that exist, and no others."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from api.app import create_app
from api.http.problems import INTERNAL, PROBLEM_KINDS, ProblemKind
from api.http.request_models import (
    ContextQuery,
    EventsQuery,
    ListingQuery,
    LogQuery,
    MessagesQuery,
    NewConversationTurn,
    NewTurn,
)
from api.http.route import JSONRoute
from api.settings import load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "http-api.md").read_text()
FRAMEWORK = {ProblemKind(404, "NOT_FOUND"), ProblemKind(405, "METHOD_NOT_ALLOWED")}


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_route_is_told_and_no_other() -> None:
    app = create_app(load_settings(), "")
    routes = {
        (method, route.path)
        for route in app.fastapi.routes
        if isinstance(route, JSONRoute) and route.include_in_schema  # HEAD goes without saying
        for method in route.methods or ()
    }
    told = re.findall(r"^\| `(\w+) (/[^`]*)` \|", section("Routes"), re.MULTILINE)
    assert set(told) == routes
    assert len(told) == len(routes)


def test_every_error_code_is_told_and_no_other() -> None:
    modules = [
        import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in (ROOT / "api").rglob("[!_]*.py")
    ]
    here = {value for module in modules for value in vars(module).values() if isinstance(value, ProblemKind)}
    told = re.findall(r"^\| (\d+) \| `(\w+)` \|", section("Error codes"), re.MULTILINE)
    assert {ProblemKind(int(status), code) for status, code in told} == {
        *PROBLEM_KINDS.values(),
        *here,
        INTERNAL,
        *FRAMEWORK,
    }


def test_every_field_of_a_turn_is_told() -> None:
    told = re.search(r"Body: `\{(.*?)\}`", section("Turns"), re.DOTALL)
    assert told
    fields = {field.strip().removesuffix("?") for field in told[1].split(",")}
    assert fields == set(NewTurn.model_fields)
    assert set(NewConversationTurn.model_fields) - set(NewTurn.model_fields) == {"title", "agent_id"}


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("GET /v1/conversations", ListingQuery),
        ("GET /v1/conversations/{conversation_id}/messages", MessagesQuery),
        ("GET /v1/conversations/{conversation_id}/context", ContextQuery),
        ("GET /v1/conversations/{conversation_id}/log", LogQuery),
        ("GET /v1/events", EventsQuery),
    ],
)
def test_every_query_parameter_is_told(route: str, query: type[ListingQuery]) -> None:
    row = next(line for line in section("Routes").splitlines() if line.startswith(f"| `{route}` |"))
    assert set(query.model_fields) - {"include"} <= set(re.findall(r"`(\w+)`", row))


def test_the_frames_are_those_that_the_code_sends() -> None:
    told = set(re.findall(r"`((?:turn|block)\.\w+|delta)`", section("Turns")))
    code = (ROOT / "turns" / "frames" / "frames.py").read_text()
    assert told == set(re.findall(r'"((?:turn|block)\.\w+|delta)"', code))


def test_resources_are_json() -> None:
    resources = re.findall(r"```json\n(.*?)```", section("Resources"), re.DOTALL)
    assert [json.loads(resource)["object"] for resource in resources] == ["conversation", "message", "turn"]
