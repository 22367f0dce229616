"""Routes of conversations."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import CallParam, json_response
from api.http.cursors import decode_place, encode_cursor, listing_kind, page
from api.http.openapi import ConversationResource, Deleted, Page
from api.http.problems import validation_problem
from api.http.read_your_writes import require_position
from api.http.requests.body_models import ConversationChanges, NewConversation, content_blocks
from api.http.requests.query_models import AgentQuery, AsOfQuery, ListingQuery
from api.http.route import JSONRoute
from api.routes.as_of import find_moment
from api.routes.entity_tags import entity_tag, expected_versions
from commands.commands import ClientMessage
from domain.conversation import Conversation, fold
from projections.models.json_resources import conversation_resource, rfc3339, state_resource
from projections.models.listing_filter import ListingFilter, ListingPlace

router = APIRouter(route_class=JSONRoute, tags=["conversations"])


@router.post("/v1/conversations", status_code=201, response_model=ConversationResource)
async def start_conversation(call: CallParam, body: NewConversation) -> Response:
    """Start a conversation, with its first messages if there are any."""
    if call.repeated:
        last = call.repeated.version + len(body.messages)
        events = await call.services.log.events(call.repeated.conversation_id, 1, last)
        state = fold(None, [item.known().event for item in events])
        return await call.write_response(events[-1].position, _state_resource(state), 201)
    messages = [ClientMessage(message.role, content_blocks(message.content)) for message in body.messages]
    committed = await call.services.commands.start(
        call.caller, agent_id=body.agent_id, title=body.title, metadata=body.metadata, messages=messages
    )
    return await call.write_response(committed.position, state_resource(committed.state), 201)


@router.get("/v1/conversations", response_model=Page[ConversationResource])
async def list_conversations(call: CallParam, query: Annotated[ListingQuery, Query()]) -> Response:
    """List the caller's conversations, by default the most recently active first.

    For an auditor or an admin they are everybody's, or those of the owner that it names.
    """
    owner_id = call.listed_owner(query.owner_id)
    wanted = _filter(query)
    moment = await find_moment(call, query.as_of, query.cursor)
    kind = moment.kind(listing_kind(owner_id, wanted, query.sort))
    beyond = decode_place(kind, query.sort, query.cursor)
    services, position = call.services, moment.position
    listing = services.listing if position is None else services.past.listing(position)
    rows = await listing.page(owner_id, wanted, beyond, query.limit + 1, query.sort)
    shown = page(rows, query.limit, conversation_resource, lambda row: _cursor(kind, row.place(query.sort)))
    return json_response(shown, headers=moment.headers())


@router.delete("/v1/conversations", response_model=Deleted)
async def delete_conversations(call: CallParam, query: Annotated[AgentQuery, Query()]) -> Response:
    """Delete all of the caller's conversations, or those of one agent."""
    services = call.services
    # Conversations that were started before this request are listed then.
    await require_position(await services.log.head(), services.progress)
    owned = services.listing.owned(call.caller.owner_id, query.agent_id)
    cleared = await services.clearing.clear(call.caller, owned)
    return await call.write_response(cleared.position, {"deleted": cleared.deleted})


@router.get("/v1/conversations/{conversation_id}", response_model=ConversationResource)
async def get_conversation(call: CallParam, conversation_id: UUID, query: Annotated[AsOfQuery, Query()]) -> Response:
    """Read a conversation, now or as it was."""
    moment = await find_moment(call, query.as_of)
    row = await call.readable_conversation(conversation_id, moment.position)
    return json_response(conversation_resource(row), headers=entity_tag(row.version) | moment.headers())


@router.patch("/v1/conversations/{conversation_id}", response_model=ConversationResource)
async def update_conversation(call: CallParam, conversation_id: UUID, body: ConversationChanges) -> Response:
    """Rename a conversation, replace its metadata, or both."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    expected = expected_versions(call)
    committed = await call.services.commands.update(call.caller, conversation_id, changes, expected)
    response = await call.write_response(committed.position, state_resource(committed.state))
    response.headers.update(entity_tag(committed.state.visible_version))
    return response


@router.delete("/v1/conversations/{conversation_id}", status_code=204)
async def delete_conversation(call: CallParam, conversation_id: UUID) -> Response:
    """Delete a conversation. It leaves every view and stays in the log."""
    committed = await call.services.commands.delete(call.caller, conversation_id, expected_versions(call))
    return await call.write_response(committed.position, status=204)


def _state_resource(state: Conversation | None) -> dict[str, Any]:
    assert state is not None
    return state_resource(state)


def _filter(query: ListingQuery) -> ListingFilter:
    metadata = _metadata_filter(query.model_extra or {})
    return ListingFilter(query.agent_id, query.q, metadata, query.status, query.active_after, query.active_before)


def _cursor(kind: str, place: ListingPlace) -> str:
    value = place.value if isinstance(place.value, str) else rfc3339(place.value)
    return encode_cursor(kind, value, place.id)


def _metadata_filter(extra: dict[str, Any]) -> dict[str, str]:
    """Return the values of the `metadata.KEY` parameters by KEY.

    Raises:
        ProblemError: there is another unknown parameter.
    """
    for name, value in extra.items():
        if not name.startswith("metadata.") or len(name) > 256:
            raise validation_problem("The request is not valid.", ("query", name), "Extra inputs are not permitted")
        if "\0" in f"{name}{value}":
            raise validation_problem("The request is not valid.", ("query", name), "must not contain NUL")
    return {name.removeprefix("metadata."): value for name, value in extra.items()}
