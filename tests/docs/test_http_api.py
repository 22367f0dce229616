"""docs/http-api.md lists the existing routes, frames and error codes."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from api.app import create_app
from api.http.problems import INTERNAL, PROBLEM_KINDS, ProblemKind
from api.http.requests.body_models import NewAgent, NewConversationTurn, NewDeltas, NewTurn, TurnFailure, TurnUsage
from api.http.requests.query_models import (
    AgentListQuery,
    AgentMomentQuery,
    AsOfQuery,
    ContextQuery,
    EventsQuery,
    ListingQuery,
    LogQuery,
    MessagesQuery,
    SharedQuery,
)
from api.http.route import JSONRoute
from api.settings import load_settings
from projections.catalog import find_projection

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "http-api.md").read_text()
FRAMEWORK = {ProblemKind(404, "NOT_FOUND"), ProblemKind(405, "METHOD_NOT_ALLOWED")}


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_route_and_no_other_is_documented() -> None:
    app = create_app(load_settings(), "")
    routes = {
        (method, route.path)
        for route in app.fastapi.routes
        if isinstance(route, JSONRoute) and route.include_in_schema  # HEAD routes are not listed
        for method in route.methods or ()
    }
    documented = re.findall(r"^\| `(\w+) (/[^`]*)` \|", section("Routes"), re.MULTILINE)
    assert set(documented) == routes
    assert len(documented) == len(routes)


def test_every_error_code_and_no_other_is_documented() -> None:
    modules = [
        import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in (ROOT / "api").rglob("[!_]*.py")
    ]
    here = {value for module in modules for value in vars(module).values() if isinstance(value, ProblemKind)}
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \|", section("Error codes"), re.MULTILINE)
    assert {ProblemKind(int(status), code) for status, code in documented} == {
        *PROBLEM_KINDS.values(),
        *here,
        INTERNAL,
        *FRAMEWORK,
    }


def test_every_field_of_a_turn_is_documented() -> None:
    documented = re.search(r"Body: `\{(.*?)\}`", section("Turns"), re.DOTALL)
    assert documented
    fields = {field.strip().removesuffix("?") for field in documented[1].split(",")}
    assert fields == set(NewTurn.model_fields)
    assert set(NewConversationTurn.model_fields) - set(NewTurn.model_fields) == {"title", "agent_id"}


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("GET /v1/conversations", ListingQuery),
        ("GET /v1/conversations/{conversation_id}", AsOfQuery),
        ("GET /v1/conversations/{conversation_id}/messages/{message_id}", AsOfQuery),
        ("GET /v1/conversations/{conversation_id}/messages", MessagesQuery),
        ("GET /v1/conversations/{conversation_id}/context", ContextQuery),
        ("GET /v1/conversations/{conversation_id}/log", LogQuery),
        ("GET /v1/log", LogQuery),
        ("GET /v1/events", EventsQuery),
        ("GET /v1/agents", AgentListQuery),
        ("GET /v1/agents/{agent_id}", AgentMomentQuery),
        ("PUT /v1/agents/{agent_id}", SharedQuery),
        ("DELETE /v1/agents/{agent_id}", SharedQuery),
    ],
)
def test_every_query_parameter_is_documented(route: str, query: type[ListingQuery]) -> None:
    row = next(line for line in section("Routes").splitlines() if line.startswith(f"| `{route}` |"))
    assert set(query.model_fields) - {"include"} <= set(re.findall(r"`(\w+)`", row))


def test_every_setting_of_an_agent_is_documented() -> None:
    documented = re.search(r"All fields are optional: `\{(.*?)\}`", section("Agents"), re.DOTALL)
    assert documented
    assert {field.strip().removesuffix("?") for field in documented[1].split(",")} == set(NewAgent.model_fields)


def test_the_documented_frames_are_those_of_the_code() -> None:
    documented = set(re.findall(r"`((?:turn|block)\.\w+|delta)`", section("Turns")))
    code = (ROOT / "turns" / "frames" / "frames.py").read_text()
    assert documented == set(re.findall(r'"((?:turn|block)\.\w+|delta)"', code))


def test_the_example_of_a_projection_has_the_version_of_the_code() -> None:
    example = re.search(r"```json\n(.*?)```", section("Projections"), re.DOTALL)
    assert example
    shown = json.loads(example[1])
    version = find_projection(shown["name"]).version
    assert {shown["version"], *(build["version"] for build in shown["other_builds"])} == {version}


def test_the_limits_of_a_request_are_documented() -> None:
    rows = "".join(re.findall(r"^\| (?:sizes|numbers) \|.*$", section("Bad input"), re.MULTILINE))
    models = (NewAgent, NewConversationTurn, NewDeltas, TurnFailure, TurnUsage, ContextQuery, ListingQuery)
    limits = set(re.findall(r"'(?:maximum|maxLength|maxItems)': (\d+)", str([m.model_json_schema() for m in models])))
    # `agent_id` and a tool's name are documented where they occur. A text's limit is in bytes.
    written = {f"{int(limit):,}" for limit in limits - {"64"}}
    assert {limit for limit in written if not re.search(rf"(?<![\d,]){limit}(?![\d,])", rows)} == set()


def test_resources_are_json() -> None:
    resources = re.findall(r"```json\n(.*?)```", section("Resources"), re.DOTALL)
    assert [json.loads(resource)["object"] for resource in resources] == ["conversation", "message", "turn"]
