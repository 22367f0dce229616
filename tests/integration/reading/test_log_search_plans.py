"""PostgreSQL serves every search of the log with an index."""

import re
from datetime import timedelta
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
import pytest

from domain.events import EVENT_TYPES
from eventlog import log, log_search
from eventlog.log_search import FREQUENT_TYPES, EventFilter
from tests.support.histories.builders import BEGINNING
from tests.support.store import rows, value

PLANTED = 20_000


def test_the_index_and_the_search_agree_on_the_rare_types(database_url: str) -> None:
    definition = value(database_url, "SELECT pg_get_indexdef('turnlog.events_rare'::regclass)")
    condition = log_search._SQL["and_rare_type"]
    assert set(re.findall(r"'(\w+)'", definition)) == set(re.findall(r"'(\w+)'", condition)) == FREQUENT_TYPES
    assert set(EVENT_TYPES) > FREQUENT_TYPES


@pytest.fixture
def large_log_url(database_url: str) -> str:
    """A log of many deltas and a few other events, which PostgreSQL has analysed."""
    statement = (
        "INSERT INTO events (position, aggregate, aggregate_id, version, type, data, actor, recorded_at, digest)"
        " SELECT n, 'conversation'::aggregate_kind, %s, n,"
        " CASE n %% 1000 WHEN 7 THEN 'TurnFailed' ELSE 'StreamDelta' END, '{}'::jsonb, 'user:alice',"
        " timestamptz '2026-01-02 03:04:05Z' + n * interval '1 second', ''::bytea"
        " FROM generate_series(1, %s) AS n"
    )
    rows(database_url, statement, [UUID(int=7), PLANTED])
    rows(database_url, "UPDATE head SET position = %s", [PLANTED])
    rows(database_url, "ANALYZE events")
    return database_url


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (EventFilter(), "events_position"),
        (EventFilter("StreamDelta"), "events_position"),
        (EventFilter(actor="user:nobody"), "events_position"),
        (EventFilter(owner_id="nobody"), "events_position"),
        (EventFilter(after=BEGINNING, before=BEGINNING), "events_position"),
        (EventFilter("TurnFailed"), "events_rare"),
        (EventFilter("TurnFailed", actor="user:nobody"), "events_rare"),
        (EventFilter("AuditRead", owner_id="nobody"), "events_rare"),
    ],
)
def test_every_search_of_the_log_reads_an_index(
    large_log_url: str, wanted: EventFilter, index: str, newest_first: bool
) -> None:
    order = log_search._order("log", newest_first=newest_first)
    statement = log_search._statement("in_log", *log_search._conditions(wanted), order)
    section = {"low": 100, "high": PLANTED if index == "events_rare" else 5100, "limit": 21}
    plan = explained(large_log_url, statement, {**wanted._asdict(), **section})
    assert index in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_bound_of_a_rare_type_is_found_in_the_index_alone(large_log_url: str, newest_first: bool) -> None:
    rows(large_log_url, "VACUUM events")
    order = log_search._order("log", newest_first=newest_first)
    statement = log_search._statement("in_log", "and_rare_type", order, "skipping", begin="find_positions")
    given = {"type": "TurnFailed", "low": 0, "high": PLANTED, "limit": 1, "skipped": 10}
    plan = explained(large_log_url, statement, given)
    assert "Index Only Scan" in plan
    assert "events_rare" in plan


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_search_of_a_conversation_reads_its_key(large_log_url: str, newest_first: bool) -> None:
    wanted = EventFilter(actor="user:nobody")
    order = log_search._order("conversation", newest_first=newest_first)
    statement = log_search._statement("in_conversation", *log_search._conditions(wanted), order)
    section = {"conversation_id": UUID(int=7), "low": 100, "high": 5100, "limit": 21}
    plan = explained(large_log_url, statement, {**wanted._asdict(), **section})
    assert "events_pkey" in plan
    assert "Seq Scan" not in plan


def test_a_time_is_found_in_few_steps(large_log_url: str) -> None:
    parameters = {"time": BEGINNING + timedelta(hours=3)}
    statement = log._SQL["find_position_near"]
    assert rows_of(large_log_url, statement, parameters) == [(3 * 3600,)]
    plan = explained(large_log_url, statement, parameters, analyze=True)
    assert "Seq Scan on events" not in plan
    loops = [int(found) for found in re.findall(r"events_position on events.*?loops=(\d+)", plan)]
    assert loops and max(loops) <= PLANTED.bit_length()


@pytest.mark.parametrize("statement", ["find_first_position", "find_last_position"])
def test_a_clock_that_stepped_back_is_found_in_the_index_of_times(large_log_url: str, statement: str) -> None:
    # Sections of the table are 1 MB, of which the log has three.
    rows(large_log_url, "VACUUM ANALYZE events")
    parameters = {"time": BEGINNING + timedelta(seconds=PLANTED / 50), "near": PLANTED // 50}
    if statement == "find_last_position":
        parameters = {"time": BEGINNING + timedelta(seconds=PLANTED * 0.98), "near": PLANTED * 98 // 100}
    assert "Bitmap Index Scan on events_time" in explained(large_log_url, log._SQL[statement], parameters)


def explained(conninfo: str, statement: str, parameters: dict[str, Any], *, analyze: bool = False) -> str:
    explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " if analyze else "EXPLAIN (COSTS OFF) "
    return "\n".join(row[0] for row in rows_of(conninfo, explain + statement, parameters))


def rows_of(conninfo: str, statement: str, parameters: dict[str, Any]) -> list[Any]:
    with psycopg.connect(conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
        return psycopg.ClientCursor(connection).execute(cast(LiteralString, statement), parameters).fetchall()
