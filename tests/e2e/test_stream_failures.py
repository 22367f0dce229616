"""Streams during failures of PostgreSQL, of readers and of models."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path
from threading import Event
from time import monotonic

import pytest

from postgres.cluster import Cluster
from tests.support.http import plain_http
from tests.support.http.turn_streams import (
    Frame,
    StalledReader,
    bytes_of,
    conversation_url,
    read,
    recorded_chunks,
    streamed,
    turn_url,
)
from tests.support.models.model_scripts import BreakOff, Hang, Raw, Script, Step, Wire
from tests.support.models.model_server import ModelServer
from tests.support.servers.own_postgres import cluster_directory
from tests.support.servers.server_process import ServerProcess, together
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

KEY = "sk-test-4f7a9b2c1d8e"
PROMPT = "the prompt that nobody may see in an error"
SLOW = [f"chunk {number} " for number in range(250)]


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def settings(models: ModelServer) -> dict[str, str]:
    return {"TURNLOG_MODEL": "scripted", "TURNLOG_MODEL_API_BASE": models.url, "TURNLOG_MODEL_API_KEY": KEY}


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with cluster_directory() as data_dir:
        yield data_dir


@pytest.fixture(scope="module")
def servers(data_dir: Path, settings: dict[str, str]) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    short = {"TURNLOG_MODEL_FIRST_TOKEN_TIMEOUT_S": "2", "TURNLOG_MODEL_BETWEEN_TOKENS_TIMEOUT_S": "0.5"}
    server = ServerProcess("--data-dir", data_dir, settings=settings)
    other = ServerProcess("--data-dir", data_dir, settings=settings | short)
    with together(server, other):
        yield server, other


@pytest.fixture
def server(servers: tuple[ServerProcess, ServerProcess]) -> ServerProcess:
    """A server whose model time-outs are far longer than a test."""
    return servers[0]


@pytest.fixture
def other(servers: tuple[ServerProcess, ServerProcess]) -> ServerProcess:
    """Another process on the same log, with model time-outs short enough to wait for."""
    return servers[1]


def turn_of(server: ServerProcess, path: str = "/v1/turns", **body: object) -> list[Frame]:
    with streamed("POST", f"{server.url}{path}", {"content": PROMPT, "stream": True, **body}) as seen:
        return list(seen)


def texts(frames: list[Frame]) -> list[str]:
    return [frame["text"] for frame in frames if frame["event"] == "delta"]


def test_a_stream_continues_while_postgresql_is_away_and_every_chunk_is_recorded_once(
    data_dir: Path, server: ServerProcess, other: ServerProcess, models: ModelServer
) -> None:
    models.script("scripted", Script(SLOW, delay_s=0.02))
    database = Cluster(data_dir / "postgres", data_dir / "postgres.log")
    with ExitStack() as tabs:
        seen = tabs.enter_context(streamed("POST", f"{server.url}/v1/turns", {"content": "Hi", "stream": True}))
        frames = list(islice(seen, 10))
        turns = [turn_url(process.url, frames[0]) for process in (server, other)]
        here, elsewhere = (tabs.enter_context(streamed("GET", f"{turn}/stream")) for turn in turns)
        seen_elsewhere = [next(elsewhere)]
        for stop, start in ((database.stop, database.start), (lambda: kill(database), lambda: None)):
            stop()
            frames += islice(seen, 100)  # two seconds of chunks, still live
            start()  # a server does so after a crash
            while len(seen_elsewhere) < len(frames):
                seen_elsewhere.append(next(elsewhere))
        frames += seen
        assert [frame["seq"] for frame in frames] == list(range(1, len(SLOW) + 4))
        assert [frames[-2]["event"], frames[-1]["event"]] == ["block.done", "turn.completed"]
        assert texts(frames) == SLOW
        assert list(here) == frames
        assert [*seen_elsewhere, *elsewhere] == frames
    assert recorded_chunks(conversation_url(other.url, frames[0])) == SLOW
    assert [read(turn) for turn in turns] == [frames, frames]
    assert "Traceback" not in "".join([*server.output, *other.output])


def kill(database: Cluster) -> None:
    """End PostgreSQL as a crash would."""
    pid_file = database.directory / "postmaster.pid"
    os.kill(int(pid_file.read_text().split("\n", 1)[0]), signal.SIGKILL)


def test_two_tabs_on_two_processes_get_the_same_bytes(
    server: ServerProcess, other: ServerProcess, models: ModelServer
) -> None:
    models.script("scripted", Script(SLOW[:50], delay_s=0.02))
    body = {"content": "Hi", "stream": True}
    with streamed("POST", f"{server.url}/v1/turns", body) as seen, ThreadPoolExecutor(2) as threads:
        first = next(seen)
        turns = [turn_url(process.url, first) for process in (server, other)]
        live = list(threads.map(bytes_of, turns))
    assert live[0] == live[1]
    assert [bytes_of(turn) for turn in turns] == live


def test_twenty_stalled_readers_cost_neither_time_nor_memory_and_miss_nothing(
    server: ServerProcess, models: ModelServer
) -> None:
    models.script("scripted", Script(["x" * 64_000] * 64))
    turn_of(server)  # loads what one turn of this size needs, which is not measured
    before = server.resident_bytes()
    with ExitStack() as stalled, streamed("POST", f"{server.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
        frames = [next(seen)]
        turn = turn_url(server.url, frames[0])
        readers = [stalled.enter_context(StalledReader(turn)) for _ in range(10)]
        frames += seen
        assert len(texts(frames)) == 64
        readers += [stalled.enter_context(StalledReader(turn)) for _ in range(10)]
        whole = bytes_of(turn)
        assert recorded_chunks(conversation_url(server.url, frames[0])) == texts(frames)
        grown = server.resident_bytes() - before
        assert grown < len(readers) * len(whole) / 4, f"{grown / 1e6:.0f} MB for a stream of {len(whole) / 1e6:.0f} MB"
        assert [reader.read_on() == whole for reader in readers] == [True] * 20


@pytest.mark.parametrize(
    ("steps", "said"),
    [([Hang()], None), ([Wire(b""), Hang()], None), (["so far", Hang()], "so far")],
    ids=["nothing", "only headers", "one chunk"],
)
def test_a_model_that_hangs_times_out_and_the_next_turn_runs(
    server: ServerProcess, other: ServerProcess, models: ModelServer, steps: list[Step], said: str | None
) -> None:
    models.script("scripted", Script(steps))
    failed = turn_of(other)[-1]
    assert_failed(failed, "model_timeout", said)
    models.script("scripted", Script(["again"]))
    again = turn_of(server, f"/v1/conversations/{failed['conversation_id']}/turns")
    assert (texts(again), again[-1]["event"]) == (["again"], "turn.completed")


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([BreakOff()], "model_unavailable"),
        ([BreakOff(reset=True)], "model_unavailable"),
        ([Raw("[DONE]")], "model_error"),
        ([Raw(f'{{"choices": {KEY} {PROMPT}')], "model_error"),
        ([Raw(json.dumps({"choices": f"{KEY} {PROMPT}"}))], "model_error"),
        ([Raw(json.dumps({"choices": [{"delta": [KEY, PROMPT]}]}))], "model_error"),
        ([Raw(json.dumps({"choices": [{"delta": {"tool_calls": f"{KEY} {PROMPT}"}}]}))], "model_error"),
        ([Raw(json.dumps([KEY, PROMPT]))], "model_error"),
        ([Raw(json.dumps({"choices": [{"delta": {"content": {KEY: PROMPT}}}]}))], "model_error"),
        ([Raw(json.dumps({"choices": [{"delta": {}, "finish_reason": {KEY: PROMPT}}]}))], "model_error"),
        ([Raw("null")], "model_error"),
        ([Wire(b"data: \xff\xfe\x00" + PROMPT.encode() + b"\n\n")], "model_error"),
        ([Wire(bytes(range(256)) * 1000)], "model_error"),
        ([Wire(b"data: " + b"x" * 10_000_000)], "model_error"),
        ([Wire(b"data: " + b"x" * 40_000_000), Hang()], "model_error"),
    ],
)
def test_a_model_that_breaks_off_or_sends_garbage_fails_only_its_turn(
    server: ServerProcess, models: ModelServer, steps: list[Step], code: str
) -> None:
    models.script("scripted", Script(["so ", "far", *steps], finish_reason=None))
    printed = len(server.output)
    frames = turn_of(server)
    assert texts(frames) == ["so ", "far"]
    assert_failed(frames[-1], code, "so far")
    assert not any(secret in json.dumps(frames[1:]) for secret in (KEY, PROMPT))
    conversation = conversation_url(server.url, frames[0])
    assert plain_http.get(f"{conversation}/messages").json()["data"][-1] == frames[-1]["message"]
    refused = plain_http.post(f"{conversation}/turns", json={"content": "Hi"})
    assert (refused.status_code, refused.json()["code"]) == (502, "MODEL_ERROR")
    assert not any(secret in refused.text + "".join(server.output[printed:]) for secret in (KEY, PROMPT, "Traceback"))


def assert_failed(last: Frame, code: str, said: str | None) -> None:
    message = last["message"] and (last["message"]["content"][0]["text"], last["message"]["status"])
    assert (last["event"], last["error"]["code"], message) == ("turn.failed", code, said and (said, "interrupted"))


def test_ten_megabytes_in_one_chunk_are_one_frame_and_delay_no_other_stream(
    server: ServerProcess, other: ServerProcess, models: ModelServer
) -> None:
    text = "Some words of an answer, ünd söme möre. " * 250_000
    models.script("large", Script([text]))
    before = server.resident_bytes()
    parts: list[float] = []
    frames: list[Frame] = []
    while not parts or (parts[-1] > 0.25 and len(parts) < 3):  # another attempt, as the machine may be busy
        frames, part = beside_a_slow_stream(server, models, lambda: turn_of(server, model="large"))
        parts.append(part)
    assert min(parts) < 0.25, parts
    assert [frame["event"] for frame in frames] == ["turn.started", "delta", "block.done", "turn.completed"]
    assert texts(frames) == [text] == recorded_chunks(conversation_url(server.url, frames[0]))
    turn = turn_url(server.url, frames[0])
    assert bytes_of(turn) == bytes_of(turn_url(other.url, frames[0]))
    conversation = conversation_url(server.url, frames[0])
    assert plain_http.get(f"{conversation}/messages").json()["data"][-1]["content"][0]["text"] == text
    assert plain_http.get(f"{conversation}/context").json()["messages"][-1]["content"] == text
    assert server.resident_bytes() - before < 60 * len(text)


def beside_a_slow_stream(
    server: ServerProcess, models: ModelServer, work: Callable[[], list[Frame]]
) -> tuple[list[Frame], float]:
    """Return the result of `work`, and the longest pause of a concurrent stream.

    The pause is a fraction of the duration of `work`. The stream has a chunk every 20 ms.
    """
    models.script("slow", Script(["tick "] * 5000, delay_s=0.02))
    arrivals: list[float] = []
    done = Event()

    def listen() -> None:
        with streamed("POST", f"{server.url}/v1/turns", {"content": "Hi", "model": "slow", "stream": True}) as seen:
            for frame in seen:
                arrivals.append(monotonic())
                if done.is_set():
                    plain_http.post(f"{turn_url(server.url, frame)}/cancel")

    with ThreadPoolExecutor(1) as threads:
        listening = threads.submit(listen)
        eventually(lambda: len(arrivals) > 20)
        try:
            began = monotonic()
            result = work()
            took = monotonic() - began
        finally:
            done.set()
        listening.result()
    return result, max(later - max(began, earlier) for earlier, later in pairwise(arrivals)) / took
