"""The golden files as conversations: for each version, one in which every type is stored as it was then."""

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple
from uuid import UUID

from domain.events import EVENT_TYPES, ConversationEvent, MessageAdded, MessageDeleted, TurnStarted
from eventlog.mapper import rebuild
from tests.golden.record import golden_file, read
from tests.support.builders import some_id


class Stored(NamedTuple):
    """A stored event: its type and state, and what today's code reads it as."""

    type: str
    state: dict[str, Any]
    event: ConversationEvent


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

VERSIONS = range(1, max(cls.class_version for cls in EVENT_TYPES.values()) + 1)


def conversation(version: int) -> list[Stored]:
    """Return a conversation in one version of every type; a type that has it not yet is there in its latest.

    Its events are the examples in the order of their times, of which the types' names break ties the right way.
    """
    states = [
        (name, state)
        for name, cls in sorted(EVENT_TYPES.items())
        for state in read(golden_file(name, min(version, cls.class_version)))["stored"]
    ]
    ordered = sorted(states, key=lambda item: item[1]["timestamp"])
    told = json.dumps(ordered)
    for one, other in _same_ids(_rebuilt(ordered)).items():
        told = told.replace(str(one), str(other))
    for id_ in set(_ID.findall(told)):
        told = told.replace(id_, str(some_id()))  # another version tells of the same, in a conversation of its own
    coherent: list[tuple[str, dict[str, Any]]] = [(name, state) for name, state in json.loads(told)]
    return [Stored(*item, event) for item, event in zip(coherent, _rebuilt(coherent), strict=True)]


def _rebuilt(states: Sequence[tuple[str, dict[str, Any]]]) -> list[ConversationEvent]:
    id_ = some_id()
    return [rebuild(name, id_, number, deepcopy(state)) for number, (name, state) in enumerate(states, start=1)]


def _same_ids(events: Sequence[ConversationEvent]) -> dict[UUID, UUID]:
    """Return which ids mean the same turn or message: each file was recorded with ids of its own."""
    same: dict[UUID, UUID] = {}
    said: list[MessageAdded] = []
    answers = {event.turn_id: event for event in events if isinstance(event, MessageAdded) and event.in_reply_to}
    for event in events:
        if isinstance(event, MessageAdded):
            said.append(event)
        elif isinstance(event, MessageDeleted):
            same[event.message_id] = said[-1].message_id
        elif isinstance(event, TurnStarted):
            same[event.user_message_id] = said[-1].message_id
            same[event.message_id] = answers[said[-1].turn_id].message_id
        turn_id = said[-1].turn_id if said else None
        if turn_id:
            same[getattr(event, "turn_id", turn_id)] = turn_id
    return same
