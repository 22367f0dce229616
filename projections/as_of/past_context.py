"""The index of the context as it was at a position of the log."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from typing import cast
from uuid import UUID

from pydantic import TypeAdapter

from domain.content import Content, Role
from domain.events import ConversationEvent
from eventlog.db.database import Database
from eventlog.log import Log
from eventlog.mapper import Recorded
from projections.as_of.past_events import MessageEntry, PastEvents
from projections.models.context import Context, ContextEntry, ContextIndex, ContextProjection, ContextRow, context_rows
from projections.models.token_estimates import estimate

_CONTEXT = ContextProjection()
_CONTENT: TypeAdapter[Content] = TypeAdapter(Content)


def past_context(database: Database, log: Log, position: int) -> Context:
    """Return a reader of the context of a position.

    It raises UnknownEventError at an event of a newer release that it has to read.
    """
    events = PastEvents(database, position)

    async def open_index(conversation_id: UUID) -> ContextIndex:
        entries = await events.entries(conversation_id)
        other_shapes = [entry.version for entry in entries if not entry.current]
        recorded = [
            *await events.removals(conversation_id),
            *(await log.versions(conversation_id, other_shapes) if other_shapes else []),
        ]
        # Thousands of messages take long enough to block the event loop.
        return _RowsIndex(await asyncio.to_thread(_folded, conversation_id, entries, recorded))

    return Context(database, log, open_index)


def _folded(conversation_id: UUID, entries: Sequence[MessageEntry], recorded: Sequence[Recorded]) -> list[ContextRow]:
    """Return the index of a conversation."""
    current = [_context_entry(conversation_id, entry) for entry in entries if entry.current]
    events = _CONTEXT.select(item.event for item in recorded)
    others = [event for event in events if isinstance(event, ConversationEvent)]
    return context_rows(sorted([*current, *others], key=_version))


def _context_entry(conversation_id: UUID, entry: MessageEntry) -> ContextEntry:
    content = None if entry.content is None else _CONTENT.validate_json(entry.content)
    tokens = estimate(cast(Role, entry.role), entry.tokens, content)
    return ContextEntry(conversation_id, entry.version, entry.message_id, entry.role, tokens)


def _version(each: ConversationEvent | ContextEntry) -> int:
    return each.version if isinstance(each, ContextEntry) else each.originator_version


class _RowsIndex:
    """The index of a conversation whose rows are in memory, in the order of versions."""

    def __init__(self, rows: Sequence[ContextRow]) -> None:
        self._rows = rows

    async def totals(self) -> tuple[int, int] | None:
        return self._rows[-1].totals_after() if self._rows else None

    async def system(self) -> list[tuple[int, int]]:
        return [(row.version, row.tokens) for row in self._rows if row.role == "system"]

    async def first_with(self, tokens_before: int) -> int | None:
        # The tokens before a message never get fewer.
        place = bisect_left(self._rows, tokens_before, key=lambda row: row.tokens_before)
        return self._rows[place].version if place < len(self._rows) else None

    async def nth_newest(self, newer: int) -> int | None:
        dialogue = await self.dialogue_from(0)
        return dialogue[-1 - newer] if newer < len(dialogue) else None

    async def user_message_from(self, version: int) -> int | None:
        earlier, later = self._user_messages(version)
        return later[0] if later else earlier[-1] if earlier else None

    async def user_message_before(self, version: int) -> int | None:
        earlier, later = self._user_messages(version)
        return earlier[-1] if earlier else later[0] if later else None

    async def dialogue_from(self, version: int) -> list[int]:
        return [row.version for row in self._rows if row.version >= version and row.role != "system"]

    def _user_messages(self, version: int) -> tuple[list[int], list[int]]:
        """Return the versions of user messages before a version, and from it on."""
        versions = [row.version for row in self._rows if row.role == "user"]
        place = bisect_left(versions, version)
        return versions[:place], versions[place:]
