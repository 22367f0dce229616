"""Conversations and agents made of golden files, one for each class version."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic_core import from_json

from domain.aggregates import AggregateEvent
from domain.events import EVENT_TYPES
from eventlog.mapper import rebuild
from tests.golden.record import golden_file, read
from tests.support.histories.agents import one_of_each_agent
from tests.support.histories.builders import one_of_each
from tests.support.store import MAPPER


class Stored(NamedTuple):
    """A stored event: its type and state, and the event that the code reads."""

    type: str
    state: dict[str, Any]
    event: AggregateEvent


VERSIONS = range(1, max(cls.class_version for cls in EVENT_TYPES.values()) + 1)

TIES = (
    *("timestamp", "turn_id", "message_id", "user_message_id", "in_reply_to", "role", "status"),
    *("from_version", "count", "ahead", "superseded", "user_message_version", "first_seq"),
)
"""The fields that connect the events of a conversation. Each golden file has its own ids, places and times."""

UNIQUE = ("agent_number",)
"""The fields whose values the log takes once. Older shapes may lack them."""


def conversation(version: int) -> list[Stored]:
    """Return a conversation with each type in one version, or in its latest."""
    return _replayed(one_of_each(), version)


def agent(version: int) -> list[Stored]:
    """Return an agent with each type in one version, or in its latest."""
    return _replayed(one_of_each_agent(), version)


def _replayed(as_now: Sequence[AggregateEvent], version: int) -> list[Stored]:
    """Return events with each type in one version, or in its latest.

    The events are those of the builders. Each is stored as an example of that version. The latest version is used where
    the event could not have occurred in that version.
    """
    seen: Counter[tuple[str, str | None]] = Counter()
    events: list[Stored] = []
    for event in as_now:
        seen[event.TOPIC, getattr(event, "role", None)] += 1
        as_then = _stored(event, version, seen)
        events.append(as_then if _tied(as_then.event) == _tied(event) else _stored(event, event.class_version, seen))
    return events


def _stored(event: AggregateEvent, version: int, seen: Counter[tuple[str, str | None]]) -> Stored:
    """Return the next example of a type in a version, in the place of `event`.

    The example has the role of `event` where there is one.
    """
    now: dict[str, Any] = from_json(MAPPER.to_stored_event(event).state)  # pyright: ignore
    stored: list[dict[str, Any]] = read(golden_file(event.TOPIC, min(version, event.class_version)))["stored"]
    role: str | None = now.get("role")
    alike = [state for state in stored if state.get("role") == role] or stored
    example = alike[-(seen[event.TOPIC, role] % len(alike))]
    state = {**example, **{field: now[field] for field in (*TIES, *UNIQUE) if field in example}}
    place = event.AGGREGATE, event.originator_id, event.originator_version
    return Stored(event.TOPIC, state, rebuild(event.TOPIC, *place, deepcopy(state)))


def _tied(event: AggregateEvent) -> dict[str, Any]:
    return {field: getattr(event, field, None) for field in TIES}
