"""Decisions on a conversation and its messages.

Given a state and a command, each returns the events or raises a domain error. Decisions on turns are in `turn_starts`
and `running_turns`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.content import Content, Role, check_content
from domain.conversation import ActiveTurn, Conversation
from domain.decisions.guards import check_access, check_idle, check_unlocked, check_version
from domain.errors import MessageNotFoundError
from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    TurnCancelled,
)
from domain.tools import UNANSWERED_ENCODING, UNANSWERED_TOKENS, unanswered
from domain.values import JsonObject, same_json

Events = list[ConversationEvent]


class Origin(NamedTuple):
    """The owner of the conversations that a command means, its actor and its time.

    `at` is in UTC. `request_id` is None outside HTTP.
    """

    owner_id: str
    actor: str
    at: datetime
    request_id: str | None = None


class Draft(NamedTuple):
    """A message that is not recorded yet. `tokens` are counted by `encoding`.

    `model` and `said_at` are those of its source if it is imported.
    """

    id: UUID
    role: Role
    content: Content
    tokens: int
    encoding: str
    in_reply_to: UUID | None = None
    turn_id: UUID | None = None
    model: str | None = None
    said_at: datetime | None = None


class MessagePlace(NamedTuple):
    """The version of a message in the log, and whether it was superseded."""

    version: int
    superseded: bool = False


def start_conversation(
    conversation_id: UUID,
    origin: Origin,
    *,
    agent_id: str | None = None,
    title: str | None = None,
    metadata: JsonObject | None = None,
    messages: Sequence[Draft] = (),
) -> Events:
    """Return the start of a conversation of `origin.owner_id`, and its first messages.

    Raises:
        InvalidContentError: a message breaks a rule of content.
        UnsupportedImageError: the bytes of an image do not match its type.
    """
    started = ConversationStarted(
        **envelope(conversation_id, 1, origin),
        owner_id=origin.owner_id,
        agent_id=agent_id,
        title=title,
        metadata=metadata or {},
    )
    last_user: UUID | None = None
    events: Events = [started]
    for index, draft in enumerate(messages):
        check_content(draft.role, draft.content, ("messages", index))
        events.append(message_added(conversation_id, len(events) + 1, origin, draft, last_user))
        last_user = draft.id if draft.role == "user" else last_user
    return events


def numbered(events: Events, agent_number: int) -> Events:
    """Return the first events of a conversation, whose start counts with its agent."""
    started, *rest = events
    return [started.model_copy(update={"agent_number": agent_number}), *rest]


def update_conversation(
    state: Conversation, origin: Origin, changes: dict[str, Any], expected_versions: Collection[int] | None = None
) -> Events:
    """Return the new title and metadata, or no event if nothing changes.

    `changes` holds the new `title`, the new `metadata`, or both.

    Raises:
        VersionMismatchError: the conversation is at none of `expected_versions`.
    """
    check_access(state, origin.owner_id)
    check_version(state, expected_versions)
    title = changes.get("title", state.title)
    metadata = changes.get("metadata", state.metadata)
    if title == state.title and same_json(metadata, state.metadata):
        return []
    return [ConversationUpdated(**next_envelope(state, origin), title=title, metadata=metadata)]


def delete_conversation(
    state: Conversation, origin: Origin, expected_versions: Collection[int] | None = None
) -> Events:
    """Return the cancels of all open turns and the deletion of the conversation.

    Raises:
        VersionMismatchError: the conversation is at none of `expected_versions`.
    """
    check_access(state, origin.owner_id)
    check_version(state, expected_versions)
    # Every turn ends in the log.
    open_turns = [*([state.turn.id] if state.turn else []), *(turn.id for turn in state.queue)]
    cancelled = [
        TurnCancelled(**next_envelope(state, origin, after), turn_id=turn_id)
        for after, turn_id in enumerate(open_turns)
    ]
    return [*cancelled, ConversationDeleted(**next_envelope(state, origin, len(cancelled)))]


def add_message(state: Conversation, origin: Origin, draft: Draft, closing_id: UUID) -> Events:
    """Return a message that is recorded without a model.

    An assistant's message without `in_reply_to` answers the last user message. A user's message closes open calls, and
    `closing_id` is the id of the message that does so.

    Raises:
        ConversationLockedError: a turn is active. A user may still interrupt one that waits for tool results.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: the bytes of an image do not match its type.
    """
    check_access(state, origin.owner_id)
    if draft.role == "user":
        check_unlocked(state)
    else:
        check_idle(state)
    check_content(draft.role, draft.content)
    closed = close_calls(state, origin, closing_id) if draft.role == "user" else []
    return [
        *closed,
        message_added(state.id, state.version + 1 + len(closed), origin, draft, state.last_user_message_id),
    ]


def close_calls(state: Conversation, origin: Origin, closing_id: UUID) -> Events:
    """Return an error result for each open call and the cancel of the waiting turn.

    The results are one message with the id `closing_id`. Without open calls there are no events.
    """
    events = unanswered_results(state, origin, closing_id)
    if state.turn and state.turn.waiting:
        events.append(TurnCancelled(**next_envelope(state, origin, len(events)), **waited(state.turn)))
    return events


def unanswered_results(state: Conversation, origin: Origin, closing_id: UUID) -> Events:
    """Return the message with an error result for each open call, if there are any."""
    if not state.open_calls:
        return []
    closing = Draft(
        closing_id,
        "tool",
        unanswered(state.open_calls),
        UNANSWERED_TOKENS * len(state.open_calls),
        UNANSWERED_ENCODING,
        turn_id=state.turn.id if state.turn and state.turn.waiting else None,
    )
    return [message_added(state.id, state.version + 1, origin, closing, None)]


def waited(turn: ActiveTurn) -> dict[str, Any]:
    """Return the id and the times of a turn that ends while it waits."""
    times = {"time_to_first_token_ms": turn.time_to_first_token_ms, "duration_ms": turn.duration_ms}
    return {"turn_id": turn.id, **times}


def delete_message(state: Conversation, origin: Origin, message_id: UUID, place: MessagePlace | None) -> Events:
    """Return the deletion of the message at `place`, None if it does not exist.

    Raises:
        ConversationLockedError: a turn is active.
        MessageNotFoundError: there is no such message.
    """
    check_access(state, origin.owner_id)
    check_idle(state)
    if place is None:
        raise MessageNotFoundError(message_id)
    return [MessageDeleted(**next_envelope(state, origin), message_id=message_id, superseded=place.superseded)]


def envelope(conversation_id: UUID, version: int, origin: Origin) -> dict[str, Any]:
    """Return the fields that every event has, for the event with this version."""
    return {
        "originator_id": conversation_id,
        "originator_version": version,
        "timestamp": origin.at,
        "actor": origin.actor,
        "request_id": origin.request_id,
    }


def next_envelope(state: Conversation, origin: Origin, after: int = 0) -> dict[str, Any]:
    """Return the envelope of the event after `state` and `after` further events."""
    return envelope(state.id, state.version + 1 + after, origin)


def message_added(
    conversation_id: UUID, version: int, origin: Origin, draft: Draft, last_user: UUID | None
) -> MessageAdded:
    """Return the event of a message.

    An answer without `in_reply_to` answers `last_user`.
    """
    return MessageAdded(
        **envelope(conversation_id, version, origin),
        message_id=draft.id,
        turn_id=draft.turn_id,
        role=draft.role,
        author_id=None if draft.role == "assistant" else origin.actor,
        content=draft.content,
        in_reply_to=draft.in_reply_to or (last_user if draft.role == "assistant" else None),
        model=draft.model,
        tokens=draft.tokens,
        encoding=draft.encoding,
        said_at=draft.said_at,
    )
