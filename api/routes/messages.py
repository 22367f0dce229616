"""Routes of messages, and of the context of a model."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import Call, CallParam, json_response
from api.http.cursors import decode_version, encode_cursor, page
from api.http.openapi import ContextResource, MessageResource, Page
from api.http.requests.body_models import NewMessage, content_blocks
from api.http.requests.query_models import AsOfQuery, ContextQuery, MessagesQuery
from api.http.route import JSONRoute
from api.routes.as_of import ReadMoment, find_moment
from commands.commands import ClientMessage
from domain.errors import MessageNotFoundError
from domain.events import MessageAdded
from projections.as_of.past_history import PastHistory
from projections.models.history import History
from projections.models.history_rows import MessageRow, message_row
from projections.models.json_resources import message_resource

router = APIRouter(route_class=JSONRoute, tags=["messages"])


@router.post("/v1/conversations/{conversation_id}/messages", status_code=201, response_model=MessageResource)
async def add_message(call: CallParam, conversation_id: UUID, body: NewMessage) -> Response:
    """Record a message. No model is called."""
    if call.repeated:
        (recorded,) = await call.services.log.versions(conversation_id, [call.repeated.version])
        assert isinstance(recorded.event, MessageAdded)
        return await _added_response(call, await call.services.images.restored_event(recorded.event), recorded.position)
    message = ClientMessage(body.role, content_blocks(body.content), body.in_reply_to)
    committed = await call.services.commands.add_message(call.caller, conversation_id, message)
    event = committed.events[-1]
    assert isinstance(event, MessageAdded)
    if any(block.type == "image" for block in message.content):  # the bytes need not be read back
        event = event.model_copy(update={"content": message.content})
    return await _added_response(call, event, committed.position)


@router.get("/v1/conversations/{conversation_id}/messages", response_model=Page[MessageResource])
async def list_messages(call: CallParam, conversation_id: UUID, query: Annotated[MessagesQuery, Query()]) -> Response:
    """List the messages of a conversation, oldest or newest first."""
    moment = await find_moment(call, query.as_of, query.cursor)
    kind = moment.kind(f"messages.{query.order}.{conversation_id}")
    beyond = decode_version(kind, query.cursor)
    await call.readable_conversation(conversation_id, moment.position)
    rows = await _history(call, moment).page(
        conversation_id,
        descending=query.order == "desc",
        superseded=query.include == "superseded",
        beyond=beyond,
        limit=query.limit + 1,
    )

    def cursor(row: MessageRow) -> str:
        return encode_cursor(kind, row.version)

    return json_response(page(rows, query.limit, message_resource, cursor), headers=moment.headers())


@router.get("/v1/conversations/{conversation_id}/messages/{message_id}", response_model=MessageResource)
async def get_message(
    call: CallParam, conversation_id: UUID, message_id: UUID, query: Annotated[AsOfQuery, Query()]
) -> Response:
    """Read a message. One that is being streamed has its text so far."""
    moment = await find_moment(call, query.as_of)
    await call.readable_conversation(conversation_id, moment.position)
    row = await _history(call, moment).message(conversation_id, message_id)
    if row is None:
        raise MessageNotFoundError(message_id)
    return json_response(message_resource(row), headers=moment.headers())


@router.delete("/v1/conversations/{conversation_id}/messages/{message_id}", status_code=204)
async def delete_message(call: CallParam, conversation_id: UUID, message_id: UUID) -> Response:
    """Delete a message. It leaves history and context, and stays in the log."""
    committed = await call.services.commands.delete_message(call.caller, conversation_id, message_id)
    return await call.write_response(committed.position, status=204)


@router.get("/v1/conversations/{conversation_id}/context", response_model=ContextResource)
async def get_context(call: CallParam, conversation_id: UUID, query: Annotated[ContextQuery, Query()]) -> Response:
    """Read the messages that a model would be sent, in OpenAI's chat form."""
    moment = await find_moment(call, query.as_of)
    row = await call.readable_conversation(conversation_id, moment.position)
    services = call.services
    agent = await services.agents.find(row.owner_id, row.agent_id, moment.upto) if row.agent_id else None
    model = query.model or (agent and agent.model) or services.settings.model
    max_tokens = query.max_tokens or (agent and agent.max_context_tokens)
    context = None if moment.position is None else services.past.context(moment.position)
    window = await services.model_input.window(conversation_id, model, max_tokens, query.last, agent, context)
    return json_response(window._asdict(), headers=moment.headers())


def _history(call: Call, moment: ReadMoment) -> History | PastHistory:
    services = call.services
    return services.history if moment.position is None else services.past.history(moment.position)


async def _added_response(call: Call, event: MessageAdded, position: int | None) -> Response:
    return await call.write_response(position, message_resource(message_row(event)), 201)
