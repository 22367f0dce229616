"""Answers of the readers of the read models, in a form that can be compared."""

from typing import Any, NamedTuple
from uuid import UUID

import orjson

from eventlog.db.database import Database
from eventlog.log import Log
from projections.as_of.past_history import PastHistory
from projections.as_of.past_listing import PastListing
from projections.as_of.past_reads import PastReads
from projections.models.context import Context
from projections.models.history import History
from projections.models.json_resources import conversation_resource, message_resource
from projections.models.listing import Listing
from projections.models.listing_filter import ListingFilter, ListingSort
from turns.model.sent_context import sent_context

FILTERS = [
    ListingFilter(),
    ListingFilter(agent_id="support"),
    ListingFilter(status="running"),
    ListingFilter(status="requires_action"),
    ListingFilter(title_contains="o"),
    ListingFilter(metadata={"w": "one"}),
]
SORTS: list[ListingSort] = ["active", "created", "title"]
MANY = 10_000


class Readers(NamedTuple):
    """The readers of the read models, of now or of a position."""

    listing: Listing | PastListing
    history: History | PastHistory
    context: Context


def readers_of_now(database: Database) -> Readers:
    return Readers(Listing(database), History(database), Context(database, Log(database)))


def readers_at(database: Database, position: int) -> Readers:
    past = PastReads(database, Log(database))
    return Readers(past.listing(position), past.history(position), past.context(position))


async def conversation_answers(readers: Readers, conversation_id: UUID) -> dict[str, Any]:
    """Return what the readers tell of a conversation."""
    row = await readers.listing.get(conversation_id)
    found: dict[str, Any] = {"conversation": row and (_plain(conversation_resource(row)), row.deleted)}
    for descending in (False, True):
        for superseded in (False, True):
            pages: list[Any] = []
            beyond: int | None = None
            while page := await readers.history.page(
                conversation_id, descending=descending, superseded=superseded, beyond=beyond, limit=3
            ):
                pages.append([_plain(message_resource(each)) for each in page])
                beyond = page[-1].version
            found[f"messages, {descending=}, {superseded=}"] = pages
    for max_tokens, last in ((0, None), (25, None), (60, 3), (1000, None)):
        found[f"context of {max_tokens}"] = await sent_context(readers.context, conversation_id, max_tokens, last)
    return found


async def message_answer(readers: Readers, conversation_id: UUID, message_id: UUID) -> Any:
    """Return what the readers tell of a message."""
    row = await readers.history.message(conversation_id, message_id)
    return row and _plain(message_resource(row))


async def listing_answers(readers: Readers, number: int) -> dict[str, Any]:
    """Return what the readers list, with a filter and an order of a number."""
    sort, wanted = SORTS[number % len(SORTS)], FILTERS[number % len(FILTERS)]
    found: dict[str, Any] = {}
    for owner in ("alice", None):
        for filter_ in (ListingFilter(), wanted):
            rows = await readers.listing.page(owner, filter_, None, MANY, sort)
            found[f"{owner}, {filter_}, {sort}"] = [_plain(conversation_resource(row)) for row in rows]
    return found


def _plain(resource: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(resource))
