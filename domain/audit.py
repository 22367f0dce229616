"""The event of audits: what auditors and admins read."""

from typing import ClassVar

from pydantic import Field

from domain.aggregates import AggregateEvent


class AuditRead(AggregateEvent):
    """A read by an auditor or an admin. It is recorded before it is answered."""

    AGGREGATE: ClassVar[str] = "audit"

    method: str = Field(description="The method of the request, such as GET. Client.")
    route: str = Field(description="The template of the path, such as /v1/conversations/{conversation_id}. Server.")
    ids: dict[str, str] = Field(description="The ids in the path and the query, by their parameters' names. Client.")
    owner_id: str | None = Field(default=None, description="The owner that the request names, or None. Client.")
    parameters: tuple[str, ...] = Field(
        default=(), description="The names of the query's parameters, without their values. Client."
    )
