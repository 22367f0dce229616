"""The OpenAPI document names every route, parameter, header, status and error."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.auth.access import RIGHTS, ROUTES, Access
from api.auth.identity import ROLES
from api.document.answers import LIMITED_PATHS
from api.document.document import UndescribedRouteError, check_described
from api.document.examples import EXAMPLES
from api.document.introduction import GROUPS
from api.document.operations import OPERATIONS
from api.document.problem_responses import KEY_NOT_FOUND, MEANINGS, MEDIA_TYPE
from api.document.stream_schemas import CONVERSATION_FEED, FEED, FRAMES, TURN_STREAM
from api.http.call import json_response
from api.http.problems import METHOD_NOT_ALLOWED, ProblemKind
from api.http.requests.body_models import Regeneration
from api.http.route import JSONRoute
from api.network.admission import EXPOSED_HEADERS
from api.settings import load_settings
from tests.support.http.openapi_document import Document, DocumentedOperation, application_document

ROOT = Path(__file__).parents[4]
DOCUMENT = application_document()
OPERATIONS_OF_DOCUMENT = DOCUMENT.operations
CONDITIONAL = {
    *(f"{method} /v1/conversations/{{conversation_id}}" for method in ("PATCH", "DELETE")),
    *(f"{method} /v1/agents/{{agent_id}}" for method in ("PUT", "DELETE")),
}
each_operation = pytest.mark.parametrize("operation", OPERATIONS_OF_DOCUMENT, ids=lambda operation: operation.label)


class ThingRoute(JSONRoute):
    """A route that the tables of the document do not know."""

    access = {"POST /v1/things/{thing}": Access.WRITES}


def operation(label: str) -> DocumentedOperation:
    (found,) = [each for each in OPERATIONS_OF_DOCUMENT if each.label == label]
    return found


def codes_of(document: Document, operation: DocumentedOperation) -> dict[str, list[str]]:
    """Return the codes of the problems of an operation, by status."""
    answers = {status: document.resolved(answer) for status, answer in operation.declared["responses"].items()}
    return {
        status: answer["content"][MEDIA_TYPE]["schema"]["allOf"][1]["properties"]["code"]["enum"]
        for status, answer in answers.items()
        if MEDIA_TYPE in answer.get("content", {})
    }


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for item in node.values() for found in references(item)]


def test_every_route_is_an_operation() -> None:
    assert {each.label for each in OPERATIONS_OF_DOCUMENT} == ROUTES.keys() == OPERATIONS.keys()


def test_a_route_without_its_lines_fails_and_says_what_is_missing() -> None:
    async def thing(thing: str, body: Regeneration) -> Any:
        return json_response({})

    with pytest.raises(UndescribedRouteError) as raised:
        check_described(ThingRoute("/v1/things/{thing}", thing, methods=["POST"]))
    assert str(raised.value) == (
        "POST /v1/things/{thing} needs a docstring, one tag of api.document.introduction.GROUPS, a line in"
        " api.document.operations.OPERATIONS, an example in api.document.examples.EXAMPLES, a description of its"
        " parameter thing in api.document.parameters.PATH_PARAMETERS."
    )


def test_an_application_with_an_undescribed_route_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPERATIONS, "GET /healthz")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UndescribedRouteError, match="GET /healthz needs a line"):
        create_app(load_settings(), "")


def test_the_tables_have_no_line_without_a_route() -> None:
    assert EXAMPLES.keys() == {each.label for each in OPERATIONS_OF_DOCUMENT if "requestBody" in each.declared}


@each_operation
def test_an_operation_has_a_summary_a_group_and_its_roles(operation: DocumentedOperation) -> None:
    declared = operation.declared
    assert re.fullmatch(r"[A-Z].*[^.]", declared["summary"])
    assert [tag in [group.name for group in GROUPS] for tag in declared["tags"]] == [True]
    needs = ROUTES[operation.label]
    if needs is Access.PUBLIC:
        assert "Needs no authentication." in declared["description"]
    else:
        named = set(re.findall(r"`(\w+)`", declared["description"].rpartition("Roles: ")[2]))
        assert named == {role for role in ROLES if needs in RIGHTS[role]}


@each_operation
def test_every_parameter_is_described(operation: DocumentedOperation) -> None:
    parameters = [DOCUMENT.resolved(parameter) for parameter in operation.declared["parameters"]]
    assert [parameter["name"] for parameter in parameters if not parameter.get("description")] == []
    in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    assert in_path == set(re.findall(r"{(\w+)}", operation.path))
    repeated = Counter((parameter["in"], parameter["name"]) for parameter in parameters)
    assert max(repeated.values()) == 1


@each_operation
def test_no_parameter_can_be_null(operation: DocumentedOperation) -> None:
    schemas = [DOCUMENT.resolved(parameter)["schema"] for parameter in operation.declared["parameters"]]
    assert [schema for schema in schemas if "null" in str(schema)] == []


@each_operation
def test_an_operation_says_how_its_caller_authenticates(operation: DocumentedOperation) -> None:
    needs = ROUTES[operation.label]
    bearer, short_token = {"bearer": []}, {"access_token": []}
    expected = [bearer, short_token] if needs is Access.STREAMS else [] if needs is Access.PUBLIC else [bearer]
    assert operation.declared["security"] == expected
    schemes = DOCUMENT.content["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["access_token"]["in"], schemes["access_token"]["name"]) == ("query", "access_token")


@each_operation
def test_an_operation_takes_the_headers_that_its_route_reads(operation: DocumentedOperation) -> None:
    needs, streams = ROUTES[operation.label], operation.label.endswith(("/events", "/stream"))
    named = {parameter["name"] for parameter in DOCUMENT.parameters(operation, "header")}
    expected = {
        "X-Request-Id": True,
        "Turnlog-Owner": needs in RIGHTS["service"],
        "Turnlog-Position": operation.method == "GET" and needs is not Access.PUBLIC,
        "Idempotency-Key": operation.method == "POST" and needs is Access.WRITES,
        "Last-Event-ID": streams,
        "If-Match": operation.label in CONDITIONAL,
    }
    assert named == {name for name, takes in expected.items() if takes}


@each_operation
def test_an_operation_answers_what_any_request_can_get(operation: DocumentedOperation) -> None:
    codes = codes_of(DOCUMENT, operation)
    public = ROUTES[operation.label] is Access.PUBLIC
    assert {"400", "403", "408", "422", "431", "500", "503"} <= codes.keys()
    assert ("401" in codes) == (not public)
    assert ("429" in codes) == operation.path.startswith(LIMITED_PATHS)
    assert ({"413", "415"} <= codes.keys()) == (operation.method in {"POST", "PUT", "PATCH"})
    waits = operation.label == "DELETE /v1/conversations" or (operation.method == "GET" and not public)
    assert ("READ_MODEL_BEHIND" in codes["503"]) == waits
    assert ("404" in codes) == ("{" in operation.path or operation.label in {"POST /v1/turns", "GET /v1/events"})
    documented = {(int(status), code) for status, found in codes.items() for code in found}
    assert documented <= MEANINGS.keys()


@each_operation
def test_an_operation_has_an_answer_that_is_no_problem(operation: DocumentedOperation) -> None:
    successes = [status for status in operation.declared["responses"] if status.startswith("2")]
    assert successes
    of_the_past = any(parameter["name"] == "as_of" for parameter in DOCUMENT.parameters(operation, "query"))
    for status in successes:
        headers = operation.declared["responses"][status].get("headers", {})
        writes = ROUTES[operation.label] in (Access.WRITES, Access.WRITES_AGENTS)
        assert ("Turnlog-Position" in headers) == (writes or of_the_past)


def test_what_can_be_read_of_the_past_refuses_the_future() -> None:
    of_the_past = [
        each
        for each in OPERATIONS_OF_DOCUMENT
        if any(parameter["name"] == "as_of" for parameter in DOCUMENT.parameters(each, "query"))
    ]
    assert {each.label for each in of_the_past} == {
        "GET /v1/conversations",
        "GET /v1/conversations/{conversation_id}",
        "GET /v1/conversations/{conversation_id}/messages",
        "GET /v1/conversations/{conversation_id}/messages/{message_id}",
        "GET /v1/conversations/{conversation_id}/context",
        "GET /v1/agents",
        "GET /v1/agents/{agent_id}",
    }
    for each in of_the_past:
        (as_of,) = [found for found in DOCUMENT.parameters(each, "query") if found["name"] == "as_of"]
        kinds = [(option["type"], option.get("format")) for option in as_of["schema"]["anyOf"]]
        assert kinds == [("integer", None), ("string", "date-time")]
        assert "INVALID_AS_OF" in codes_of(DOCUMENT, each)["400"]


def test_the_codes_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text().partition("\n## Error codes\n")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert {ProblemKind(int(status), code) for status, code in documented} == MEANINGS.keys()
    assert set(DOCUMENT.content["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == {
        kind.code for kind in MEANINGS
    }


def test_every_code_belongs_to_an_operation() -> None:
    answered = {
        ProblemKind(int(status), code)
        for each in OPERATIONS_OF_DOCUMENT
        for status, codes in codes_of(DOCUMENT, each).items()
        for code in codes
    }
    # The first belongs to the command line, the second to a path without the method.
    assert MEANINGS.keys() - answered == {KEY_NOT_FOUND, METHOD_NOT_ALLOWED}


@pytest.mark.parametrize("label", ["POST /v1/conversations", "POST /v1/turns"])
def test_a_start_of_a_conversation_can_meet_the_limit_of_its_agent(label: str) -> None:
    codes = codes_of(DOCUMENT, operation(label))
    assert codes["409"] == ["CONVERSATION_LIMIT_REACHED", "WRITE_CONFLICT"]


def test_every_header_of_the_code_is_documented() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "api").rglob("*.py") if path.parent.name != "document")
    components = DOCUMENT.content["components"]
    answered = {name.removesuffix(".optional") for name in components["headers"]}
    documented = answered | set(components["parameters"])
    assert set(re.findall(r'"(Turnlog-[A-Z]\w+)"', sources)) <= documented
    assert set(EXPOSED_HEADERS) <= answered
    used = {reference.rpartition("/")[2] for reference in references(DOCUMENT.content)}
    assert {name for name in documented if not {name, f"{name}.optional"} & used} == set()


@pytest.mark.parametrize(
    ("code", "header"),
    [
        ("UNAUTHENTICATED", "WWW-Authenticate"),
        ("RATE_LIMITED", "Retry-After"),
        ("CONVERSATION_LOCKED", "Retry-After"),
        ("STORE_UNAVAILABLE", "Retry-After"),
        ("READ_MODEL_BEHIND", "Turnlog-Behind"),
        ("METHOD_NOT_ALLOWED", "Allow"),
        ("UNSUPPORTED_ENCODING", "Accept-Encoding"),
    ],
)
def test_a_problem_has_its_header(code: str, header: str) -> None:
    responses = DOCUMENT.content["components"]["responses"]
    with_code = [answer for name, answer in responses.items() if code in name.split(".")]
    assert with_code
    assert all(header in answer["headers"] for answer in with_code)


def test_every_reference_leads_somewhere() -> None:
    for reference in set(references(DOCUMENT.content)):
        assert DOCUMENT.resolved({"$ref": reference})


def test_no_component_is_unused() -> None:
    used = set(references(DOCUMENT.content))
    kept_for_reading = {"responses/METHOD_NOT_ALLOWED", "responses/NOT_FOUND"}
    unused = {
        f"{kind}/{name}"
        for kind, components in DOCUMENT.content["components"].items()
        if kind in {"schemas", "responses"}
        for name in components
        if f"#/components/{kind}/{name}" not in used
    }
    assert unused <= kept_for_reading


def test_operations_have_names_of_their_own() -> None:
    names = Counter(each.declared["operationId"] for each in OPERATIONS_OF_DOCUMENT)
    assert max(names.values()) == 1


def test_the_groups_come_in_their_order_and_none_is_empty() -> None:
    groups = [group.name for group in GROUPS]
    assert [tag["name"] for tag in DOCUMENT.content["tags"]] == groups
    assert all(tag["description"].endswith(".") for tag in DOCUMENT.content["tags"])
    assert {each.declared["tags"][0] for each in OPERATIONS_OF_DOCUMENT} == set(groups)
    first = next(iter(DOCUMENT.content["paths"].values()))
    assert next(iter(first.values()))["tags"] == groups[:1]


def test_the_introduction_says_what_all_operations_share() -> None:
    introduction = DOCUMENT.content["info"]["description"]
    for word in ("Authorization", "Turnlog-Position", "Idempotency-Key", "Last-Event-ID", "next_cursor", "RFC 9457"):
        assert word in introduction


def test_the_frames_are_those_of_the_code() -> None:
    code = (ROOT / "turns" / "frames" / "frames.py").read_text()
    assert FRAMES.keys() == set(re.findall(r'"((?:turn|block)\.\w+|delta|tool_use)"', code))


@pytest.mark.parametrize("component", [TURN_STREAM, FEED, CONVERSATION_FEED])
def test_each_event_of_a_stream_has_an_example_that_its_schema_describes(component: str) -> None:
    schema = {"$ref": f"#/components/schemas/{component}"}
    found = DOCUMENT.resolved(schema)
    forms = found.get("oneOf") or found.get("anyOf") or [found]
    examples = [example for form in forms for example in form["examples"]]
    assert len(examples) == len(forms)
    for example in examples:
        DOCUMENT.check_event(schema, example)


@pytest.mark.parametrize("label", EXAMPLES)
def test_examples_are_what_the_schema_describes(label: str) -> None:
    found = operation(label)
    schema = found.declared["requestBody"]["content"]["application/json"]["schema"]
    assert found.examples
    for example in found.examples.values():
        DOCUMENT.check_value(schema, example)


@pytest.mark.parametrize(
    ("label", "status", "media_types"),
    [
        ("POST /v1/turns", "200", {"text/event-stream"}),
        ("POST /v1/turns", "201", {"application/json"}),
        (
            "POST /v1/conversations/{conversation_id}/turns/{turn_id}/tool_results",
            "200",
            {"application/json", "text/event-stream"},
        ),
        ("GET /v1/events", "200", {"text/event-stream"}),
        ("GET /", "200", {"application/json", "text/html"}),
        ("GET /readyz", "503", {"application/json", "application/problem+json"}),
        ("GET /metrics", "200", {"text/plain"}),
    ],
)
def test_an_answer_has_its_media_types(label: str, status: str, media_types: set[str]) -> None:
    answer = DOCUMENT.resolved(operation(label).declared["responses"][status])
    assert answer["content"].keys() == media_types


def test_a_body_is_required_unless_an_empty_one_will_do() -> None:
    optional = {
        each.label
        for each in OPERATIONS_OF_DOCUMENT
        if "requestBody" in each.declared and not each.declared["requestBody"]["required"]
    }
    assert optional == {
        "POST /v1/conversations",
        "PATCH /v1/conversations/{conversation_id}",
        "PUT /v1/agents/{agent_id}",
        "POST /v1/conversations/{conversation_id}/messages/{message_id}/regenerate",
        "POST /v1/conversations/{conversation_id}/turns/{turn_id}/complete",
    }
