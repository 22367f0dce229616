"""A naive view of the listing."""

from collections.abc import Iterable
from unicodedata import normalize
from uuid import UUID

from domain.events import (
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    ConversationUpdated,
    MessageAdded,
    MessageDeleted,
    MessagesSuperseded,
    StreamDelta,
    TurnEnded,
    TurnQueued,
    TurnResumed,
    TurnStarted,
    TurnSuspended,
)
from tests.support.naive_views.rows import Row


def naive_listing(events: Iterable[ConversationEvent]) -> list[Row]:
    listing: dict[UUID, Row] = {}
    counted: dict[UUID, dict[UUID, int]] = {}
    for event in events:
        if isinstance(event, StreamDelta):
            continue
        if isinstance(event, ConversationStarted):
            listing[event.originator_id] = {
                "conversation_id": event.originator_id,
                "owner_id": event.owner_id,
                "agent_id": event.agent_id,
                "created_at": event.timestamp,
                "active_at": event.timestamp,
                "active_turn_id": None,
                "last_message_at": None,
                "deleted": False,
                "waiting": False,
                "queued": list[UUID](),
            }
            counted[event.originator_id] = {}
        row = listing[event.originator_id]
        row |= {"version": event.originator_version, "updated_at": event.timestamp}
        if isinstance(event, ConversationStarted | ConversationUpdated):
            row |= {"title": event.title, "title_key": naive_title_key(event.title), "metadata": event.metadata}
        elif isinstance(event, MessageAdded):
            row |= {"last_message_at": event.timestamp, "active_at": max(event.timestamp, row["created_at"])}
            counted[event.originator_id][event.message_id] = event.originator_version
        elif isinstance(event, MessageDeleted):
            counted[event.originator_id].pop(event.message_id, None)
        elif isinstance(event, MessagesSuperseded):
            left = {id_: at for id_, at in counted[event.originator_id].items() if at < event.from_version}
            counted[event.originator_id] = left
        elif isinstance(event, TurnQueued):
            row["queued"] = [event.turn_id, *row["queued"]] if event.ahead else [*row["queued"], event.turn_id]
        elif isinstance(event, TurnStarted):
            row |= {"active_turn_id": event.turn_id, "waiting": False}
            row["queued"] = [turn_id for turn_id in row["queued"] if turn_id != event.turn_id]
        elif isinstance(event, TurnSuspended | TurnResumed):
            row["waiting"] = isinstance(event, TurnSuspended)
        elif isinstance(event, TurnEnded) and event.turn_id in row["queued"]:
            row["queued"] = [turn_id for turn_id in row["queued"] if turn_id != event.turn_id]
        elif isinstance(event, TurnEnded):
            row |= {"active_turn_id": None, "waiting": False}
        elif isinstance(event, ConversationDeleted):
            row["deleted"] = True
    return [{**row, "message_count": len(counted[id_]), "status": naive_status(row)} for id_, row in listing.items()]


def naive_status(row: Row) -> str:
    """Return the status that clients see."""
    if row["waiting"]:
        return "requires_action"
    return "running" if row["active_turn_id"] or row["queued"] else "idle"


def naive_title_key(title: str | None) -> str:
    """Return the letters by which a title is ordered.

    Without any it is a character that sorts after all others.
    """
    letters = [letter for letter in normalize("NFKD", normalize("NFKD", title or "").casefold()) if not accent(letter)]
    return "".join(letters).strip()[:128].strip() or "\U0010ffff"


def accent(letter: str) -> bool:
    """Return whether a character only adds an accent to the one before."""
    return "\u0300" <= letter <= "\u036f" or letter == "\U0010ffff"
