"""What may happen to a turn: it is asked for, starts or waits, streams, pauses for tool results, and ends."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from domain.content import Content, ToolResultBlock, check_content
from domain.conversation import Conversation
from domain.decisions import Draft, Events, Origin, close_calls, envelope, next_envelope, said
from domain.errors import ConversationLockedError, InvalidContentError, TurnNotActiveError
from domain.events import (
    MessageAdded,
    MessagesSuperseded,
    StreamDelta,
    TurnBegun,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from domain.guards import check_access, check_active, check_running, check_unlocked
from domain.tools import ToolDefinition, tool_uses
from domain.usage import Usage
from domain.values import JsonObject

MAX_QUEUED = 100


class TurnSettings(NamedTuple):
    """How a turn's model is to be called; None leaves a choice to the model. Without `generate` the client calls it."""

    model: str
    max_context_tokens: int | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    metadata: JsonObject = {}
    generate: bool = True
    tools: tuple[ToolDefinition, ...] = ()


def settings_of(begun: TurnBegun) -> TurnSettings:
    """Return how a turn's model was to be called."""
    return TurnSettings(**{name: getattr(begun, name) for name in TurnSettings._fields})


class TurnIds(NamedTuple):
    """The ids of a turn that begins, of its answer, and of the message that closes calls, should some be open."""

    turn: UUID
    answer: UUID
    closing: UUID


class Superseded(NamedTuple):
    """Messages to be superseded: those from a version on, and how many `messages` of them still count."""

    from_version: int
    messages: int


class Question(NamedTuple):
    """A user message that was said before."""

    id: UUID
    version: int


class Answer(NamedTuple):
    """What a model said since it was last called, whole or up to where it stopped; empty content: it said nothing.

    `usage` and the times are those of that one call.
    """

    content: Content
    tokens: int
    encoding: str
    usage: Usage | None = None
    finish_reason: str | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None


def start_turn(
    state: Conversation,
    origin: Origin,
    draft: Draft,
    settings: TurnSettings,
    ids: TurnIds,
    superseded: Superseded | None = None,
) -> Events:
    """Return the user's message and the start of the turn that answers it; from there the conversation is locked.

    Messages that the new one takes the place of are `superseded` first, and a turn that waits for tool results ends.

    Raises:
        ConversationLockedError: a turn is active.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: an image is not what it claims.
    """
    check_access(state, origin.actor)
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
    """Return the start of a turn that answers a question once more; what came after it is superseded.

    Raises:
        ConversationLockedError: a turn is active.
    """
    check_access(state, origin.actor)
    check_unlocked(state)
    events = _made_room(state, origin, ids, superseded)
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
    """Return a turn that waits until the active one has ended, and those that wait already unless it goes `ahead`.

    Raises:
        ConversationLockedError: a hundred wait already.
        InvalidContentError: the content breaks a rule.
        UnsupportedImageError: an image is not what it claims.
    """
    check_access(state, origin.actor)
    check_content(draft.role, draft.content)
    if len(state.queue) >= MAX_QUEUED:
        check_unlocked(state)
    queued = TurnQueued(
        **next_envelope(state, origin),
        **_asked(draft.id, settings, ids),
        content=draft.content,
        tokens=draft.tokens,
        encoding=draft.encoding,
        from_version=from_version,
        ahead=ahead,
    )
    return [queued]


def start_queued_turn(
    state: Conversation, origin: Origin, queued: TurnQueued, closing_id: UUID, superseded: Superseded | None = None
) -> Events:
    """Return the message and the start of a turn that waited.

    Raises:
        TurnNotActiveError: it was cancelled, or has started already.
        ConversationLockedError: others come before it.
    """
    if queued.turn_id not in {turn.id for turn in state.queue}:
        raise TurnNotActiveError(queued.turn_id)
    if state.turn is not None:
        raise ConversationLockedError(state.id, state.turn.id)
    if state.queue[0].id != queued.turn_id:
        raise ConversationLockedError(state.id, state.queue[0].id)
    draft = Draft(queued.user_message_id, "user", queued.content, queued.tokens, queued.encoding)
    settings = settings_of(queued)
    return _start(state, origin, draft, settings, TurnIds(queued.turn_id, queued.message_id, closing_id), superseded)


def record_delta(state: Conversation, origin: Origin, turn_id: UUID, **chunks: Any) -> Events:
    """Return chunks that the model of turn `turn_id` streamed; `chunks` are the further fields of `StreamDelta`.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    check_running(state, turn_id)
    return [StreamDelta(**next_envelope(state, origin), turn_id=turn_id, **chunks)]


def complete_turn(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer) -> Events:
    """Return the whole answer and the end of its turn; if it calls tools, the turn does not end but waits for results.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    turn = check_running(state, turn_id)
    answered = _answered(state, origin, turn_id, answer, "completed")
    envelope = next_envelope(state, origin, len(answered))
    usage = answer.usage.plus(turn.usage) if answer.usage else turn.usage
    times = _times(state, turn_id, answer)
    if tool_uses(answer.content):
        return [*answered, TurnSuspended(**envelope, **times, message_id=turn.message_id, usage=usage)]
    reason = answer.finish_reason or "stop"
    return [*answered, TurnCompleted(**envelope, **times, usage=usage, finish_reason=reason)]


def resume_turn(state: Conversation, origin: Origin, turn_id: UUID, results: Draft, answer_id: UUID) -> Events:
    """Return the results of all open calls, and that the model goes on.

    Raises:
        TurnNotActiveError: the turn does not wait for results.
        InvalidContentError: the results are not those of the open calls, one each.
    """
    check_access(state, origin.actor)
    turn = check_active(state, turn_id)
    if not turn.waiting:
        raise TurnNotActiveError(turn_id)
    check_content(results.role, results.content)
    _check_results(results.content, state.open_calls)
    message = said(state.id, state.version + 1, origin, results._replace(turn_id=turn_id), None)
    resumed = TurnResumed(
        **next_envelope(state, origin, 1),
        turn_id=turn_id,
        user_message_id=turn.user_message_id,
        message_id=answer_id,
        model=turn.model,
    )
    return [message, resumed]


def fail_turn(
    state: Conversation, origin: Origin, turn_id: UUID, answer: Answer, *, reason: str, detail: str
) -> Events:
    """Return what was said so far, kept as an interrupted message, and the failure of the turn.

    Raises:
        TurnNotActiveError: the turn has ended meanwhile.
    """
    check_running(state, turn_id)
    answered = _answered(state, origin, turn_id, answer, "interrupted")
    envelope, times = next_envelope(state, origin, len(answered)), _times(state, turn_id, answer)
    return [*answered, TurnFailed(**envelope, **times, reason=reason, detail=detail)]


def cancel_turn(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer, closing_id: UUID) -> Events:
    """Return what was said so far, kept as an interrupted message, and the stop of the turn.

    A turn that waits for tool results ends with errors for them, one that waits for other turns without a word.

    Raises:
        TurnNotActiveError: the turn has ended already.
    """
    check_access(state, origin.actor)
    if turn_id in {turn.id for turn in state.queue}:
        return [TurnCancelled(**next_envelope(state, origin), turn_id=turn_id)]
    if check_active(state, turn_id).waiting:
        return close_calls(state, origin, closing_id)
    answered = _answered(state, origin, turn_id, answer, "interrupted")
    envelope = next_envelope(state, origin, len(answered))
    return [*answered, TurnCancelled(**envelope, **_times(state, turn_id, answer))]


def _start(
    state: Conversation,
    origin: Origin,
    draft: Draft,
    settings: TurnSettings,
    ids: TurnIds,
    superseded: Superseded | None,
) -> Events:
    events = _made_room(state, origin, ids, superseded)
    version = state.version + 1 + len(events)
    events.append(said(state.id, version, origin, draft._replace(turn_id=ids.turn), None))
    return [*events, _started(state, origin, len(events), Question(draft.id, version), settings, ids)]


def _made_room(state: Conversation, origin: Origin, ids: TurnIds, superseded: Superseded | None) -> Events:
    events = close_calls(state, origin, ids.closing)
    if superseded is None or not superseded.messages:
        return events
    # What was just said to close calls comes after what is superseded, and goes with it.
    count = superseded.messages + sum(isinstance(event, MessageAdded) for event in events)
    envelope = next_envelope(state, origin, len(events))
    return [*events, MessagesSuperseded(**envelope, from_version=superseded.from_version, count=count)]


def _started(
    state: Conversation, origin: Origin, after: int, question: Question, settings: TurnSettings, ids: TurnIds
) -> TurnStarted:
    asked = _asked(question.id, settings, ids)
    return TurnStarted(**next_envelope(state, origin, after), **asked, user_message_version=question.version)


def _asked(user_message_id: UUID, settings: TurnSettings, ids: TurnIds) -> dict[str, Any]:
    named = {"turn_id": ids.turn, "user_message_id": user_message_id, "message_id": ids.answer}
    return {**named, **settings._asdict()}


def _answered(state: Conversation, origin: Origin, turn_id: UUID, answer: Answer, status: Any) -> Events:
    turn = check_active(state, turn_id)
    if not answer.content:
        return []
    message = MessageAdded(
        **envelope(state.id, state.version + 1, origin),
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


def _times(state: Conversation, turn_id: UUID, answer: Answer) -> dict[str, Any]:
    """Return the turn and its times in all: what it did before it waited counts too."""
    turn = check_active(state, turn_id)
    first = turn.time_to_first_token_ms
    return {
        "turn_id": turn_id,
        "time_to_first_token_ms": _sum(turn.duration_ms, answer.time_to_first_token_ms) if first is None else first,
        "duration_ms": _sum(turn.duration_ms, answer.duration_ms),
    }


def _sum(before_ms: float, more_ms: float | None) -> float | None:
    return None if more_ms is None else round(before_ms + more_ms, 3)


def _check_results(results: Content, open_calls: Sequence[str]) -> None:
    answered = [block.tool_use_id for block in results if isinstance(block, ToolResultBlock)]
    for index, call in enumerate(answered):
        if call not in open_calls or call in answered[:index]:
            raise InvalidContentError("is not an open call, or is answered twice", ("results", index, "tool_use_id"))
    if missing := [call for call in open_calls if call not in answered]:
        raise InvalidContentError(f"must answer all calls; missing: {', '.join(missing)}", ("results",))
