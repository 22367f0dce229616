"""The parameters of an operation: of its path, its query and its headers."""

from collections.abc import Iterator, Mapping

from pydantic import TypeAdapter

from api.auth.access import RIGHTS, Access
from api.auth.credentials import OWNER
from api.document.headers import Schema, header_parameter
from api.document.operations import Operation
from api.http.route import READ_METHODS, JSONRoute
from domain.values import Label

PATH_PARAMETERS: Mapping[str, Schema] = {
    "conversation_id": {"description": "The id of the conversation."},
    "message_id": {"description": "The id of the message."},
    "turn_id": {"description": "The id of the turn."},
    "agent_id": {
        "description": "The label of the agent.",
        "example": "support",
        "schema": TypeAdapter(Label).json_schema(),
    },
    "name": {"description": "The name of the read model.", "example": "usage"},
}
"""The parameters of paths."""

_METADATA_FILTERS: Schema = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "description": "Any number of parameters `metadata.KEY=VALUE`: only conversations whose metadata has these values.",
    "style": "form",
    "explode": True,
    "schema": {
        "type": "object",
        "propertyNames": {"pattern": r"^metadata\.", "maxLength": 256},
        "additionalProperties": {"type": "string"},
    },
}


def complete_parameters(operation: Schema, route: JSONRoute, described: Operation, method: str) -> None:
    """Complete the parameters of path and query, and add those of headers."""
    operation["parameters"] = [*_declared(operation, route), *_of_headers(route, described, method)]


def _declared(operation: Schema, route: JSONRoute) -> Iterator[Schema]:
    """Yield the parameters of path and query."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            parameter |= PATH_PARAMETERS[parameter["name"]]
        else:
            parameter["schema"] = _without_null(parameter["schema"])
        yield parameter
    if route.signature.query and route.signature.query[1].model_config.get("extra") == "allow":
        yield _METADATA_FILTERS


def _without_null(schema: Schema) -> Schema:
    """Return the schema of a parameter without null, which a query cannot hold."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if not options:
        return schema
    others = {name: value for name, value in schema.items() if name != "anyOf"}
    return others | (options[0] if len(options) == 1 else {"anyOf": options})


def _of_headers(route: JSONRoute, described: Operation, method: str) -> Iterator[Schema]:
    needs = route.needs
    names = {
        "Idempotency-Key": method == "POST" and needs is Access.WRITES,
        "Last-Event-ID": route.streams,
        "Turnlog-Position": method in READ_METHODS and needs is not Access.PUBLIC,
        # On other routes the role of every caller that may send it is refused first.
        OWNER: needs in RIGHTS["service"],
        "X-Request-Id": True,
    }
    for name in (*described.request_headers, *(name for name, takes in names.items() if takes)):
        yield header_parameter(name)
