"""The base of all events: an event of one aggregate, with its envelope."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from domain.values import Frozen

ENVELOPE_FIELDS = frozenset({"originator_id", "originator_version", "timestamp", "actor", "request_id"})

SYSTEM = "system"
"""The actor of events that a server records by itself."""


class AggregateEvent(Frozen):
    """An event of one aggregate: the unit whose events are numbered and decided on.

    `AGGREGATE` is the stored name of the kind of aggregate, `TOPIC` that of the event, `class_version` the version of
    its stored shape.
    """

    AGGREGATE: ClassVar[str]
    TOPIC: ClassVar[str]
    class_version: ClassVar[int] = 1

    originator_id: UUID = Field(description="The aggregate. Server.")
    originator_version: int = Field(ge=1, description="Place in the aggregate, from 1 without gaps. Server.")
    timestamp: datetime = Field(description="When it was decided, UTC, microseconds. Server.")
    actor: str = Field(description="The actor, such as user:alice, service:billing or system. Server.")
    request_id: str | None = Field(
        default=None, description="The HTTP request that caused it; None outside HTTP. Server."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TOPIC = cls.__name__
