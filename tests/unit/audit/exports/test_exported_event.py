"""The digest and the binary row of an exported event."""

from datetime import UTC, datetime, timedelta
from struct import unpack_from
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from audit.exports.exported_event import ExportedEvent, copy_row, matches_digest
from audit.proofs.event_digest import POSTGRESQL_EPOCH, DigestedEvent

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=6)
digested = st.builds(
    DigestedEvent,
    position=st.integers(1, 2**63 - 1),
    aggregate=st.sampled_from(["conversation", "agent", "audit"]),
    aggregate_id=st.uuids(),
    version=st.integers(1, 2**31 - 1),
    type=texts,
    actor=texts,
    request_id=st.none() | texts,
    recorded_at=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    salt=st.binary(min_size=16, max_size=16),
    content=texts,
    content_hash=st.none(),
)
BYTES_OF_FIXED_COLUMNS = 2 + (4 + 8) + (4 + 8) + (4 + 16) + (4 + 4)


def encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def exported(event: DigestedEvent, digest: bytes) -> ExportedEvent:
    """Return the same event as an export has it."""
    return ExportedEvent(
        event.position,
        (event.recorded_at - POSTGRESQL_EPOCH) // timedelta(microseconds=1),
        event.aggregate.encode(),
        event.aggregate_id.bytes,
        event.version,
        event.type.encode(),
        event.actor.encode(),
        encoded(event.request_id),
        b"{}" if event.content is None else event.content.encode(),
        event.salt,
        event.content_hash,
        digest,
    )


@given(digested)
def test_the_digest_is_that_of_the_proofs(event: DigestedEvent) -> None:
    whole = exported(event, event.digest())
    assert matches_digest(whole)
    for change in (
        {"position": whole.position - 1},
        {"recorded_us": whole.recorded_us + 1},
        {"version": whole.version - 1},
        {"type": whole.type + b"x"},
        {"actor": whole.actor + b"x"},
        {"request_id": (whole.request_id or b"") + b"x"},
        {"data": whole.data + b" "},
        {"salt": bytes(15)},
        {"salt": None},
        {"content_hash": bytes(32)},
        {"digest": bytes(32)},
    ):
        assert not matches_digest(whole._replace(**change))


@given(digested, st.binary(min_size=32, max_size=32))
def test_an_erased_event_has_the_hash_of_its_content_only(event: DigestedEvent, content_hash: bytes) -> None:
    erased = event._replace(salt=None, content=None, content_hash=content_hash)
    whole = exported(erased, erased.digest())
    assert matches_digest(whole)
    assert not matches_digest(whole._replace(salt=bytes(16)))
    assert not matches_digest(whole._replace(data=b'{"forged": 1}'))


def test_a_missing_request_id_is_not_an_empty_one() -> None:
    event = DigestedEvent(1, "agent", UUID(int=1), 1, "T", "a", None, POSTGRESQL_EPOCH, bytes(16), "{}")
    assert not matches_digest(exported(event, event.digest())._replace(request_id=b""))


@given(digested, st.none() | st.binary(max_size=5))
def test_a_row_has_the_length_and_the_bytes_of_each_column(event: DigestedEvent, key: bytes | None) -> None:
    given_event = exported(event, event.digest())._replace(idempotency_key=key)
    row = copy_row(given_event)
    assert unpack_from(">h", row) == (15,)
    assert unpack_from(">iqiq", row, 2) == (8, given_event.position, 8, given_event.recorded_us)
    at, values = BYTES_OF_FIXED_COLUMNS, list[bytes | None]()
    while at < len(row):
        (length,) = unpack_from(">i", row, at)
        at += 4
        values.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    assert values == [b"\x01" + given_event.data, *wanted(given_event)]


def wanted(event: ExportedEvent) -> list[bytes | None]:
    """Return the columns after that of the data."""
    return [
        event.aggregate,
        event.type,
        event.actor,
        event.request_id,
        event.salt,
        event.content_hash,
        event.digest,
        event.idempotency_owner,
        event.idempotency_key,
        event.fingerprint,
    ]


def test_an_event_without_salt_and_hash_has_no_digest() -> None:
    event = DigestedEvent(1, "agent", UUID(int=1), 1, "T", "a", None, POSTGRESQL_EPOCH, bytes(16), "{}")
    assert not matches_digest(exported(event, event.digest())._replace(salt=None, content_hash=None))
