"""Recorded events as lines of a terminal and as JSON lines."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.reading.event_lines import LOOKS, event_line, json_line
from cli.terminal import cells, visible
from domain.events import EVENT_TYPES

ID = UUID(int=7)
EVIL = "a\x1b[2J\u202egnp.exe\r\n漢字"


def record(**changes: Any) -> dict[str, Any]:
    """Return a record of an event of a conversation."""
    return {
        "position": 42,
        "conversation_id": ID,
        "version": 3,
        "type": "MessageAdded",
        "data": '{"role": "user"}',
        "actor": "user:alice",
        "request_id": "req-1",
        "recorded_at": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        "digest": "00",
        **changes,
    }


def test_a_line_says_where_when_which_what_and_by_whom() -> None:
    assert event_line(record(), None) == (
        "      42  2026-01-02T03:04:05.678901Z  00000000-0000-0000-0000-000000000007  "
        'v3     MessageAdded         user:alice     {"role": "user"}'
    )


def test_a_narrow_terminal_gets_two_lines() -> None:
    first, second = event_line(record(), 80).split("\n")
    assert first.endswith(str(ID))
    assert second == '          v3     MessageAdded         user:alice     {"role": "user"}'


def test_an_event_of_another_aggregate_shows_the_id_of_that() -> None:
    other = {name: value for name, value in record().items() if name != "conversation_id"}
    assert str(UUID(int=8)) in event_line({**other, "aggregate": "audit", "aggregate_id": UUID(int=8)}, None)


@given(
    texts=st.tuples(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300)),
    columns=st.integers(20, 300),
    colours=st.booleans(),
)
def test_every_line_fits_the_terminal_and_holds_no_hidden_character(
    texts: tuple[str, str, str], columns: int, colours: bool
) -> None:
    type_name, actor, data = texts
    shown = record(type=type_name, actor=actor, data=data)
    line = re.sub(r"\x1b\[[0-9;]*m", "", event_line(shown, columns, colours=colours))
    for each in line.split("\n"):
        assert cells(each) <= columns
        assert visible(each) == each
    assert len(line.split("\n")) in (1, 2)


def test_text_that_attacks_a_terminal_is_shown_as_escapes() -> None:
    data = json.dumps({"text": EVIL}, ensure_ascii=False)
    line = event_line(record(actor=EVIL, data=data), 200, colours=False)
    assert "\\x1b[2J\\u202e" in line
    assert "\\u001b[2J\\u202egnp.exe\\r\\n漢字" in line


def test_json_has_all_data_and_the_recorded_text() -> None:
    data = json.dumps({"text": EVIL * 100}, ensure_ascii=False)
    line = json_line(record(data=data))
    assert visible(line) == line
    assert json.loads(line) == {
        **record(),
        "conversation_id": str(ID),
        "recorded_at": "2026-01-02T03:04:05.678901Z",
        "data": {"text": EVIL * 100},
    }


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_type_of_event_has_a_look(name: str) -> None:
    assert name in LOOKS
    coloured = event_line(record(type=name), 200, colours=True)
    assert f"m{name:<20} \x1b[0m" in coloured
