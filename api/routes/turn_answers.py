"""How routes find a turn and answer with it, streamed or whole."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import Response

from api.http.call import Call, json_response
from api.http.problems import MODEL_ERROR, ProblemError
from api.http.requests.body_models import NewTurn, Regeneration
from api.http.sse import event_stream
from domain.errors import TurnNotActiveError, TurnNotFoundError
from domain.events import TurnBegun
from eventlog.errors import StoreUnavailableError
from eventlog.mapper import Recorded
from projections.models.history_rows import TurnRow, message_row, turn_row
from projections.models.json_resources import message_resource, turn_resource
from turns.frames.frames import Frame
from turns.frames.replay import TurnKey

# A command may record before the turn: two events that close open calls, one that supersedes, and the user's message.
_MAX_EVENTS_BEFORE_TURN = 4


@asynccontextmanager
async def check_turn_exists(call: Call, conversation_id: UUID, turn_id: UUID) -> AsyncGenerator[None]:
    """Report a turn that is not active as not found if it does not exist.

    Raises:
        TurnNotFoundError: the block raised `TurnNotActiveError`, and there is no such turn.
    """
    try:
        yield
    except TurnNotActiveError:
        await find_turn(call, conversation_id, turn_id)
        raise


async def find_turn(call: Call, conversation_id: UUID, turn_id: UUID) -> TurnRow:
    """Return a turn of the caller's conversation.

    Raises:
        TurnNotFoundError: there is no such turn.
    """
    await call.readable_conversation(conversation_id)
    row = await call.services.history.turn(conversation_id, turn_id)
    if row is None:
        raise TurnNotFoundError(turn_id)
    return row


async def find_repeated_turn(call: Call) -> tuple[TurnKey, Recorded]:
    """Return the turn that a repeated request began, and the event that began it."""
    assert call.repeated is not None
    # It is one of the first events of the command.
    id_, first = call.repeated.conversation_id, call.repeated.version
    for item in await call.services.log.events(id_, first, first + _MAX_EVENTS_BEFORE_TURN):
        event = item.known().event
        if isinstance(event, TurnBegun):
            return TurnKey(id_, event.turn_id, event.originator_version), item
    raise AssertionError("a command of this route begins a turn")


async def find_repeated_results(call: Call, conversation_id: UUID, turn_id: UUID) -> tuple[TurnKey, Recorded, int]:
    """Return the turn that a repeated request resumed, and the event that resumed it.

    Return also the `seq` of the last frame before that.
    """
    assert call.repeated is not None
    # The command recorded the message with the results, and then the event.
    row, message = await find_turn(call, conversation_id, turn_id), call.repeated.version
    key = TurnKey(conversation_id, turn_id, row.version)
    replay = await call.services.reader.begin(key)
    await call.services.reader.read(key, replay, last=message)
    (recorded,) = await call.services.log.versions(conversation_id, [message + 1])
    return key, recorded, replay.next_seq - 1


async def answer_begun(call: Call, key: TurnKey, recorded: Recorded, body: NewTurn | Regeneration) -> Response:
    """Answer a request that began a turn, streamed or whole as its body says."""
    if isinstance(body, NewTurn) and not body.generate:
        assert isinstance(recorded.event, TurnBegun)
        return await call.write_response(recorded.position, turn_resource(turn_row(recorded.event)), 201)
    return await answer_running(call, key, recorded, 201, 0 if body.stream else None)


async def answer_running(call: Call, key: TurnKey, recorded: Recorded, status: int, after_seq: int | None) -> Response:
    """Answer with the frames of a turn after `after_seq`, or whole if it is None.

    The whole turn is as it was when it first ended, or waited for tool results, after the event `recorded`.
    """
    if after_seq is not None:
        return event_stream(call.services.streams.follow(key, after_seq), await call.write_headers(recorded.position))
    await read_frames(call, key)
    replay = await call.services.reader.settled_after(key, recorded.event.originator_version)
    assert replay.frames is not None
    headers, turn = await call.write_headers(replay.position), turn_resource(replay.frames.row)
    if turn["status"] == "failed":
        ids = {"conversation_id": key.conversation_id, "turn_id": key.turn_id}
        members: dict[str, Any] = {**ids, "error": turn["error"]}
        raise ProblemError(MODEL_ERROR, turn["error"]["detail"], headers=headers, **members)
    messages = {"user_message": replay.user_message, "assistant_message": replay.answer}
    shown = {name: message_resource(message_row(event)) if event else None for name, event in messages.items()}
    return json_response({**shown, "turn": turn}, status, headers)


async def read_frames(call: Call, key: TurnKey, *, to_the_end: bool = False) -> list[Frame]:
    """Return all frames of a turn, once it has ended or waits for tool results.

    Raises:
        StoreUnavailableError: the frames ended before the turn did.
    """
    following = call.services.streams.follow(key, to_the_end=to_the_end)
    frames = [frame async for batch in following for frame in batch]
    if not frames or not (frames[-1].terminal or frames[-1].pauses):
        raise StoreUnavailableError("The store does not answer; the end of the turn is not known.")
    return frames
