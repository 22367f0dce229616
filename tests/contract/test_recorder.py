"""The library's in-memory recorder and the log's recorder keep one contract."""

from collections.abc import Iterator

import pytest
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.persistence import DataError as UnstorableError
from eventsourcing.popo import POPOApplicationRecorder

from eventlog.library import LogFactory
from tests.contract.recorder_contract import RecorderContract, event
from tests.support.histories.builders import some_id


class TestInMemory(RecorderContract):
    @pytest.fixture
    def recorder(self) -> ApplicationRecorder:
        return POPOApplicationRecorder()


class TestOnTheLog(RecorderContract):
    @pytest.fixture
    def recorder(self, database_url: str) -> Iterator[ApplicationRecorder]:
        factory = LogFactory({"TURNLOG_DATABASE_URL": database_url})
        yield factory.application_recorder()
        factory.close()

    def test_a_state_that_postgresql_cannot_store_raises_the_librarys_data_error(
        self, recorder: ApplicationRecorder
    ) -> None:
        state = event(some_id(), 1).state.replace(b'"words":"', b'"words":"\\u0000')
        with pytest.raises(UnstorableError):
            recorder.insert_events([StoredEvent(some_id(), 1, "MessageAdded", state)])


def test_a_factory_may_be_closed_twice(database_url: str) -> None:
    factory = LogFactory({"TURNLOG_DATABASE_URL": database_url})
    factory.close()
    factory.close()
