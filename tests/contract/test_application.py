"""One contract of the conversation application, in memory and on PostgreSQL."""

from collections.abc import Iterator
from typing import Any

import pytest
from eventsourcing.persistence import IntegrityError

from domain.conversation import Conversation
from domain.decisions import conversations
from domain.decisions.conversations import Events
from domain.errors import ConversationLockedError, ConversationNotFoundError
from eventlog.library.application import ConversationApplication
from eventlog.mapper import SNAPSHOT_INTERVAL
from tests.support.histories.builders import Story, draft, folded, one_of_each, origin, some_id
from tests.support.store import value


@pytest.fixture(params=["in memory", "on PostgreSQL"])
def application(request: pytest.FixtureRequest) -> Iterator[ConversationApplication]:
    env: dict[str, str] = {}
    if request.param == "on PostgreSQL":
        url: str = request.getfixturevalue("database_url")
        env = {"PERSISTENCE_MODULE": "eventlog.library", "TURNLOG_DATABASE_URL": url}
    with ConversationApplication(env) as built:
        yield built


def add(state: Conversation) -> Events:
    return conversations.add_message(state, origin(), draft(f"message {state.message_count + 1}"), some_id())


def test_a_started_conversation_is_found_again(application: ConversationApplication) -> None:
    story = Story(title="Grüße", metadata={"n": 2**70})
    assert application.start(story.events) == story.state
    assert application.conversation(story.id) == story.state


def test_every_event_folds_to_the_same_state_after_it_was_recorded(application: ConversationApplication) -> None:
    events = one_of_each()
    application.start(events)
    assert application.conversation(events[0].originator_id) == folded(events)


def test_a_conversation_can_be_read_at_each_of_its_versions(application: ConversationApplication) -> None:
    events = one_of_each()
    application.start(events)
    for version in range(1, len(events) + 1):
        assert application.conversation(events[0].originator_id, version) == folded(events[:version])


def test_a_decision_is_recorded_and_its_state_returned(application: ConversationApplication) -> None:
    story = Story()
    application.start(story.events)
    after = application.execute(story.id, add)
    assert (after.version, after.message_count) == (2, 1)
    assert application.conversation(story.id) == after


def test_a_refused_decision_records_nothing(application: ConversationApplication) -> None:
    story = Story()
    story.ask()
    application.start(story.events)
    with pytest.raises(ConversationLockedError):
        application.execute(story.id, add)
    assert application.conversation(story.id).version == 3


def test_an_unknown_conversation_is_not_found(application: ConversationApplication) -> None:
    with pytest.raises(ConversationNotFoundError):
        application.conversation(some_id())
    with pytest.raises(ConversationNotFoundError):
        application.execute(some_id(), add)


def test_a_second_start_of_one_conversation_is_refused(application: ConversationApplication) -> None:
    story = Story()
    application.start(story.events)
    with pytest.raises(IntegrityError):
        application.start(story.events)


def test_a_long_conversation_keeps_snapshots_and_all_events(application: ConversationApplication) -> None:
    story = Story()
    application.start(story.events)
    latest = story.state
    for _ in range(2 * SNAPSHOT_INTERVAL):
        latest = application.execute(story.id, add)
    assert latest.version == 2 * SNAPSHOT_INTERVAL + 1
    snapshots: Any = application.snapshots
    assert [snapshot.originator_version for snapshot in snapshots.get(story.id)] == [
        SNAPSHOT_INTERVAL,
        2 * SNAPSHOT_INTERVAL,
    ]
    assert application.conversation(story.id).message_count == 2 * SNAPSHOT_INTERVAL
    for version in (1, SNAPSHOT_INTERVAL - 1, SNAPSHOT_INTERVAL, SNAPSHOT_INTERVAL + 1, 2 * SNAPSHOT_INTERVAL):
        assert application.conversation(story.id, version).message_count == version - 1


def test_the_notification_log_contains_the_recorded_events_in_order(application: ConversationApplication) -> None:
    events = one_of_each()
    application.start(events)
    log = application.notification_log
    found = [item for start in range(1, len(events) + 1, 10) for item in log.select(start=start, limit=10)]
    assert [item.topic for item in found] == [event.TOPIC for event in events]
    assert [application.mapper.to_domain_event(item) for item in found] == events


def test_the_application_writes_the_log_that_the_server_reads(database_url: str) -> None:
    env = {"PERSISTENCE_MODULE": "eventlog.library", "TURNLOG_DATABASE_URL": database_url}
    events = one_of_each()
    with ConversationApplication(env) as application:
        application.start(events)
    assert value(database_url, "SELECT position FROM head") == len(events)
    assert value(database_url, "SELECT count(*) FROM events WHERE actor = 'user:alice' AND data ? 'actor'") == 0
