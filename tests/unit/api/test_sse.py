"""Event streams send whole frames in order, and comments only while idle."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from api.http import sse
from tests.support.fake_time import in_fake_time, left_behind, now
from turns.frames.frames import Frame

OPEN = b": open\n\n"
COMMENT = b": still here\n\n"
LARGE = b"x" * (3 * sse.PIECE_BYTES)


@pytest.fixture(autouse=True)
def _time_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(sse, "monotonic", now)


class Turn:
    """Batches of frames, as (seconds before them, data), and how often reading ended."""

    def __init__(self, *script: tuple[float, list[bytes]], then: Callable[[], object] = list) -> None:
        self._script = script
        self._then = then
        self.ended = 0
        self.batches = self._read()

    async def _read(self) -> AsyncGenerator[list[Frame]]:
        try:
            for after_s, encoded in self._script:
                await asyncio.sleep(after_s)
                yield [Frame(1, "delta", one) for one in encoded]
            self._then()
        finally:
            self.ended += 1
            await asyncio.sleep(0)  # like the end of a query


class Server:
    """A server that takes `takes_s` seconds for each part that an application sends.

    Its client disconnects when `leave` is called.
    """

    def __init__(self, takes_s: float = 0, spec_version: str = "2.3", gone: bool = False, method: str = "GET") -> None:
        self._takes_s = takes_s
        self._scope = {"type": "http", "method": method, "asgi": {"version": "3.0", "spec_version": spec_version}}
        self._gone = gone
        self._left = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    async def serve(self, turn: Turn) -> None:
        await sse.event_stream(turn.batches, {}, lambda frame: [frame.data_json])(
            self._scope, self._receive, self._send
        )

    def leave(self) -> None:
        self._left.set()

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    @property
    def ended(self) -> list[bool]:
        return [not message["more_body"] for message in self.sent[1:]]

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        if self._gone and len(self.sent) > 2:
            raise OSError
        await asyncio.sleep(self._takes_s)


@in_fake_time
async def test_frames_are_sent_in_order_and_end_with_one_empty_body() -> None:
    turn, server = Turn((0, [b"a", b"b"]), (1, [b"c"]), (0, [b"d"])), Server()
    await server.serve(turn)
    assert server.sent[0]["type"] == "http.response.start"
    assert b"".join(server.bodies) == OPEN + b"abcd"
    assert server.bodies[-1] == b""
    assert server.ended == [False] * (len(server.ended) - 1) + [True]
    assert turn.ended == 1 and not await left_behind()


@in_fake_time
async def test_a_stream_sends_a_comment_before_its_first_frame() -> None:
    turn, server = Turn((10, [b"a"])), Server()
    serving = asyncio.create_task(server.serve(turn))
    await asyncio.sleep(1)
    assert server.bodies == [OPEN]
    await serving
    assert server.bodies == [OPEN, b"a", b""]


@in_fake_time
async def test_a_head_request_gets_the_headers_of_a_stream_and_reads_nothing() -> None:
    turn, server = Turn((1000, [b"a"])), Server(method="HEAD")
    began = now()
    await server.serve(turn)
    assert now() == began and not await left_behind()
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]
    assert (server.bodies, server.ended, turn.ended) == ([b""], [True], 0)
    with pytest.raises(StopAsyncIteration):
        await anext(turn.batches)


@in_fake_time
async def test_a_large_frame_is_sent_in_pieces_without_a_comment_between_them() -> None:
    slow = Server(takes_s=40)  # for each piece, which is longer than the interval of comments
    await slow.serve(Turn((0, [b"small", LARGE, b"small"])))
    assert b"".join(slow.bodies) == OPEN + b"small" + LARGE + b"small"
    assert max(map(len, slow.bodies)) == sse.PIECE_BYTES


@in_fake_time
async def test_an_idle_stream_sends_comments_repeatedly() -> None:
    server = Server()
    await server.serve(Turn((40, [b"a"]), (20, [b"b"])))
    assert server.bodies == [OPEN, COMMENT, COMMENT, b"a", COMMENT, b"b", b""]


@in_fake_time
async def test_a_stream_with_frames_sends_no_comments() -> None:
    server = Server()
    await server.serve(Turn((10, [b"a"]), (10, [b"b"]), (14.5, [b"c"]), (14.5, [b"d"])))
    assert server.bodies == [OPEN, b"a", b"b", b"c", b"d", b""]


@pytest.mark.parametrize(
    ("turn", "takes_s"),
    [(lambda: Turn((0, [b"a"]), (1000, [])), 0), (lambda: Turn((0, [b"a"]), (0, [LARGE])), 1000)],
    ids=["waiting for frames", "waiting for the connection"],
)
@in_fake_time
async def test_a_client_that_disconnects_ends_the_reading_once(turn: Callable[[], Turn], takes_s: float) -> None:
    left, server = turn(), Server(takes_s)
    asyncio.get_running_loop().call_later(takes_s + 2, server.leave)
    began = now()
    await server.serve(left)
    assert now() - began == takes_s + 2
    assert not await left_behind()
    assert left.ended == 1 and True not in server.ended


@in_fake_time
async def test_a_broken_connection_ends_the_reading_once() -> None:
    turn, server = Turn((0, [b"a"]), (0, [b"b"])), Server(spec_version="2.4", gone=True)
    with pytest.raises(ClientDisconnect):
        await server.serve(turn)
    assert not await left_behind()
    assert turn.ended == 1 and server.bodies == [OPEN, b"a"]


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@in_fake_time
async def test_an_error_of_the_reading_is_raised_to_the_server(spec_version: str) -> None:
    turn, server = Turn((0, [b"a"]), then=lambda: 1 / 0), Server(spec_version=spec_version)
    with pytest.raises(ZeroDivisionError):
        await server.serve(turn)
    assert not await left_behind()
    assert turn.ended == 1 and server.bodies == [OPEN, b"a"]


def test_large_data_is_shared_and_not_copied_for_each_reader() -> None:
    data = b"x" * 1_000_000
    parts = sse.sse_event("delta", data, 7)
    assert any(part is data for part in parts)
    assert b"".join(parts) == b"id: 7\nevent: delta\ndata: " + data + b"\n\n"
    assert b"".join(sse.sse_event("delta", b"{}")) == b"event: delta\ndata: {}\n\n"
