"""Events to stored rows and back, older shapes upcast and newer ones refused."""

from decimal import Decimal
from typing import Any, ClassVar

import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.conversation import ConversationSnapshot
from domain.events import EVENT_TYPES, ConversationEvent, ConversationStarted, TurnCompleted
from domain.values import JsonObject
from eventlog import mapper as mapping
from eventlog.errors import UnknownEventError
from eventlog.mapper import ConversationMapper, JSONBytesTranscoder, Row
from tests.support.histories.builders import BEGINNING, Story, folded, one_of_each, some_id, usage

MAPPER = ConversationMapper(JSONBytesTranscoder())


def stored(type_name: str, state: bytes) -> StoredEvent:
    return StoredEvent(some_id(), 1, type_name, state)


def round_trip(event: ConversationEvent) -> Any:
    return MAPPER.to_domain_event(MAPPER.to_stored_event(event))  # pyright: ignore


def envelope() -> dict[str, Any]:
    return {"originator_id": some_id(), "originator_version": 1, "timestamp": BEGINNING, "actor": "user:alice"}


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_every_event_survives_a_round_trip(event: ConversationEvent) -> None:
    back = round_trip(event)
    assert type(back) is type(event)
    assert back == event


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: type(event).__name__)
def test_an_event_is_stored_under_its_short_name_without_its_identity(event: ConversationEvent) -> None:
    row = MAPPER.to_stored_event(event)  # pyright: ignore
    assert EVENT_TYPES[row.topic] is type(event)
    assert b"originator" not in row.state
    assert (b'"class_version":%d' % event.class_version in row.state) == (event.class_version > 1)


def test_a_snapshot_survives_a_round_trip() -> None:
    story = Story(metadata={"n": 2**70})
    story.ask()
    snapshot = ConversationSnapshot.take(story.state)
    assert round_trip(snapshot) == snapshot
    assert round_trip(snapshot).restore() == folded(story.events)


numbers = st.integers(-(2**200), 2**200) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60)
@given(st.dictionaries(texts, values, max_size=4))
def test_any_json_object_survives_a_round_trip(metadata: JsonObject) -> None:
    started = ConversationStarted(**envelope(), owner_id="alice", metadata=metadata)
    assert round_trip(started) == started


def test_large_integers_are_kept_to_the_last_digit() -> None:
    started = ConversationStarted(**envelope(), owner_id="alice", metadata={"n": 10**1000 + 1, "m": -(2**64)})
    assert round_trip(started).metadata == {"n": 10**1000 + 1, "m": -(2**64)}


def test_a_cost_is_kept_to_the_last_digit() -> None:
    used = usage(cost_usd=Decimal("0.000000012345678901234567890"))
    completed = TurnCompleted(**envelope(), turn_id=some_id(), usage=used, finish_reason="stop")
    assert round_trip(completed).usage == used


def test_a_row_of_the_table_and_the_stored_event_of_the_library_are_equivalent() -> None:
    event = Story(title="Grüße").events[0]
    data = '{"owner_id": "alice", "agent_id": null, "title": "Grüße", "metadata": {}}'
    row = Row(
        7, "conversation", event.originator_id, 1, "ConversationStarted", data, "user:alice", "req-1", event.timestamp
    )
    assert row.recorded() == (7, event)
    assert MAPPER.to_domain_event(row.stored()) == event


class Renamed(ConversationEvent):
    """An event in its third shape.

    `words` was first `text`, then `body`. `loud` came with the third shape.
    """

    class_version: ClassVar[int] = 3
    words: str
    loud: bool

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["body"] = state.pop("text")

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        state["words"] = state.pop("body")
        state["loud"] = state["words"].isupper()


@pytest.fixture
def _third_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mapping._STORABLE, "Renamed", Renamed)


ENVELOPE = '"timestamp":"2026-01-02T03:04:05.678901Z","actor":"user:alice"'


@pytest.mark.usefixtures("_third_shape")
@pytest.mark.parametrize(
    "shape",
    [
        '{"text":"HO",%s}',
        '{"class_version":1,"text":"HO",%s}',
        '{"class_version":2,"body":"HO",%s}',
        '{"class_version":3,"words":"HO","loud":true,%s}',
    ],
)
def test_an_older_shape_is_upcast_step_by_step(shape: str) -> None:
    event: Any = MAPPER.to_domain_event(stored("Renamed", (shape % ENVELOPE).encode()))
    assert (event.words, event.loud, event.timestamp) == ("HO", True, BEGINNING)


@pytest.mark.usefixtures("_third_shape")
def test_a_later_shape_is_stored_with_its_version_and_survives_a_round_trip() -> None:
    event = Renamed(**envelope(), words="Ho", loud=False)
    assert MAPPER.to_stored_event(event).state.startswith(b'{"class_version":3,')  # pyright: ignore
    assert round_trip(event) == event


@pytest.mark.usefixtures("_third_shape")
def test_a_shape_newer_than_this_release_is_refused_by_name() -> None:
    with pytest.raises(UnknownEventError, match="Renamed version 4"):
        MAPPER.to_domain_event(stored("Renamed", b'{"class_version":4}'))


def test_a_type_newer_than_this_release_is_refused_by_name() -> None:
    with pytest.raises(UnknownEventError, match="MessagePinned version 1"):
        MAPPER.to_domain_event(stored("MessagePinned", b"{}"))
