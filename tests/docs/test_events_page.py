"""docs/events.md documents the events and fields of the code, and no others."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from domain import content
from domain.agent import ResolvedAgent
from domain.aggregates import ENVELOPE_FIELDS
from domain.decisions.running_turns import OVERDUE_REASON
from domain.events import EVENT_TYPES, MessageAdded, TurnFailed
from domain.model_usage import Usage
from domain.tools import ToolDefinition
from turns.model.errors import MODEL_ERROR_CODES
from turns.upkeep.recovery import CLIENT_LOST, SERVER_GONE

TEXT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
BLOCKS = get_args(get_args(content.ContentBlock)[0])
TYPES: dict[Any, str] = {
    str: "string",
    Literal: "string",
    UUID: "uuid",
    datetime: "time",
    int: "integer",
    float: "number",
    Decimal: "decimal string",
    bool: "boolean",
    dict: "object",
    tuple: "array",
    Usage: "usage",
    ResolvedAgent: "resolved agent",
}
MODELS: dict[str, type[BaseModel]] = {
    **EVENT_TYPES,
    **{model.__name__: model for model in (*BLOCKS, ToolDefinition, ResolvedAgent, Usage)},
}


class Section:
    """The page's section of one type: its sentence, and its rows by field."""

    def __init__(self, text: str) -> None:
        self.sentence = text.strip().splitlines()[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
        self.types = {field: type_ for field, type_, _ in rows}
        self.meanings = {field: meaning for field, _, meaning in rows}


SECTIONS = {
    name: Section(text) for name, text in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
}


def test_every_type_and_no_other_is_documented() -> None:
    assert set(SECTIONS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_every_field_and_no_other_is_documented_as_in_the_code(name: str) -> None:
    section, model = SECTIONS[name], MODELS[name]
    fields = {field: info for field, info in model.model_fields.items() if field not in ENVELOPE_FIELDS}
    assert section.sentence == model.__doc__
    assert list(section.meanings) == list(fields)
    for field, info in fields.items():
        assert section.meanings[field].startswith(info.description or f"`{info.default}`.")


@pytest.mark.parametrize("name", MODELS)
def test_a_field_may_be_null_where_the_page_says_so(name: str) -> None:
    documented = {field: type_.endswith(" or null") for field, type_ in SECTIONS[name].types.items()}
    assert documented == {field: nullable(MODELS[name].model_fields[field]) for field in documented}


@pytest.mark.parametrize("name", MODELS)
def test_a_field_is_of_the_type_that_the_page_says(name: str) -> None:
    documented = {field: re.sub(" of .*| or null", "", type_) for field, type_ in SECTIONS[name].types.items()}
    assert documented == {field: json_type(MODELS[name].model_fields[field]) for field in documented}


@pytest.mark.parametrize("name", MODELS)
def test_every_field_names_its_supplier(name: str) -> None:
    for field, meaning in SECTIONS[name].meanings.items():
        assert field == "type" or re.search(r"[.:] (Client|Model|Server)\b[^.]*\.$", meaning), field


def test_the_blocks_of_each_role_are_documented() -> None:
    for role, blocks in content.BLOCKS_OF_ROLE.items():
        documented = re.search(rf"`{role}`:\s+([\w,\s]+)", TEXT)
        assert documented
        assert set(re.split(r",\s+", documented[1].strip())) == blocks


def test_the_reasons_of_a_failure_are_documented() -> None:
    documented = re.search(rf"`reason` of `{TurnFailed.__name__}` is (.*?)\.\n", TEXT, re.DOTALL)
    assert documented
    assert set(re.findall(r"`(\w+)`", documented[1])) == {
        SERVER_GONE.reason,
        CLIENT_LOST.reason,
        OVERDUE_REASON,
        *MODEL_ERROR_CODES,
    }


def test_the_example_is_a_message() -> None:
    example = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert example
    envelope = {
        "originator_id": UUID(int=1),
        "originator_version": 1,
        "timestamp": datetime.now(UTC),
        "actor": "user:local",
    }
    data = json.loads(example[1])
    message = MessageAdded.model_validate({**envelope, **data})
    assert json.loads(message.model_dump_json(exclude=set(ENVELOPE_FIELDS))) == data


def nullable(info: FieldInfo) -> bool:
    return NoneType in get_args(info.annotation)


def json_type(info: FieldInfo) -> str:
    """Return the page's name for a field's type, without null and item types."""
    options = get_args(info.annotation) if nullable(info) else (info.annotation,)
    option = next(each for each in options if each is not NoneType)
    plain = get_args(option)[0] if get_origin(option) is Annotated else option
    return TYPES[get_origin(plain) or plain]
