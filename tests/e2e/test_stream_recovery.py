"""Streams survive refreshes, other processes, and the death of their server."""

import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.support.http import plain_http
from tests.support.http.turn_streams import Frame, conversation_url, read, streamed, turn_url
from tests.support.models.model_scripts import Hang, Pause, Script, Step
from tests.support.models.model_server import ModelServer
from tests.support.servers.own_postgres import cluster_directory
from tests.support.servers.server_process import ServerProcess, together
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CHUNKS = [f"chunk {number} " for number in range(40)]
UNFINISHED = Script(["one ", "two ", Hang()])
Servers = tuple[ServerProcess, ServerProcess, ServerProcess]
"""Three servers on one log.

The first has two workers. The last one is paused, and the last test kills it.
"""


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="module")
def servers(model_server: ModelServer) -> Iterator[Servers]:
    settings = {"TURNLOG_MODEL": "scripted", "TURNLOG_MODEL_API_BASE": model_server.url}
    with cluster_directory() as data_dir:
        one = ServerProcess("--data-dir", data_dir, workers=2, settings=settings)
        other, victim = (ServerProcess("--data-dir", data_dir, settings=settings) for _ in range(2))
        with together(one, other, victim):
            yield one, other, victim


@contextmanager
def streaming_turn(one: ServerProcess, other: ServerProcess) -> Generator[tuple[Iterator[Frame], str]]:
    """Yield the remaining frames of a turn that runs on `one`, and its URL on `other`.

    The model does not finish its answer.
    """
    with streamed("POST", f"{one.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
        first = next(seen)
        assert [next(seen)["text"] for _ in range(2)] == ["one ", "two "]
        eventually(lambda: "two" in plain_http.get(f"{conversation_url(other.url, first)}/log").text)
        yield seen, turn_url(other.url, first)


def assert_cancelled(rest: list[Frame]) -> None:
    assert [frame["event"] for frame in rest] == ["block.done", "turn.cancelled"]
    assert rest[-1]["message"]["content"][0]["text"] == "one two "


def test_refreshes_on_any_worker_and_later_reads_return_the_same_frames(
    servers: Servers, model_server: ModelServer
) -> None:
    model_server.script("scripted", Script(CHUNKS, delay_s=0.03))
    one, other, _ = servers
    with streamed("POST", f"{one.url}/v1/turns", {"content": "Hi", "stream": True}) as first:
        seen = [next(first) for _ in range(10)]
        turn = turn_url(one.url, seen[0])
        with ThreadPoolExecutor(12) as threads:
            # Of twelve connections, both workers accept some.
            refreshed = [threads.submit(read, turn, number) for number in [None, 0, 3, 9] * 3]
            seen += first
            for number, tab in zip([0, 0, 3, 9] * 3, refreshed, strict=True):
                assert tab.result() == seen[number:]
    assert [frame["seq"] for frame in seen] == list(range(1, len(CHUNKS) + 4))
    assert [frame["text"] for frame in seen if frame["event"] == "delta"] == CHUNKS
    for _ in range(4):
        assert read(turn) == seen
        assert read(turn, 20) == seen[20:]
        assert read(turn, 10_000) == seen[-1:]
    # The other server has not been involved in the turn.
    assert read(turn_url(other.url, seen[0])) == seen


def test_a_cancel_through_another_process_stops_the_model(servers: Servers, model_server: ModelServer) -> None:
    model_server.script("scripted", UNFINISHED)
    with streaming_turn(*servers[:2]) as (seen, turn):
        cancelled = plain_http.post(f"{turn}/cancel")
        rest = list(seen)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert_cancelled(rest)
    eventually(lambda: model_server.requests[-1].gave_up)


def test_an_interrupt_through_another_process_stops_the_model_and_runs_the_new_turn(
    servers: Servers, model_server: ModelServer
) -> None:
    model_server.script("scripted", UNFINISHED, Script(["second"]))
    with streaming_turn(*servers[:2]) as (seen, turn):
        interrupted = model_server.requests[-1]
        body = {"content": "No, wait", "on_busy": "interrupt"}
        answer = plain_http.post(turn.rsplit("/", 1)[0], json=body)
        rest = list(seen)
    assert_cancelled(rest)
    eventually(lambda: interrupted.gave_up)
    assert (answer.status_code, answer.json()["turn"]["status"]) == (201, "completed")
    assert answer.json()["assistant_message"]["content"][0]["text"] == "second"


def test_a_paused_server_records_nothing_for_a_turn_that_another_server_ended(
    servers: Servers, model_server: ModelServer
) -> None:
    endless: list[Step] = ["before ", *([Pause(0.2), "and on "] * 5000)]
    model_server.script("scripted", Script(endless))
    _, other, victim = servers
    with streamed("POST", f"{victim.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
        first = next(seen)
        conversation = conversation_url(other.url, first)
        eventually(lambda: "before" in plain_http.get(f"{conversation}/log").text)
        os.kill(victim.process.pid, signal.SIGSTOP)
        try:
            ended = read(turn_url(other.url, first))[-1]
        finally:
            os.kill(victim.process.pid, signal.SIGCONT)
        recorded = plain_http.get(f"{conversation}/log", params={"limit": 100}).json()["data"]
        *_, last = seen
    assert (ended["event"], ended["error"]["code"]) == ("turn.failed", "interrupted")
    assert (last["event"], last["message"]) == ("turn.failed", ended["message"])
    assert plain_http.get(f"{conversation}/log", params={"limit": 100}).json()["data"] == recorded
    eventually(lambda: model_server.requests[-1].gave_up)


def test_the_turn_of_a_killed_server_ends_for_other_readers_and_its_queue_continues_in_order(
    servers: Servers, model_server: ModelServer
) -> None:
    model_server.script("scripted", Script(["said ", "so far", Hang()]), Script(["yes"]))
    _, other, victim = servers

    def ask(server: ServerProcess, content: str) -> httpx.Response:
        url = turns.replace(other.url, server.url)
        return plain_http.post(url, json={"content": content, "on_busy": "queue"})

    def statuses() -> list[str]:
        return [turn["status"] for turn in plain_http.get(turns).json()["data"]][::-1]

    with (
        ThreadPoolExecutor(5) as threads,
        streamed("POST", f"{victim.url}/v1/turns", {"content": "Hi", "stream": True}) as seen,
    ):
        first = next(seen)
        conversation, turn = conversation_url(other.url, first), turn_url(other.url, first)
        turns = f"{conversation}/turns"
        readers = [threads.submit(read, turn, number) for number in (0, 10_000)]
        assert [next(seen)["text"] for _ in range(2)] == ["said ", "so far"]
        eventually(lambda: "so far" in plain_http.get(f"{conversation}/log").text)
        asked = [threads.submit(ask, victim, "A")]
        eventually(lambda: statuses() == ["running", "queued"])
        asked.append(threads.submit(ask, other, "B"))
        eventually(lambda: statuses() == ["running", "queued", "queued"])
        asked.append(threads.submit(ask, victim, "C"))
        eventually(lambda: statuses() == ["running", "queued", "queued", "queued"])
        victim.process.kill()
        whole, late = (reader.result() for reader in readers)
        assert asked[1].result().json()["turn"]["status"] == "completed"
        eventually(lambda: statuses() == ["failed", "completed", "completed", "completed"])
    assert all(isinstance(asked[number].exception(), httpx.TransportError) for number in (0, 2))
    assert [frame["event"] for frame in whole] == ["turn.started", "delta", "delta", "block.done", "turn.failed"]
    assert late == whole[-1:]
    assert whole[-1]["error"]["code"] == "interrupted"
    said = whole[-1]["message"]
    assert (said["content"][0]["text"], said["status"]) == ("said so far", "interrupted")
    messages = plain_http.get(f"{conversation}/messages").json()["data"]
    assert [message["content"][0]["text"] for message in messages if message["role"] == "user"] == ["Hi", "A", "B", "C"]
