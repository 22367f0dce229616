"""What may happen to a conversation: from its state and a wish to the events that grant it, or a domain error."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from domain.content import Content, Role, check_content
from domain.conversation import Conversation
from domain.errors import (
    MessageNotFoundError,
)
from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from domain.guards import check_access, check_active, check_unlocked, check_version
from domain.usage import Usage
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


class TurnSettings(NamedTuple):
    """How a turn's model is to be called; None leaves a choice to the model. Without `generate` the client calls it."""

    model: str
    max_context_tokens: int | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    metadata: JsonObject = {}
    generate: bool = True


class Answer(NamedTuple):
    """What a model said in a turn, whole or up to where it stopped; empty content means that it said nothing."""

    content: Content
    tokens: int
    encoding: str
    usage: Usage | None = None
    finish_reason: str | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None


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
        **_envelope(conversation_id, 1, origin),
        owner_id=origin.actor,
        agent_id=agent_id,
        title=title,
        metadata=metadata or {},
    )
    last_user: UUID | None = None
    events: Events = [started]
    for index, draft in enumerate(messages):
        check_content(draft.role, draft.content, ("messages", index))
        events.append(_said(conversation_id, len(events) + 1, origin, draft, last_user))
        last_user = draft.id if draft.role == "user" else last_user
    return events


def update_conversation(
    state: Conversation, origin: Origin, changes: dict[str, Any], expected_version: int | None = None
) -> Events:
    """Return the new title and metadata; what `changes` does not name stays, and no real change is no event.

    Raises:
        VersionMismatchError: the conversation is not at `expected_version`.
    """
    check_access(state, origin.actor)
    check_version(state, expected_version)
    title = changes.get("title", state.title)
    metadata = changes.get("metadata", state.metadata)
    if title == state.title and same_json(metadata, state.metadata):
        return []
    return [ConversationUpdated(**_next(state, origin), title=title, metadata=metadata)]


def delete_conversation(state: Conversation, origin: Origin, expected_version: int | None = None) -> Events:
    """Return the end of the conversation; a running turn is cancelled first, for a turn always ends in the log.

    Raises:
        VersionMismatchError: the conversation is not at `expected_version`.
    """
    check_access(state, origin.actor)
    check_version(state, expected_version)
    cancelled: Events = [TurnCancelled(**_next(state, origin), turn_id=state.turn.id)] if state.turn else []
    return [*cancelled, ConversationDeleted(**_next(state, origin, after=len(cancelled)))]


def add_message(state: Conversation, origin: Origin, draft: Draft) -> Events:
    """Return a message recorded without a model; an assistant's answers the last user message if it names none.

    Raises:
        ConversationLockedError: a turn is active.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: an image is not what it claims.
    """
    check_access(state, origin.actor)
    check_unlocked(state)
    check_content(draft.role, draft.content)
    return [_said(state.id, state.version + 1, origin, draft, state.last_user_message_id)]


def delete_message(state: Conversation, origin: Origin, message_id: UUID, *, exists: bool) -> Events:
    """Return the deletion of a message of which the log says that it `exists`.

    Raises:
        ConversationLockedError: a turn is active.
        MessageNotFoundError: there is no such message, or no longer.
    """
    check_access(state, origin.actor)
    check_unlocked(state)
    if not exists:
        raise MessageNotFoundError(message_id)
    return [MessageDeleted(**_next(state, origin), message_id=message_id)]


def start_turn(
    state: Conversation, origin: Origin, draft: Draft, settings: TurnSettings, *, turn_id: UUID, answer_id: UUID
) -> Events:
    """Return the user's message and the start of the turn that answers it; from there the conversation is locked.

    Raises:
        ConversationLockedError: a turn is active.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: an image is not what it claims.
    """
    message = add_message(state, origin, draft)[0].model_copy(update={"turn_id": turn_id})
    started = TurnStarted(
        **_next(state, origin, after=1),
        turn_id=turn_id,
        user_message_id=draft.id,
        message_id=answer_id,
        **settings._asdict(),
    )
    return [message, started]


def record_delta(state: Conversation, origin: Origin, turn_id: UUID, **chunks: Any) -> Events:
    """Return chunks that the model of turn `turn_id` streamed; `chunks` are the further fields of `StreamDelta`.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    check_active(state, turn_id)
    return [StreamDelta(**_next(state, origin), turn_id=turn_id, **chunks)]


def complete_turn(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer) -> Events:
    """Return the whole answer and the end of its turn.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    said = _answered(state, origin, turn_id, answer, "completed")
    ended = TurnCompleted(
        **_next(state, origin, after=len(said)),
        **_timings(turn_id, answer),
        usage=answer.usage,
        finish_reason=answer.finish_reason or "stop",
    )
    return [*said, ended]


def fail_turn(
    state: Conversation, origin: Origin, turn_id: UUID, answer: Answer, *, reason: str, detail: str
) -> Events:
    """Return what was said so far, kept as an interrupted message, and the failure of the turn.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    said = _answered(state, origin, turn_id, answer, "interrupted")
    envelope = _next(state, origin, after=len(said))
    return [*said, TurnFailed(**envelope, **_timings(turn_id, answer), reason=reason, detail=detail)]


def cancel_turn(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer) -> Events:
    """Return what was said so far, kept as an interrupted message, and the stop of the turn.

    Raises:
        TurnNotActiveError: the turn has ended already.
    """
    check_access(state, origin.actor)
    said = _answered(state, origin, turn_id, answer, "interrupted")
    return [*said, TurnCancelled(**_next(state, origin, after=len(said)), **_timings(turn_id, answer))]


def _envelope(conversation_id: UUID, version: int, origin: Origin) -> dict[str, Any]:
    return {
        "originator_id": conversation_id,
        "originator_version": version,
        "timestamp": origin.at,
        "actor": origin.actor,
        "request_id": origin.request_id,
    }


def _next(state: Conversation, origin: Origin, after: int = 0) -> dict[str, Any]:
    return _envelope(state.id, state.version + 1 + after, origin)


def _said(conversation_id: UUID, version: int, origin: Origin, draft: Draft, last_user: UUID | None) -> MessageAdded:
    return MessageAdded(
        **_envelope(conversation_id, version, origin),
        message_id=draft.id,
        role=draft.role,
        author_id=None if draft.role == "assistant" else origin.actor,
        content=draft.content,
        in_reply_to=draft.in_reply_to or (last_user if draft.role == "assistant" else None),
        tokens=draft.tokens,
        encoding=draft.encoding,
    )


def _answered(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer, status: Any) -> Events:
    turn = check_active(state, turn_id)
    if not answer.content:
        return []
    message = MessageAdded(
        **_next(state, origin),
        message_id=turn.message_id,
        turn_id=turn_id,
        role="assistant",
        content=answer.content,
        in_reply_to=turn.user_message_id,
        status=status,
        model=turn.model,
        tokens=answer.tokens,
        encoding=answer.encoding,
        usage=answer.usage,
        finish_reason=answer.finish_reason,
    )
    return [message]


def _timings(turn_id: UUID, answer: Answer) -> dict[str, Any]:
    return {
        "turn_id": turn_id,
        "time_to_first_token_ms": answer.time_to_first_token_ms,
        "duration_ms": answer.duration_ms,
    }
