"""Every stored shape stays readable, and shapes change only with a version."""

from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json

from domain.aggregates import AggregateEvent
from domain.conversation import fold
from domain.events import CONVERSATION_EVENTS
from eventlog.mapper import Recorded, rebuild
from projections.catalog import PROJECTIONS
from projections.projection import Projection
from tests.golden.check import fault_of
from tests.golden.record import FOLDER, STORED_TYPES, TYPES_USED, golden_file, read, record_types_used, types_used
from tests.golden.replay import VERSIONS, agent, conversation
from tests.support.histories.agents import fold_agent
from tests.support.histories.builders import some_id
from tests.support.store import MAPPER

FILES = sorted(FOLDER.glob("*-v*.json"))


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_every_stored_shape_is_recorded_and_upcast_and_the_current_shape_is_unchanged(
    cls: type[AggregateEvent],
) -> None:
    assert (fault := fault_of(cls)) is None, fault


def test_every_golden_file_belongs_to_a_known_shape() -> None:
    known = {
        golden_file(cls.TOPIC, version) for cls in STORED_TYPES.values() for version in range(1, cls.class_version + 1)
    }
    assert set(FILES) == known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stored_states_are_still_readable(path: Path) -> None:
    type_name = path.stem.rsplit("-v", 1)[0]
    stored: list[dict[str, Any]] = read(path)["stored"]
    assert stored
    for state in stored:
        event = rebuild(type_name, STORED_TYPES[type_name].AGGREGATE, some_id(), 3, dict(state))
        assert type(event) is STORED_TYPES[type_name]


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_current_states_are_stored_again_unchanged(cls: type[AggregateEvent]) -> None:
    for state in read(golden_file(cls.TOPIC, cls.class_version))["stored"]:
        event = rebuild(cls.TOPIC, cls.AGGREGATE, some_id(), 1, dict(state))
        assert from_json(MAPPER.to_stored_event(event).state) == state  # pyright: ignore


@pytest.mark.parametrize("cls", STORED_TYPES.values(), ids=STORED_TYPES)
def test_the_examples_use_every_field(cls: type[AggregateEvent]) -> None:
    stored = read(golden_file(cls.TOPIC, cls.class_version))["stored"]
    used = {field for state in stored for field, value in state.items() if value is not None}
    unused = set(cls.model_fields) - used - {"originator_id", "originator_version"}
    assert unused <= {"request_id"}


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_events_fold_to_a_conversation(version: int) -> None:
    stored_events = conversation(version)
    shapes = {(stored.type, stored.state.get("class_version", 1)) for stored in stored_events}
    assert {(cls.TOPIC, min(version, cls.class_version)) for cls in CONVERSATION_EVENTS} <= shapes
    state = fold(None, [stored.event for stored in stored_events])
    assert state is not None
    assert (state.version, state.owner_id, state.title, state.deleted) == (len(stored_events), "alice", "Later", True)
    assert state.turn is None


@pytest.mark.parametrize("version", VERSIONS)
def test_stored_events_fold_to_an_agent(version: int) -> None:
    state = fold_agent(stored.event for stored in agent(version))
    assert state is not None
    assert (state.version, state.definition) == (len(agent(version)), None)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_stored_events_are_projected_by_batch_and_by_conversation(version: int, projection: Projection) -> None:
    both = [*conversation(version), *agent(version)]
    recorded = [Recorded(position, stored.event) for position, stored in enumerate(both, start=1)]
    wanted = projection.select(item.event for item in recorded)
    assert projection.changes(wanted)
    beginnings = [wanted[:number] for number in range(len(wanted))]
    # Before version 2 no wait for tool results had an end.
    has_rows = any(any(projection.rows(beginning).values()) for beginning in beginnings)
    assert has_rows is ((projection.name, version) != ("waits", 1))


def test_a_projection_that_uses_a_further_type_needs_a_new_version() -> None:
    recorded = read(TYPES_USED)
    for version, used in types_used().items():
        assert version in recorded, f"run `python -m tests.golden.record`, which adds {version}"
        assert used == recorded[version], f"{version} was made from other types: give it a new version"


def test_the_recorded_types_of_a_version_are_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "types_used.json"
    path.write_text('{"listing-v2": ["MessageAdded"]}')
    assert record_types_used(path) == path
    assert read(path) == {**types_used(), "listing-v2": ["MessageAdded"]}
    assert record_types_used(path) is None


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels > 1 else {}


EDGES: dict[str, dict[str, Any]] = {
    "ConversationStarted": {"agent_id": "x" * 128, "title": "𝄞" * 512, "metadata": nested(64)},
    "ConversationUpdated": {"title": "", "metadata": {"a": "x" * 65536}},
    "TurnStarted": {"metadata": nested(64)},
    "StreamDelta": {"chunks": ["", "\x01", "x" * 2**20]},
    "MessageAdded": {
        "content": [
            {"type": "text", "text": "\x01" * 2**20},
            {"type": "context", "data": nested(64)},
            {"type": "tool_use", "id": "", "name": "", "input": nested(64)},
        ]
    },
}


@pytest.mark.parametrize("type_name", EDGES)
def test_the_most_extreme_values_that_could_be_stored_are_still_readable(type_name: str) -> None:
    # A JSON schema contains no rule that is a function. Values at the edge show when such a rule becomes stricter.
    cls = STORED_TYPES[type_name]
    state = {**read(golden_file(type_name, cls.class_version))["stored"][0], **EDGES[type_name]}
    assert type(rebuild(type_name, cls.AGGREGATE, some_id(), 1, state)) is cls
