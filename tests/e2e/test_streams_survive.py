"""Streams outlive refreshes, other processes, and the death of their server: real processes, one scripted model."""

import os
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic

import httpx
import pytest

from tests.support.model_scripts import Hang, Pause, Script, Step
from tests.support.model_server import ModelServer
from tests.support.server_process import ServerProcess
from tests.support.turn_streams import PATIENCE_S, Frame, conversation_url, read, streamed, turn_url
from tests.support.waiting import eventually

CHUNKS = [f"chunk {number} " for number in range(40)]
SPEAKING = Script(["one ", "two ", Hang()])
Servers = tuple[ServerProcess, ServerProcess]
"""Two processes on one log."""


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def settings(model_server: ModelServer) -> dict[str, str]:
    return {"TURNLOG_MODEL": "scripted", "TURNLOG_MODEL_API_BASE": model_server.url}


@pytest.fixture
def servers(tmp_path: Path, settings: dict[str, str]) -> Iterator[Servers]:
    data = ("--data-dir", tmp_path / "data")
    with ServerProcess(*data, settings=settings) as one, ServerProcess(*data, settings=settings) as other:
        for server in (one, other):
            # Its first seconds go to loading the model library, which a turn waits for.
            demo = {"content": "Hi", "model": "turnlog/demo"}
            httpx.post(f"{server.url}/v1/turns", json=demo, timeout=PATIENCE_S).raise_for_status()
        yield one, other


@contextmanager
def speaking_turn(one: ServerProcess, other: ServerProcess) -> Generator[tuple[Iterator[Frame], str]]:
    """The frames still to come of a turn that runs in one process and whose model is not done; its URL on the other."""
    with streamed("POST", f"{one.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
        first = next(seen)
        assert [next(seen)["text"] for _ in range(2)] == ["one ", "two "]
        eventually(lambda: "two" in httpx.get(f"{conversation_url(other.url, first)}/log").text)
        yield seen, turn_url(other.url, first)


def assert_cancelled(rest: list[Frame]) -> None:
    assert [frame["event"] for frame in rest] == ["block.done", "turn.cancelled"]
    assert rest[-1]["message"]["content"][0]["text"] == "one two "


def test_a_refresh_on_any_worker_two_tabs_and_a_look_back_show_the_same_frames(
    tmp_path: Path, model_server: ModelServer, settings: dict[str, str]
) -> None:
    model_server.script("scripted", Script(CHUNKS, delay_s=0.03))
    with ServerProcess("--data-dir", tmp_path / "data", workers=4, settings=settings) as server:
        with streamed("POST", f"{server.url}/v1/turns", {"content": "Hi", "stream": True}) as first:
            seen = [next(first) for _ in range(10)]
            turn = turn_url(server.url, seen[0])
            with ThreadPoolExecutor(12) as threads:
                # Twelve connections: the four workers take some each.
                refreshed = [threads.submit(read, turn, number) for number in [None, 0, 3, 9] * 3]
                seen += first
                for number, tab in zip([0, 0, 3, 9] * 3, refreshed, strict=True):
                    assert tab.result() == seen[number:]
        assert [frame["seq"] for frame in seen] == list(range(1, len(CHUNKS) + 4))
        assert [frame["text"] for frame in seen if frame["event"] == "delta"] == CHUNKS
        for _ in range(8):
            assert read(turn) == seen
            assert read(turn, 20) == seen[20:]
            assert read(turn, 10_000) == seen[-1:]
    with ServerProcess("--data-dir", tmp_path / "data", settings=settings) as server:
        assert read(turn_url(server.url, seen[0])) == seen


def test_a_cancel_through_another_process_stops_the_model_within_200_ms(
    servers: Servers, model_server: ModelServer
) -> None:
    model_server.script("scripted", SPEAKING)
    took: list[float] = []
    for _ in range(3):
        with speaking_turn(*servers) as (seen, turn):
            began = monotonic()
            cancelled = httpx.post(f"{turn}/cancel", timeout=PATIENCE_S)
            rest = list(seen)
            took.append(monotonic() - began)
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert_cancelled(rest)
        eventually(lambda: model_server.requests[-1].gave_up)
    assert median(took) < 0.2, took


def test_an_interrupt_through_another_process_stops_the_model_within_200_ms_and_the_new_turn_runs(
    servers: Servers, model_server: ModelServer
) -> None:
    took: list[float] = []
    for _ in range(3):
        model_server.script("scripted", SPEAKING, Script(["second"]))
        with ThreadPoolExecutor(1) as threads, speaking_turn(*servers) as (seen, turn):
            interrupted = model_server.requests[-1]
            turns, body = turn.rsplit("/", 1)[0], {"content": "No, wait", "on_busy": "interrupt"}
            began = monotonic()
            answered = threads.submit(httpx.post, turns, json=body, timeout=PATIENCE_S)
            rest = list(seen)
            took.append(monotonic() - began)
            answer = answered.result()
        assert_cancelled(rest)
        eventually(lambda request=interrupted: request.gave_up)
        assert (answer.status_code, answer.json()["turn"]["status"]) == (201, "completed")
        assert answer.json()["assistant_message"]["content"][0]["text"] == "second"
    assert median(took) < 0.2, took


def test_a_turn_on_a_killed_server_ends_for_readers_elsewhere_and_the_chat_goes_on(
    tmp_path: Path, model_server: ModelServer, settings: dict[str, str]
) -> None:
    model_server.script("scripted", Script(["said ", "so far", Hang()]), Script(["again"]))
    data = ("--data-dir", tmp_path / "data")
    with ServerProcess(*data, settings=settings) as other:
        with (
            ServerProcess(*data, settings=settings) as one,
            streamed("POST", f"{one.url}/v1/turns", {"content": "Hi", "stream": True}) as seen,
        ):
            first = next(seen)
            turn = turn_url(other.url, first)
            with ThreadPoolExecutor(2) as threads:
                readers = [threads.submit(read, turn, number) for number in (0, 10_000)]
                assert [next(seen)["text"] for _ in range(2)] == ["said ", "so far"]
                eventually(lambda: "so far" in httpx.get(f"{turn.rsplit('/', 2)[0]}/log").text)
                one.process.kill()
                began = monotonic()
                whole, late = (reader.result() for reader in readers)
                assert monotonic() - began < 15
        assert [frame["event"] for frame in whole] == ["turn.started", "delta", "delta", "block.done", "turn.failed"]
        assert late == whole[-1:]
        assert whole[-1]["error"]["code"] == "interrupted"
        said = whole[-1]["message"]
        assert (said["content"][0]["text"], said["status"]) == ("said so far", "interrupted")
        answer = httpx.post(f"{turn.rsplit('/', 1)[0]}", json={"content": "Go on"}, timeout=PATIENCE_S)
        assert answer.json()["assistant_message"]["content"][0]["text"] == "again"


def test_a_paused_server_writes_nothing_more_into_a_turn_that_was_ended_without_it(
    tmp_path: Path, model_server: ModelServer, settings: dict[str, str]
) -> None:
    slow: list[Step] = ["before ", *([Pause(0.2), "and on "] * 150)]
    model_server.script("scripted", Script(slow))
    data = ("--data-dir", tmp_path / "data")
    with ServerProcess(*data, settings=settings) as other, ServerProcess(*data, settings=settings) as one:
        with streamed("POST", f"{one.url}/v1/turns", {"content": "Hi", "stream": True}) as seen:
            first = next(seen)
            conversation = turn_url(other.url, first).rsplit("/", 2)[0]
            eventually(lambda: "before" in httpx.get(f"{conversation}/log").text)
            os.kill(one.process.pid, signal.SIGSTOP)
            try:
                ended = read(turn_url(other.url, first))[-1]
            finally:
                os.kill(one.process.pid, signal.SIGCONT)
            recorded = httpx.get(f"{conversation}/log", params={"limit": 100}).json()["data"]
            *_, last = seen
        assert (ended["event"], ended["error"]["code"]) == ("turn.failed", "interrupted")
        assert (last["event"], last["message"]) == ("turn.failed", ended["message"])
        assert httpx.get(f"{conversation}/log", params={"limit": 100}).json()["data"] == recorded
        eventually(lambda: model_server.requests[-1].gave_up)


def test_queued_turns_of_a_killed_server_run_elsewhere_in_their_order(
    tmp_path: Path, model_server: ModelServer, settings: dict[str, str]
) -> None:
    model_server.script("scripted", Script(["yes"]))
    data = ("--data-dir", tmp_path / "data")

    def ask(server: ServerProcess, turns: str, content: str) -> httpx.Response:
        body = {"content": content, "on_busy": "queue"}
        return httpx.post(f"{server.url}{turns}", json=body, timeout=PATIENCE_S)

    def statuses(server: ServerProcess, turns: str) -> list[str]:
        return [turn["status"] for turn in httpx.get(f"{server.url}{turns}").json()["data"]][::-1]

    with ThreadPoolExecutor(4) as threads, ServerProcess(*data, settings=settings) as other:
        warm = httpx.post(f"{other.url}/v1/turns", json={"content": "Hi"}, timeout=PATIENCE_S).json()["turn"]
        httpx.delete(f"{other.url}/v1/conversations/{warm['conversation_id']}")
        model_server.script("scripted", Script(["held", Hang()]), Script(["yes"]))
        with ServerProcess(*data, settings=settings) as one:
            held = threads.submit(httpx.post, f"{one.url}/v1/turns", json={"content": "Hi"}, timeout=PATIENCE_S)
            eventually(lambda: httpx.get(f"{one.url}/v1/conversations").json()["data"])
            (conversation,) = httpx.get(f"{one.url}/v1/conversations").json()["data"]
            turns = f"/v1/conversations/{conversation['id']}/turns"
            eventually(lambda: "held" in httpx.get(f"{one.url}/v1/conversations/{conversation['id']}/log").text)
            asked = [threads.submit(ask, one, turns, "A")]
            eventually(lambda: statuses(other, turns) == ["running", "queued"])
            asked.append(threads.submit(ask, other, turns, "B"))
            eventually(lambda: statuses(other, turns) == ["running", "queued", "queued"])
            asked.append(threads.submit(ask, one, turns, "C"))
            eventually(lambda: statuses(other, turns) == ["running", "queued", "queued", "queued"])
            one.process.kill()
            began = monotonic()
            assert asked[1].result().json()["turn"]["status"] == "completed"
            eventually(lambda: statuses(other, turns) == ["failed", "completed", "completed", "completed"])
            assert monotonic() - began < 15
        assert isinstance(held.exception(), httpx.TransportError)
        said = httpx.get(f"{other.url}/v1/conversations/{conversation['id']}/messages").json()["data"]
        questions = [message["content"][0]["text"] for message in said if message["role"] == "user"]
        assert questions == ["Hi", "A", "B", "C"]
