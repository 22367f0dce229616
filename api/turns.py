"""Routes of turns."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api.call import Call, CallParam, json_response
from api.cursors import decode_version, encode_cursor, page
from api.problems import Kind, ProblemError
from api.requests import NewConversationTurn, NewTurn, PageQuery, blocks
from api.resources import PROBLEMS, Page, Turn, WholeTurn
from api.route import JSONRoute
from api.sse import event_stream, last_event_id
from domain.decisions import TurnSettings
from domain.errors import TurnNotActiveError, TurnNotFoundError
from domain.events import TurnStarted
from eventlog.commands import Said
from eventlog.errors import StoreUnavailableError
from projections.history import TurnRow, turn_row
from projections.resources import turn_resource
from turns.frames import Frame
from turns.turn_log import TurnKey

router = APIRouter(route_class=JSONRoute, responses=PROBLEMS, tags=["turns"])

_MODEL_ERROR = Kind(502, "MODEL_ERROR")
_EVENTS_OF_A_START = 3


@router.post("/v1/conversations/{conversation_id}/turns", status_code=201, response_model=WholeTurn)
async def start_turn(call: CallParam, conversation_id: UUID, body: NewTurn) -> Response:
    """Send a message and let the model answer, streamed or whole."""
    if call.repeated:
        return await _answer(call, *await _repeated(call), body)
    said = Said("user", blocks(body.content))
    settings, interrupt = _settings(call, body), body.on_busy == "interrupt"
    started = await call.services.turns.start(call.caller, conversation_id, said, settings, interrupt=interrupt)
    return await _answer(call, started.key, started.committed.position, body)


@router.post("/v1/turns", status_code=201, response_model=WholeTurn)
async def start_conversation_turn(call: CallParam, body: NewConversationTurn) -> Response:
    """Start a conversation with a message and let the model answer, streamed or whole."""
    if call.repeated:
        return await _answer(call, *await _repeated(call), body)
    said = Said("user", blocks(body.content))
    started = await call.services.turns.start_with_conversation(
        call.caller, said, _settings(call, body), agent_id=body.agent_id, title=body.title
    )
    return await _answer(call, started.key, started.committed.position, body)


@router.get("/v1/conversations/{conversation_id}/turns", response_model=Page[Turn])
async def list_turns(call: CallParam, conversation_id: UUID, query: Annotated[PageQuery, Query()]) -> Response:
    """List the turns of a conversation, newest first."""
    kind = f"turns.{conversation_id}"
    before = decode_version(kind, query.cursor)
    await call.readable(conversation_id)
    rows = await call.services.history.turns(conversation_id, before, query.limit + 1)
    return json_response(page(rows, query.limit, turn_resource, lambda row: encode_cursor(kind, row.version)))


@router.get("/v1/conversations/{conversation_id}/turns/{turn_id}", response_model=Turn)
async def get_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Read a turn."""
    return json_response(turn_resource(await known_turn(call, conversation_id, turn_id)))


@router.get("/v1/conversations/{conversation_id}/turns/{turn_id}/stream")
async def stream_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Stream a turn from its first frame or after `Last-Event-ID`, at any age and from any process, live to its end."""
    after_seq = last_event_id(call) or 0
    row = await known_turn(call, conversation_id, turn_id)
    key = TurnKey(conversation_id, turn_id, row.version - 1)
    return event_stream(call.services.turns.follow(key, after_seq), {})


@router.post("/v1/conversations/{conversation_id}/turns/{turn_id}/cancel", response_model=Turn)
async def cancel_turn(call: CallParam, conversation_id: UUID, turn_id: UUID) -> Response:
    """Stop a turn; what was said is kept."""
    if call.repeated:
        row = await known_turn(call, conversation_id, turn_id)
        key = TurnKey(conversation_id, turn_id, row.version - 1)
    else:
        key = await _cancel(call, conversation_id, turn_id)
    seen, headers = await _to_its_end(call, key)
    return json_response(seen[-1].data["turn"], headers=headers)


async def _cancel(call: Call, conversation_id: UUID, turn_id: UUID) -> TurnKey:
    try:
        return await call.services.turns.cancel(call.caller, conversation_id, turn_id)
    except TurnNotActiveError:
        await known_turn(call, conversation_id, turn_id)  # one that never was is another problem
        raise


async def known_turn(call: Call, conversation_id: UUID, turn_id: UUID) -> TurnRow:
    """Return a turn of the caller's conversation.

    Raises:
        TurnNotFoundError: there is none.
    """
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
        body.generate,
    )


async def _repeated(call: Call) -> tuple[TurnKey, int]:
    """Return the turn that a repeated request started, and where: its start is one of the command's first events."""
    assert call.repeated is not None
    id_, first = call.repeated.conversation_id, call.repeated.version
    for item in await call.services.log.events(id_, first, first + _EVENTS_OF_A_START):
        if isinstance(item.event, TurnStarted):
            return TurnKey(id_, item.event.turn_id, item.event.originator_version - 1), item.position
    raise AssertionError("a command of this route starts a turn")


async def _answer(call: Call, key: TurnKey, position: int | None, body: NewTurn) -> Response:
    if not body.generate:
        started = await call.services.log.events(key.conversation_id, key.first_version + 1, key.first_version + 1)
        assert isinstance(started[0].event, TurnStarted)
        return await call.written(position, turn_resource(turn_row(started[0].event)), 201)
    if body.stream:
        return event_stream(call.services.turns.follow(key), await call.write_headers(position))
    seen, headers = await _to_its_end(call, key)
    return _whole(seen[0], seen[-1], headers)


async def _to_its_end(call: Call, key: TurnKey) -> tuple[list[Frame], dict[str, str]]:
    """Return all frames of a turn, once it has ended, and the headers of a write for its end."""
    seen = [frame async for batch in call.services.turns.follow(key) for frame in batch]
    if not seen[-1].terminal:
        raise StoreUnavailableError("The store does not answer; the end of the turn is not known.")
    return seen, await call.write_headers(await call.services.log.turn_end(*key))


def _whole(first: Frame, last: Frame, headers: dict[str, str]) -> Response:
    """Answer with the whole turn, from its first and last frames."""
    turn: dict[str, Any] = last.data["turn"]
    if last.event == "turn.failed":
        detail = turn["error"]["detail"]
        members = {"conversation_id": turn["conversation_id"], "turn_id": turn["id"], "error": turn["error"]}
        raise ProblemError(_MODEL_ERROR, detail, headers=headers, **members)
    user_message, message = first.data["user_message"], last.data["message"]
    return json_response({"user_message": user_message, "assistant_message": message, "turn": turn}, 201, headers)
