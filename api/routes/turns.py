"""Routes of turns."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.http.call import Call, CallParam, json_response
from api.http.cursors import decode_version, encode_cursor, page
from api.http.openapi import Page, TurnResource, WholeTurn
from api.http.problems import validation_problem
from api.http.requests.body_models import NewConversationTurn, NewToolResults, NewTurn, Regeneration, content_blocks
from api.http.requests.query_models import PageQuery
from api.http.route import JSONRoute
from api.http.sse import EventStream, event_stream, last_event_id
from api.routes.turn_answers import (
    answer_begun,
    answer_running,
    check_turn_exists,
    find_repeated_results,
    find_repeated_turn,
    find_turn,
    read_frames,
)
from commands.commands import ClientMessage
from domain.content import ToolResultBlock
from domain.decisions.turn_starts import TurnSettings
from domain.errors import InvalidContentError, MessageNotFoundError
from domain.events import OpenSetting
from projections.models.json_resources import turn_resource
from turns.frames.replay import TurnKey

router = APIRouter(route_class=JSONRoute, tags=["turns"])

_CONVERSATION = "/v1/conversations/{conversation_id}"


@router.post(f"{_CONVERSATION}/turns", status_code=201, response_model=WholeTurn)
async def start_turn(call: CallParam, conversation_id: UUID, body: NewTurn) -> Response:
    """Send a message and let the model answer, streamed or whole."""
    if call.repeated:
        return await answer_begun(call, *await find_repeated_turn(call), body)
    message = ClientMessage("user", content_blocks(body.content))
    begun = await call.services.turns.start(
        call.caller,
        conversation_id,
        message,
        _turn_settings(call, body),
        on_busy=body.on_busy,
        replace_from=body.replace_from,
    )
    return await answer_begun(call, begun.key, begun.recorded, body)


@router.post("/v1/turns", status_code=201, response_model=WholeTurn)
async def start_conversation_turn(call: CallParam, body: NewConversationTurn) -> Response:
    """Start a conversation with a message and let the model answer it.

    The answer is streamed or whole.
    """
    if call.repeated:
        return await answer_begun(call, *await find_repeated_turn(call), body)
    if body.replace_from is not None:
        raise MessageNotFoundError(body.replace_from)
    message = ClientMessage("user", content_blocks(body.content))
    begun = await call.services.turns.start_with_conversation(
        call.caller, message, _turn_settings(call, body), agent_id=body.agent_id, title=body.title
    )
    return await answer_begun(call, begun.key, begun.recorded, body)


@router.post(f"{_CONVERSATION}/messages/{{message_id}}/regenerate", status_code=201, response_model=WholeTurn)
async def regenerate(call: CallParam, conversation_id: UUID, message_id: UUID, body: Regeneration) -> Response:
    """Answer a message again. The old answer and all later messages are superseded."""
    if call.repeated:
        return await answer_begun(call, *await find_repeated_turn(call), body)
    try:
        begun = await call.services.turns.regenerate(
            call.caller, conversation_id, message_id, body.model, call.services.settings.model
        )
    except InvalidContentError as error:
        # The body is valid. The message that the path names cannot be answered again.
        raise validation_problem("The request is not valid.", ("path", "message_id"), str(error)) from error
    return await answer_begun(call, begun.key, begun.recorded, body)


@router.get(f"{_CONVERSATION}/turns", response_model=Page[TurnResource])
async def list_turns(call: CallParam, conversation_id: UUID, query: Annotated[PageQuery, Query()]) -> Response:
    """List the turns of a conversation, newest first."""
    kind = f"turns.{conversation_id}"
    before = decode_version(kind, query.cursor)
    await call.readable_conversation(conversation_id)
    rows = await call.services.history.turns(conversation_id, before, query.limit + 1)
    return json_response(page(rows, query.limit, turn_resource, lambda row: encode_cursor(kind, row.version)))


@router.get(f"{_CONVERSATION}/turns/{{turn_id}}", response_model=TurnResource)
async def get_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Read a turn."""
    return json_response(turn_resource(await find_turn(call, conversation_id, turn_id)))


@router.get(f"{_CONVERSATION}/turns/{{turn_id}}/stream", status_code=200, response_class=EventStream)
async def stream_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Stream the frames of a turn, recorded and live, to its end.

    The stream begins with the first frame, or after `Last-Event-ID`. The turn may run in any process.
    """
    after_seq = last_event_id(call) or 0
    row = await find_turn(call, conversation_id, turn_id)
    key = TurnKey(conversation_id, turn_id, row.version)
    return event_stream(call.services.streams.follow(key, after_seq), {})


@router.post(f"{_CONVERSATION}/turns/{{turn_id}}/cancel", response_model=TurnResource)
async def cancel_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Stop a turn. The text that the model has sent is kept."""
    if call.repeated:
        key = TurnKey(conversation_id, turn_id, (await find_turn(call, conversation_id, turn_id)).version)
    else:
        async with check_turn_exists(call, conversation_id, turn_id):
            key = await call.services.cancels.cancel(call.caller, conversation_id, turn_id)
    frames = await read_frames(call, key, to_the_end=True)
    headers = await call.write_headers(await call.services.log.turn_end(*key))
    return json_response(frames[-1].data["turn"], headers=headers)


@router.post(f"{_CONVERSATION}/turns/{{turn_id}}/tool_results", response_model=WholeTurn)
async def give_tool_results(call: CallParam, conversation_id: UUID, turn_id: UUID, body: NewToolResults) -> Response:
    """Give a waiting turn the results of all its open calls, and let it go on.

    The answer is streamed or whole.
    """
    if call.repeated:
        key, recorded, after_seq = await find_repeated_results(call, conversation_id, turn_id)
    else:
        results = ClientMessage("tool", tuple(ToolResultBlock(**result.model_dump()) for result in body.results))
        async with check_turn_exists(call, conversation_id, turn_id):
            begun, after_seq = await call.services.turns.resume(call.caller, conversation_id, turn_id, results)
        key, recorded = begun.key, begun.recorded
    return await answer_running(call, key, recorded, 200, after_seq if body.stream else None)


def _turn_settings(call: Call, body: NewTurn) -> TurnSettings:
    given = body.model_fields_set if body.model is not None else body.model_fields_set - {"model"}
    left_open: tuple[OpenSetting, ...] = ("model", "tools")
    return TurnSettings(
        body.model or call.services.settings.model,
        body.max_context_tokens,
        body.temperature,
        body.max_output_tokens,
        body.metadata,
        body.generate,
        body.tools,
        left_open=tuple(name for name in left_open if name not in given),
    )
