"""What may happen to a conversation: from its state and a wish to the events that grant it, or a domain error.

What may happen to its turns is in `turn_decisions`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.content import Content, Role, check_content
from domain.conversation import Conversation
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
    """Who asks, when (UTC), and in which HTTP request (None outside HTTP)."""

    actor: str
    at: datetime
    request_id: str | None = None


class Draft(NamedTuple):
    """A message to be: its id, and its content with the tokens that `encoding` counts in it."""

    id: UUID
    role: Role
    content: Content
    tokens: int
    encoding: str
    in_reply_to: UUID | None = None
    turn_id: UUID | None = None


class MessagePlace(NamedTuple):
    """Where the log holds a message, and whether it was superseded since."""

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
    """Return the start of a conversation that belongs to `origin.actor`, and its first messages.

    Raises:
        InvalidContentError: a message breaks a rule of content.
        UnsupportedImageError: an image is not what it claims.
    """
    started = ConversationStarted(
        **envelope(conversation_id, 1, origin),
        owner_id=origin.actor,
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


def update_conversation(
    state: Conversation, origin: Origin, changes: dict[str, Any], expected_versions: Collection[int] | None = None
) -> Events:
    """Return the new title and metadata; what `changes` does not name stays, and no real change is no event.

    Raises:
        VersionMismatchError: the conversation is at none of `expected_versions`.
    """
    check_access(state, origin.actor)
    check_version(state, expected_versions)
    title = changes.get("title", state.title)
    metadata = changes.get("metadata", state.metadata)
    if title == state.title and same_json(metadata, state.metadata):
        return []
    return [ConversationUpdated(**next_envelope(state, origin), title=title, metadata=metadata)]


def delete_conversation(
    state: Conversation, origin: Origin, expected_versions: Collection[int] | None = None
) -> Events:
    """Return the end of the conversation; its turns are cancelled first, for a turn always ends in the log.

    Raises:
        VersionMismatchError: the conversation is at none of `expected_versions`.
    """
    check_access(state, origin.actor)
    check_version(state, expected_versions)
    open_turns = [*([state.turn.id] if state.turn else []), *(turn.id for turn in state.queue)]
    cancelled = [
        TurnCancelled(**next_envelope(state, origin, after), turn_id=turn_id)
        for after, turn_id in enumerate(open_turns)
    ]
    return [*cancelled, ConversationDeleted(**next_envelope(state, origin, len(cancelled)))]


def add_message(state: Conversation, origin: Origin, draft: Draft, closing_id: UUID) -> Events:
    """Return a message recorded without a model; an assistant's answers the last user message if it names none.

    Raises:
        ConversationLockedError: a turn is active, and this is no user's message to one that waits for tool results.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: an image is not what it claims.
    """
    check_access(state, origin.actor)
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
    """Return what comes before a user's next message: an error result for each open call, under the id `closing_id`,
    and the end of the turn that waited for it. Where no call is open that is nothing.
    """
    events: Events = []
    turn = state.turn if state.turn and state.turn.waiting else None
    if state.open_calls:
        closing = Draft(
            closing_id,
            "tool",
            unanswered(state.open_calls),
            UNANSWERED_TOKENS * len(state.open_calls),
            UNANSWERED_ENCODING,
            turn_id=turn.id if turn else None,
        )
        events.append(message_added(state.id, state.version + 1, origin, closing, None))
    if turn:
        cancelled = TurnCancelled(
            **next_envelope(state, origin, len(events)),
            turn_id=turn.id,
            time_to_first_token_ms=turn.time_to_first_token_ms,
            duration_ms=turn.duration_ms,
        )
        events.append(cancelled)
    return events


def delete_message(state: Conversation, origin: Origin, message_id: UUID, place: MessagePlace | None) -> Events:
    """Return the deletion of a message that is at this place in the log; None: it is not there, or no longer.

    Raises:
        ConversationLockedError: a turn is active.
        MessageNotFoundError: there is no such message.
    """
    check_access(state, origin.actor)
    check_idle(state)
    if place is None:
        raise MessageNotFoundError(message_id)
    return [MessageDeleted(**next_envelope(state, origin), message_id=message_id, superseded=place.superseded)]


def envelope(conversation_id: UUID, version: int, origin: Origin) -> dict[str, Any]:
    """Return the fields that every event has, for the event of this version."""
    return {
        "originator_id": conversation_id,
        "originator_version": version,
        "timestamp": origin.at,
        "actor": origin.actor,
        "request_id": origin.request_id,
    }


def next_envelope(state: Conversation, origin: Origin, after: int = 0) -> dict[str, Any]:
    """Return the same for the event that follows `state` and so many others."""
    return envelope(state.id, state.version + 1 + after, origin)


def message_added(
    conversation_id: UUID, version: int, origin: Origin, draft: Draft, last_user: UUID | None
) -> MessageAdded:
    """Return a message as it is said; `last_user` is the one an answer replies to that names none."""
    return MessageAdded(
        **envelope(conversation_id, version, origin),
        message_id=draft.id,
        turn_id=draft.turn_id,
        role=draft.role,
        author_id=None if draft.role == "assistant" else origin.actor,
        content=draft.content,
        in_reply_to=draft.in_reply_to or (last_user if draft.role == "assistant" else None),
        tokens=draft.tokens,
        encoding=draft.encoding,
    )
