"""Maps domain events to rows and back: JSON, type names, and upcasts on read."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from pydantic_core import from_json, to_json

from domain.aggregates import ENVELOPE_FIELDS, AggregateEvent
from domain.conversation import ConversationSnapshot
from domain.events import EVENT_TYPES, ConversationEvent
from eventlog.errors import UnknownEventError

_IDENTITY = {"originator_id", "originator_version"}
_ENVELOPE = set(ENVELOPE_FIELDS)
_STORABLE: dict[str, type[AggregateEvent]] = {**EVENT_TYPES, ConversationSnapshot.TOPIC: ConversationSnapshot}


SNAPSHOT_INTERVAL = 100
"""A snapshot of the state is stored once in so many versions."""


class UnknownEvent(AggregateEvent):
    """Stands for an event that a newer release has written and this one cannot read."""

    aggregate: str
    stored_type: str
    reason: str

    @property
    def known_type(self) -> type[AggregateEvent] | None:
        """The type, if only its shape is newer, or None if the type itself is unknown."""
        return _known(self.stored_type, self.aggregate)

    def error(self) -> UnknownEventError:
        """Return the error to raise where this event has to be read."""
        return UnknownEventError(self.reason)


class Recorded(NamedTuple):
    """An event and its position in the log."""

    position: int
    event: AggregateEvent

    def known(self) -> "Recorded":
        """Return this if its event can be read.

        Raises:
            UnknownEventError: a newer release wrote it.
        """
        if isinstance(self.event, UnknownEvent):
            raise self.event.error()
        return self


class NewRow(NamedTuple):
    """An event to be written. `data` is JSON, and the table assigns the position."""

    aggregate: str
    aggregate_id: UUID
    version: int
    type: str
    data: bytes
    actor: str
    request_id: str | None
    recorded_at: datetime


class Row(NamedTuple):
    """An event as read from the table. `data` is JSON text."""

    position: int
    aggregate: str
    aggregate_id: UUID
    version: int
    type: str
    data: str
    actor: str
    request_id: str | None
    recorded_at: datetime

    def recorded(self) -> Recorded:
        """Return the event of this row in its newest shape, or an UnknownEvent."""
        fields: dict[str, Any] = from_json(self.data)
        if type(fields) is not dict:
            reason = f"{self.type} of {self.aggregate} {self.aggregate_id} is no object"
            return Recorded(self.position, self._unknown(reason))
        fields["timestamp"] = self.recorded_at
        fields["actor"] = self.actor
        fields["request_id"] = self.request_id
        try:
            event = rebuild(self.type, self.aggregate, self.aggregate_id, self.version, fields)
        except UnknownEventError as error:
            event = self._unknown(str(error))
        return Recorded(self.position, event)

    def _unknown(self, reason: str) -> UnknownEvent:
        return UnknownEvent(
            originator_id=self.aggregate_id,
            originator_version=self.version,
            timestamp=self.recorded_at,
            actor=self.actor,
            request_id=self.request_id,
            aggregate=self.aggregate,
            stored_type=self.type,
            reason=reason,
        )

    def stored(self) -> StoredEvent:
        """Return the row as a stored event of the eventsourcing library."""
        return StoredEvent(self.aggregate_id, self.version, self.type, self.state())

    def state(self) -> bytes:
        """Return the event's complete state as JSON, with the columns of its envelope."""
        envelope = {"timestamp": self.recorded_at, "actor": self.actor, "request_id": self.request_id}
        return to_json({**from_json(self.data), **envelope})


class JSONBytesTranscoder(Transcoder):
    """Encodes pydantic models and plain values as JSON in UTF-8."""

    def encode(self, obj: Any) -> bytes:
        """Return `obj` as JSON, an event without its id and version."""
        return to_json(obj, exclude=_IDENTITY if isinstance(obj, AggregateEvent) else None)

    def decode(self, data: bytes) -> Any:
        """Return the value of JSON `data`."""
        return from_json(data)


class ConversationMapper(Mapper[UUID]):
    """Maps events by their type names and upcasts older shapes."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Return the event as it is stored, with `class_version` if that is not 1."""
        event = cast(AggregateEvent, domain_event)
        state = _with_class_version(event, self.transcoder.encode(event))
        return StoredEvent(event.originator_id, event.originator_version, event.TOPIC, state)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Return the stored event in its newest shape.

        Raises:
            UnknownEventError: a newer release wrote the event.
        """
        fields = self.transcoder.decode(stored_event.state)
        place = UUID(str(stored_event.originator_id)), stored_event.originator_version
        event = rebuild(stored_event.topic, aggregate_of(stored_event.topic), *place, fields)
        return cast(DomainEventProtocol[UUID], event)


def aggregate_of(type_name: str) -> str:
    """Return the kind of aggregate that has events of a type.

    The eventsourcing library stores only the type. One that is unknown counts as a conversation's.
    """
    return _STORABLE.get(type_name, ConversationEvent).AGGREGATE


def new_row(event: AggregateEvent) -> NewRow:
    """Return the row of an event to be recorded."""
    data = _with_class_version(event, to_json(event, exclude=_ENVELOPE))
    identity = (event.AGGREGATE, event.originator_id, event.originator_version, event.TOPIC)
    return NewRow(*identity, data, event.actor, event.request_id, event.timestamp)


def new_row_of(stored: StoredEvent) -> NewRow:
    """Return the row of a stored event of the eventsourcing library."""
    data: dict[str, Any] = from_json(stored.state)
    actor, request_id = data.pop("actor"), data.pop("request_id", None)
    recorded_at = datetime.fromisoformat(data.pop("timestamp"))
    identity = (
        aggregate_of(stored.topic),
        UUID(str(stored.originator_id)),
        stored.originator_version,
        stored.topic,
    )
    return NewRow(*identity, to_json(data), actor, request_id, recorded_at)


def new_snapshot(snapshot: ConversationSnapshot) -> bytes:
    """Return the stored form of a snapshot, as JSON."""
    return _with_class_version(snapshot, to_json(snapshot, exclude=_IDENTITY))


def _with_class_version(event: AggregateEvent, state: bytes) -> bytes:
    return state if event.class_version == 1 else b'{"class_version":%d,' % event.class_version + state[1:]


def _known(type_name: str, aggregate: str) -> type[AggregateEvent] | None:
    cls = _STORABLE.get(type_name)
    return cls if cls is not None and aggregate == cls.AGGREGATE else None


def rebuild(type_name: str, aggregate: str, aggregate_id: UUID, version: int, fields: dict[str, Any]) -> AggregateEvent:
    """Return the event of a stored type name and state, upcast version by version.

    Raises:
        UnknownEventError: the aggregate, the type or its version is newer than this release, or the state does not
            match it.
    """
    cls = _known(type_name, aggregate)
    stored_version = fields.pop("class_version", 1)
    if cls is None or stored_version not in range(1, cls.class_version + 1):
        raise UnknownEventError(f"{type_name} version {stored_version} of {aggregate} {aggregate_id} is unknown")
    fields["originator_id"], fields["originator_version"] = aggregate_id, version
    try:
        for older in range(stored_version, cls.class_version):
            upcast: Callable[[dict[str, Any]], None] = getattr(cls, f"upcast_v{older}_v{older + 1}")
            upcast(fields)
        return cls.__pydantic_validator__.validate_python(fields)
    except Exception as error:  # an upcast may raise anything
        what = f"{type_name} version {stored_version} of {aggregate} {aggregate_id}"
        raise UnknownEventError(f"{what} cannot be read: {type(error).__name__}") from error
