"""The history as it was at a position of the log."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from domain.aggregates import AggregateEvent
from domain.events import StreamDelta
from eventlog.db.database import Database
from eventlog.log import LAST_VERSION
from eventlog.mapper import Recorded
from projections.as_of.past_events import PastEvents
from projections.models.history import History, HistoryProjection
from projections.models.history_rows import MessageRow, stream_text_row
from projections.projection import Projection

MESSAGES_AT_ONCE = 1000
"""So many messages are read at once to find those of a page."""

_HISTORY: Projection = HistoryProjection()


class PastHistory:
    """Reads the history of a position. Every method may raise StoreUnavailableError.

    A method raises UnknownEventError at an event of a newer release that it has to read.
    """

    def __init__(self, database: Database, position: int) -> None:
        self._events = PastEvents(database, position)
        self._history = History(database)

    async def message(self, conversation_id: UUID, message_id: UUID) -> MessageRow | None:
        """Return a message of a conversation, None if there was none of this id."""
        events = await self._frame(conversation_id)
        events |= _by_version(await self._events.message(conversation_id, message_id))
        found = [row for row in _rows(events) if row.id == message_id]
        return (await self._complete(found))[0] if found else None

    async def page(
        self, conversation_id: UUID, *, descending: bool, superseded: bool, beyond: int | None, limit: int
    ) -> list[MessageRow]:
        """Return at most `limit` messages beyond a version, which is excluded."""
        frame, end = await self._frame(conversation_id), 0 if descending else LAST_VERSION
        reached = beyond if beyond is not None else (LAST_VERSION if descending else 0)
        page: list[MessageRow] = []
        number = limit
        while len(page) < limit and reached != end:
            start = reached
            batch = await self._events.messages(conversation_id, descending=descending, beyond=start, limit=number)
            reached = batch[-1].event.originator_version if len(batch) == number else end
            # Of the messages before the frame, none is known beyond the last of the batch.
            first, last = (reached, start - 1) if descending else (start + 1, reached)
            shown = [
                row
                for row in _rows(frame | _by_version(batch))
                if first <= row.version <= last and (superseded or row.status != "superseded")
            ]
            page += sorted(shown, key=lambda row: row.version, reverse=descending)
            # Deleted and superseded messages are no part of the page. There may be many, and they are not kept.
            number = max(limit, min(2 * number, MESSAGES_AT_ONCE))
        return await self._complete(page[:limit])

    async def _frame(self, conversation_id: UUID) -> dict[int, AggregateEvent]:
        """Return the events that decide which messages are shown, by version.

        Of messages they have the one that streamed, or that was added last by a turn that had not ended.
        """
        removals = await self._events.removals(conversation_id)
        return _by_version([*removals, *await self._events.open_turn(conversation_id)])

    async def _complete(self, rows: list[MessageRow]) -> list[MessageRow]:
        """Return messages with the bytes of images and the text of their stream."""
        return await self._history.with_images([await self._with_text_so_far(row) for row in rows])

    async def _with_text_so_far(self, row: MessageRow) -> MessageRow:
        if row.status != "streaming" or row.turn_id is None:
            return row
        streamed = await self._events.stream_text(row.conversation_id, row.version)
        if streamed is None:
            recorded = await self._events.deltas(row.conversation_id, row.version)
            deltas = [event for item in recorded if isinstance(event := item.known().event, StreamDelta)]
            streamed = list(map(stream_text_row, deltas))
        content = await self._history.text_so_far(row.turn_id, streamed)
        return row if content is None else row._replace(content=content)


def _by_version(recorded: Iterable[Recorded]) -> dict[int, AggregateEvent]:
    return {item.event.originator_version: item.event for item in recorded}


def _rows(events: Mapping[int, AggregateEvent]) -> list[MessageRow]:
    """Return the messages that `events` leave."""
    in_order = [events[version] for version in sorted(events)]
    return [MessageRow(*row) for row in _HISTORY.rows(_HISTORY.select(in_order))["history"]]
