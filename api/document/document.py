"""The OpenAPI document of the API.

FastAPI describes the bodies, queries and resources that the routes declare. The rest follows from what a route needs
of its caller and from the parts of its path, or stands in the tables of this package.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute

from api.auth.access import RIGHTS, ROUTES, Access
from api.auth.identity import ROLES
from api.document.answers import complete_answers
from api.document.examples import EXAMPLES
from api.document.headers import Schema, header_components, parameter_components
from api.document.introduction import GROUPS, INTRODUCTION, SUMMARY
from api.document.operations import OPERATIONS
from api.document.parameters import PATH_PARAMETERS, complete_parameters
from api.document.problem_responses import PROBLEM, ProblemResponses
from api.document.stream_schemas import stream_components
from api.http.route import JSONRoute

_SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key (`turnlog keys create`) or a JSON Web Token. A server without authentication ignores it.",
    },
    "access_token": {
        "type": "apiKey",
        "in": "query",
        "name": "access_token",
        "description": "A short token from `POST /v1/tokens`, for event streams in browsers.",
    },
}


class UndescribedRouteError(Exception):
    """The document cannot describe a route, because a line about it is missing."""


def check_described(route: JSONRoute) -> None:
    """Check that the document can describe a route.

    Raises:
        UndescribedRouteError: its docstring, its group, its line in a table or its example is missing.
    """
    faults = list(_faults(route))
    if faults:
        raise UndescribedRouteError(f"{_key(route)} needs {', '.join(faults)}.")


def build_document(version: str, routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of the JSON routes."""
    shown = sorted((route for route in routes if isinstance(route, JSONRoute) and route.include_in_schema), key=_place)
    document = get_openapi(
        title="Turnlog",
        version=version,
        summary=SUMMARY,
        description=INTRODUCTION,
        routes=shown,
        tags=[group._asdict() for group in GROUPS],
        license_info={"name": "MIT", "identifier": "MIT"},
        # A block has the same members in a request and in an answer.
        separate_input_output_schemas=False,
    )
    found: dict[str, Schema] = document["components"]["schemas"]
    schemas = {**stream_components(), **found, "Problem": PROBLEM}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for schema in schemas.values():
        _require_constants(schema)
    responses = ProblemResponses()
    for route in shown:
        operation = document["paths"][route.path_format][_method(route).lower()]
        _complete(operation, route, schemas, responses)
    document["components"] = {
        "schemas": dict(sorted(schemas.items())),
        "responses": dict(sorted(responses.components.items())),
        "parameters": parameter_components(),
        "headers": header_components(),
        "securitySchemes": _SECURITY_SCHEMES,
    }
    return document


def _faults(route: JSONRoute) -> Iterator[str]:
    groups = [group.name for group in GROUPS]
    if not route.description:
        yield "a docstring"
    if len(route.tags) != 1 or route.tags[0] not in groups:
        yield "one tag of api.document.introduction.GROUPS"
    if _key(route) not in OPERATIONS:
        yield "a line in api.document.operations.OPERATIONS"
    if route.signature.body and not EXAMPLES.get(_key(route)):
        yield "an example in api.document.examples.EXAMPLES"
    for name in (*route.signature.ids, *route.signature.names):
        if name not in PATH_PARAMETERS:
            yield f"a description of its parameter {name} in api.document.parameters.PATH_PARAMETERS"


def _method(route: JSONRoute) -> str:
    (method,) = route.methods or set[str]()
    return method


def _key(route: JSONRoute) -> str:
    method = _method(route)
    return f"{'GET' if method == 'HEAD' else method} {route.path}"


def _place(route: JSONRoute) -> tuple[int, int]:
    """Return the place of a route: that of its group, and that in the table of routes."""
    groups = [group.name for group in GROUPS]
    return groups.index(str(route.tags[0])), list(ROUTES).index(_key(route))


def _complete(operation: Schema, route: JSONRoute, schemas: Mapping[str, Schema], responses: ProblemResponses) -> None:
    described = OPERATIONS[_key(route)]
    first, _, rest = route.description.partition("\n\n")
    operation["operationId"] = route.name
    operation["summary"] = first.rstrip(".")
    operation["description"] = "\n\n".join(filter(None, [rest, _roles(route.needs)]))
    operation["security"] = _security(route.needs)
    complete_parameters(operation, route, described, _method(route))
    complete_answers(operation, route, described, _complete_body(operation, route, schemas), responses)


def _roles(needs: Access) -> str:
    if needs is Access.PUBLIC:
        return "Needs no authentication."
    return f"Roles: {', '.join(f'`{role}`' for role in ROLES if needs in RIGHTS[role])}."


def _security(needs: Access) -> list[dict[str, list[str]]]:
    if needs is Access.PUBLIC:
        return []
    return [{"bearer": []}, *([{"access_token": []}] if needs is Access.STREAMS else [])]


def _complete_body(operation: Schema, route: JSONRoute, schemas: Mapping[str, Schema]) -> Schema:
    """Complete the body of a request, and return its schema."""
    if "requestBody" not in operation:
        return {}
    body: Schema = operation["requestBody"]
    content: Schema = body["content"]["application/json"]
    schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
    # An empty body counts as {}.
    body["required"] = bool(schema.get("required"))
    examples = EXAMPLES[_key(route)]
    content["examples"] = {name: {"summary": name, "value": value} for name, value in examples.items()}
    return schema


def _require_constants(schema: Schema) -> None:
    """Require the members that tell the forms of a union apart.

    Their defaults are for Python code. A request has to name the form.
    """
    for name, member in schema.get("properties", {}).items():
        if "const" in member and member.pop("default", None) is not None:
            schema["required"] = sorted({*schema.get("required", []), name})
