"""Lists: limits, cursors, and pages that stay complete while rows are added."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.api.conftest import GivenModel
from tests.support.http.api_client import Api
from tests.support.http.resources import check_problem

LISTS = [
    "/v1/conversations",
    "/v1/conversations/{id}/messages",
    "/v1/conversations/{id}/turns",
    "/v1/conversations/{id}/log",
]


@pytest.fixture(scope="module")
def id_(api: Api) -> str:
    """A conversation of 25 messages. Read only."""
    return api.conversation(messages=[{"role": "user", "content": str(number)} for number in range(25)])["id"]


def token(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "", "99999999999999999999", "null", "1e1", "NaN"])
def test_a_limit_is_a_number_from_1_to_100(api: Api, id_: str, path: str, limit: str) -> None:
    problem = check_problem(api.http.get(path.format(id=id_), params={"limit": limit}), 422, "VALIDATION_FAILED")
    assert problem["errors"][0]["loc"] == ["query", "limit"]


@pytest.mark.parametrize("path", LISTS)
def test_a_page_has_data_and_a_cursor(api: Api, id_: str, path: str) -> None:
    for limit in (1, 100):
        page = api.get(path.format(id=id_), limit=limit)
        assert page.keys() == {"data", "next_cursor"}
        assert len(page["data"]) <= limit


def test_a_page_has_twenty_items_by_default(api: Api, id_: str) -> None:
    page = api.get(f"/v1/conversations/{id_}/messages")
    assert len(page["data"]) == 20
    assert isinstance(page["next_cursor"], str)
    rest = api.get(f"/v1/conversations/{id_}/messages", cursor=page["next_cursor"])
    assert (len(rest["data"]), rest["next_cursor"]) == (5, None)


def test_a_full_last_page_has_no_cursor(api: Api, id_: str) -> None:
    assert api.get(f"/v1/conversations/{id_}/messages", limit=25)["next_cursor"] is None


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "x" * 600,
        "💥",
        "\0",
        "....",
        token(b"{}"),
        token(b"null"),
        token(b"[]"),
        token(b"[[]]"),
        token(b'["messages.asc"]'),
        token(b'["messages.asc", "1"]'),
        token(b'["messages.asc", 1.5]'),
        token(b'["messages.asc", -1]'),
        token(b'["messages.asc", true]'),
        token(b'["messages.asc", 99999999999]'),
        token(b'["messages.asc", 1, 2]'),
        token(b'["conversations", "2024-01-01T00:00:00Z", "x"]'),
        token(b'["conversations", "2024-01-01T00:00:00", "00000000-0000-0000-0000-000000000000"]'),
        token(b'["conversations", 5, 5]'),
        token(b'["log", {}]'),
        token(b'["turns", "\\u0000"]'),
        token(b"[" * 5000),
        token(b"\xff\xfe"),
    ],
)
def test_an_invalid_cursor_is_refused(api: Api, id_: str, path: str, cursor: str) -> None:
    check_problem(api.http.get(path.format(id=id_), params={"cursor": cursor}), 400, "INVALID_CURSOR")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2024-01-01T00:00:00Z"])
def test_a_cursor_with_an_extreme_time_is_answered(api: Api, at: str) -> None:
    cursor = token(f'["conversations", "{at}", "{uuid4()}"]'.encode())
    assert api.http.get("/v1/conversations", params={"cursor": cursor}).status_code in {200, 400}


def test_a_cursor_of_another_list_is_refused(api: Api, id_: str, given_model: GivenModel) -> None:
    other = api.conversation(messages=[{"role": "user", "content": "x"}] * 3)["id"]
    for _ in range(2):
        api.turn(other, given_model(["x"]))
    requests: dict[str, dict[str, Any]] = {path.format(id=id_): {} for path in LISTS}
    cursors = {
        (path, order): api.get(path.format(id=other), limit=1, **({"order": order} if order else {}))["next_cursor"]
        for path in LISTS
        for order in (("asc", "desc") if path.endswith("messages") else ("",))
    }
    for (path, order), cursor in cursors.items():
        for list_ in requests:
            if list_ == path.format(id=id_):
                continue
            check_problem(api.http.get(list_, params={"cursor": cursor}), 400, "INVALID_CURSOR")
        if order == "desc":
            response = api.http.get(path.format(id=other), params={"cursor": cursor, "order": "asc"})
            check_problem(response, 400, "INVALID_CURSOR")
        truncated = {"cursor": cursor[:-3]}
        check_problem(api.http.get(path.format(id=other), params=truncated), 400, "INVALID_CURSOR")


def test_a_cursor_of_another_conversation_is_refused(api: Api, id_: str) -> None:
    other = api.conversation(messages=[{"role": "user", "content": "x"}] * 3)["id"]
    for name in ("messages", "log"):
        cursor = api.get(f"/v1/conversations/{other}/{name}", limit=1)["next_cursor"]
        response = api.http.get(f"/v1/conversations/{id_}/{name}", params={"cursor": cursor})
        check_problem(response, 400, "INVALID_CURSOR")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 9), order=st.sampled_from(["asc", "desc"]), more=st.lists(st.integers(0, 3), max_size=4))
def test_pages_of_messages_neither_skip_nor_repeat_while_messages_are_added(
    api: Api, limit: int, order: str, more: list[int]
) -> None:
    other = api.conversation(messages=[{"role": "user", "content": "x"}] * 10)["id"]
    before = [message["id"] for message in api.messages(other, order=order)]
    seen, added = _read_all(
        api, f"/v1/conversations/{other}/messages", more, lambda: api.message(other)["id"], limit=limit, order=order
    )
    if order == "asc":
        assert seen == before + added[: len(seen) - len(before)]
    else:
        assert seen == before


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 5), more=st.lists(st.integers(0, 3), max_size=4))
def test_pages_of_conversations_neither_skip_nor_repeat_while_conversations_are_added(
    api: Api, limit: int, more: list[int]
) -> None:
    agent = f"agent-{uuid4().hex[:12]}"
    before = [api.conversation(agent_id=agent)["id"] for _ in range(7)][::-1]
    seen, _ = _read_all(
        api, "/v1/conversations", more, lambda: api.conversation(agent_id=agent)["id"], limit=limit, agent_id=agent
    )
    assert seen == before


def _read_all(
    api: Api, path: str, more: list[int], add: Callable[[], str], **parameters: Any
) -> tuple[list[str], list[str]]:
    """Read a list to its end, and call `add` after each page.

    Return the ids that were read, and those that were added.
    """
    seen: list[str] = []
    added: list[str] = []
    pauses = iter(more)
    cursor: str | None = None
    while True:
        page = api.get(path, **parameters, **({"cursor": cursor} if cursor else {}))
        seen += [item["id"] for item in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return seen, added
        added += [add() for _ in range(next(pauses, 0))]
