"""The disk space of a message: its log, its read models, and its text."""

from itertools import islice
from statistics import mean

import pytest
from pydantic_core import from_json

from benchmarks.requests.post_messages_http import bytes_per_message
from benchmarks.workload.generator import made_events, make_log
from projections.catalog import install
from tests.support.store import value

EVENTS = 1_000


def test_the_disk_space_is_divided_by_the_number_of_messages(database_url: str) -> None:
    make_log(database_url, "turnlog", EVENTS)
    install(database_url)
    messages = [from_json(event.data) for event in islice(made_events(1), EVENTS) if event.type == "MessageAdded"]
    texts = [block["text"] for message in messages for block in message["content"]]
    found = bytes_per_message(database_url)
    assert found.text == pytest.approx(mean(len(text.encode()) for text in texts))
    assert found.log == value(database_url, "SELECT pg_total_relation_size('events')::float8") / len(messages)
    assert found.everything > found.log > found.text


def test_the_tables_of_the_read_models_count_with_their_indexes(database_url: str) -> None:
    make_log(database_url, "turnlog", EVENTS)
    before = bytes_per_message(database_url)
    install(database_url)
    after = bytes_per_message(database_url)
    assert after.log == before.log
    assert after.everything > before.everything
