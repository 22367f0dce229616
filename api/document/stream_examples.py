"""Examples of the events of `text/event-stream` answers."""

from collections.abc import Mapping
from typing import Any

_CONVERSATION_ID = "019b0a52-6f3e-7c41-9d2a-4be0a1c7f001"
_TURN_ID = "019b0a52-6f3e-7c41-9d2a-4be0a1c7f002"
_QUESTION_ID = "019b0a52-6f3e-7c41-9d2a-4be0a1c7f003"
_ANSWER_ID = "019b0a52-6f3e-7c41-9d2a-4be0a1c7f004"
_ASKED_AT = "2026-01-31T12:00:00.000000Z"
_ANSWERED_AT = "2026-01-31T12:00:01.250000Z"

_USAGE = {
    "input_tokens": 12,
    "output_tokens": 2,
    "cached_input_tokens": 0,
    "reasoning_tokens": 0,
    "cost_usd": 0.00012,
    "estimated": False,
}
_QUESTION = {
    "id": _QUESTION_ID,
    "object": "message",
    "conversation_id": _CONVERSATION_ID,
    "turn_id": _TURN_ID,
    "role": "user",
    "author_id": "user:alice",
    "content": [{"type": "text", "text": "Hello!"}],
    "in_reply_to": None,
    "status": "completed",
    "model": None,
    "tokens": 2,
    "usage": None,
    "finish_reason": None,
    "created_at": _ASKED_AT,
    "said_at": None,
    "version": 2,
}
_ANSWER = {
    **_QUESTION,
    "id": _ANSWER_ID,
    "role": "assistant",
    "author_id": None,
    "content": [{"type": "text", "text": "Hi there"}],
    "in_reply_to": _QUESTION_ID,
    "model": "gpt-4o",
    "usage": _USAGE,
    "finish_reason": "stop",
    "created_at": _ANSWERED_AT,
    "version": 5,
}
_INTERRUPTED = {**_ANSWER, "status": "interrupted", "usage": None, "finish_reason": None}
_TURN = {
    "id": _TURN_ID,
    "object": "turn",
    "conversation_id": _CONVERSATION_ID,
    "user_message_id": _QUESTION_ID,
    "message_id": _ANSWER_ID,
    "status": "completed",
    "model": "gpt-4o",
    "usage": _USAGE,
    "finish_reason": "stop",
    "error": None,
    "started_at": _ASKED_AT,
    "ended_at": _ANSWERED_AT,
    "time_to_first_token_ms": 410.5,
    "duration_ms": 1250.0,
}
_STOPPED = {**_TURN, "usage": None, "finish_reason": None}
_ERROR = {"code": "model_timeout", "detail": "The model sent nothing for 60 s."}
_CALL = {"type": "tool_use", "id": "call_weather", "name": "get_weather", "input": {"city": "Bern"}}


def _frame(seq: int, **data: Any) -> dict[str, Any]:
    return {"conversation_id": _CONVERSATION_ID, "turn_id": _TURN_ID, "seq": seq, **data}


FRAME_EXAMPLES: Mapping[str, dict[str, Any]] = {
    "turn.started": _frame(1, user_message=_QUESTION, message_id=_ANSWER_ID, model="gpt-4o"),
    "delta": _frame(2, block_index=0, delta_index=0, block_type="text", text="Hi"),
    "block.done": _frame(4, block_index=0, block={"type": "text", "text": "Hi there"}),
    "tool_use": _frame(5, block_index=1, tool_use=_CALL),
    "turn.requires_action": _frame(6, tool_uses=[_CALL]),
    "turn.completed": _frame(5, turn=_TURN, message=_ANSWER),
    "turn.failed": _frame(
        5, turn={**_STOPPED, "status": "failed", "error": _ERROR}, message=_INTERRUPTED, error=_ERROR
    ),
    "turn.cancelled": _frame(5, turn={**_STOPPED, "status": "cancelled"}, message=_INTERRUPTED, error=None),
}
"""The data of a frame of each kind, by its event."""

RECORDED_EXAMPLE: Mapping[str, Any] = {
    "position": 4711,
    "conversation_id": _CONVERSATION_ID,
    "version": 1,
    "type": "ConversationStarted",
    "data": {
        "class_version": 2,
        "owner_id": "alice",
        "agent_id": None,
        "title": "First steps",
        "metadata": {},
        "agent_number": None,
    },
    "actor": "user:alice",
    "request_id": "4f2d9c0b7a5e4c1d8e6f3a2b1c0d9e8f",
    "recorded_at": _ASKED_AT,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
"""The data of a recorded event."""
