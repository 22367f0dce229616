"""Between domain events and what is stored: JSON states, short type names, upcasting on read."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, StoredEvent, Transcoder
from pydantic_core import from_json, to_json

from domain.conversation import ConversationSnapshot
from domain.events import ENVELOPE_FIELDS, EVENT_TYPES, ConversationEvent
from eventlog.errors import UnknownEventError

_IDENTITY = {"originator_id", "originator_version"}
_ENVELOPE = set(ENVELOPE_FIELDS)
_STORABLE = {**EVENT_TYPES, ConversationSnapshot.TOPIC: ConversationSnapshot}


SNAPSHOT_INTERVAL = 100
"""Every so many versions a snapshot of the state is stored."""


class UnknownEvent(ConversationEvent):
    """An event that this release cannot read, in its place in the log: a newer release has written it."""

    stored_type: str
    reason: str

    @property
    def known_type(self) -> type[ConversationEvent] | None:
        """The type whose newer shape this is, None where the type itself is unknown."""
        return EVENT_TYPES.get(self.stored_type)

    def error(self) -> UnknownEventError:
        """Return the error of code that needs to read this event."""
        return UnknownEventError(self.reason)


class Recorded(NamedTuple):
    """An event and its position in the log."""

    position: int
    event: ConversationEvent

    def known(self) -> "Recorded":
        """Return this, of which the caller needs to read the event.

        Raises:
            UnknownEventError: a newer release has written it.
        """
        if isinstance(self.event, UnknownEvent):
            raise self.event.error()
        return self


class NewRow(NamedTuple):
    """An event as it is written to the table, which gives it its position; `data` is JSON."""

    conversation_id: UUID
    version: int
    type: str
    data: bytes
    actor: str
    request_id: str | None
    recorded_at: datetime


class Row(NamedTuple):
    """An event as it is read from the table; `data` is JSON text."""

    position: int
    conversation_id: UUID
    version: int
    type: str
    data: str
    actor: str
    request_id: str | None
    recorded_at: datetime

    def recorded(self) -> Recorded:
        """Return the event this row holds, in the shape that today's code knows, or an UnknownEvent."""
        fields: dict[str, Any] = from_json(self.data)
        if type(fields) is not dict:
            reason = f"{self.type} of conversation {self.conversation_id} is no object"
            return Recorded(self.position, self._unknown(reason))
        fields["timestamp"] = self.recorded_at
        fields["actor"] = self.actor
        fields["request_id"] = self.request_id
        try:
            event = rebuild(self.type, self.conversation_id, self.version, fields)
        except UnknownEventError as error:
            event = self._unknown(str(error))
        return Recorded(self.position, event)

    def _unknown(self, reason: str) -> UnknownEvent:
        return UnknownEvent(
            originator_id=self.conversation_id,
            originator_version=self.version,
            timestamp=self.recorded_at,
            actor=self.actor,
            request_id=self.request_id,
            stored_type=self.type,
            reason=reason,
        )

    def stored(self) -> StoredEvent:
        """Return the row as the eventsourcing library sees a stored event."""
        return StoredEvent(self.conversation_id, self.version, self.type, self.state())

    def state(self) -> bytes:
        """Return the event's whole state as JSON: its data and the envelope's columns."""
        envelope = {"timestamp": self.recorded_at, "actor": self.actor, "request_id": self.request_id}
        return to_json({**from_json(self.data), **envelope})


class JSONBytesTranscoder(Transcoder):
    """JSON in UTF-8; knows pydantic models, and what jsonb can hold."""

    def encode(self, obj: Any) -> bytes:
        """Return `obj` as JSON; an event without its identity, which has columns of its own."""
        return to_json(obj, exclude=_IDENTITY if isinstance(obj, ConversationEvent) else None)

    def decode(self, data: bytes) -> Any:
        """Return the value of JSON `data`."""
        return from_json(data)


class ConversationMapper(Mapper[UUID]):
    """Maps conversation events by their short names and lifts older shapes to today's."""

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Return the event as it is stored; a shape after the first says so in `class_version`."""
        event = cast(ConversationEvent, domain_event)
        state = _with_class_version(event, self.transcoder.encode(event))
        return StoredEvent(event.originator_id, event.originator_version, event.TOPIC, state)

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Return the stored event in the shape that today's code knows.

        Raises:
            UnknownEventError: the event was written by a newer release.
        """
        fields = self.transcoder.decode(stored_event.state)
        event = rebuild(
            stored_event.topic, UUID(str(stored_event.originator_id)), stored_event.originator_version, fields
        )
        return cast(DomainEventProtocol[UUID], event)


def new_row(event: ConversationEvent) -> NewRow:
    """Return the row of an event that is to be recorded."""
    data = _with_class_version(event, to_json(event, exclude=_ENVELOPE))
    identity = (event.originator_id, event.originator_version, event.TOPIC)
    return NewRow(*identity, data, event.actor, event.request_id, event.timestamp)


def new_row_of(stored: StoredEvent) -> NewRow:
    """Return the row of an event that the eventsourcing library wants recorded."""
    data: dict[str, Any] = from_json(stored.state)
    actor, request_id = data.pop("actor"), data.pop("request_id", None)
    recorded_at = datetime.fromisoformat(data.pop("timestamp"))
    identity = (UUID(str(stored.originator_id)), stored.originator_version, stored.topic)
    return NewRow(*identity, to_json(data), actor, request_id, recorded_at)


def new_snapshot(snapshot: ConversationSnapshot) -> bytes:
    """Return what is stored of a snapshot, as JSON."""
    return _with_class_version(snapshot, to_json(snapshot, exclude=_IDENTITY))


def _with_class_version(event: ConversationEvent, state: bytes) -> bytes:
    return state if event.class_version == 1 else b'{"class_version":%d,' % event.class_version + state[1:]


def rebuild(type_name: str, conversation_id: UUID, version: int, fields: dict[str, Any]) -> ConversationEvent:
    """Return the event of a stored type name and state, upcast step by step from the shape it was stored in.

    Raises:
        UnknownEventError: the type or its stored version is newer than this release, or the state is not of its shape.
    """
    cls = _STORABLE.get(type_name)
    stored_version = fields.pop("class_version", 1)
    if cls is None or stored_version not in range(1, cls.class_version + 1):
        raise UnknownEventError(f"{type_name} version {stored_version} of conversation {conversation_id} is unknown")
    fields["originator_id"], fields["originator_version"] = conversation_id, version
    try:
        for older in range(stored_version, cls.class_version):
            upcast: Callable[[dict[str, Any]], None] = getattr(cls, f"upcast_v{older}_v{older + 1}")
            upcast(fields)
        return cls.__pydantic_validator__.validate_python(fields)
    except Exception as error:  # an upcast may raise anything
        what = f"{type_name} version {stored_version} of conversation {conversation_id}"
        raise UnknownEventError(f"{what} cannot be read: {type(error).__name__}") from error
