"""A replay of a finished turn, and a running turn with hundreds of readers."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from http.client import HTTPConnection
from statistics import median
from time import perf_counter
from uuid import UUID

import orjson
import psycopg

from benchmarks.measure import Measurement, Plan, Round, Target
from benchmarks.workload.concurrent_streams import SETTLE_S, ConcurrentStreams, upcoming_script
from benchmarks.workload.load import HOST
from benchmarks.workload.model_server import Script
from benchmarks.workload.serving import Server, launch, model_server, serve, turnlog_serve
from benchmarks.workload.store import CALLER, open_store, text_message
from benchmarks.workload.stream_load import get
from domain.content import TextBlock
from domain.conversation import fold
from domain.decisions import conversations, running_turns, turn_starts
from domain.decisions.conversations import Events
from domain.decisions.running_turns import ModelAnswer
from domain.decisions.turn_starts import TurnIds, TurnSettings
from eventlog.clock import new_id
from eventlog.db.statements import load_statements

NAME = "stream_readers"
CHUNKS, CHUNKS_OF_AN_EVENT = 5_000, 2
OTHER_FRAMES = 3  # the start of the turn, the end of its one block, the end of the turn
READERS = 500
READERS_JOIN_LIKE = READERS // 10
MOST_ROUNDS = 3

_SQL = load_statements("benchmarks.streaming", "stream_readers.sql")


class Replays:
    """A recorded turn, read through the API and by SQL."""

    def __init__(self, server: Server, conninfo: str, conversation_id: UUID, turn_id: UUID) -> None:
        self._server = server
        self._conninfo = conninfo
        self._conversation_id = conversation_id
        self._request = get(f"/v1/conversations/{conversation_id}/turns/{turn_id}/stream")
        self.first_ms: list[float] = []

    async def whole_ms(self, seconds: float) -> float:
        """Replay for `seconds` and return the median time to the last frame.

        The median time to the first frame is appended to `first_ms`.
        """
        end = perf_counter() + seconds
        first_ms: list[float] = []
        whole_ms: list[float] = []
        while not whole_ms or perf_counter() < end:
            (stream,) = await self._server.read([self._request])
            assert stream.frames == CHUNKS + OTHER_FRAMES, f"{stream.frames} frames"
            first_ms.append((stream.first_us - stream.asked_us) / 1000)
            whole_ms.append((stream.ended_us - stream.asked_us) / 1000)
        self.first_ms.append(median(first_ms))
        return median(whole_ms)

    async def sql_ms(self, seconds: float) -> float:
        """Read the turn's events by SQL for `seconds` and return the median time."""
        return await asyncio.to_thread(self._sql_ms, seconds)

    def _sql_ms(self, seconds: float) -> float:
        end, times = perf_counter() + seconds, list[float]()
        with psycopg.connect(self._conninfo, autocommit=True, options="-c search_path=turnlog") as connection:
            while not times or perf_counter() < end:
                start = perf_counter()
                rows = connection.execute(_SQL["read_turn"], [self._conversation_id, 1], prepare=True).fetchall()
                times.append((perf_counter() - start) * 1000)
                assert len(rows) > CHUNKS // CHUNKS_OF_AN_EVENT
        return median(times)


async def run(plan: Plan) -> list[Measurement]:
    """Return the times of a replay, and the delay of chunks at many readers."""
    plan = replace(plan, rounds=min(plan.rounds, MOST_ROUNDS))
    turn_id = new_id()
    events = _finished_turn(turn_id)
    async with open_store(plan.conninfo) as store:
        await store.commands.executor.start(events)
    async with (
        launch(*model_server()) as models,
        serve(*turnlog_serve(plan.conninfo), TURNLOG_MODEL_API_BASE=f"{models.url}/v1") as server,
    ):
        replays = Replays(server, plan.conninfo, events[0].originator_id, turn_id)
        whole = await plan.interleave({"sql": replays.sql_ms, "replay": replays.whole_ms})
        delays = await plan.interleave({"one": _delay_ms(server, 1), "many": _delay_ms(server, READERS)})
    turn, sql = f"replay of {CHUNKS:,} chunks in {len(events):,} events", "the same events by SQL"
    first, last = Target(20, at_least=False, of_ratio=False), Target(150, at_least=False, of_ratio=False)
    readers = f"p99 delay of a chunk at {READERS} readers of a turn"
    return [
        Measurement(NAME, f"{turn}: first frame", "ms", replays.first_ms[1:], sql, whole["sql"], first),
        Measurement(NAME, f"{turn}: whole", "ms", whole["replay"], sql, whole["sql"], last),
        Measurement(NAME, readers, "ms", delays["many"], "1 reader", delays["one"]),
    ]


def _finished_turn(turn_id: UUID) -> Events:
    """Return the events of a conversation with one turn.

    Each delta holds two chunks, as with a model of 30 chunks per second.
    """
    origin, texts = CALLER.origin(), [f" w{number % 1000}" for number in range(CHUNKS)]
    events = conversations.start_conversation(new_id(), origin)
    state = fold(None, events)
    assert state is not None
    draft = conversations.Draft(new_id(), "user", text_message("user", "Tell me everything.").content, 4, "o200k_base")
    ids = TurnIds(turn_id, new_id(), new_id())
    events += turn_starts.start_turn(state, origin, draft, TurnSettings("turnlog/demo"), ids)
    state = fold(state, events[1:])
    assert state is not None
    for index in range(0, CHUNKS, CHUNKS_OF_AN_EVENT):
        events += running_turns.record_delta(
            state.at_version(events[-1].originator_version),
            origin,
            turn_id,
            first_seq=index + 2,
            block_index=0,
            block_type="text",
            first_delta_index=index,
            chunks=tuple(texts[index : index + CHUNKS_OF_AN_EVENT]),
        )
    answer = ModelAnswer((TextBlock(text="".join(texts)),), CHUNKS, "o200k_base", None, "stop", 1.0, 2.0)
    return events + running_turns.complete_turn(
        state.at_version(events[-1].originator_version), origin, turn_id, answer
    )


def _delay_ms(server: Server, readers: int) -> Round:
    """Return a round in which each of `readers` must receive every frame."""

    async def work(seconds: float) -> float:
        script = upcoming_script(seconds, READERS_JOIN_LIKE)
        async with _started(server, script) as path:
            streams = await server.read([get(path)] * readers)
        for stream in streams:
            assert stream.sent_us == streams[0].sent_us, "a reader missed a chunk"
            assert stream.frames == len(stream.sent_us) + OTHER_FRAMES, "a reader missed a frame"
        from_us = script.begins_us + int(SETTLE_S * 1_000_000)
        return ConcurrentStreams(streams, from_us, script.begins_us + int(script.seconds * 1_000_000)).delay_ms(0.99)

    return work


@asynccontextmanager
async def _started(server: Server, script: Script) -> AsyncGenerator[str]:
    """Start a turn and return the path of its stream."""
    connection = HTTPConnection(HOST, server.port, timeout=60)
    try:
        yield await asyncio.to_thread(_start, connection, script)
    finally:
        connection.close()


def _start(connection: HTTPConnection, script: Script) -> str:
    body = {"content": "Tell me what time it is.", "model": script.model, "stream": True}
    connection.request("POST", "/v1/turns", orjson.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    data = next(line for line in iter(response.readline, b"") if line.startswith(b"data: "))
    message = orjson.loads(data[6:])["user_message"]
    return f"/v1/conversations/{message['conversation_id']}/turns/{message['turn_id']}/stream"
