"""Routes of recorded events: the live feeds, and the searches of the log."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import Call, CallParam, json_response
from api.http.cursors import decode_version, encode_cursor, log_kind
from api.http.openapi import OtherRecordedEvent, Page, RecordedEvent
from api.http.requests.query_models import EventsQuery, LogQuery
from api.http.route import JSONRoute
from api.http.sse import EventStream, event_stream, feed_event, last_event_id
from eventlog.log import FeedFilter
from eventlog.log_search import EventFilter, FoundEvents
from projections.models.json_resources import recorded_event_resource

router = APIRouter(route_class=JSONRoute, tags=["events"])


@router.get("/v1/events", status_code=200, response_class=EventStream)
async def follow_all(call: CallParam, query: Annotated[EventsQuery, Query()]) -> Response:
    """Follow the events of the caller's conversations, without end.

    The feed begins after `Last-Event-ID`, or with the next event.
    """
    if query.conversation_id:
        await call.owned_conversation(query.conversation_id)
    wanted = FeedFilter(call.readable_owner, query.conversation_id, query.agent_id, query.type)
    return event_stream(call.services.feeds.events(wanted, last_event_id(call)), {}, feed_event)


@router.get("/v1/conversations/{conversation_id}/events", status_code=200, response_class=EventStream)
async def follow_conversation(call: CallParam, conversation_id: UUID) -> Response:
    """Follow one conversation: its events, and the frames of its running turn."""
    after = last_event_id(call)
    await call.owned_conversation(conversation_id)
    return event_stream(call.services.feeds.conversation(conversation_id, after), {}, feed_event)


@router.get("/v1/log", response_model=Page[RecordedEvent | OtherRecordedEvent])
async def search_log(call: CallParam, query: Annotated[LogQuery, Query()]) -> Response:
    """Search the recorded events of the caller's conversations and agents.

    For an auditor or an admin they are everybody's, and the recorded reads of auditors too. A page may hold fewer
    events than `limit`, even none, while `next_cursor` is not null.
    """
    wanted = _wanted(call, query)
    kind = log_kind(None, wanted, query.order)
    beyond = decode_version(kind, query.cursor, below=2**63)
    found = await call.services.log_search.in_log(wanted, beyond, query.limit, newest_first=query.order == "desc")
    return _page(found, kind)


@router.get("/v1/conversations/{conversation_id}/log", response_model=Page[RecordedEvent])
async def search_conversation(call: CallParam, conversation_id: UUID, query: Annotated[LogQuery, Query()]) -> Response:
    """Search the recorded events of a conversation, also of a deleted one.

    A page may hold fewer events than `limit`, even none, while `next_cursor` is not null.
    """
    wanted = _wanted(call, query)
    conversation = await call.owned_conversation(conversation_id)
    kind = log_kind(conversation_id, wanted, query.order)
    beyond = decode_version(kind, query.cursor)
    if wanted.owner_id not in (None, conversation.owner_id):
        return _page(FoundEvents([], None), kind)
    found = await call.services.log_search.in_conversation(
        conversation_id,
        wanted._replace(owner_id=None),
        beyond,
        query.limit,
        newest_first=query.order == "desc",
    )
    return _page(found, kind)


def _wanted(call: Call, query: LogQuery) -> EventFilter:
    """Return the filter of a query.

    Raises:
        ForbiddenError: the caller may not name an owner.
    """
    return EventFilter(query.type, query.actor, call.listed_owner(query.owner_id), query.after, query.before)


def _page(found: FoundEvents, kind: str) -> Response:
    cursor = None if found.end is None else encode_cursor(kind, found.end)
    return json_response({"data": [recorded_event_resource(each) for each in found.records], "next_cursor": cursor})
