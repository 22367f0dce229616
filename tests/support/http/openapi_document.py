"""The OpenAPI document in tests: its operations, and checks of answers against it."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import httpx
from jsonschema import Draft202012Validator

from api.app import create_app
from api.auth.access import RIGHTS, ROUTES, Access
from api.auth.identity import GrantedRole
from api.settings import load_settings

Schema = dict[str, Any]

EVENT_STREAM = "text/event-stream"
OF_EVERY_ANSWER = frozenset({"connection", "content-length", "content-type", "date", "server", "transfer-encoding"})


class DocumentedOperation(NamedTuple):
    """An operation, and its part of the document."""

    method: str
    path: str
    declared: Schema

    @property
    def label(self) -> str:
        """The name by which the tables of routes know it."""
        return f"{self.method} {self.path}"

    @property
    def examples(self) -> dict[str, Any]:
        """The bodies that the document shows, by name."""
        content = self.declared.get("requestBody", {}).get("content", {}).get("application/json", {})
        return {name: example["value"] for name, example in content.get("examples", {}).items()}

    @property
    def role(self) -> GrantedRole:
        """A role that may use it: `user` if possible."""
        needs = ROUTES[self.label]
        return "user" if needs is Access.PUBLIC or needs in RIGHTS["user"] else "admin"


class Document:
    """The OpenAPI document of a server."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.operations = [
            DocumentedOperation(method.upper(), path, declared)
            for path, methods in content["paths"].items()
            for method, declared in methods.items()
        ]

    def resolved(self, node: Schema) -> Schema:
        """Return what a reference refers to, or the node itself."""
        while "$ref" in node:
            found: Any = self.content
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node

    def parameters(self, operation: DocumentedOperation, place: str) -> Iterator[Schema]:
        """Yield the parameters of an operation in its path, query or header."""
        for parameter in map(self.resolved, operation.declared["parameters"]):
            if parameter["in"] == place:
                yield parameter

    def check_value(self, schema: Schema, value: Any) -> None:
        """Check that a value is what a schema describes."""
        whole = {"allOf": [schema], "components": self.content["components"]}
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)

    def check_answer(self, operation: DocumentedOperation, response: httpx.Response, content: str) -> None:
        """Check status, headers, media type and content of an answer."""
        answer = self.resolved(operation.declared["responses"][str(response.status_code)])
        self._check_headers(answer, response.headers)
        if "content" not in answer:
            assert content == ""
            return
        media_type = response.headers["content-type"].partition(";")[0]
        schema = answer["content"][media_type]["schema"]
        if media_type == EVENT_STREAM:
            for event in events_in(content):
                self.check_event(schema, event)
        elif media_type.endswith("json"):
            self.check_value(schema, json.loads(content))
            self._check_members(schema, json.loads(content))
        else:
            self.check_value(schema, content)

    def check_event(self, schema: Schema, event: dict[str, str]) -> None:
        """Check a server-sent event and its data."""
        self.check_value(schema, event)
        found = self.resolved(schema)
        forms = [form for form in found.get("oneOf") or found.get("anyOf") or [found] if self._fits(form, event)]
        datas = [form["properties"]["data"]["contentSchema"] for form in forms]
        self.check_value({"anyOf": datas}, json.loads(event["data"]))

    def _fits(self, schema: Schema, value: Any) -> bool:
        return Draft202012Validator({"allOf": [schema], "components": self.content["components"]}).is_valid(value)

    def _check_headers(self, answer: Schema, headers: httpx.Headers) -> None:
        for name, reference in answer.get("headers", {}).items():
            header = self.resolved(reference)
            assert name in headers or not header.get("required"), name
            if name in headers:
                value = headers[name]
                self.check_value(header["schema"], int(value) if header["schema"]["type"] == "integer" else value)
        assert set(headers) - OF_EVERY_ANSWER <= {name.lower() for name in answer.get("headers", {})}

    def _check_members(self, schema: Schema, value: Any) -> None:
        """Check that a resource has no member that the document does not name."""
        found = self.resolved(schema)
        if isinstance(value, dict) and (properties := found.get("properties")):
            assert value.keys() <= properties.keys()
            for name, member in value.items():
                self._check_members(properties[name], member)
        elif isinstance(value, list) and "items" in found:
            for item in value:
                self._check_members(found["items"], item)


def events_in(content: str) -> Iterator[dict[str, str]]:
    """Yield the events of a stream, without its comments."""
    for block in content.split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if any(lines):
            yield dict(line.split(": ", 1) for line in lines)


@cache
def application_document() -> Document:
    """Return the document that every server serves."""
    return Document(create_app(load_settings(), "").fastapi.openapi())
