"""Cursors hold a place in a list, and any other value is refused."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.cursors import (
    cursor_position,
    decode_agent_place,
    decode_place,
    decode_version,
    encode_cursor,
    kind_at,
    log_kind,
    page,
)
from api.http.problems import ProblemError
from eventlog.log_search import EventFilter
from projections.models.title_order import MAX_KEY_CHARACTERS

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ID = UUID(int=7)


def raw(value: Any) -> str:
    return urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@given(st.integers(0, 2**31 - 1))
def test_a_version_survives_a_round_trip(version: int) -> None:
    assert decode_version("messages", encode_cursor("messages", version)) == version


@given(
    st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1)),  # noqa: DTZ001 - hypothesis wants them naive
    st.uuids(),
)
def test_an_activity_survives_a_round_trip_to_the_microsecond(at: datetime, id_: UUID) -> None:
    assert decode_place("conversations", "active", encode_cursor("conversations", at, id_)) == (at, id_)


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=MAX_KEY_CHARACTERS), st.uuids()
)
def test_a_title_survives_a_round_trip(key: str, id_: UUID) -> None:
    assert decode_place("conversations", "title", encode_cursor("conversations", key, id_)) == (key, id_)


@pytest.mark.parametrize("key", ["\0", "a" * (MAX_KEY_CHARACTERS + 1), None, 5, ["a"]])
def test_a_cursor_without_a_title_is_refused(key: Any) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_place("conversations", "title", raw(["conversations", key, ID]))
    assert refusal.value.kind == (400, "INVALID_CURSOR")


@given(st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True), st.uuids())
def test_a_label_survives_a_round_trip(label: str, id_: UUID) -> None:
    assert decode_agent_place("agents", encode_cursor("agents", label, id_)) == (label, id_)


@pytest.mark.parametrize("label", ["", "a\n", "a b", "a" * 129, "\0", None, 5, ["a"]])
def test_a_cursor_without_a_label_is_refused(label: Any) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_agent_place("agents", raw(["agents", label, ID]))
    assert refusal.value.kind == (400, "INVALID_CURSOR")


def test_a_position_may_be_larger_than_a_version() -> None:
    assert decode_version("log", encode_cursor("log", 2**63 - 1), below=2**63) == 2**63 - 1
    with pytest.raises(ProblemError):
        decode_version("log", encode_cursor("log", 2**63), below=2**63)


def test_each_log_filter_and_order_has_cursors_of_its_own() -> None:
    filters = [
        EventFilter(),
        EventFilter(type="TurnFailed"),
        EventFilter(actor="TurnFailed"),
        EventFilter(owner_id="TurnFailed"),
        EventFilter(after=AT),
        EventFilter(before=AT),
    ]
    kinds = {log_kind(id_, each, order) for id_ in (None, ID) for each in filters for order in ("asc", "desc")}
    assert len(kinds) == 2 * 2 * len(filters)
    assert log_kind(ID, EventFilter(after=AT), "asc") == log_kind(ID, EventFilter(after=AT), "asc")


def test_a_missing_cursor_means_the_first_page() -> None:
    assert decode_agent_place("agents", None) is None
    assert decode_version("messages", None) is None
    assert decode_place("conversations", "active", None) is None


BROKEN = {
    "empty": "",
    "no base64": "%%%",
    "no ascii": "ä",
    "half a byte": "a",
    "no json": urlsafe_b64encode(b"{").decode(),
    "bare number": raw(5),
    "null": raw(None),
    "object": raw({"messages": 1}),
    "empty list": raw([]),
    "another list": raw(["turns", 1]),
    "no place": raw(["messages"]),
    "too much": raw(["messages", 1, 2]),
    "nested": raw(["messages", [1]]),
    "text": raw(["messages", "1"]),
    "boolean": raw(["messages", True]),
    "fraction": raw(["messages", 1.5]),
    "negative": raw(["messages", -1]),
    "too large": raw(["messages", 2**31]),
    "deep": urlsafe_b64encode(b"[" * 100_000).decode(),
}


@pytest.mark.parametrize("cursor", BROKEN.values(), ids=BROKEN)
def test_a_cursor_without_a_version_of_this_list_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_version("messages", cursor)
    assert refusal.value.kind == (400, "INVALID_CURSOR")


@pytest.mark.parametrize(
    "place",
    [
        [],
        [AT],
        [AT, 5],
        [AT, "x"],
        ["yesterday", ID],
        [5, ID],
        ["2026-01-02T03:04:05", ID],
        [AT, ID, 1],
        [None, None],
    ],
)
def test_a_cursor_without_an_activity_is_refused(place: list[Any]) -> None:
    with pytest.raises(ProblemError) as refusal:
        decode_place("conversations", "active", raw(["conversations", *place]))
    assert refusal.value.kind == (400, "INVALID_CURSOR")


@given(st.integers(0, 10**18 - 1), st.sampled_from(["4711", "2026-01-02T03:04:05.678901+00:00"]), st.text(max_size=9))
def test_a_position_of_the_past_survives_a_round_trip(position: int, as_of: str, list_: str) -> None:
    kind = kind_at(f"messages.asc.{list_}", as_of, position)
    cursor = encode_cursor(kind, 7)
    assert cursor_position(cursor, as_of) == position
    assert decode_version(kind, cursor) == 7
    assert cursor_position(cursor, "another moment") is None


@pytest.mark.parametrize(
    "cursor", [None, *BROKEN.values(), *(raw([kind, 1]) for kind in ("x 7 a", "1 7", "-1 7 a", 5))]
)
def test_a_cursor_of_no_moment_has_no_position(cursor: str | None) -> None:
    assert cursor_position(cursor, "7") is None


def test_a_cursor_of_one_moment_is_refused_at_another() -> None:
    cursor = encode_cursor(kind_at("messages", "7", 7), 1)
    for kind in ("messages", kind_at("messages", "8", 8), kind_at("turns", "7", 7)):
        with pytest.raises(ProblemError):
            decode_version(kind, cursor)


def test_a_page_has_a_cursor_only_if_more_items_follow() -> None:
    assert page([1, 2, 3], 2, str, repr) == {"data": ["1", "2"], "next_cursor": "2"}
    assert page([1, 2], 2, str, repr) == {"data": ["1", "2"], "next_cursor": None}
    assert page([], 2, str, repr) == {"data": [], "next_cursor": None}
