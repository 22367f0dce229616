"""Decisions on a started turn: stream, suspend, resume, complete, fail, cancel."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from domain.content import Content, ToolResultBlock, check_content
from domain.conversation import ActiveTurn, Conversation
from domain.decisions.conversations import (
    Draft,
    Events,
    Origin,
    close_calls,
    envelope,
    message_added,
    next_envelope,
    unanswered_results,
    waited,
)
from domain.decisions.guards import check_access, check_active, check_running
from domain.errors import InvalidContentError, TurnNotActiveError
from domain.events import (
    MessageAdded,
    StreamDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnResumed,
    TurnSuspended,
)
from domain.model_usage import Usage
from domain.tools import tool_uses


class ModelAnswer(NamedTuple):
    """The answer of one model call, complete or up to where it stopped.

    Empty content means no answer.

    `usage` and the times are those of that call.
    """

    content: Content
    tokens: int
    encoding: str
    usage: Usage | None = None
    finish_reason: str | None = None
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None


EMPTY_ANSWER = ModelAnswer((), 0, "")
OVERDUE_REASON = "tool_results_timeout"


def record_delta(state: Conversation, origin: Origin, turn_id: UUID, **chunks: Any) -> Events:
    """Return chunks that a turn's model streamed.

    `chunks` are the other fields of `StreamDelta`.

    Raises:
        TurnNotActiveError: the turn has ended.
    """
    check_running(state, turn_id)
    return [StreamDelta(**next_envelope(state, origin), turn_id=turn_id, **chunks)]


def complete_turn(
    state: Conversation,
    origin: Origin,
    turn_id: UUID,
    answer: ModelAnswer,
    results_timeout_s: float | None = None,
) -> Events:
    """Return the complete answer and the end or the suspension of its turn.

    An answer with tool calls suspends the turn until their results come, for at most `results_timeout_s`.

    Raises:
        TurnNotActiveError: the turn has ended.
    """
    turn = check_running(state, turn_id)
    answered = _answered(state, origin, turn, answer, "completed")
    envelope = next_envelope(state, origin, len(answered))
    usage = answer.usage.plus(turn.usage) if answer.usage else turn.usage
    times = _times(turn, answer)
    if tool_uses(answer.content):
        due = None if results_timeout_s is None else origin.at + timedelta(seconds=results_timeout_s)
        suspended = TurnSuspended(**envelope, **times, message_id=turn.message_id, usage=usage, results_due_at=due)
        return [*answered, suspended]
    reason = answer.finish_reason or "stop"
    return [*answered, TurnCompleted(**envelope, **times, usage=usage, finish_reason=reason)]


def resume_turn(state: Conversation, origin: Origin, turn_id: UUID, results: Draft, answer_id: UUID) -> Events:
    """Return the results of all open calls and the resumption of the turn.

    Raises:
        TurnNotActiveError: the turn does not wait for results.
        InvalidContentError: the results are not those of the open calls, one each.
    """
    check_access(state, origin.owner_id)
    turn = check_active(state, turn_id)
    if not turn.waiting:
        raise TurnNotActiveError(turn_id)
    check_content(results.role, results.content)
    _check_results(results.content, state.open_calls)
    message = message_added(state.id, state.version + 1, origin, results._replace(turn_id=turn_id), None)
    resumed = TurnResumed(
        **next_envelope(state, origin, 1),
        turn_id=turn_id,
        user_message_id=turn.user_message_id,
        message_id=answer_id,
        model=turn.model,
    )
    return [message, resumed]


def time_out_turn(state: Conversation, origin: Origin, turn_id: UUID, closing_id: UUID) -> Events:
    """Return the failure of a turn whose tool results are overdue.

    Its open calls get error results.

    Raises:
        TurnNotActiveError: the turn has ended, or its results are not overdue.
    """
    turn = check_active(state, turn_id)
    if not turn.waiting or turn.results_due_at is None or origin.at < turn.results_due_at:
        raise TurnNotActiveError(turn_id)
    closed = unanswered_results(state, origin, closing_id)
    failed = TurnFailed(
        **next_envelope(state, origin, len(closed)),
        **waited(turn),
        reason=OVERDUE_REASON,
        detail="The tool results did not come in time.",
    )
    return [*closed, failed]


def fail_turn(
    state: Conversation, origin: Origin, turn_id: UUID, answer: ModelAnswer, *, reason: str, detail: str
) -> Events:
    """Return the answer so far as an interrupted message, and the failure of the turn.

    Raises:
        TurnNotActiveError: the turn has ended.
    """
    turn = check_running(state, turn_id)
    answered = _answered(state, origin, turn, answer, "interrupted")
    envelope, times = next_envelope(state, origin, len(answered)), _times(turn, answer)
    return [*answered, TurnFailed(**envelope, **times, reason=reason, detail=detail)]


def cancel_turn(state: Conversation, origin: Origin, turn_id: UUID, answer: ModelAnswer, closing_id: UUID) -> Events:
    """Return the answer so far as an interrupted message, and the cancel of the turn.

    A turn that waits for tool results ends with error results. A queued turn ends without a message.

    Raises:
        TurnNotActiveError: the turn has ended already.
    """
    check_access(state, origin.owner_id)
    if turn_id in {turn.id for turn in state.queue}:
        return [TurnCancelled(**next_envelope(state, origin), turn_id=turn_id)]
    turn = check_active(state, turn_id)
    if turn.waiting:
        return close_calls(state, origin, closing_id)
    answered = _answered(state, origin, turn, answer, "interrupted")
    envelope = next_envelope(state, origin, len(answered))
    return [*answered, TurnCancelled(**envelope, **_times(turn, answer))]


def _answered(state: Conversation, origin: Origin, turn: ActiveTurn, answer: ModelAnswer, status: Any) -> Events:
    if not answer.content:
        return []
    message = MessageAdded(
        **envelope(state.id, state.version + 1, origin),
        message_id=turn.message_id,
        turn_id=turn.id,
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


def _times(turn: ActiveTurn, answer: ModelAnswer) -> dict[str, Any]:
    """Return the turn's id and its total times, with those before it waited."""
    first = turn.time_to_first_token_ms
    return {
        "turn_id": turn.id,
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
