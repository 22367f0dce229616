"""Routes of turns whose client runs the model (`"generate": false`) and records its stream."""

from decimal import Decimal
from uuid import UUID

from fastapi import APIRouter, Response

from api.http.call import Call, CallParam, json_response
from api.http.openapi import PROBLEMS, NextFrame, Turn
from api.http.request_models import NewDeltas, TurnEnd, TurnFailure, TurnUsage
from api.http.route import JSONRoute
from api.routes.turns import known_if_not_active, known_turn
from domain.events import StreamDelta
from domain.usage import Usage
from projections.models.json_resources import turn_resource

router = APIRouter(route_class=JSONRoute, responses=PROBLEMS, tags=["turns"])

_TURN = "/v1/conversations/{conversation_id}/turns/{turn_id}"


@router.post(f"{_TURN}/deltas", response_model=NextFrame)
async def record_deltas(call: CallParam, conversation_id: UUID, turn_id: UUID, body: NewDeltas) -> Response:
    """Record chunks; a repeat is ignored, and an empty list says that the client is alive."""
    if call.repeated:
        (recorded,) = await call.services.log.versions(conversation_id, [call.repeated.version])
        assert isinstance(recorded.event, StreamDelta)
        next_seq = recorded.event.first_seq + len(recorded.event.chunks)
        return await call.write_response(recorded.position, {"next_seq": next_seq})
    async with known_if_not_active(call, conversation_id, turn_id):
        next_seq, position = await call.services.client_turns.record(
            call.caller, conversation_id, turn_id, body.seq, body.chunks
        )
    return await call.write_response(position, {"next_seq": next_seq})


@router.post(f"{_TURN}/complete", response_model=Turn)
async def complete_turn(call: CallParam, conversation_id: UUID, turn_id: UUID, body: TurnEnd) -> Response:
    """End a turn: what was recorded is the answer."""
    usage = _usage(body.usage) if body.usage else None
    if not call.repeated:
        async with known_if_not_active(call, conversation_id, turn_id):
            await call.services.client_turns.complete(call.caller, conversation_id, turn_id, usage, body.finish_reason)
    return await _ended(call, conversation_id, turn_id)


@router.post(f"{_TURN}/fail", response_model=Turn)
async def fail_turn(call: CallParam, conversation_id: UUID, turn_id: UUID, body: TurnFailure) -> Response:
    """End a turn whose model broke; what was recorded is kept."""
    if not call.repeated:
        async with known_if_not_active(call, conversation_id, turn_id):
            await call.services.client_turns.fail(call.caller, conversation_id, turn_id, body.detail)
    return await _ended(call, conversation_id, turn_id)


async def _ended(call: Call, conversation_id: UUID, turn_id: UUID) -> Response:
    row = await known_turn(call, conversation_id, turn_id)
    position = await call.services.log.turn_end(conversation_id, turn_id, row.version)
    headers = await call.write_headers(position)
    return json_response(turn_resource(await known_turn(call, conversation_id, turn_id)), headers=headers)


def _usage(usage: TurnUsage) -> Usage:
    cost = None if usage.cost_usd is None else Decimal(str(usage.cost_usd))
    return Usage.model_validate({**usage.model_dump(), "cost_usd": cost})
