"""Routes of recorded events: the live feeds, and the log of a conversation."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import CallParam, json_response
from api.http.cursors import decode_version, encode_cursor, page
from api.http.openapi import Page, RecordedEvent
from api.http.request_models import EventsQuery, LogQuery
from api.http.route import JSONRoute
from api.http.sse import EventStream, event_stream, feed_event, last_event_id
from eventlog.log import FeedFilter
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


@router.get("/v1/conversations/{conversation_id}/log", response_model=Page[RecordedEvent])
async def read_log(call: CallParam, conversation_id: UUID, query: Annotated[LogQuery, Query()]) -> Response:
    """Read the recorded events, also of a deleted conversation."""
    kind = f"log.{conversation_id}"
    after = decode_version(kind, query.cursor) or 0
    await call.owned_conversation(conversation_id)
    rows = await call.services.log.audit_records(conversation_id, after, query.limit + 1, query.type)
    shown = page(rows, query.limit, recorded_event_resource, lambda row: encode_cursor(kind, row["version"]))
    return json_response(shown)
