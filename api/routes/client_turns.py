"""Routes of turns whose client runs the model and records its stream.

Such a turn was started with `"generate": false`.
"""

from decimal import Decimal
from uuid import UUID

from fastapi import APIRouter, Response

from api.http.call import Call, CallParam, json_response
from api.http.openapi import NextFrame, TurnResource
from api.http.requests.body_models import NewDeltas, TurnEnd, TurnFailure, TurnUsage
from api.http.route import JSONRoute
from api.routes.turn_answers import check_turn_exists, find_turn
from domain.events import StreamDelta
from domain.model_usage import Usage
from projections.models.json_resources import turn_resource

router = APIRouter(route_class=JSONRoute, tags=["client turns"])

_TURN = "/v1/conversations/{conversation_id}/turns/{turn_id}"


@router.post(f"{_TURN}/deltas", response_model=NextFrame)
async def record_deltas(call: CallParam, conversation_id: UUID, turn_id: UUID, body: NewDeltas) -> Response:
    """Record chunks, of which those that are recorded already are ignored.

    An empty list of chunks only keeps the turn alive.
    """
    if call.repeated:
        (recorded,) = await call.services.log.versions(conversation_id, [call.repeated.version])
        assert isinstance(recorded.event, StreamDelta)
        next_seq = recorded.event.first_seq + len(recorded.event.chunks)
        return await call.write_response(recorded.position, {"next_seq": next_seq})
    async with check_turn_exists(call, conversation_id, turn_id):
        next_seq, position = await call.services.client_turns.record(
            call.caller, conversation_id, turn_id, body.seq, body.chunks
        )
    return await call.write_response(position, {"next_seq": next_seq})


@router.post(f"{_TURN}/complete", response_model=TurnResource)
async def complete_turn(call: CallParam, conversation_id: UUID, turn_id: UUID, body: TurnEnd) -> Response:
    """Complete a turn. The recorded chunks are the answer."""
    usage = _usage(body.usage) if body.usage else None
    if not call.repeated:
        async with check_turn_exists(call, conversation_id, turn_id):
            await call.services.client_turns.complete(call.caller, conversation_id, turn_id, usage, body.finish_reason)
    return await _ended_response(call, conversation_id, turn_id)


@router.post(f"{_TURN}/fail", response_model=TurnResource)
async def fail_turn(call: CallParam, conversation_id: UUID, turn_id: UUID, body: TurnFailure) -> Response:
    """Fail a turn. The recorded chunks are kept."""
    if not call.repeated:
        async with check_turn_exists(call, conversation_id, turn_id):
            await call.services.client_turns.fail(call.caller, conversation_id, turn_id, body.detail)
    return await _ended_response(call, conversation_id, turn_id)


async def _ended_response(call: Call, conversation_id: UUID, turn_id: UUID) -> Response:
    row = await find_turn(call, conversation_id, turn_id)
    position = await call.services.log.turn_end(conversation_id, turn_id, row.version)
    headers = await call.write_headers(position)
    return json_response(turn_resource(await find_turn(call, conversation_id, turn_id)), headers=headers)


def _usage(usage: TurnUsage) -> Usage:
    cost = None if usage.cost_usd is None else Decimal(str(usage.cost_usd))
    return Usage.model_validate({**usage.model_dump(), "cost_usd": cost})
