"""Decisions that start or queue a turn, with a new message or an earlier one."""

from typing import Any, NamedTuple
from uuid import UUID

from domain.agent import ResolvedAgent
from domain.content import check_content
from domain.conversation import Conversation
from domain.decisions.conversations import Draft, Events, Origin, close_calls, message_added, next_envelope
from domain.decisions.guards import check_access, check_next, check_unlocked
from domain.events import MessageAdded, MessagesSuperseded, OpenSetting, TurnBegun, TurnQueued, TurnStarted
from domain.tools import ToolDefinition
from domain.values import JsonObject

MAX_QUEUED = 100


class TurnSettings(NamedTuple):
    """The settings of a turn's model call. None leaves a choice to the model.

    The client calls the model if `generate` is False. `left_open` are the settings that an agent's may replace when the
    turn starts. `agent` is the agent whose settings were used.
    """

    model: str
    max_context_tokens: int | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    metadata: JsonObject = {}
    generate: bool = True
    tools: tuple[ToolDefinition, ...] = ()
    left_open: tuple[OpenSetting, ...] = ()
    agent: ResolvedAgent | None = None


def settings_of(begun: TurnBegun) -> TurnSettings:
    """Return the settings that a recorded turn has."""
    recorded = {name: getattr(begun, name) for name in TurnSettings._fields if name in type(begun).model_fields}
    return TurnSettings(**recorded)


class TurnIds(NamedTuple):
    """The ids of a new turn, of its answer, and of the message that closes open calls."""

    turn: UUID
    answer: UUID
    closing: UUID


class Superseded(NamedTuple):
    """The messages from a version on, of which `messages` still count."""

    from_version: int
    messages: int


class Question(NamedTuple):
    """An earlier user message, to be answered again."""

    id: UUID
    version: int


def start_turn(
    state: Conversation,
    origin: Origin,
    draft: Draft,
    settings: TurnSettings,
    ids: TurnIds,
    superseded: Superseded | None = None,
) -> Events:
    """Return the user's message and the start of the turn that answers it.

    Messages that the new one replaces are `superseded` first, and a turn that waits for tool results is cancelled.

    Raises:
        ConversationLockedError: a turn is active.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: the bytes of an image do not match its type.
    """
    check_access(state, origin.owner_id)
    check_unlocked(state)
    check_content(draft.role, draft.content)
    return _start(state, origin, draft, settings, ids, superseded)


def answer_again(
    state: Conversation,
    origin: Origin,
    question: Question,
    settings: TurnSettings,
    ids: TurnIds,
    superseded: Superseded,
) -> Events:
    """Return the start of a turn that answers a question again.

    The messages after the question are superseded.

    Raises:
        ConversationLockedError: a turn is active.
    """
    check_access(state, origin.owner_id)
    check_unlocked(state)
    events = _prepare(state, origin, ids, superseded)
    return [*events, _started(state, origin, len(events), question, settings, ids)]


def queue_turn(
    state: Conversation,
    origin: Origin,
    draft: Draft,
    settings: TurnSettings,
    ids: TurnIds,
    *,
    from_version: int | None = None,
    ahead: bool = False,
) -> Events:
    """Return a queued turn.

    It starts after all turns before it, or next if it is `ahead`.

    Raises:
        ConversationLockedError: 100 turns are queued already.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: the bytes of an image do not match its type.
    """
    check_access(state, origin.owner_id)
    check_content(draft.role, draft.content)
    if len(state.queue) >= MAX_QUEUED:
        check_unlocked(state)
    queued = TurnQueued(
        **next_envelope(state, origin),
        **_turn_fields(draft.id, settings, ids),
        content=draft.content,
        tokens=draft.tokens,
        encoding=draft.encoding,
        from_version=from_version,
        ahead=ahead,
        left_open=settings.left_open,
    )
    return [queued]


def start_queued_turn(
    state: Conversation,
    origin: Origin,
    queued: TurnQueued,
    closing_id: UUID,
    settings: TurnSettings,
    superseded: Superseded | None = None,
) -> Events:
    """Return the message and the start of a queued turn.

    `settings` are those of the request, and what it left open from the agent.

    Raises:
        TurnNotActiveError: the turn was cancelled, or has started already.
        ConversationLockedError: another turn comes first.
    """
    check_next(state, queued.turn_id)
    draft = Draft(queued.user_message_id, "user", queued.content, queued.tokens, queued.encoding)
    ids = TurnIds(queued.turn_id, queued.message_id, closing_id)
    return _start(state, origin, draft, settings, ids, superseded)


def _start(
    state: Conversation,
    origin: Origin,
    draft: Draft,
    settings: TurnSettings,
    ids: TurnIds,
    superseded: Superseded | None,
) -> Events:
    events = _prepare(state, origin, ids, superseded)
    version = state.version + 1 + len(events)
    events.append(message_added(state.id, version, origin, draft._replace(turn_id=ids.turn), None))
    return [*events, _started(state, origin, len(events), Question(draft.id, version), settings, ids)]


def _prepare(state: Conversation, origin: Origin, ids: TurnIds, superseded: Superseded | None) -> Events:
    events = close_calls(state, origin, ids.closing)
    if superseded is None or not superseded.messages:
        return events
    # The message that closes calls comes after the superseded ones, so it is superseded with them.
    count = superseded.messages + sum(isinstance(event, MessageAdded) for event in events)
    envelope = next_envelope(state, origin, len(events))
    return [*events, MessagesSuperseded(**envelope, from_version=superseded.from_version, count=count)]


def _started(
    state: Conversation, origin: Origin, after: int, question: Question, settings: TurnSettings, ids: TurnIds
) -> TurnStarted:
    fields = _turn_fields(question.id, settings, ids)
    return TurnStarted(
        **next_envelope(state, origin, after), **fields, user_message_version=question.version, agent=settings.agent
    )


def _turn_fields(user_message_id: UUID, settings: TurnSettings, ids: TurnIds) -> dict[str, Any]:
    known = {"turn_id": ids.turn, "user_message_id": user_message_id, "message_id": ids.answer}
    return {**known, **{name: value for name, value in settings._asdict().items() if name in TurnBegun.model_fields}}
