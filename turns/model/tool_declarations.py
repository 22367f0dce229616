"""Tools as OpenAI's models read them: TypeScript made from their JSON schemas.

The declarations are made to count their tokens. OpenAI does not publish the form. It was found by counting: https://github.com/hmarr/openai-chat-tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic_core import to_json

from domain.tools import ToolDefinition

_PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def declarations(tools: Sequence[ToolDefinition]) -> str:
    """Return the declarations of all tools."""
    lines = ["namespace functions {", ""]
    for tool in tools:
        lines += [*_comment(tool.description), *_function(tool.name, tool.input_schema), ""]
    return "\n".join([*lines, "} // namespace functions"])


def _function(name: str, schema: Mapping[str, Any]) -> list[str]:
    shared = [f"// {to_json(schema[key]).decode()}" for key in ("$defs", "definitions") if key in schema]
    if parameters := _properties(schema, 0):
        return [*shared, f"type {name} = (_: {{", *parameters, "}) => any;"]
    return [*shared, f"type {name} = () => any;"]


def _properties(schema: Mapping[str, Any], indent: int) -> list[str]:
    required = schema.get("required")
    required = cast("list[object]", required) if isinstance(required, list) else []
    lines: list[str] = []
    for name, value in _mapping(schema.get("properties")).items():
        property_ = _mapping(value)
        mark = "" if name in required else "?"
        lines += [*_comment(property_.get("description")), f"{name}{mark}: {_type(property_, indent)},"]
    return [" " * indent + line for line in lines]


def _type(schema: Mapping[str, Any], indent: int) -> str:
    kind = schema.get("type")
    if isinstance(schema.get("enum"), list):
        return " | ".join(to_json(value).decode() for value in schema["enum"])
    if kind == "array":
        return f"{_type(_mapping(schema.get('items')), indent)}[]"
    if kind == "object":
        return "\n".join(["{", *_properties(schema, indent + 2), "}"])
    if isinstance(kind, list):
        # Each kind is written once. Repeated kinds would repeat the parts of an object or array.
        kinds = dict.fromkeys(one for one in cast("list[object]", kind) if isinstance(one, str))
        return " | ".join(_type({**schema, "type": one}, indent) for one in kinds)
    for union in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(union), list):
            return " | ".join(_type(_mapping(one), indent) for one in schema[union])
    return _PLAIN.get(kind, "any") if isinstance(kind, str) else "any"


def _comment(description: object) -> list[str]:
    return [f"// {description}"] if description else []


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
