"""Filters, orders and places of the listing, and their conditions on its rows."""

from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

ListingSort = Literal["active", "created", "title"]
"""Most recently active first, newest first, or by title."""
ConversationStatus = Literal["idle", "running", "requires_action"]


class ListingPlace(NamedTuple):
    """A place in an order of the listing: the value that is ordered by, and the id."""

    value: datetime | str
    id: UUID


class ListingFilter(NamedTuple):
    """A filter of conversations.

    `title_contains` ignores case, `metadata` compares as text. Both times are exclusive. They compare with the time of
    the last message, or of the start of a conversation without messages.
    """

    agent_id: str | None = None
    title_contains: str | None = None
    metadata: dict[str, str] = {}
    status: ConversationStatus | None = None
    active_after: datetime | None = None
    active_before: datetime | None = None

    def conditions(self, owner_id: str | None, sort: ListingSort) -> list[str]:
        """Return the names of the conditions in `listing.sql` that apply."""
        applies = {
            "and_owner_id": owner_id is not None,
            "and_agent_id": self.agent_id is not None,
            "and_status": self.status is not None,
            "and_active_after": self.active_after is not None,
            "and_active_before": self.active_before is not None,
            "and_created_before": self.active_before is not None and sort == "created",
            "and_title": self.title_contains is not None,
            "and_metadata": bool(self.metadata),
        }
        return [name for name, applied in applies.items() if applied]

    def parameters(self, owner_id: str | None) -> dict[str, Any]:
        """Return the parameters of the conditions."""
        return {
            "owner_id": owner_id,
            "agent_id": self.agent_id,
            "status": self.status,
            "active_after": self.active_after,
            "active_before": self.active_before,
            "title": f"%{_escaped(self.title_contains or '')}%",
            "keys": list(self.metadata),
            "values": list(self.metadata.values()),
        }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
