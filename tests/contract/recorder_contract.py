"""The eventsourcing library's contract for an application recorder."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import ApplicationRecorder, IntegrityError, StoredEvent
from pydantic_core import from_json

STATE = b'{"timestamp":"2026-01-02T03:04:05.678901Z","actor":"alice","request_id":null,"words":"Gr\xc3\xbc\xc3\x9fe"}'
THREADS, EACH = 8, 25


def event(conversation_id: UUID, version: int, topic: str = "MessageAdded") -> StoredEvent:
    return StoredEvent(conversation_id, version, topic, STATE)


def some_events(conversation_id: UUID, last: int) -> list[StoredEvent]:
    return [event(conversation_id, version) for version in range(1, last + 1)]


def plain(stored: Any) -> tuple[Any, ...]:
    """Return a stored event as a value whose JSON is parsed."""
    return stored.originator_id, stored.originator_version, stored.topic, from_json(stored.state)


def versions(events: Sequence[StoredEvent]) -> list[int]:
    return [stored.originator_version for stored in events]


class RecorderContract:
    """Tests to inherit, with a fixture `recorder` that is an empty recorder."""

    def test_inserted_events_are_selected_again(self, recorder: ApplicationRecorder) -> None:
        first, other = uuid4(), uuid4()
        assert list(recorder.insert_events(some_events(first, 2)) or []) == [1, 2]
        assert list(recorder.insert_events([event(other, 1, "TurnStarted")]) or []) == [3]
        assert [plain(e) for e in recorder.select_events(first)] == [plain(e) for e in some_events(first, 2)]
        assert [plain(e) for e in recorder.select_events(other)] == [plain(event(other, 1, "TurnStarted"))]

    def test_an_unknown_conversation_has_no_events(self, recorder: ApplicationRecorder) -> None:
        assert list(recorder.select_events(uuid4())) == []

    def test_an_insert_of_no_events_writes_nothing(self, recorder: ApplicationRecorder) -> None:
        assert not recorder.insert_events([])
        assert recorder.max_notification_id() is None

    def test_a_taken_version_is_refused(self, recorder: ApplicationRecorder) -> None:
        conversation_id = uuid4()
        recorder.insert_events(some_events(conversation_id, 1))
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(conversation_id, 1, "TurnStarted")])
        assert [e.topic for e in recorder.select_events(conversation_id)] == ["MessageAdded"]

    def test_events_are_inserted_all_or_none(self, recorder: ApplicationRecorder) -> None:
        conversation_id, other = uuid4(), uuid4()
        recorder.insert_events([event(conversation_id, 1)])
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(other, 1), event(conversation_id, 2), event(conversation_id, 1)])
        assert versions(recorder.select_events(conversation_id)) == [1]
        assert list(recorder.select_events(other)) == []
        assert recorder.max_notification_id() == 1

    def test_one_version_twice_in_one_insert_is_refused(self, recorder: ApplicationRecorder) -> None:
        conversation_id = uuid4()
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(conversation_id, 1), event(conversation_id, 1)])
        assert list(recorder.select_events(conversation_id)) == []

    def test_a_refused_insert_takes_no_position(self, recorder: ApplicationRecorder) -> None:
        conversation_id = uuid4()
        recorder.insert_events(some_events(conversation_id, 1))
        with pytest.raises(IntegrityError):
            recorder.insert_events(some_events(conversation_id, 3))
        assert list(recorder.insert_events([event(conversation_id, 2)]) or []) == [2]

    @pytest.mark.parametrize(
        ("section", "expected"),
        [
            ({"gt": 2}, [3, 4, 5]),
            ({"lte": 2}, [1, 2]),
            ({"gt": 1, "lte": 4}, [2, 3, 4]),
            ({"desc": True}, [5, 4, 3, 2, 1]),
            ({"limit": 2}, [1, 2]),
            ({"desc": True, "limit": 1}, [5]),
            ({"desc": True, "lte": 3, "limit": 2}, [3, 2]),
            ({"gt": 1, "desc": True, "limit": 9}, [5, 4, 3, 2]),
            ({"gt": 5}, []),
            ({"lte": 0}, []),
        ],
    )
    def test_a_section_of_a_conversation_is_selected(
        self, recorder: ApplicationRecorder, section: dict[str, Any], expected: list[int]
    ) -> None:
        conversation_id = uuid4()
        recorder.insert_events(some_events(uuid4(), 3))
        recorder.insert_events(some_events(conversation_id, 5))
        assert versions(recorder.select_events(conversation_id, **section)) == expected

    def test_an_empty_log_has_no_notifications(self, recorder: ApplicationRecorder) -> None:
        assert list(recorder.select_notifications(start=None, limit=10)) == []
        assert recorder.max_notification_id() is None

    def test_notifications_hold_every_event_at_its_position_from_one(self, recorder: ApplicationRecorder) -> None:
        first, other = uuid4(), uuid4()
        recorder.insert_events([event(first, 1), event(other, 1)])
        recorder.insert_events([event(first, 2)])
        found = recorder.select_notifications(start=None, limit=10)
        assert [item.id for item in found] == [1, 2, 3]
        expected = [event(first, 1), event(other, 1), event(first, 2)]
        assert [plain(item) for item in found] == [plain(item) for item in expected]
        assert recorder.max_notification_id() == 3

    @pytest.mark.parametrize(
        ("section", "expected"),
        [
            ({"start": 1, "limit": 10}, [1, 2, 3, 4, 5, 6]),
            ({"start": 0, "limit": 10}, [1, 2, 3, 4, 5, 6]),
            ({"start": None, "limit": 2}, [1, 2]),
            ({"start": 3, "limit": 2}, [3, 4]),
            ({"start": 3, "limit": 2, "inclusive_of_start": False}, [4, 5]),
            ({"start": 2, "limit": 10, "stop": 4}, [2, 3, 4]),
            ({"start": 6, "limit": 10, "inclusive_of_start": False}, []),
            ({"start": None, "limit": 10, "topics": ["A"]}, [1, 4]),
            ({"start": 2, "limit": 10, "topics": ["A", "B"]}, [2, 4, 5]),
            ({"start": None, "limit": 1, "topics": ["C"]}, [3]),
            ({"start": None, "limit": 10, "topics": ["D"]}, []),
        ],
    )
    def test_a_section_of_the_log_is_selected(
        self, recorder: ApplicationRecorder, section: dict[str, Any], expected: list[int]
    ) -> None:
        conversation_id = uuid4()
        recorder.insert_events([event(conversation_id, n, topic) for n, topic in enumerate("ABCABC", 1)])
        assert [item.id for item in recorder.select_notifications(**section)] == expected

    def test_threads_writing_at_once_leave_no_gap_and_lose_nothing(self, recorder: ApplicationRecorder) -> None:
        in_threads(lambda: write_one_conversation(recorder))
        found = recorder.select_notifications(start=None, limit=10_000)
        assert [item.id for item in found] == list(range(1, THREADS * EACH + 1))
        assert len({(item.originator_id, item.originator_version) for item in found}) == THREADS * EACH

    def test_exactly_one_of_the_threads_that_insert_one_version_succeeds(self, recorder: ApplicationRecorder) -> None:
        conversation_id, ready = uuid4(), Barrier(THREADS)

        def insert() -> bool:
            ready.wait()
            try:
                recorder.insert_events([event(conversation_id, 1)])
            except IntegrityError:
                return False
            return True

        assert sorted(in_threads(insert)) == [False] * (THREADS - 1) + [True]
        assert recorder.max_notification_id() == 1

    def test_a_subscription_yields_old_and_new_events(self, recorder: ApplicationRecorder) -> None:
        conversation_id = uuid4()
        recorder.insert_events(some_events(conversation_id, 2))
        with recorder.subscribe() as subscription:
            assert [next(subscription).id, next(subscription).id] == [1, 2]
            recorder.insert_events([event(conversation_id, 3)])
            assert plain(next(subscription)) == plain(event(conversation_id, 3))

    def test_a_subscription_starts_after_a_position_and_yields_the_chosen_topics(
        self, recorder: ApplicationRecorder
    ) -> None:
        conversation_id = uuid4()
        recorder.insert_events([event(conversation_id, n, topic) for n, topic in enumerate("ABCABC", 1)])
        with recorder.subscribe(gt=1, topics=["A", "C"]) as subscription:
            assert [next(subscription).id for _ in range(3)] == [3, 4, 6]

    def test_a_subscription_yields_every_event_once_in_order_while_threads_write(
        self, recorder: ApplicationRecorder
    ) -> None:
        with recorder.subscribe() as subscription, ThreadPoolExecutor(1) as executor:
            writing = executor.submit(in_threads, lambda: write_one_conversation(recorder))
            assert [next(subscription).id for _ in range(THREADS * EACH)] == list(range(1, THREADS * EACH + 1))
            writing.result()

    def test_a_stopped_subscription_ends(self, recorder: ApplicationRecorder) -> None:
        with recorder.subscribe() as subscription:
            subscription.stop()
            assert list(subscription) == []

    def test_a_subscription_that_another_thread_stops_ends(self, recorder: ApplicationRecorder) -> None:
        with recorder.subscribe() as subscription, ThreadPoolExecutor(1) as executor:
            reading = executor.submit(list, subscription)
            subscription.stop()
            assert reading.result() == []


def in_threads(work: Callable[[], Any]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as executor:
        return [future.result() for future in [executor.submit(work) for _ in range(THREADS)]]


def write_one_conversation(recorder: ApplicationRecorder) -> None:
    conversation_id = uuid4()
    for version in range(1, EACH + 1):
        recorder.insert_events([event(conversation_id, version)])
