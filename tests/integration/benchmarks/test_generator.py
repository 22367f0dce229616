"""The generated log of the benchmarks equals a log that the store could record."""

from collections import Counter
from itertools import islice

import pytest
from pydantic_core import from_json

from benchmarks.workload.generator import made_events, make_log
from domain.aggregates import AggregateEvent
from domain.conversation import Conversation, evolve
from domain.events import CONVERSATION_EVENTS, MessageDeleted, StreamDelta, TurnEnded, TurnStarted
from eventlog.mapper import Recorded, Row, new_row
from tests.support.histories.builders import Story
from tests.support.store import opened, rows, value

EVENTS = 10_000


@pytest.fixture
def generated_log(database_url: str) -> str:
    make_log(database_url, "turnlog", EVENTS)
    return database_url


def _recorded(conninfo: str) -> list[Recorded]:
    found = rows(
        conninfo,
        "SELECT position, aggregate, aggregate_id, version, type, data::text, actor, request_id, recorded_at"
        " FROM events ORDER BY position",
    )
    return [Row(*row).recorded() for row in found]


def test_every_generated_event_is_possible_in_the_domain(generated_log: str) -> None:
    states: dict[object, Conversation] = {}
    for place, (position, event) in enumerate(_recorded(generated_log), start=1):
        state = states.get(event.originator_id)
        assert position == place
        assert event.originator_version == (state.version + 1 if state else 1)
        _check_possible(state, event)
        states[event.originator_id] = evolve(state, event)
    assert max(state.message_count for state in states.values()) >= 20
    assert any(state.turn for state in states.values()), "no turn is running at the end"


def _check_possible(state: Conversation | None, event: AggregateEvent) -> None:
    if state is None:
        return
    assert not state.deleted
    assert event.actor == f"user:{state.owner_id}"
    assert event.timestamp >= state.updated_at
    turn = state.turn
    if isinstance(event, StreamDelta | TurnEnded):
        assert turn is not None
        assert turn.id == event.turn_id
    elif isinstance(event, TurnStarted):
        assert turn is None
        assert event.user_message_id == state.last_user_message_id
    elif isinstance(event, MessageDeleted):
        assert turn is None
        assert event.message_id == state.last_user_message_id


def test_generated_rows_equal_those_that_the_mapper_writes(generated_log: str) -> None:
    stored = dict(rows(generated_log, "SELECT position, data FROM events"))
    for position, event in _recorded(generated_log):
        assert from_json(new_row(event).data) == stored[position]


def test_the_mix_of_events_is_that_of_streamed_conversations(generated_log: str) -> None:
    types = Counter(event.type for event in islice(made_events(1), EVENTS))
    not_generated = {"MessagesSuperseded", "TurnQueued", "TurnSuspended", "TurnResumed"}
    assert set(types) == {cls.TOPIC for cls in CONVERSATION_EVENTS} - not_generated
    assert 0.55 < types["StreamDelta"] / EVENTS < 0.65


def test_the_same_seed_generates_the_same_log() -> None:
    assert list(islice(made_events(7), 500)) == list(islice(made_events(7), 500))
    assert list(islice(made_events(7), 500)) != list(islice(made_events(8), 500))


async def test_a_generated_log_has_digests_and_a_head_and_accepts_appends(generated_log: str) -> None:
    wrong = (
        "SELECT count(*) FROM events WHERE digest IS DISTINCT FROM event_digest(position, aggregate, aggregate_id,"
        " version, type, data, actor, request_id, recorded_at, salt, content_hash)"
    )
    assert value(generated_log, wrong) == 0
    async with opened(generated_log) as store:
        assert await store.append(Story().events) == EVENTS + 1
