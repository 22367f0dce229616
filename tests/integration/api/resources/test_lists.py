"""Lists: limits, cursors, and pages that stay complete while rows are added."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
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


def forged(api: Api, sort: str, *place: Any) -> str:
    """Return a cursor of the listing with another place."""
    cursor = api.get("/v1/conversations", limit=1, sort=sort)["next_cursor"]
    kind = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0]
    return token(json.dumps([kind, *place]).encode())


@pytest.mark.parametrize("sort", ["active", "created"])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2024-01-01T00:00:00Z"])
def test_a_cursor_with_an_extreme_time_is_answered(api: Api, id_: str, sort: str, at: str) -> None:
    api.conversation()
    response = api.http.get("/v1/conversations", params={"cursor": forged(api, sort, at, str(uuid4())), "sort": sort})
    assert response.status_code in {200, 400}


@pytest.mark.parametrize(
    ("sort", "place"),
    [
        *[("title", [key, str(uuid4())]) for key in ("a\0", "x" * 129, "\ud800", 5, None)],
        ("title", ["a", "x"]),
        ("title", ["a"]),
        ("active", ["a", str(uuid4())]),
        ("created", ["2024-01-01T00:00:00", str(uuid4())]),
    ],
)
def test_a_forged_place_of_the_listing_is_refused(api: Api, id_: str, sort: str, place: list[Any]) -> None:
    api.conversation()
    parameters = {"cursor": forged(api, sort, *place), "sort": sort}
    check_problem(api.http.get("/v1/conversations", params=parameters), 400, "INVALID_CURSOR")


def test_a_cursor_of_one_order_or_filter_is_refused_with_another(api: Api) -> None:
    agent = f"agent-{uuid4().hex[:12]}"
    for _ in range(3):
        api.conversation(agent_id=agent, title="a b", metadata={"k": "v"})
    filters: list[dict[str, Any]] = [
        {},
        {"agent_id": agent},
        {"status": "idle"},
        {"active_after": "2020-01-01T00:00:00Z"},
        {"active_before": "2999-01-01T00:00:00Z"},
        {"active_after": "2020-01-01T00:00:00Z", "active_before": "2999-01-01T00:00:00Z"},
        {"q": "a"},
        {"q": "b"},
        {"metadata.k": "v"},
    ]
    wanted = [{"sort": sort, **each} for sort in ("active", "created", "title") for each in filters]
    cursors = [api.get("/v1/conversations", limit=1, **each)["next_cursor"] for each in wanted]
    for number, cursor in enumerate(cursors):
        for other, each in enumerate(wanted):
            response = api.http.get("/v1/conversations", params={"cursor": cursor, "limit": 2, **each})
            if number == other:
                assert response.status_code == 200
            else:
                problem = check_problem(response, 400, "INVALID_CURSOR")
                assert "in this order and with these filters" in problem["detail"]


def test_a_cursor_holds_for_the_same_filters_written_otherwise(api: Api) -> None:
    agent = f"agent-{uuid4().hex[:12]}"
    for _ in range(2):
        api.conversation(agent_id=agent, metadata={"a": "1", "b": "2"})
    first = {"active_after": "2020-01-01T00:00:00Z", "metadata.a": "1", "metadata.b": "2", "agent_id": agent}
    cursor = api.get("/v1/conversations", limit=1, **first)["next_cursor"]
    other = {"metadata.b": "2", "metadata.a": "1", "active_after": "2020-01-01T02:00:00.000+02:00", "agent_id": agent}
    assert len(api.get("/v1/conversations", cursor=cursor, sort="active", **other)["data"]) == 1


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


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 5),
    more=st.lists(st.integers(0, 3), max_size=4),
    sort=st.sampled_from(["active", "created", "title"]),
    wanted=st.sampled_from([{}, {"status": "idle"}, {"active_after": "2020-01-01T00:00:00Z", "q": "same"}]),
)
def test_pages_of_conversations_neither_skip_nor_repeat_while_conversations_are_added(
    api: Api, limit: int, more: list[int], sort: str, wanted: dict[str, str]
) -> None:
    agent = f"agent-{uuid4().hex[:12]}"

    def add() -> str:
        return api.conversation(agent_id=agent, title="Same")["id"]

    before = [add() for _ in range(7)]
    seen, _ = _read_all(api, "/v1/conversations", more, add, limit=limit, agent_id=agent, sort=sort, **wanted)
    if sort == "title":
        assert seen == sorted(set(seen))  # equal titles are in the order of their ids
        assert set(seen) >= set(before)
    else:
        assert seen == before[::-1]


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
