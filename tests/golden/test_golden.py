"""What was ever stored can be read for ever, and no shape changes without a new version of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from domain.events import ConversationEvent
from eventlog.mapper import rebuild
from tests.golden.record import FOLDER, STORED_TYPES, golden_file, shape_of
from tests.support.builders import some_id
from tests.support.store import MAPPER

FILES = sorted(FOLDER.glob("*-v*.json"))
HOW = "raise its class_version, write the upcast, and run `python -m tests.golden.record`"


def golden(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_every_shape_that_was_ever_stored_has_its_file(cls: type[ConversationEvent]) -> None:
    for version in range(1, cls.class_version + 1):
        assert golden_file(cls.TOPIC, version).exists(), f"run `python -m tests.golden.record` for {cls.TOPIC}"


def test_no_file_is_of_a_shape_that_the_code_does_not_know() -> None:
    known = {
        golden_file(cls.TOPIC, version) for cls in STORED_TYPES.values() for version in range(1, cls.class_version + 1)
    }
    assert set(FILES) == known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_was_stored_is_still_read(path: Path) -> None:
    type_name = path.stem.rsplit("-v", 1)[0]
    stored: list[dict[str, Any]] = golden(path)["stored"]
    assert stored
    for state in stored:
        event = rebuild(type_name, some_id(), 1, dict(state))
        assert type(event) is STORED_TYPES[type_name]


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_what_is_stored_today_is_stored_as_it_was(cls: type[ConversationEvent]) -> None:
    for state in golden(golden_file(cls.TOPIC, cls.class_version))["stored"]:
        event = rebuild(cls.TOPIC, some_id(), 1, dict(state))
        assert from_json(MAPPER.to_stored_event(event).state) == state  # pyright: ignore


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_no_shape_changes_without_a_new_version_of_it(cls: type[ConversationEvent]) -> None:
    recorded = golden(golden_file(cls.TOPIC, cls.class_version))["shape"]
    assert shape_of(cls) == recorded, f"the shape of {cls.TOPIC} has changed: {HOW}"


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_the_examples_use_every_field(cls: type[ConversationEvent]) -> None:
    stored = golden(golden_file(cls.TOPIC, cls.class_version))["stored"]
    used = {field for state in stored for field, value in state.items() if value is not None}
    unused = set(cls.model_fields) - used - {"originator_id", "originator_version"}
    assert unused <= {"request_id"}
