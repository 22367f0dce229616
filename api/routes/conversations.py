"""Routes of conversations."""

import asyncio
import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import Call, CallParam, json_response
from api.http.cursors import decode_activity, encode_cursor, page
from api.http.openapi import PROBLEMS, ConversationResource, Deleted, Page
from api.http.problems import validation_problem
from api.http.request_models import AgentQuery, ConversationChanges, ListingQuery, NewConversation, content_blocks
from api.http.route import JSONRoute
from commands.commands import ClientMessage
from domain.conversation import Conversation, fold
from domain.errors import ConversationDeletedError, ConversationNotFoundError
from projections.models.json_resources import conversation_resource, rfc3339, state_resource
from projections.models.listing import ConversationRow, ListingFilter

router = APIRouter(route_class=JSONRoute, responses=PROBLEMS, tags=["conversations"])

MAX_CONCURRENT_DELETES = 32

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_ETAGS = re.compile(rf"[ \t]*(?:{_ETAG.pattern}[ \t]*)?(?:,[ \t]*(?:{_ETAG.pattern}[ \t]*)?)*")
_VERSION = re.compile("[1-9][0-9]{0,8}")


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
    """List the caller's conversations, most recently active first.

    For an auditor or an admin they are everybody's.
    """
    wanted = ListingFilter(query.agent_id, query.q, _metadata_filter(query.model_extra or {}))
    before = decode_activity("conversations", query.cursor)
    rows = await call.services.listing.page(call.readable_owner, wanted, before, query.limit + 1)
    return json_response(page(rows, query.limit, conversation_resource, _cursor))


@router.delete("/v1/conversations", response_model=Deleted)
async def clear_history(call: CallParam, query: Annotated[AgentQuery, Query()]) -> Response:
    """Delete all of the caller's conversations, or those of one agent."""
    ids = await call.services.listing.owned(call.identity.owner_id, query.agent_id)
    positions: list[int] = []
    for start in range(0, len(ids), MAX_CONCURRENT_DELETES):
        work = [_delete_if_present(call, id_) for id_ in ids[start : start + MAX_CONCURRENT_DELETES]]
        positions += [position for position in await asyncio.gather(*work) if position]
    return await call.write_response(max(positions, default=None), {"deleted": len(positions)})


@router.get("/v1/conversations/{conversation_id}", response_model=ConversationResource)
async def get_conversation(call: CallParam, conversation_id: UUID) -> Response:
    """Read a conversation."""
    row = await call.readable_conversation(conversation_id)
    return json_response(conversation_resource(row), headers={"ETag": f'"{row.version}"'})


@router.patch("/v1/conversations/{conversation_id}", response_model=ConversationResource)
async def update_conversation(call: CallParam, conversation_id: UUID, body: ConversationChanges) -> Response:
    """Rename a conversation, replace its metadata, or both."""
    changes = {name: getattr(body, name) for name in body.model_fields_set}
    expected = _expected_versions(call)
    committed = await call.services.commands.update(call.caller, conversation_id, changes, expected)
    response = await call.write_response(committed.position, state_resource(committed.state))
    response.headers["ETag"] = f'"{committed.state.visible_version}"'
    return response


@router.delete("/v1/conversations/{conversation_id}", status_code=204)
async def delete_conversation(call: CallParam, conversation_id: UUID) -> Response:
    """Delete a conversation. It leaves every view and stays in the log."""
    committed = await call.services.commands.delete(call.caller, conversation_id, _expected_versions(call))
    return await call.write_response(committed.position, status=204)


async def _delete_if_present(call: CallParam, conversation_id: UUID) -> int | None:
    try:
        return (await call.services.commands.delete(call.caller, conversation_id)).position
    except (ConversationDeletedError, ConversationNotFoundError):
        return None


def _state_resource(state: Conversation | None) -> dict[str, Any]:
    assert state is not None
    return state_resource(state)


def _cursor(row: ConversationRow) -> str:
    return encode_cursor("conversations", rfc3339(row.active_at), row.id)


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


def _expected_versions(call: Call) -> frozenset[int] | None:
    """Return the versions that `If-Match` names, None for any version.

    A weak tag matches no version, and neither does a tag that is not a version.

    Raises:
        ProblemError: the header is not a list of entity tags (https://www.rfc-editor.org/rfc/rfc9110#name-if-match).
    """
    given = call.request.header(b"if-match")
    if given is None or given.strip() == "*":
        return None
    if not _ETAGS.fullmatch(given):
        message = 'must be * or a list of entity tags, as in "3", "4"'
        raise validation_problem("The request is not valid.", ("header", "If-Match"), message)
    return frozenset(int(tag) for weak, tag in _ETAG.findall(given) if not weak and _VERSION.fullmatch(tag))
