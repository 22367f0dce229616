"""One run of a turn's model: publish and record its chunks, and end the turn."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from typing import NamedTuple

from pydantic import ValidationError

from commands.commands import count_tokens
from commands.executor import CommandExecutor, Committed
from commands.tokens import Tokenizer
from domain.content import Content, ToolUseBlock
from domain.conversation import Conversation
from domain.decisions import running_turns
from domain.decisions.conversations import Events, Origin
from domain.decisions.running_turns import ModelAnswer
from domain.errors import DomainError
from domain.events import MessageAdded, TurnEnded, TurnSuspended
from eventlog.clock import new_id
from eventlog.errors import IdempotencyKeyTakenError, LogError, StoreUnavailableError
from eventlog.writer import Idempotency
from projections.progress import Progress
from turns.frames.delta_buffer import DeltaBuffer, FlushClock
from turns.frames.frames import Frame, TurnFrames
from turns.frames.live_stream import SHOWN_WAIT_S, LiveStream
from turns.frames.replay import TurnKey, TurnReader
from turns.frames.turn_recorder import TurnRecorder
from turns.model.errors import ModelError
from turns.model.gateway import ModelGateway
from turns.model.gateway_types import ModelChunk, ModelEnd, ModelRequest, ToolCall
from turns.model.streams.storable import repaired_json, repaired_text

Prepare = Callable[[], Awaitable[ModelRequest]]
_log = logging.getLogger(__name__)


class Stop(NamedTuple):
    """Why a turn stops early: it was cancelled, or it failed for a `reason`."""

    origin: Origin
    reason: str | None = None
    detail: str = ""
    idempotency: Idempotency | None = None


class RunStart(NamedTuple):
    """The state of a turn as its model begins to run.

    `published` are its frames so far, and `version` is that of the event that starts or resumes it, for `origin`.
    `last_answer` is the model's message before it was given tool results.
    """

    frames: TurnFrames
    published: list[Frame]
    version: int
    origin: Origin
    last_answer: MessageAdded | None = None


class RunServices(NamedTuple):
    """The services that all runs of a process share."""

    executor: CommandExecutor
    tokenizer: Tokenizer
    progress: Progress
    reader: TurnReader
    clock: FlushClock


class ModelRun:
    """A turn while its model runs here, to its end or to its next tool calls.

    `stream` has all frames of the turn, and ends when the end or the wait of the turn is recorded. A wait for tool
    results lasts at most `results_timeout_s`, which is set before the model is called.
    """

    def __init__(self, services: RunServices, key: TurnKey, start: RunStart) -> None:
        self.key = key
        self.origin = start.origin
        self.stream = LiveStream()
        self.results_timeout_s: float | None = None
        self._tokenizer = services.tokenizer
        self._progress = services.progress
        self._reader = services.reader
        self._frames = start.frames
        self._recorder = TurnRecorder(services.executor, key, start.version, start.origin)
        self._deltas = DeltaBuffer(self._recorder.deltas, services.clock)
        self._began = perf_counter()
        self._first_chunk_ms: float | None = None
        self._calls: Content = ()
        self._last_answer = start.last_answer
        self._stop: Stop | None = None
        self._model_task: asyncio.Task[ModelEnd] | None = None
        self._task: asyncio.Task[None] | None = None
        self.stream.publish(start.published)

    def begin(self, gateway: ModelGateway, prepare: Prepare) -> asyncio.Task[None]:
        """Run the turn in a task of its own, which outlives the request that started it."""
        self._model_task = asyncio.create_task(self._call_model(gateway, prepare), name=f"model of {self.key.turn_id}")
        self._deltas.on_failure(self._model_task.cancel)
        self._task = asyncio.create_task(self._run(self._model_task), name=f"turn {self.key.turn_id}")
        return self._task

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of the run, once it has begun."""
        assert self._task is not None
        return self._task

    async def stop(self, stop: Stop) -> None:
        """End the turn and wait until it has ended. The first call's reason is recorded."""
        assert self._model_task is not None
        if self._stop is None:
            self._stop = stop
            self._model_task.cancel()
        await self.wait_until_ended()

    async def wait_until_ended(self) -> None:
        """Wait until the turn has ended, or waits for tool results."""
        await asyncio.wait([self.task])

    async def _run(self, model_task: asyncio.Task[ModelEnd]) -> None:
        try:
            await asyncio.wait([model_task])
            committed = await self._record_end(model_task, await self._deltas.close())
        except (DomainError, LogError) as error:
            _log.info("turn %s is not ended by its own process: %s", self.key.turn_id, error)
            await self._publish_recorded_end()
        else:
            await self._publish_end(committed)
        finally:
            self.stream.end()

    async def _call_model(self, gateway: ModelGateway, prepare: Prepare) -> ModelEnd:
        request = await prepare()
        async with aclosing(gateway.stream(request)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, ModelEnd):
                    self._calls = tuple(map(_tool_use, chunk.tool_calls))
                    return chunk
                self._take(chunk)
        raise ModelError("model_error", "The model's stream ended without a finish.")

    def _take(self, received: ModelChunk) -> None:
        if self._first_chunk_ms is None:
            self._first_chunk_ms = self._elapsed_ms()
        chunk, frames = self._frames.chunk(received.kind, repaired_text(received.text))
        self.stream.publish(frames)
        self._deltas.add(chunk)

    async def _record_end(self, model_task: asyncio.Task[ModelEnd], last: list[dict[str, object]]) -> Committed:
        end = None if model_task.cancelled() or model_task.exception() else model_task.result()
        answer = await self._answer(end)
        turn_id = self.key.turn_id
        stop = self._stopped(model_task)

        def decide(state: Conversation, origin: Origin) -> Events:
            if stop is None:
                return running_turns.complete_turn(state, origin, turn_id, answer, self.results_timeout_s)
            stopped_by = stop.origin._replace(at=origin.at)
            if stop.reason is None:
                return running_turns.cancel_turn(state, stopped_by, turn_id, answer, new_id())
            return running_turns.fail_turn(state, stopped_by, turn_id, answer, reason=stop.reason, detail=stop.detail)

        try:
            return await self._recorder.end(last, decide, stop.idempotency if stop else None)
        except IdempotencyKeyTakenError:
            # Another command has the key. The turn ends all the same.
            return await self._recorder.end(last, decide)

    def _stopped(self, model_task: asyncio.Task[ModelEnd]) -> Stop | None:
        """Return why the turn did not complete, None if it did."""
        if model_task.cancelled():
            return self._stop or Stop(self.origin, "interrupted", "The server was stopped.")
        error = model_task.exception()
        if error is None:
            return None
        if isinstance(error, ModelError):
            return Stop(self.origin, error.code, error.detail)
        fields = {"conversation_id": str(self.key.conversation_id), "turn_id": str(self.key.turn_id)}
        _log.error("turn %s failed", self.key.turn_id, exc_info=error, extra=fields)
        return Stop(self.origin, "model_error", "The turn could not be run.")

    async def _answer(self, end: ModelEnd | None) -> ModelAnswer:
        content = (*self._frames.content(), *(self._calls if end else ()))
        return ModelAnswer(
            content,
            await count_tokens(self._tokenizer, content),
            self._tokenizer.name,
            end.usage if end else None,
            end.finish_reason if end else None,
            self._first_chunk_ms,
            self._elapsed_ms(),
        )

    async def _publish_end(self, committed: Committed) -> None:
        await self._progress.wait(committed.position or 0, SHOWN_WAIT_S)
        messages = [event for event in committed.events if isinstance(event, MessageAdded)]
        message = messages[0] if messages else self._last_answer
        ended = committed.events[-1]
        if isinstance(ended, TurnSuspended):
            assert message is not None
            self.stream.publish(self._frames.suspend(ended, message), waits=True)
        else:
            assert isinstance(ended, TurnEnded)
            self.stream.publish(self._frames.end(ended, message))

    async def _publish_recorded_end(self) -> None:
        """Publish the end that another process recorded.

        Chunks that it did not know are no part of the turn.

        Raises:
            StoreUnavailableError: no process has recorded an end yet.
        """
        replay, frames = await self._reader.whole(self.key)
        if not replay.ended:
            raise StoreUnavailableError("The end of the turn could not be recorded.")
        await self._progress.wait(replay.position, SHOWN_WAIT_S)
        self.stream.publish(self.stream.rest_of(frames))

    def _elapsed_ms(self) -> float:
        return round((perf_counter() - self._began) * 1000, 3)


def _tool_use(call: ToolCall) -> ToolUseBlock:
    """Return a tool call as it is recorded.

    Raises:
        ModelError: its input cannot be recorded.
    """
    try:
        extra = None if call.extra_content is None else repaired_json(call.extra_content)
        return ToolUseBlock(id=call.id, name=call.name, input=call.input, extra_content=extra)
    except (ValidationError, RecursionError):
        raise ModelError("model_error", "The model sent a tool call that cannot be recorded.") from None
