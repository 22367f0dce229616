"""Checks of the API's resources: exact keys, and forms of ids and times."""

import re
from collections.abc import Collection
from typing import Any

import httpx

CONVERSATION_KEYS = {
    "id",
    "object",
    "owner_id",
    "agent_id",
    "title",
    "metadata",
    "message_count",
    "status",
    "active_turn_id",
    "forked_from",
    "created_at",
    "updated_at",
    "last_message_at",
    "version",
}
MESSAGE_KEYS = {
    "id",
    "object",
    "conversation_id",
    "turn_id",
    "role",
    "author_id",
    "content",
    "in_reply_to",
    "status",
    "model",
    "tokens",
    "usage",
    "finish_reason",
    "created_at",
    "said_at",
    "version",
}
TURN_KEYS = {
    "id",
    "object",
    "conversation_id",
    "user_message_id",
    "message_id",
    "status",
    "model",
    "usage",
    "finish_reason",
    "error",
    "started_at",
    "ended_at",
    "time_to_first_token_ms",
    "duration_ms",
}
EVENT_KEYS = {"position", "conversation_id", "version", "type", "data", "actor", "request_id", "recorded_at", "digest"}
USAGE_KEYS = {"input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens", "cost_usd", "estimated"}
PROBLEM_KEYS = {"type", "title", "status", "detail", "code"}

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_INSIDES = re.compile(r"Traceback|psycopg|pydantic|File \"|SELECT |INSERT |UPDATE |relation \"|errors\.pydantic")


def check_conversation(resource: dict[str, Any]) -> None:
    """Check the shape of a conversation."""
    assert resource.keys() == CONVERSATION_KEYS
    assert resource["object"] == "conversation"
    assert resource["owner_id"] == "local"
    assert resource["status"] in ({"running", "requires_action"} if resource["active_turn_id"] else {"idle"})
    _check_forms(resource, ids={"id"}, nullable_ids={"active_turn_id", "forked_from"})
    _check_times(resource, {"created_at", "updated_at"}, nullable={"last_message_at"})


def check_message(resource: dict[str, Any]) -> None:
    """Check the shape of a message."""
    assert resource.keys() == MESSAGE_KEYS
    assert resource["object"] == "message"
    assert resource["status"] in {"completed", "streaming", "interrupted", "superseded"}
    _check_forms(resource, ids={"id", "conversation_id"}, nullable_ids={"turn_id", "in_reply_to"})
    _check_times(resource, {"created_at"}, nullable={"said_at"})
    assert resource["usage"] is None or resource["usage"].keys() == USAGE_KEYS


def check_turn(resource: dict[str, Any]) -> None:
    """Check the shape of a turn."""
    assert resource.keys() == TURN_KEYS
    assert resource["object"] == "turn"
    _check_forms(resource, ids={"id", "conversation_id", "user_message_id", "message_id"})
    _check_times(resource, set(), nullable={"started_at", "ended_at"})
    assert resource["started_at"] is not None or resource["status"] in {"queued", "cancelled"}
    assert resource["usage"] is None or resource["usage"].keys() == USAGE_KEYS
    assert resource["error"] is None or resource["error"].keys() == {"code", "detail"}
    assert (resource["ended_at"] is None) == (resource["status"] in {"queued", "running", "requires_action"})


def check_event(resource: dict[str, Any]) -> None:
    """Check the shape of a recorded event."""
    assert resource.keys() == EVENT_KEYS
    assert re.fullmatch("[0-9a-f]{64}", resource["digest"])
    assert resource["actor"] == "user:local"
    _check_forms(resource, ids={"conversation_id"})
    _check_times(resource, {"recorded_at"})


def check_problem(response: httpx.Response, status: int, code: str, *members: str) -> dict[str, Any]:
    """Check that a refusal is a problem with `members` and return it."""
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    expected = {"errors"} if code == "VALIDATION_FAILED" else set()
    assert problem.keys() == PROBLEM_KEYS | expected | set(members)
    assert problem["status"] == status
    assert problem["title"] and problem["detail"]
    assert problem["type"].startswith(("urn:", "https://", "about:"))
    assert not _INSIDES.search(response.text)
    for error in problem.get("errors", []):
        assert error.keys() == {"loc", "msg"}
        assert isinstance(error["loc"], list) and error["msg"]
    return problem


def check_position(response: httpx.Response) -> int:
    """Check that a write names a log position and return it."""
    assert response.is_success, response.text
    assert "turnlog-behind" not in response.headers
    return int(response.headers["turnlog-position"])


def _check_forms(resource: dict[str, Any], ids: set[str], nullable_ids: Collection[str] = ()) -> None:
    for name in (*ids, *nullable_ids):
        value = resource[name]
        assert (value is None and name in nullable_ids) or _UUID7.fullmatch(str(value)), (name, value)


def _check_times(resource: dict[str, Any], times: set[str], nullable: Collection[str] = ()) -> None:
    for name in (*times, *nullable):
        value = resource[name]
        assert (value is None and name in nullable) or _TIME.fullmatch(str(value)), (name, value)
