"""The listing as it was at a position of the log."""

import asyncio
from collections.abc import Sequence
from operator import attrgetter
from uuid import UUID

from psycopg.rows import TupleRow

from domain.events import ConversationEvent
from eventlog.db.database import Database
from projections.as_of.past_events import AddedMessages, OwnedPlace, PastEvents, recorded
from projections.models.listing import ConversationRow, Listing, ListingProjection, MessageRun, listing_rows
from projections.models.listing_filter import ListingFilter, ListingPlace, ListingSort

CONVERSATIONS_AT_ONCE = 250
"""So many conversations are read and folded at once. Their rows are in memory, and no others."""

_LISTING = ListingProjection()


class PastListing:
    """Reads the listing of a position. Every method may raise StoreUnavailableError.

    A method raises UnknownEventError at an event of a newer release that it has to read.
    """

    def __init__(self, database: Database, position: int) -> None:
        self._events = PastEvents(database, position)
        self._listing = Listing(database)

    async def get(self, conversation_id: UUID, owner_id: str | None = None) -> ConversationRow | None:
        """Return a conversation of an owner, or (by default) of anybody, or None.

        A deleted one is returned too.
        """
        # Nothing more is read of another owner's conversation, because that would take longer than finding none.
        if not await self._events.has_conversation(conversation_id, owner_id):
            return None
        rows = await self._rows([conversation_id])
        return rows[0] if rows else None

    async def page(
        self,
        owner_id: str | None,
        filter_: ListingFilter,
        beyond: ListingPlace | None,
        limit: int,
        sort: ListingSort = "active",
    ) -> list[ConversationRow]:
        """Return at most `limit` conversations of an owner, or with None of all owners.

        The page begins after the place `beyond`, or with the first conversation.
        """
        page: list[ConversationRow] = []
        last: OwnedPlace | None = None
        while True:
            ids, last = await self._events.conversations(owner_id, last, CONVERSATIONS_AT_ONCE)
            if ids:
                among = [*page, *await self._rows(ids)]
                page = await self._listing.page(owner_id, filter_, beyond, limit, sort, among)
            if len(ids) < CONVERSATIONS_AT_ONCE:
                return page

    async def _rows(self, conversation_ids: list[UUID]) -> list[ConversationRow]:
        outlines = await self._events.outlines(conversation_ids)
        added = await self._events.added_messages(conversation_ids)
        if len(conversation_ids) == 1:
            return _folded(outlines, added)
        # Hundreds of conversations take long enough to block the event loop.
        return await asyncio.to_thread(_folded, outlines, added)


def _folded(outlines: Sequence[TupleRow], added: Sequence[AddedMessages]) -> list[ConversationRow]:
    """Return the rows of conversations."""
    changes: list[ConversationEvent | MessageRun] = [*map(_run, added), *_selected(outlines)]
    # The order of different conversations does not matter.
    return listing_rows(sorted(changes, key=attrgetter("originator_version")))


def _selected(outlines: Sequence[TupleRow]) -> list[ConversationEvent]:
    events = _LISTING.select(item.event for item in recorded(outlines))
    return [event for event in events if isinstance(event, ConversationEvent)]


def _run(added: AddedMessages) -> MessageRun:
    return MessageRun(added.conversation_id, added.last_version, added.last_at, added.number)
