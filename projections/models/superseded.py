"""Which messages an event supersedes, as the statements of projections take it."""

from typing import Any

from domain.events import MessagesSuperseded


def superseded_range(event: MessagesSuperseded) -> dict[str, Any]:
    """Return the conversation and the versions: from `from_version` on, and before `before_version`."""
    places = {"from_version": event.from_version, "before_version": event.originator_version}
    return {"conversation_id": event.originator_id, **places}
