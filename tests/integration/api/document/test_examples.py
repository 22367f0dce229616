"""The examples of the OpenAPI document, sent as they stand."""

from itertools import takewhile
from typing import Any

import pytest

from tests.integration.api.document.conftest import Prepare
from tests.support.http.callers import Caller, Guarded
from tests.support.http.openapi_document import EVENT_STREAM, DocumentedOperation, application_document

DOCUMENT = application_document()
NO_BODY = ""
EXAMPLES = [(each, name) for each in DOCUMENT.operations for name in each.examples or [NO_BODY]]
ENDLESS = ("GET /v1/events", "GET /v1/conversations/{conversation_id}/events")


def path_of(operation: DocumentedOperation, ids: dict[str, str]) -> str:
    """Return the path with ids, and with the examples of its other parameters."""
    parameters = DOCUMENT.parameters(operation, "path")
    values = {parameter["name"]: parameter.get("example") for parameter in parameters}
    return operation.path.format(**{**values, **ids})


def send(caller: Caller, operation: DocumentedOperation, path: str, **options: Any) -> None:
    """Send a request, and check that its answer is a documented success."""
    http = caller.guarded.api.http
    with http.stream(operation.method, path, headers=caller.headers, **options) as response:
        if operation.label in ENDLESS:
            content = "\n".join(takewhile(bool, response.iter_lines())) + "\n\n"
        else:
            content = response.read().decode()
        assert response.is_success, content
        DOCUMENT.check_answer(operation, response, content)


@pytest.mark.parametrize(("operation", "name"), EXAMPLES, ids=lambda value: getattr(value, "label", value))
def test_every_example_works_as_it_stands(
    guarded: Guarded, prepare: Prepare, operation: DocumentedOperation, name: str
) -> None:
    caller = guarded.caller(operation.role)
    options = {"json": operation.examples[name]} if name != NO_BODY else {}
    send(caller, operation, path_of(operation, prepare(caller, operation)), **options)


VALUES = [
    (operation, parameter["name"], values)
    for operation in DOCUMENT.operations
    for parameter in DOCUMENT.parameters(operation, "query")
    if (values := {*parameter["schema"].get("enum", []), parameter["schema"].get("default")} - {None})
]


@pytest.mark.parametrize(("operation", "name", "values"), VALUES, ids=lambda value: getattr(value, "label", None))
def test_every_value_that_a_query_names_is_accepted(
    guarded: Guarded, prepare: Prepare, operation: DocumentedOperation, name: str, values: set[Any]
) -> None:
    caller = guarded.caller(operation.role)
    path = path_of(operation, prepare(caller, operation))
    for value in values:
        send(caller, operation, path, params={name: value})


@pytest.mark.parametrize(
    "operation",
    [each for each in DOCUMENT.operations if EVENT_STREAM in str(each.declared["responses"]) and each.method == "GET"],
    ids=lambda operation: operation.label,
)
def test_a_short_token_opens_a_stream_as_the_document_says(
    guarded: Guarded, prepare: Prepare, operation: DocumentedOperation
) -> None:
    caller = guarded.caller("user")
    path = path_of(operation, prepare(caller, operation))
    with guarded.api.http.stream("GET", path, params={"access_token": caller.short_token()}) as response:
        assert next(response.iter_lines()) == ": open"
        DOCUMENT.check_answer(operation, response, "")
