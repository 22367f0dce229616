"""Routes of turns."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.call import Call, CallParam, json_response
from api.cursors import decode_version, encode_cursor, page
from api.problems import Kind, ProblemError
from api.requests import NewConversationTurn, NewTurn, PageQuery, blocks
from api.route import JSONRoute
from api.sse import event_stream
from domain.decisions import TurnSettings
from domain.errors import TurnNotActiveError, TurnNotFoundError
from domain.events import TurnStarted
from eventlog.commands import Said
from projections.history import TurnRow
from projections.resources import turn_resource
from turns.frames import Frame
from turns.turn_log import TurnKey

router = APIRouter(route_class=JSONRoute, tags=["turns"])

_MODEL_ERROR = Kind(502, "MODEL_ERROR")
_EVENTS_OF_A_START = 3


@router.post("/v1/conversations/{conversation_id}/turns", status_code=201)
async def start_turn(call: CallParam, conversation_id: UUID, body: NewTurn) -> Response:
    """Send a message and let the model answer, streamed or whole."""
    if call.repeated:
        return await _answer(call, await _repeated_key(call), body)
    said = Said("user", blocks(body.content))
    started = await call.services.turns.start(call.caller, conversation_id, said, _settings(call, body))
    return await _answer(call, started.key, body)


@router.post("/v1/turns", status_code=201)
async def start_conversation_turn(call: CallParam, body: NewConversationTurn) -> Response:
    """Start a conversation with a message and let the model answer, streamed or whole."""
    if call.repeated:
        return await _answer(call, await _repeated_key(call), body)
    said = Said("user", blocks(body.content))
    started = await call.services.turns.start_with_conversation(
        call.caller, said, _settings(call, body), agent_id=body.agent_id, title=body.title
    )
    return await _answer(call, started.key, body)


@router.get("/v1/conversations/{conversation_id}/turns")
async def list_turns(call: CallParam, conversation_id: UUID, query: Annotated[PageQuery, Query()]) -> Response:
    """List the turns of a conversation, newest first."""
    before = decode_version("turns", query.cursor)
    await call.readable(conversation_id)
    rows = await call.services.history.turns(conversation_id, before, query.limit + 1)
    return json_response(page(rows, query.limit, turn_resource, lambda row: encode_cursor("turns", row.version)))


@router.get("/v1/conversations/{conversation_id}/turns/{turn_id}")
async def get_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Read a turn."""
    return json_response(turn_resource(await _turn(call, conversation_id, turn_id)))


@router.post("/v1/conversations/{conversation_id}/turns/{turn_id}/cancel")
async def cancel_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Stop a turn; what was said is kept."""
    row = await _turn(call, conversation_id, turn_id)
    if not call.repeated:
        if row.status != "running":
            raise TurnNotActiveError(turn_id)
        await call.services.turns.cancel(call.caller, conversation_id, turn_id, row.version - 1)
    headers = await call.write_headers(await call.services.log.last_position(conversation_id))
    return json_response(turn_resource(await _turn(call, conversation_id, turn_id)), headers=headers)


async def _turn(call: Call, conversation_id: UUID, turn_id: UUID) -> TurnRow:
    await call.readable(conversation_id)
    row = await call.services.history.turn(conversation_id, turn_id)
    if row is None:
        raise TurnNotFoundError(turn_id)
    return row


def _settings(call: Call, body: NewTurn) -> TurnSettings:
    return TurnSettings(
        body.model or call.services.settings.model,
        body.max_context_tokens,
        body.temperature,
        body.max_output_tokens,
        body.metadata,
    )


async def _repeated_key(call: Call) -> TurnKey:
    """Return the turn that a repeated request started: its start is one of the command's first events."""
    assert call.repeated is not None
    id_, first = call.repeated.conversation_id, call.repeated.version
    for item in await call.services.log.events(id_, first, first + _EVENTS_OF_A_START):
        if isinstance(item.event, TurnStarted):
            return TurnKey(id_, item.event.turn_id, item.event.originator_version - 1)
    raise AssertionError("a command of this route starts a turn")


async def _answer(call: Call, key: TurnKey, body: NewTurn) -> Response:
    frames = call.services.turns.follow(key)
    if body.stream:
        return event_stream(frames)
    seen = [frame async for batch in frames for frame in batch]
    return await _whole(call, seen[0], seen[-1])


async def _whole(call: Call, first: Frame, last: Frame) -> Response:
    """Answer with the whole turn, from its first and last frames."""
    turn: dict[str, Any] = last.data["turn"]
    headers = await call.write_headers(await call.services.log.last_position(turn["conversation_id"]))
    if last.event == "turn.failed":
        detail = turn["error"]["detail"]
        members = {"conversation_id": turn["conversation_id"], "turn_id": turn["id"], "error": turn["error"]}
        raise ProblemError(_MODEL_ERROR, detail, headers=headers, **members)
    user_message, message = first.data["user_message"], last.data["message"]
    return json_response({"user_message": user_message, "assistant_message": message, "turn": turn}, 201, headers)
