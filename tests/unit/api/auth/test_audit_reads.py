"""The record of reads: counted versions, and a new aggregate after a failure."""

import asyncio
from asyncio import Future
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from api.auth.access import AUDITED, RIGHTS, ROUTES
from api.auth.audit_reads import RETRY_PAUSES_S, AuditedRead, AuditReads
from domain.aggregates import AggregateEvent
from domain.audit import AuditRead
from eventlog.errors import LogError, StoreUnavailableError, VersionTakenError
from eventlog.mapper import NewRow
from eventlog.writer import Idempotency

READ = AuditedRead("GET", "/v1/conversations", {}, None, ())


class Writer:
    """A log in memory that refuses appends.

    It refuses with the given errors, and refuses a version whose predecessor is missing.
    """

    generation = 0

    def __init__(self, *errors: LogError | None) -> None:
        self.recorded: list[AuditRead] = []
        self.appends = 0
        self._errors = list(errors)
        self._positions = count(1)

    def on_new_generation(self, forget: Callable[[], None]) -> None:
        pass

    def append(
        self,
        rows: Sequence[NewRow],
        idempotency: Idempotency | None = None,
        events: Sequence[AggregateEvent] = (),
        generation: int | None = None,
    ) -> Future[int]:
        done: Future[int] = asyncio.get_running_loop().create_future()
        (event,) = events
        assert isinstance(event, AuditRead)
        self.appends += 1
        error = self._errors.pop(0) if self._errors else None
        before = [each for each in self.recorded if each.originator_id == event.originator_id]
        if error is None and len(before) != event.originator_version - 1:
            error = VersionTakenError("The version before this one is not in the log.")
        if error is None:
            self.recorded.append(event)
            done.set_result(next(self._positions))
        else:
            done.set_exception(error)
        return done

    def aggregates(self) -> list[int]:
        """Return the number of events of each aggregate, the first one first."""
        ids = dict.fromkeys(event.originator_id for event in self.recorded)
        return [sum(event.originator_id == id_ for event in self.recorded) for id_ in ids]


async def record(reads: AuditReads, request_id: str = "req-1") -> None:
    await reads.record("auditor:watch", request_id, READ)


async def test_a_read_is_an_event_of_its_reader() -> None:
    writer = Writer()
    read = AuditedRead("HEAD", "/v1/things/{id}", {"id": "7"}, "alice", ("limit",))
    await AuditReads(writer).record("admin:ops", "req-1", read)
    (event,) = writer.recorded
    assert (event.actor, event.request_id) == ("admin:ops", "req-1")
    assert event.model_dump(include=set(AuditedRead._fields)) == read._asdict()


async def test_the_reads_of_a_process_are_one_aggregate_without_gaps() -> None:
    writer = Writer()
    reads = AuditReads(writer)
    await asyncio.gather(*(record(reads) for _ in range(20)))
    assert [event.originator_version for event in writer.recorded] == list(range(1, 21))
    assert writer.aggregates() == [20]


async def test_two_processes_have_aggregates_of_their_own() -> None:
    writer = Writer()
    for reads in (AuditReads(writer), AuditReads(writer)):
        await record(reads)
    assert writer.aggregates() == [1, 1]


async def test_an_aggregate_has_a_limited_number_of_events() -> None:
    writer = Writer()
    reads = AuditReads(writer, max_aggregate_events=2)
    for _ in range(5):
        await record(reads)
    assert writer.aggregates() == [2, 2, 1]


async def test_a_read_that_cannot_be_recorded_raises_and_the_next_one_is_recorded() -> None:
    writer = Writer(None, StoreUnavailableError("The store does not answer."))
    reads = AuditReads(writer)
    await record(reads, "first")
    with pytest.raises(StoreUnavailableError):
        await record(reads, "second")
    assert writer.appends == 2  # it may be recorded, so it is not appended again
    await record(reads, "third")
    assert [event.request_id for event in writer.recorded] == ["first", "third"]
    assert writer.aggregates() == [1, 1]


async def test_reads_behind_a_failed_one_are_recorded_once() -> None:
    writer = Writer(None, StoreUnavailableError("The store does not answer."))
    reads = AuditReads(writer)
    done = await asyncio.gather(*(record(reads, str(number)) for number in range(10)), return_exceptions=True)
    assert [number for number, result in enumerate(done) if result is not None] == [1]
    assert sorted(event.request_id or "" for event in writer.recorded) == [str(n) for n in range(10) if n != 1]


async def test_a_read_that_the_log_refuses_each_time_is_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.auth.audit_reads.RETRY_PAUSES_S", (0.0,) * len(RETRY_PAUSES_S))
    writer = Writer(*[VersionTakenError("The version was recorded meanwhile.")] * (len(RETRY_PAUSES_S) + 1))
    reads = AuditReads(writer)
    with pytest.raises(StoreUnavailableError, match="could not be recorded"):
        await record(reads)
    await record(reads)
    assert len(writer.recorded) == 1


def test_every_read_of_what_belongs_to_owners_is_audited() -> None:
    of_auditors = {needed for route, needed in ROUTES.items() if route.startswith("GET /v1/")} & RIGHTS["auditor"]
    assert of_auditors <= AUDITED
